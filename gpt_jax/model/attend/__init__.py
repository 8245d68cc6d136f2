"""The core of attention, softmax(scores) v: one specification, several backends. The axis of heads is before time.

    scores[t, s] = cap(scale * q[t] . k[s]) + bias[t, s]     where t may see s, else minus infinity
    y[t] = sum over s of softmax(scores[t])[s] * v[s]        with a sink, its exp joins the softmax's denominator

A mechanism (``model.attention``) says what is computed: it makes a specification. A backend (``model.attend``, a file of
this folder) says how. A backend lists what it can do; all else is refused by name, also what is not known here: a field
that a research file adds to ``AttentionSpec`` or ``Reach``, or a subclass of ``Reach``.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gpt_jax import registry
from gpt_jax.backend import target_platform
from gpt_jax.errors import UserError
from gpt_jax.model.where import Tokens, Where, dropout

Pair = tuple[jax.Array, jax.Array]

DROPOUT_SITE = 0
# What a backend may be unable to do. A mechanism needs all but the last three; those depend on how the model is called.
FEATURES = {
    "reach": "a rule of its own for which keys are visible",
    "window": "a sliding window",
    "chunk": "attention within chunks",
    "stride": "strided attention",
    "softcap": "a soft cap on the scores",
    "sink": "sink logits",
    "bias": "a position bias",
    "mixing": "mixing across heads",
    "values": "values wider or narrower than keys",
    "dropout": "dropout on attention weights",
    "segments": "packed documents",
    "cache": "cached decoding",
    "part": "the queries of a part of the text alone",
}
EVERYTHING = frozenset(FEATURES)


@dataclasses.dataclass(frozen=True)
class Reach:
    """Which of the earlier tokens of its document a query attends to; 0 = no such limit.

    A rule of your own is a subclass that overrides ``seen``. Backends that compute the whole mask (reference, xla) run it;
    the others refuse it, as they skip blocks of keys by the limits that they know. To make a rule known to them, add it
    to this class as a field, to ``FEATURES`` by the field's name, and to what a backend can.

    Args:
      window: the last ``window`` tokens, itself among them.
      chunk: those of its own block of ``chunk`` positions.
      stride: those less than ``stride`` back, and every ``stride``-th (Child et al. 2019, section 4.3: "strided").
    """

    window: int = 0
    chunk: int = 0
    stride: int = 0

    @property
    def features(self) -> frozenset[str]:
        """What a backend has to know in order to compute this rule: the limits that are set, and "reach" where there is
        more to it than the limits of ``FEATURES``."""
        limits = {field.name for field in dataclasses.fields(self) if getattr(self, field.name)}
        own = type(self) is not Reach or not limits <= FEATURES.keys()
        return frozenset(limits & FEATURES.keys()) | ({"reach"} if own else frozenset())

    def visible(self, queries: Tokens, keys: Tokens) -> jax.Array:
        """Booleans [B or 1, T, S]: which keys each query may attend to."""
        order = queries.order_BT[:, :, None], keys.order_BT[:, None, :]
        positions = queries.position_BT[:, :, None], keys.position_BT[:, None, :]
        segments = None
        if queries.segment_BT is not None and keys.segment_BT is not None:
            segments = queries.segment_BT[:, :, None], keys.segment_BT[:, None, :]
        seen_BTS = self.seen(order, positions, segments)
        if queries.oldest_BT is not None:
            seen_BTS &= keys.position_BT[:, None, :] >= queries.oldest_BT[:, :, None]
        return seen_BTS if keys.valid_BT is None else seen_BTS & keys.valid_BT[:, None, :]

    def slots(self, length: int, most: int) -> int:
        """How many slots a cache needs for texts of up to ``length`` tokens that are given at most ``most`` at a time."""
        back = [limit + most - 1 for limit in (self.window, self.chunk) if limit]
        return min([length, *back]) if type(self) is Reach else length

    def seen(self, order: Pair, positions: Pair, segments: Pair | None) -> jax.Array:
        """The rule itself, element by element: of queries' and keys' places in the row, positions and document numbers, in
        arrays that broadcast against each other. Positions count from the document's first token."""
        seen = order[0] >= order[1]
        back = positions[0] - positions[1]
        if self.window:
            seen &= back < self.window
        if self.chunk:
            seen &= positions[0] // self.chunk == positions[1] // self.chunk
        if self.stride:
            seen &= (back < self.stride) | (back % self.stride == 0)
        return seen if segments is None else seen & (segments[0] == segments[1])


@dataclasses.dataclass(frozen=True)
class AttentionSpec:
    """What a softmax attention computes from its arrays.

    Args:
      scale: of q . k.
      softcap: c of c * tanh(scores / c) (Gemma 2); 0 = none.
      sink: a learned logit per head joins each softmax's denominator (gpt-oss).
      bias: the model's position adds a bias to the scores.
      mixing: scores and weights are mixed across heads (Shazeer et al. 2020).
      values: v's heads have another width than k's.
      dropout: probability, on the softmax's weights.
      recompute: scores and weights are not kept for the backward pass (``model.remat``).
    """

    scale: float
    reach: Reach = Reach()
    softcap: float = 0.0
    sink: bool = False
    bias: bool = False
    mixing: bool = False
    values: bool = False
    dropout: float = 0.0
    recompute: bool = False

    @property
    def features(self) -> frozenset[str]:
        """What a backend has to be able to do: a field that is set is needed, whether ``FEATURES`` knows it or not."""
        fields = {field.name for field in dataclasses.fields(self)} - {"scale", "reach", "recompute"}
        return self.reach.features | {name for name in fields if getattr(self, name)}


@dataclasses.dataclass(frozen=True)
class Extras:
    """The arrays that a specification may ask for.

    Args:
      position: whose ``bias(queries, keys)``, [B or 1, N, T, S], is added to the scores; a pytree, as it may be trained.
      sink_N: a logit per head.
      before_NM, after_NM: how scores and weights of heads n make those of heads m.
    """

    position: Any = None
    sink_N: jax.Array | None = None
    before_NM: jax.Array | None = None
    after_NM: jax.Array | None = None


jax.tree_util.register_dataclass(Extras, data_fields=["sink_N", "position", "before_NM", "after_NM"], meta_fields=[])

Drop = Callable[[jax.Array], jax.Array]
Run = Callable[[AttentionSpec, jax.Array, jax.Array, jax.Array, Tokens, Tokens, Extras, Drop], jax.Array]


@dataclasses.dataclass(frozen=True)
class Backend:
    """A way to compute attention.

    Args:
      run: (spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop) -> y_BNTJ. Query heads n of group g read kv head
        n // (N/K) (Ainslie et al. 2023).
      can: features, of ``FEATURES``.
      platforms: of JAX, on which it runs; empty = all.
      dtypes: of q, k and v; empty = all.
      keeps_scores: whether the [B, N, T, S] matrix of scores exists in memory.
      opaque: whether compilers cannot split it over devices, as kernels of one device.
      widest: how many channels of a head it takes, on this device; None: any number.
      choose: (platform, features, dtype, H, T S) -> what computes such a call in its place; None: itself.
    """

    name: str
    run: Run
    can: frozenset[str] = EVERYTHING
    platforms: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    keeps_scores: bool = False
    opaque: bool = False
    widest: Callable[[], int] | None = None
    choose: "Callable[[str, frozenset[str], str, int, int], Backend] | None" = None

    def refusal(self, features: frozenset[str], platform: str = "", dtype: str = "", head_dim: int = 0) -> str:
        """Why it cannot do what is needed, in words; empty where it can. Empty arguments are not checked."""
        lacking = features - self.can
        if lacking:
            words = [FEATURES[name] for name in FEATURES if name in lacking]
            return f"cannot do {', '.join(words + sorted(lacking - FEATURES.keys()))}"
        if platform and self.platforms and platform not in self.platforms:
            return f"runs on {' or '.join(self.platforms)} only, and this is a {platform}"
        if dtype and self.dtypes and dtype not in self.dtypes:
            return f"takes {' or '.join(self.dtypes)} only, and model.dtype is {dtype}"
        if head_dim and self.widest and head_dim > self.widest():
            return f"takes heads of up to {self.widest()} channels on this device, and these have {head_dim}"
        return ""


def backend(call: str) -> Backend:
    """The backend that ``model.attend`` names."""
    return registry.build("model.attend", call, where="config.model.attend")


def require(call: str, features: frozenset[str], platform: str = "", dtype: str = "", head_dim: int = 0) -> Backend:
    """The backend, if it can do what is needed.

    Raises:
      UserError: it cannot; the message names what, and the backends that can.
    """
    chosen = backend(call)
    check(chosen, features, platform, dtype, head_dim)
    return chosen


def check(chosen: Backend, features: frozenset[str], platform: str = "", dtype: str = "", head_dim: int = 0) -> None:
    """Refuses a backend that cannot do what is needed. Arguments and errors as of ``require``."""
    refusal = chosen.refusal(features, platform, dtype, head_dim)
    if refusal:
        others = [backend(name) for name in registry.names("model.attend")]
        able = [other.name for other in others if not other.refusal(features, platform, dtype, head_dim)]
        fix = "--config.model.attend=auto takes the fastest that can"
        if not able:
            fix = (
                "compute it in a backend of gpt_jax/model/attend, add it to FEATURES there and to what the backend can"
            )
        raise UserError(
            f"the attention backend {chosen.name!r} {refusal}",
            where="config.model.attend",
            allowed=", ".join(able) or "none of the backends can",
            fix=fix,
        )


def asked(spec: AttentionSpec, queries: Tokens, keys: Tokens) -> frozenset[str]:
    """The features that a call needs: the specification's, and those of how it is called."""
    cached = keys.valid_BT is not None
    part = not cached and queries.order_BT.shape[-1] != keys.order_BT.shape[-1]
    called = {"segments": queries.segment_BT is not None, "cache": cached, "part": part}
    return spec.features | {name for name, given in called.items() if given}


def attend(
    call: str,
    spec: AttentionSpec,
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSJ: jax.Array,
    where: Where,
    extras: Extras | None = None,
) -> jax.Array:
    """y_BNTJ, by the backend that ``call`` names. ``where`` has the positions of the T queries; the S keys are the
    cache or the same tokens.

    Raises:
      UserError: the backend cannot do it.
    """
    spec = _told_apart(dataclasses.replace(spec, recompute=where.recompute), where.number, q_BNTH.dtype)
    queries, keys = where.queries(q_BNTH.shape[2]), where.keys(k_BKSH.shape[2])
    needs = target_platform(), asked(spec, queries, keys), str(q_BNTH.dtype), q_BNTH.shape[3]
    platform, features, dtype, head_dim = needs
    chosen = require(call, features, platform, dtype, head_dim)
    settled = chosen if chosen.choose is None else chosen.choose(*needs, q_BNTH.shape[2] * k_BKSH.shape[2])

    def drop(weights_BNTS):
        return dropout(weights_BNTS, spec.dropout, where.keys_B, DROPOUT_SITE)

    texts = where.spread.texts or (where.spread.kernels if settled.opaque else None)
    run = chosen.run if texts is None else texts.attention(chosen, where.keys_B is not None)
    return run(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras or Extras(), drop)


def _told_apart(spec: AttentionSpec, layer: int | None, dtype: jnp.dtype) -> AttentionSpec:
    """The same specification, in half precision with a scale of the layer's own that rounds to the same float32.

    Where XLA has to be deterministic, it compiles cuDNN's backward pass for the first of several equal calls only, and does
    not find it for the others (seen with jaxlib 0.11.2: "raw_hash_map<>::at").
    """
    if layer is None or dtype.itemsize > 2:
        return spec
    return dataclasses.replace(spec, scale=spec.scale * (1 + 1e-12 * layer))


def capped(scores: jax.Array, cap: float) -> jax.Array:
    """cap * tanh(scores / cap); the scores themselves where cap is 0."""
    return cap * jnp.tanh(scores / cap) if cap else scores


def wide(dtype: Any) -> jnp.dtype:
    """The dtype of scores and softmax: float32, or better if the operands are."""
    return jnp.promote_types(dtype, jnp.float32)
