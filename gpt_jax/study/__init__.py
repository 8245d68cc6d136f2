"""How claims are made: paired comparisons, scaling laws, and what they can be believed for."""
