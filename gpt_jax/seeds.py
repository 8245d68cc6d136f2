"""Seeds of any size, as the 32 bits that keys of JAX are made from."""

import numpy as np


def folded(seed: int) -> np.uint32:
    """A seed below 2^32 as it is; of a larger one all bits count."""
    while seed >> 32:
        seed = (seed & 0xFFFFFFFF) ^ (seed >> 32)
    return np.uint32(seed)
