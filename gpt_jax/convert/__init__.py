"""Runs made of Hugging Face's directories, and such directories of runs."""
