"""Exchange with Hugging Face: a directory of safetensors becomes a run, and a run such a directory.

A family of models is a table (``families``): how its ``config.json`` maps to ours (``fields``) and which of its tensors
are which of our parameters (``rows``).
"""
