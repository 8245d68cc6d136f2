"""What is kept of a layer for the backward pass, and what that pass computes anew: policies by name.

Whatever the policy, the residual stream that enters each layer is kept; "offload" keeps it in the host's memory. A policy
of your own is a function registered under "model.remat" that returns a ``Policy``.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from gpt_jax import registry
from gpt_jax.registry import register

CORE, STREAM = "core", "stream"  # the output of attention's softmax(scores) v; the stream that enters a layer
HOST = "pinned_host"  # JAX's name for the host's memory that a device reads and writes
MOVES = ("sharding_constraint", "reshape", "squeeze", "transpose")  # what computes nothing
KERNELS = ("pallas_call", "dot_product_attention_fwd")  # whose results are those of attention, and of its softmax
_kept = jax.checkpoint_policies


@dataclasses.dataclass(frozen=True)
class Policy:
    """What is kept of a layer.

    Args:
      layer: a policy of ``jax.checkpoint`` that the layer is run under; None: it is run as it is.
      scores: whether attention's scores and weights are kept, where a backend makes them at all.
      offloads: whether something is kept in the host's memory.
    """

    layer: Callable[..., Any] | None = None
    scores: bool = True
    offloads: bool = False


def policy(call: str) -> Policy:
    """The policy that ``model.remat`` names."""
    return registry.build("model.remat", call, where="config.model.remat")


def recomputed(layer: Callable, call: str, gathers: bool = False) -> Callable:
    """A layer, (block, x_BTD, where, number, cache) -> …, under the policy that ``call`` names.

    Args:
      gathers: it gathers its weights from other devices, which are not kept for the backward pass.
    """
    chosen = policy(call)
    kept = chosen.layer or (computes if gathers else None)

    def named(block, x_BTD, where, number, cache):
        where = where if chosen.scores else dataclasses.replace(where, recompute=True)
        x_BTD = checkpoint_name(x_BTD, STREAM) if chosen.offloads else x_BTD
        return layer(block, x_BTD, where, number, cache)

    run = named if kept is None else jax.checkpoint(named, policy=kept)

    def numbered(block, x_BTD, where, number, cache):
        # jax.checkpoint traces the number, by which attention tells layers apart.
        where = dataclasses.replace(where, number=number if isinstance(number, int) else None)
        return run(block, x_BTD, where, number, cache)

    return numbered


def computes(primitive: Any, *_: Any, **params: Any) -> bool:
    """A policy of ``jax.checkpoint`` that keeps all that is more than moved."""
    if "call_jaxpr" in params:
        return any(computes(e.primitive, **e.params) for e in params["call_jaxpr"].eqns)
    return primitive.name not in MOVES


def with_scores(run: Callable) -> Callable:
    """A backend of attention, (spec, q, k, v, queries, keys, extras, drop) -> y_BNTJ, that computes its scores anew in the
    backward pass if its specification says so, and whose output policies know as ``CORE``."""

    @functools.wraps(run)
    def core(spec, q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras, drop):
        def attended(*arrays):
            return run(spec, *arrays, drop)

        attended = jax.checkpoint(attended) if spec.recompute else attended
        return checkpoint_name(attended(q_BNTH, k_BKSH, v_BKSJ, queries, keys, extras), CORE)

    return core


@register("model.remat", "none")
def none() -> Policy:
    """Everything that derivatives read is kept."""
    return Policy()


@register("model.remat", "selective")
def selective() -> Policy:
    """All but attention's scores and weights, [B, N, T, S] each (Korthikanti et al. 2022, section 5: "selective activation
    recomputation"). Backends that never have them whole compute them anew anyway."""
    return Policy(scores=False)


@register("model.remat", "dots")
def dots() -> Policy:
    """The products with weights; norms, activations and the core of attention are computed anew."""
    return Policy(_kept.dots_with_no_batch_dims_saveable)


@register("model.remat", "attention")
def attention() -> Policy:
    """What the core of attention gives, [B, N, T, H], and with a kernel its softmax's denominators, [B, N, T], so that the
    kernel is not run again. All else is computed anew."""
    named = _kept.save_only_these_names(CORE)
    return Policy(lambda prim, *args, **params: prim.name in KERNELS or named(prim, *args, **params))


@register("model.remat", "full")
def full() -> Policy:
    """Nothing: the layer is computed anew from the stream that entered it (Chen et al. 2016, section 4)."""
    return Policy(_kept.nothing_saveable)


@register("model.remat", "offload_dots")
def offload_dots() -> Policy:
    """What "dots" keeps, in the host's memory; it comes back for the backward pass."""
    return Policy(_kept.offload_dot_with_no_batch_dims("device", HOST), offloads=True)


@register("model.remat", "offload")
def offload() -> Policy:
    """As "full", and the stream that enters each layer is in the host's memory: of activations, a device keeps none but
    those of the layer at work."""
    names = {"names_which_can_be_saved": [], "names_which_can_be_offloaded": [STREAM]}
    return Policy(
        _kept.save_and_offload_only_these_names(**names, offload_src="device", offload_dst=HOST), offloads=True
    )
