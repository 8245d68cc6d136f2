"""Attention mechanisms (``model.attention``): what attention computes, one file each. ``full`` shows what a mechanism is.

How softmax(q k) v is computed is the backend's part: ``gpt_jax.model.attend``.
"""
