"""Exchange with Hugging Face: how its directories of safetensors are read and written.

A family of models is a table (``families``): how its ``config.json`` maps to ours (``fields``) and which of its tensors
are which of our parameters (``rows``).
"""
