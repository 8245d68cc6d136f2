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
    """

    name: str
    memory: int
    platform: str
    rate: float | None


# Name -> (how ``flops.CHIPS`` knows it, bytes of memory per JAX device by the makers' data sheets).
CHIPS = {
    "a100": ("A100", 80 * GB),
    "h100": ("H100", 80 * GB),
    "h200": ("H200", 141 * GB),
    "b200": ("B200", 180 * GB),
    "v4": ("TPU v4", 32 * GB),
    "v5e": ("TPU v5e", 16 * GB),
    "v5p": ("TPU v5p", 95 * GB),
    "v6e": ("TPU v6e", 32 * GB),
}


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
    kind, memory = CHIPS[text.lower()]
    return Chip(text.lower(), memory, "tpu" if kind.startswith("TPU") else "gpu", flops.chip_peak(kind))
