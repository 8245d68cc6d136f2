"""Scaling laws of finished runs: laws, fits, isoFLOP ladders, and compute-optimal sizes."""
