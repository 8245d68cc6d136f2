"""Weights of four bits as gpt-oss stores them: MXFP4 of the Open Compute Project's Microscaling Formats (2023)."""

import numpy as np

PARTS = BLOCKS, SCALES = "_blocks", "_scales"  # after the name of the tensor that the two hold together
DTYPE = "U8"
# Sign, two bits of exponent, one of mantissa.
VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
BIAS = 127  # of the exponents in scales


def names(found: set[str]) -> set[str]:
    """The tensors that ``found`` holds in two parts."""
    whole = {name.removesuffix(BLOCKS) for name in found if name.endswith(BLOCKS)}
    return {name for name in whole if f"{name}{SCALES}" in found}


def shape(blocks: tuple[int, ...]) -> tuple[int, ...]:
    """Of the tensor whose blocks have the shape (E experts, outputs, groups, bytes): experts, inputs, outputs."""
    experts, outputs, groups, size = blocks
    return experts, 2 * groups * size, outputs


def unpack(blocks: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Float32 of the shape above; a byte holds two values, the one in its lower bits first."""
    experts, inputs, outputs = shape(blocks.shape)
    whole = np.zeros((experts, outputs, inputs), np.float32)
    for out, block, scale in zip(whole, blocks, scales, strict=True):
        pairs = np.stack([VALUES[block & 15], VALUES[block >> 4]], axis=-1).reshape(*scale.shape, -1)
        out[...] = np.ldexp(pairs, scale.astype(np.int32)[..., None] - BIAS).reshape(outputs, inputs)
    return whole.swapaxes(1, 2)
