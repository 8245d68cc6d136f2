"""What differences between runs can be believed for: paired tests, power, optima, and the claims of papers."""
