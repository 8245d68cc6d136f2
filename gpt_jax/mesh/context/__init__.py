"""Texts split over devices: the mesh axis "context", for contexts that are too long for one device.

The arrays of a batch, the residual stream and the logits are split along T; what works token by token needs nothing else.
Attention is computed by a strategy (``mesh.context_strategy``).
"""
