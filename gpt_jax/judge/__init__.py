"""How a model is measured beyond its loss."""
