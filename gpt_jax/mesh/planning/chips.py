"""Chips that a plan can be compared with: their memory, peak rate and platform."""

import re
from dataclasses import dataclass

from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.model import flops

GB = 10**9  # as data sheets count memory
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(GiB|GB|G)", re.IGNORECASE)


@dataclass(frozen=True)
class Chip:
    """A device.

    Args:
      memory: bytes.
      platform: JAX's name of it.
      rate: dense bf16 FLOP/s, or None where it is not known.
      bandwidth: of the memory, bytes a second.
      near, fast, slow: so many devices are joined by links over which each sends ``fast`` bytes a second; beyond, ``slow``.
      products, half_width: share of ``rate`` that the products of wide models have, and the width at which they have half
        of it. Fitted to published runs by ``python -m benchmarks.published``.
    """

    name: str
    memory: int
    platform: str
    rate: float | None
    bandwidth: float = 0.0
    near: int = 1
    fast: float = 0.0
    slow: float = 0.0
    products: float = 1.0
    half_width: float = 0.0

    @property
    def known(self) -> bool:
        """Whether the time of a step can be estimated."""
        return self.rate is not None and self.bandwidth > 0


POD = 2**20  # devices: all of a TPU slice are joined alike

# Name -> how ``flops.CHIPS`` knows it; bytes of memory per JAX device and their bandwidth; devices of a node, and bytes a
# second to others of it and beyond, one way. By the makers' data sheets: NVLink; a network card of 400 Gb/s a GPU (A100:
# 200); all links of a TPU.
_DATA_SHEETS = {
    "a100": ("A100", 80 * GB, 2.04e12, 8, 300e9, 25e9),
    "h100": ("H100", 80 * GB, 3.35e12, 8, 450e9, 50e9),
    "h200": ("H200", 141 * GB, 4.8e12, 8, 450e9, 50e9),
    "b200": ("B200", 180 * GB, 8e12, 8, 900e9, 50e9),
    "v4": ("TPU v4", 32 * GB, 1.2e12, POD, 270e9, 270e9),
    "v5e": ("TPU v5e", 16 * GB, 0.82e12, POD, 180e9, 180e9),
    "v5p": ("TPU v5p", 95 * GB, 2.765e12, POD, 540e9, 540e9),
    "v6e": ("TPU v6e", 32 * GB, 1.64e12, POD, 360e9, 360e9),
}
# Name -> ``products``, ``half_width``; of the h200 and b200 nothing is published that fits: they have the h100's.
_FITTED = {
    "a100": (0.58, 0.0),
    "h100": (0.52, 0.0),
    "v4": (0.82, 100.0),
    "v5e": (0.68, 0.0),
    "v5p": (0.76, 0.0),
    "v6e": (0.70, 1500.0),
}


def _chip(name: str, kind: str, memory: int, bandwidth: float, near: int, fast: float, slow: float) -> Chip:
    products, half_width = _FITTED.get(name, _FITTED["h100"])
    platform = "tpu" if kind.startswith("TPU") else "gpu"
    return Chip(name, memory, platform, flops.chip_peak(kind), bandwidth, near, fast, slow, products, half_width)


CHIPS = {name: _chip(name, *figures) for name, figures in _DATA_SHEETS.items()}


def find(text: str) -> Chip | None:
    """The chip that ``text`` names: one of ``CHIPS``, or the memory of any GPU, such as "24GB". None for an empty text.

    Raises:
      UserError: it is neither.
    """
    if not text:
        return None
    size = SIZE.fullmatch(text.strip())
    if size:
        unit = 2**30 if size[2].lower() == "gib" else GB
        return Chip(text, int(float(size[1]) * unit), "gpu", None)
    if text.lower() not in CHIPS:
        raise UserError(
            f"there is no chip called {text!r}",
            where="--chip",
            allowed=f"{', '.join(CHIPS)}, or a memory size such as 24GB",
            fix=did_you_mean(text.lower(), CHIPS),
        )
    return CHIPS[text.lower()]
