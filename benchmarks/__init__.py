"""Measurements beside peers, taken in one run: see ``train_step`` and ``decode``."""
