"""The GPU suite: what a GPU takes for the steps and the decoding of GPT-2, piece by piece; ``python -m benchmarks.gpu``."""
