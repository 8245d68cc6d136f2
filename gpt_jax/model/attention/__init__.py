"""Attention mechanisms, one file each. See ``full`` for what a mechanism has to be."""
