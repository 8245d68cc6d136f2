"""A mixture of experts: a router sends every token to a few of many feed-forward networks."""

import dataclasses
import functools
import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from gpt_jax import registry
from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.limits import Factor, Heads, Limits
from gpt_jax.model.attend import wide
from gpt_jax.model.linear import Linear
from gpt_jax.model.mlp.activations import ACTIVATIONS, GATES
from gpt_jax.model.mlp.dense import MLP
from gpt_jax.model.mlp.experts import Experts
from gpt_jax.model.where import Where
from gpt_jax.registry import options, register

ROUTERS = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}
WHERE = "config.model.mlp"


@dataclasses.dataclass(frozen=True)
class Options:
    """A mixture's settings.

    Args:
      experts, top_k: how many there are, and how many a token is routed to.
      activation: of every expert.
      router: softmax (Shazeer et al. 2017) or sigmoid (DeepSeek-V3); the weights of several chosen experts are scaled to
        sum to 1, that of a single one is its probability (Fedus et al. 2021, equation 2).
      shared: experts that every token is routed to, as one network of ``shared`` times the width (DeepSeekMoE 2024).
      capacity: an expert takes at most capacity * top_k / experts of a sequence's tokens, the earliest first, and the
        rest are dropped (Lepikhin et al. 2020); 0 = dropless. What is read with a cache (prompts, texts to be scored, new
        tokens) drops none: it would depend on padding and on how many tokens are read at once.
      balance, z: weights of the loss of unequal loads (Fedus et al. 2021, equation 4) and of the router's log(Z)^2 (Zoph
        et al. 2022, equation 5).
      bias_balance: a bias per expert, which counts in the choice only, is trained by the sign of its load (Wang et
        al. 2024). ``optim.groups`` needs its row: ("balance$", {"optimizer": "lion(b1=0.0, b2=0.0)", "lr": …}).
    """

    experts: Heads = 8
    top_k: Heads = 2
    activation: str = "swiglu"
    router: str = "softmax"
    shared: Annotated[int, Limits(0, 1024)] = 0
    capacity: Factor = 0.0
    balance: Factor = 0.01
    z: Factor = 0.0
    bias_balance: bool = False


class MoE(nnx.Module):
    """sum over the top k experts e of p[e] expert_e(x), p from the router; see ``Options``."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, given: Options):
        _check(given)
        self.given = given
        self.router = Linear((config.width,), (given.experts,), config, rngs, "router", "router")
        self.experts = Experts(given.experts, given.activation, config, rngs)
        width = given.shared * config.mlp_width
        self.shared = MLP(given.activation, config, rngs, width) if given.shared else None
        self.balance = nnx.Param(jnp.zeros(given.experts)) if given.bias_balance else None

    def __call__(self, x_BTD: jax.Array, where: Where) -> tuple[jax.Array, dict]:
        """Reports "moe_loss", to be added to the mean loss, "moe_load" [E], the share of choices each expert got,
        "moe_dropped", the share of choices that were dropped, and with ``balance`` "moe_pull" [E], the derivative of the
        loss by the loads. To a part of a batch (the batch's loads - its own) . moe_pull is added, for the parts' losses to
        average to the batch's."""
        split = where.spread.experts
        logits_BTE = self.router(x_BTD).astype(wide(x_BTD.dtype))
        chosen_BTK, weight_BTK, p_BTE = self.choose(logits_BTE)
        dropped = jnp.zeros(())
        if self.given.capacity and where.held is None:
            room = math.ceil(self.given.capacity * self.given.top_k * x_BTD.shape[1] / self.given.experts)
            limited = self.experts.limited if split is None else functools.partial(split.limited, self.experts)
            y_BTD, served_BTK = limited(x_BTD, chosen_BTK, weight_BTK, room)
            dropped = 1 - served_BTK.mean()
        elif split is not None:
            y_BTD = split.dropless(self.experts, x_BTD, chosen_BTK, weight_BTK)
        else:
            flat = (a.reshape(-1, a.shape[-1]) for a in (x_BTD, chosen_BTK, weight_BTK))
            y_BTD = self.experts.dropless(*flat).reshape(x_BTD.shape)
        if self.shared is not None:
            y_BTD += self.shared(x_BTD, where)[0]
        load_E = jax.nn.one_hot(chosen_BTK, self.given.experts).mean((0, 1, 2))
        share_E = (p_BTE / p_BTE.sum(-1, keepdims=True)).mean((0, 1))
        report = {"moe_load": load_E, "moe_dropped": dropped}
        if self.given.balance:
            report["moe_pull"] = self.given.balance * self.given.experts * share_E
        return y_BTD, report | {"moe_loss": self._losses(logits_BTE, share_E, load_E)}

    def choose(self, logits_BTE: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The chosen experts and their weights, [B, T, K] each; all probabilities, [B, T, E]."""
        p_BTE = ROUTERS[self.given.router](logits_BTE)
        rank_BTE = p_BTE if self.balance is None else p_BTE + self.balance[...]
        _, chosen_BTK = jax.lax.top_k(jax.lax.stop_gradient(rank_BTE), self.given.top_k)
        weight_BTK = jnp.take_along_axis(p_BTE, chosen_BTK, axis=-1)
        if self.given.top_k > 1:  # scaled, a single weight would be 1, from which the router learns nothing
            weight_BTK /= weight_BTK.sum(-1, keepdims=True)
        return chosen_BTK, weight_BTK, p_BTE

    def _losses(self, logits_BTE, share_E, load_E):
        e = self.given.experts
        loss = self.given.balance * e * (jax.lax.stop_gradient(load_E) * share_E).sum()
        loss += self.given.z * jnp.square(jax.nn.logsumexp(logits_BTE, axis=-1)).mean()
        if self.balance is None:
            return loss
        # 0, with the excess load as the bias's gradient: an optimizer that follows signs lowers what is overloaded. It
        # is small, so that it does not count in the norm that clipping looks at.
        push = 1e-6 * (self.balance[...] * jax.lax.stop_gradient(load_E - 1 / e)).sum()
        return loss + push - jax.lax.stop_gradient(push)


@register(
    "model.mlp",
    "moe",
    examples=(
        "moe(experts=4, z=0.1)",
        "moe(experts=4, activation='relu', router='sigmoid', shared=1, bias_balance=True)",
    ),
    typical="moe",
)
@options(Options)
def moe(config: ModelConfig, rngs: nnx.Rngs, **given) -> MoE:
    """A mixture of experts of ``model.mlp_width`` each."""
    return MoE(config, rngs, Options(**given))


def joined(reports: dict) -> dict:
    """The report of a batch, from those of its equal parts: each array has an axis of parts in front. See ``MoE``."""
    if "moe_load" not in reports:
        return jax.tree.map(lambda a: a.mean(0), reports)
    load_LE = reports["moe_load"].mean(0)
    if "moe_pull" in reports:
        missing = jax.lax.stop_gradient(load_LE - reports["moe_load"])
        reports = {**reports, "moe_loss": reports["moe_loss"] + (missing * reports["moe_pull"]).sum(-1)}
    return jax.tree.map(lambda a: a.mean(0), reports)


def _check(given: Options) -> None:
    if not 1 <= given.top_k <= given.experts:
        raise UserError(
            f"moe(experts={given.experts}, top_k={given.top_k})", where=WHERE, allowed="top_k from 1 to experts"
        )
    for name, value, known in (
        ("activation", given.activation, [*ACTIVATIONS, *GATES]),
        ("router", given.router, list(ROUTERS)),
    ):
        if value not in known:
            raise UserError(
                f"moe has no {name} {value!r}", where=WHERE, allowed=", ".join(known), fix=did_you_mean(value, known)
            )


def settings(call: str) -> Options:
    """The settings of the mixture that ``call`` names; one expert for all where it names another network."""
    name, kwargs = registry.parse(call, where=WHERE)
    return Options(**kwargs) if name == "moe" else Options(experts=1, top_k=1)
