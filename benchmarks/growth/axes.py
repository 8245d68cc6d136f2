"""The models that are measured, and what theory says about each."""

from dataclasses import dataclass

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.model import flops

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Axis:
    """A knob and the values it takes, at which the others stay as they are.

    Args:
      knob: of ``config.model``: context, layers or width.
      values, toy: what it takes; ``toy`` where the benchmark is only tried.
      scans: whether layers are scanned, unrolled, or both.
    """

    knob: str
    values: tuple[int, ...]
    toy: tuple[int, ...]
    scans: tuple[bool, ...] = (False,)


HEAD_DIM = 64
SIZES = dict(layers=4, width=256, context=256, vocab=512)
TOY = dict(layers=1, width=64, context=32, vocab=64)
BATCH = 2
AXES = (
    Axis("context", (256, 512, 1024, 2048, 4096, 8192), (16, 32)),
    Axis("layers", (2, 4, 8, 16, 32), (1, 2), scans=(False, True)),
    Axis("width", (128, 256, 512, 1024), (64, 128)),
)


def config_of(knob: str, value: int, scan: bool, toy: bool) -> Config:
    """The model at one point of an axis: heads are as many as the width has room for."""
    sizes = {**(TOY if toy else SIZES), knob: value}
    values = base.get_config()
    values.model.update(sizes, heads=sizes["width"] // HEAD_DIM, scan=scan)
    values.train.batch = BATCH
    return Config.from_dict(values)


def step_flops(config: Config) -> float:
    """FLOPs of a training step, attention counted to the causal half that blocks compute (PaLM, appendix B)."""
    m = config.model
    weights = 6 * flops.parameters(m).matmul
    attention = 6 * m.layers * m.width * m.context  # 12 L D T, halved
    return (weights + attention) * config.train.batch * m.context


def step_bytes(config: Config) -> float:
    """What a step must keep: parameters, gradients and Adam's two moments; per token and layer 14 vectors of the width
    (two norms, q, k, v, attention's output, the MLP's input and output, 4 + 4 of its inner width); logits and theirs."""
    m, tokens = config.model, config.train.batch * config.model.context
    activations = tokens * (14 * m.layers * m.width + 2 * m.vocab)
    return FLOAT * (4 * flops.parameters(m).total + activations)
