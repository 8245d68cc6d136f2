"""How a model is trained: step, losses, optimizers, schedules, checkpoints, metrics, and the loop that joins them."""
