"""What a policy writes, what it is worth, and the batches that it learns from."""
