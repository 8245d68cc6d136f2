"""The position-wise feed-forward networks: x_BTD -> (y_BTD, what the layer reports of itself, by name)."""
