"""From gradients to updates: clip, direction, learning rate, decoupled decay, by one table of (path regex -> row).

update = -lr_t * row.lr * (factor * direction(clipped gradient) + weight_decay * row.weight_decay * parameter)

where factor is the parametrisation's (1 but for muP, whose rates shrink with the width while decay does not). What a row
freezes has no gradient and no statistics, and does not count in the norm.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from gpt_jax import registry
from gpt_jax.config import Config, OptimConfig
from gpt_jax.errors import UserError, did_you_mean
from gpt_jax.model import init
from gpt_jax.train.optimizers.matrices import is_vector
from gpt_jax.tree_paths import map_with_path

Hyper = dict[str, Any]
GROUPS = "config.optim.groups"
ROW_KEYS = {"optimizer": (str,), "lr": (int, float), "weight_decay": (int, float), "frozen": (bool,)}


@dataclass(frozen=True)
class Row:
    """How a parameter is trained: an optimizer, factors of the learning rate and the weight decay, and the factor that the
    parametrisation gives to its direction.

    A factor that differs between the layers of a stack is an array over them, with the parameter's number of axes.
    """

    optimizer: str
    lr: float | np.ndarray
    weight_decay: float | np.ndarray
    factor: float = 1.0


@dataclass(frozen=True)
class Optimizer:
    """``init(params) -> state``; ``update(grads, state, params, step, hyper) -> (updates, state, info)``.

    Gradients and updates are trees like ``trained``'s. ``info`` holds "lr" and "grad_norm" (before clipping).
    """

    init: Callable[[Any], Any]
    update: Callable[[Any, Any, Any, jax.Array, Hyper], tuple[Any, Any, dict]]


def hyper_of(config: Config) -> Hyper:
    """What sweeps vary, as scalars that a compiled step takes as arguments."""
    o = config.optim
    values = {
        "lr": o.lr,
        "weight_decay": o.weight_decay,
        "warmup": o.warmup,
        "steps": config.train.steps,
        "clip": o.clip,
    }
    return {name: np.float32(value) for name, value in values.items()}


def build(config: Config, params: Any, scanned: bool) -> Optimizer:
    """The optimizer of a configuration, for parameters (or their shapes) in the live layout.

    Raises:
      UserError: an unknown optimizer or row key, a parameter that no row of ``optim.groups`` is about, or layers that are
        alike and have different optimizers.
    """
    o, scheme, groups = config.optim, init.scheme(config.model), _groups(config)
    rows = map_with_path(
        lambda path, p: _scaled(_row_of(config, groups, path, p, scanned), scheme, path), trained(config, params)
    )
    schedule = registry.build("train.schedules", o.schedule, where="config.optim.schedule")
    direction = _direction(rows, scanned)

    def update(grads, state, params, step, hyper):
        norm = optax.tree.norm(grads)
        scale = jnp.where((hyper["clip"] > 0) & (norm > hyper["clip"]), hyper["clip"] / norm, 1.0)
        grads = jax.tree.map(lambda g: g * scale, grads)
        params = trained(config, params)
        directions, state = direction.update(grads, state, params)
        lr = hyper["lr"] * schedule(step, hyper["warmup"], hyper["steps"])

        def apply(d, p, row):
            d = d if row.factor == 1 else row.factor * d
            decay = hyper["weight_decay"] * row.weight_decay
            return -(lr * row.lr) * (d + decay * p if np.any(row.weight_decay) else d)

        updates = jax.tree.map(apply, directions, params, rows)
        return updates, state, {"lr": lr, "grad_norm": norm}

    return Optimizer(lambda params: direction.init(trained(config, params)), update)


def trained(config: Config, params: Any) -> Any:
    """The parameters, with None in the place of those that a row of ``optim.groups`` freezes.

    Raises:
      UserError: nothing is left, a row that freezes is about no parameter, or about some of the layers of a stack.
    """
    groups = _groups(config)
    freezing = [pattern for pattern, values in groups if "frozen" in values and values["frozen"]]
    if not freezing:
        return params
    found: set[str] = set()

    def is_frozen(name: str) -> bool:
        found.update(pattern for pattern in freezing if re.search(pattern, name))
        first = next((values for pattern, values in groups if re.search(pattern, name)), {})
        return "frozen" in first and first["frozen"]

    def one(path: str, leaf: Any) -> Any:
        names = _alike(path, config)
        frozen = [name for name in names if is_frozen(name)]
        if frozen and len(frozen) < len(names):
            other = next(name for name in names if name not in frozen)
            raise UserError(
                f"a row freezes {frozen[0]} and not {other}, and layers that are alike have their statistics together",
                where=GROUPS,
                fix='freeze all of them, or keep some as they are with {"lr": 0.0}',
            )
        return None if frozen else leaf

    kept = map_with_path(one, params)
    unknown = next((pattern for pattern in freezing if pattern not in found), None)
    if unknown is not None:
        raise UserError(f"{unknown!r} freezes nothing: no parameter has such a path", where=GROUPS)
    if not jax.tree.leaves(kept):
        raise UserError("every parameter is frozen", where=GROUPS, fix="leave something to train")
    return kept


def joined(kept: Any, params: Any) -> Any:
    """All parameters: those of ``trained``, and of the others those of ``params``."""
    return jax.tree.map(lambda new, old: old if new is None else new, kept, params, is_leaf=lambda leaf: leaf is None)


def added(updates: Any, params: Any) -> Any:
    """The parameters after an update."""
    return jax.tree.map(
        lambda u, p: p if u is None else jnp.add(p, u), updates, params, is_leaf=lambda leaf: leaf is None
    )


def ema(old: Any, new: Any, decay: float, count: jax.Array) -> Any:
    """The mean of the parameters after each update, weighted by ``decay`` per update since, leaf by leaf.

    It has no part of the initial parameters: it equals an average from 0 with Adam's correction of its bias (Kingma and Ba
    2015, section 3), and differs from decay * old + (1 - decay) * new in the first few 1 / (1 - decay) updates.

    Args:
      old: the mean over the ``count`` updates before; without meaning where that is 0.
    """
    # (1 - decay) / (1 - decay^(count + 1)); a difference of nearly equal numbers is expm1's.
    weight = (1 - decay) / -jnp.expm1((count + 1) * jnp.float32(math.log(decay))) if decay else jnp.float32(1)
    return jax.tree.map(lambda o, n: o + weight.astype(o.dtype) * (n - o), old, new)


def _direction(rows: Any, scanned: bool) -> optax.GradientTransformation:
    names = sorted({row.optimizer for row in jax.tree.leaves(rows)})
    transforms = {
        name: registry.build("train.optimizers", name, where="config.optim.optimizer", scanned=scanned)
        for name in names
    }
    if len(transforms) == 1:
        return transforms[names[0]]
    return optax.partition(transforms, jax.tree.map(lambda row: row.optimizer, rows))


def _row_of(config: Config, groups: list[tuple[str, dict]], path: str, p: Any, scanned: bool) -> Row:
    """The row of a parameter, or of a stack of them, by the paths that they have unrolled."""
    names = _alike(path, config)
    rows = [_row(config.optim, groups, name, is_vector(path, p, scanned)) for name in names]
    for name, row in zip(names, rows, strict=True):
        if row.optimizer != rows[0].optimizer:
            raise UserError(
                f"{names[0]} has the optimizer {rows[0].optimizer} and {name} {row.optimizer}, and layers that are alike"
                " have their statistics together",
                where=GROUPS,
                fix='give all of them one optimizer; their "lr" and "weight_decay" may differ',
            )
    if not scanned:
        return rows[names.index(path)]
    lr, weight_decay = (_by_layer([getattr(row, name) for row in rows], p.ndim) for name in ("lr", "weight_decay"))
    return dataclasses.replace(rows[0], lr=lr, weight_decay=weight_decay)


def _by_layer(values: list[float], ndim: int) -> float | np.ndarray:
    """The factor that all layers have, or an array that broadcasts to a stack of them."""
    return values[0] if len(set(values)) == 1 else np.asarray(values, np.float32).reshape(-1, *[1] * (ndim - 1))


def _row(config: OptimConfig, groups: list[tuple[str, dict]], path: str, vector: bool) -> Row:
    for pattern, values in groups:
        if re.search(pattern, path):
            given = {name: value for name, value in values.items() if name != "frozen"}
            decay = 0.0 if vector else 1.0
            return Row(**{"optimizer": config.optimizer, "lr": 1.0, "weight_decay": decay, **given})
    raise UserError(
        f"no row of optim.groups is about the parameter {path}",
        where=GROUPS,
        fix='end the table with (".*", {})',
    )


def _scaled(row: Row, scheme: init.Scheme, path: str) -> Row:
    name, _ = registry.parse(row.optimizer, where="config.optim.optimizer")
    return dataclasses.replace(row, factor=scheme.lr(init.role_of(path), name))


def _alike(path: str, config: Config) -> list[str]:
    """The unrolled paths of a parameter in all layers of its stack, whatever the layout of ``path``; its own if in none."""
    if not path.startswith("blocks/"):
        return [path]
    blocks, number, rest = path.split("/", 2)
    period = len(config.model.attentions)
    return [f"{blocks}/{i}/{rest}" for i in range(int(number) % period, config.model.layers, period)]


def _groups(config: Config) -> list[tuple[str, dict]]:
    return [_checked(group, f"{GROUPS}[{i}]") for i, group in enumerate(config.optim.groups)]


def _checked(group: Any, where: str) -> tuple[str, dict]:
    form = 'a pair ("path regex", {"lr": factor, "weight_decay": factor, "optimizer": "name(…)"} or {"frozen": True})'
    if not (isinstance(group, tuple) and len(group) == 2 and isinstance(group[0], str) and isinstance(group[1], dict)):
        raise UserError(f"{group!r} is no row", where=where, allowed=form)
    for key, value in group[1].items():
        if type(value) not in ROW_KEYS.get(key, ()) or (key != "optimizer" and value < 0):
            raise UserError(
                f"{key!r}: {value!r} has no place in a row", where=where, allowed=form, fix=did_you_mean(key, ROW_KEYS)
            )
    if group[1] != {"frozen": True} and "frozen" in group[1] and group[1]["frozen"]:
        raise UserError(f"{group[1]!r}: what is frozen has no rate, decay or optimizer", where=where, allowed=form)
    try:
        re.compile(group[0])
    except re.error as error:
        raise UserError(f"{group[0]!r} is no regular expression: {error}", where=where) from None
    return group
