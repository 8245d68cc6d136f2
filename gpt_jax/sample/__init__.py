"""Generation: cached decoding, the processors of its logits, and prompts and texts around them."""
