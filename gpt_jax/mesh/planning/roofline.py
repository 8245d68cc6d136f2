"""How long a training step takes at least, part by part, from shapes alone: products, memory, links between devices, waits.

Closed forms of a dense transformer or a mixture of experts, of the work that a device has on a mesh. Two constants of a
chip are fitted to published runs (``python -m benchmarks.published``), which says how far predictions are from them.
Nothing that goes between devices is taken to be hidden behind what is computed meanwhile.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.mesh.context_strategy import Strategy
from gpt_jax.mesh.context_strategy.ring import ring
from gpt_jax.mesh.mesh import NEAREST_LAST
from gpt_jax.mesh.pipeline import Schedule
from gpt_jax.mesh.planning.chips import Chip
from gpt_jax.model import flops
from gpt_jax.model.mlp import moe
from gpt_jax.model.mlp.activations import GATES

HALF, SINGLE = 2, 4  # bytes of a number
# Of attention with blocks that a causal mask leaves out left out: its share of whole scores; products of the backward pass,
# which computes the scores again, in those of the forward pass; its rate in that of large products (FlashAttention-2).
CAUSAL, ATTENTION_BACKWARD, ATTENTION_RATE = 0.5, 2.5, 0.6
# Numbers that norms, sums and gates of a layer read and write, of the width and of the mlp's: GPT-2's block, fused.
STREAM_MOVES = 10
LOGIT_BYTES = 16  # a logit is written, read by the loss, and its gradient made and read
OPTIMIZER_BYTES = 30  # AdamW's reads and writes of a parameter in float32, with a copy in half


@dataclass(frozen=True)
class Shape:
    """Of a model, as its work goes.

    Args:
      layer: weights of a layer that multiply a token.
      stored: those that a layer has, which are more where a token passes some experts alone.
      width, mlp_width, vocab, context: as in the configuration.
      projections: matrices of the mlp, 3 where it is gated.
      attended: heads times their width, of queries; of keys.
      tables: weights of the embedding and the readout that are stored.
      top_k: experts that a token passes; 0 = no mixture.
      experts, capacity: how many there are, and ``Options.capacity`` of the mixture.
      of_experts: the part of ``stored`` that is theirs.
    """

    layers: int
    layer: int
    stored: int
    width: int
    mlp_width: int
    projections: int
    attended: tuple[int, int]
    vocab: int
    context: int
    tables: int
    top_k: int = 0
    experts: int = 1
    capacity: float = 0.0
    of_experts: int = 0

    @staticmethod
    def of(model: ModelConfig) -> "Shape":
        """Raises: UserError, where the model cannot be counted."""
        count, mixture = flops.parameters(model), moe.settings(model.mlp)
        readout = model.vocab * model.width
        activation = mixture.activation if mixture.experts > 1 else registry.parse(model.mlp)[0]
        return Shape(
            layers=model.layers,
            layer=(count.matmul - readout) // model.layers,
            stored=(count.matmul - readout + count.idle) // model.layers,
            width=model.width,
            mlp_width=model.mlp_width * max(mixture.top_k, 1),
            projections=3 if activation in GATES else 2,
            attended=(model.heads * model.head_dim, model.kv_heads * model.head_dim),
            vocab=model.vocab,
            context=model.context,
            tables=readout * (1 if model.tied else 2),
            top_k=mixture.top_k if mixture.experts > 1 else 0,
            experts=mixture.experts,
            capacity=mixture.capacity,
            of_experts=count.experts // model.layers,
        )

    @property
    def stored_in_all(self) -> int:
        return self.layers * self.stored + self.tables

    @property
    def model_flops(self) -> float:
        """Of a token forward and backward, by the convention "nanogpt"."""
        products = self.layers * self.layer + self.vocab * self.width
        return 6 * products + 12 * self.layers * self.attended[0] * self.context


@dataclass(frozen=True)
class Layout:
    """How a step is laid out over devices.

    Args:
      axes: of the mesh, axis -> devices; those of one device may be left out.
      batch: texts of a step.
      accumulate: micro-batches, one after another.
      remat: "none", or "full".
      rounds, microbatches: of a pipeline.
      strategy: by which attention is computed where texts are split.
      gradients: bytes in which gradients are added up between devices.
      once: whether they are added up along data once a step, and not after every micro-batch, as here.
    """

    axes: Mapping[str, int] = field(default_factory=dict)
    batch: int = 1
    accumulate: int = 1
    remat: str = "none"
    rounds: int = 1
    microbatches: int = 1
    strategy: Strategy = ring()
    gradients: int = SINGLE
    once: bool = False

    def along(self, *axes: str) -> int:
        found = 1
        for axis in axes:
            found *= self.axes.get(axis, 1)
        return found

    @property
    def devices(self) -> int:
        return self.along(*self.axes)

    @property
    def again(self) -> int:
        """Forward passes that the backward pass repeats."""
        return int(self.remat == "full")

    @property
    def turns(self) -> float:
        """How often a step passes each layer: its weights are gathered and their gradients added up as often."""
        return self.accumulate * self.schedule.ticks / self.rounds

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.along("pipeline"), self.rounds, self.microbatches)


@dataclass(frozen=True)
class Estimate:
    """Seconds of a step on a device, by what takes them; ``seconds`` of all.

    Args:
      products: of weights and the readout. attention: scores and what they weigh.
      memory: of norms, gates, logits and the optimizer.
      sent: axis -> exchanges along it.
      waits: of a stage of the pipeline for others.
      model_flops: of the step, in all.
    """

    products: float
    attention: float
    memory: float
    sent: Mapping[str, float]
    waits: float
    model_flops: float

    @property
    def seconds(self) -> float:
        return self.products + self.attention + self.memory + sum(self.sent.values()) + self.waits

    def utilisation(self, chip: Chip, devices: int) -> float:
        """MFU, 0 to 1, by the convention "nanogpt"."""
        return self.model_flops / devices / self.seconds / (chip.rate or float("inf"))


def estimate(shape: Shape, layout: Layout, chip: Chip) -> Estimate:
    """Of one training step.

    Args:
      chip: with a known ``rate`` (``Chip.known``).
    """
    tokens = layout.batch * shape.context / layout.along("data", "fsdp", "expert", "context")
    share = layout.along("tensor", "pipeline")
    rate = (chip.rate or 0) * chip.products * shape.width / (shape.width + chip.half_width)
    again = layout.again
    products = 2 * tokens / share * ((3 + again) * shape.layers * shape.layer + 3 * shape.vocab * shape.width) / rate
    scores = CAUSAL * 4 * shape.context * shape.attended[0] * shape.layers * tokens / share
    attention = scores * (1 + ATTENTION_BACKWARD + again) / (rate * ATTENTION_RATE)
    moved = HALF * (STREAM_MOVES * shape.width + shape.projections * shape.mlp_width) * shape.layers * (3 + again)
    optimizer = OPTIMIZER_BYTES * _held(shape, layout) / chip.bandwidth
    memory = tokens / share * (moved + LOGIT_BYTES * shape.vocab) / chip.bandwidth
    sent = {axis: time for axis, time in _sent(shape, layout, chip, tokens).items() if time}
    busy = products + attention + memory + sum(sent.values())
    bubble = layout.schedule.bubble
    model_flops = shape.model_flops * layout.batch * shape.context
    return Estimate(products, attention, memory + optimizer, sent, busy * bubble / (1 - bubble), model_flops)


def sent_bytes(shape: Shape, layout: Layout) -> dict[str, float]:
    """Axis -> bytes that a device sends in a step along it, by the closed forms of rings.

    Weights go in half: a layer's twice a turn, the readout's once. Gradients are scattered along fsdp, and added up along
    context, along expert where they are not of experts, and along data.
    """
    tokens = layout.batch * shape.context / layout.along("data", "fsdp", "expert", "context")
    tensor, stages, piped = layout.along("tensor"), layout.along("pipeline"), layout.along("pipeline") > 1
    parts, spread = layout.along("context"), layout.along("expert")
    layers = shape.layers / stages
    experts = layers * shape.of_experts / tensor / spread
    dense = layers * shape.stored / tensor - experts * spread
    tables, readout = shape.tables / tensor, shape.vocab * shape.width / tensor
    stream = tokens * shape.width * HALF
    gathered = layout.turns * (dense + experts) * 2 * HALF + layout.accumulate * readout * HALF

    def added(held, tables, once):
        return layout.gradients * (held + tables if once else layout.turns * held + layout.accumulate * tables)

    summed = 2 / layout.along("fsdp")
    queries, keys = (tokens * size / tensor for size in shape.attended)
    attended = layers * layout.strategy.sent(parts, queries, keys, HALF, layout.again)
    # Dropless, there is room for all that can come; with a capacity, devices along context compute the same.
    room = spread * min(shape.top_k, shape.experts / spread)
    room = shape.capacity * shape.top_k * parts if shape.capacity else room
    # Two products of a layer each way: the tokens gathered before, what they add scattered after. Where the backward pass
    # gathers weights, it gathers once more what they multiply. Then those of the embedding and the readout.
    products = layers * (8 + 2 * (layout.along("fsdp") > 1 or layout.again) + layout.again) + 4
    sizes = {
        "fsdp": gathered + added(dense + experts, tables, False),
        "data": summed * added(experts + dense / spread, tables / spread, layout.once) / parts,
        "tensor": stream * products,
        "context": summed * added(dense + experts, tables, layout.once),
        "expert": summed * added(dense, tables, layout.once) / parts + 4 * layers * stream * room,
    }
    sent = {axis: size * (layout.along(axis) - 1) / layout.along(axis) for axis, size in sizes.items()}
    sent["context"] += attended
    return sent | {"pipeline": 2 * layout.rounds * stream / tensor if piped else 0.0}


def _sent(shape: Shape, layout: Layout, chip: Chip, tokens: float) -> dict[str, float]:
    """Axis -> seconds, between devices that are as near as the mesh puts them."""
    inner, found = 1, {}
    sizes = sent_bytes(shape, layout)
    for axis in reversed(NEAREST_LAST):
        found[axis] = sizes[axis] / _link(chip, layout.along(axis), inner)
        inner *= layout.along(axis)
    return found


def _link(chip: Chip, devices: int, inner: int) -> float:
    """Bytes a second that each of so many devices sends to the next, of which every ``inner``-th is one. Those of a node
    that are of one ring share what comes into the node."""
    members = max(1, min(devices, chip.near // inner))
    return chip.fast if members == devices else min(chip.fast, chip.slow * members)


def _held(shape: Shape, layout: Layout) -> float:
    """Parameters that a device stores."""
    experts = shape.layers * shape.of_experts
    whole = shape.stored_in_all - experts + experts / layout.along("expert")
    return whole / layout.along("tensor", "pipeline") / layout.along("fsdp")


def memory(shape: Shape, layout: Layout, states: int = 3) -> float:
    """Bytes of a device during a step, about: state in float32, gradients, gathered layers, activations and logits.

    Args:
      states: arrays of the size of the parameters: these, and the optimizer's.
    """
    tensor = layout.along("tensor")
    tokens = layout.batch * shape.context / layout.accumulate / layout.along("data", "fsdp", "expert", "context")
    # Korthikanti et al. (2022), equation 2, without what attention in blocks keeps not: 34 bytes of the width for GPT-2's
    # block, of which the mlp has 19 (tables 2 and 3), and the masks of dropout 2.
    layer = tokens / tensor * (14 * shape.width + 4 * shape.projections * shape.mlp_width / 2 + 2 * sum(shape.attended))
    layers = shape.layers / layout.along("pipeline")
    kept = layers * (tokens / tensor * HALF * shape.width if layout.again else layer) + layer
    logits = min(tokens * shape.vocab / tensor * 6, 2**31)
    stored = shape.stored - shape.of_experts + shape.of_experts / layout.along("expert")
    return SINGLE * _held(shape, layout) * (states + 1) + 2 * HALF * stored / tensor + kept + logits
