"""A run planned before it starts: its memory, what goes between devices, and how long a step takes."""
