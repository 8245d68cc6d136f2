"""Studies of decoding: samplers on the same prompts and seeds, measured against held-out human text."""
