"""Checkpoints: how they are written, verified and kept; the lock of a run directory; what may change on resuming."""
