"""The position-wise feed-forward networks: (x_BTD, where) -> (y_BTD, what the layer reports of itself, by name)."""
