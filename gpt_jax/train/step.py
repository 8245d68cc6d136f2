"""The training step: a pure function of (state, batch, hyper), and the state it advances.

state = {"step": int32, "skipped": int32, "params": …, "opt": …} and, with ``optim.ema``, {"ema": …}. ``step`` counts
completed updates; ``skipped`` counts those left out because a loss or gradient was not finite.
"""

import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gpt_jax import backend, registry
from gpt_jax.config import Config, ModelConfig
from gpt_jax.limits import folded
from gpt_jax.mesh import memory, rules
from gpt_jax.mesh.spread import split_of
from gpt_jax.model import attend, gpt, layout
from gpt_jax.model.mlp import moe
from gpt_jax.train import optim
from gpt_jax.train.adapters import Adapter
from gpt_jax.train.forward import HEADS, Recipe, whole
from gpt_jax.train.gradients import eval_step, loss_and_grads
from gpt_jax.train.monitors import finite, watch
from gpt_jax.train.objectives import Batch, Objective
from gpt_jax.train.objectives.policy import Policy

State = dict[str, Any]
ADAPTER_KEY, HEADS_KEY = 2**31 - 1, 2**31 - 2  # of what is initialised beside the model


@dataclass(frozen=True, eq=False)
class Program:
    """The compiled parts of a run.

    ``init(seed)`` makes a state on the mesh. ``step(state, batch, hyper)`` returns the next state and the step's
    metrics as device scalars; it donates the state. ``watch_step`` is the same and reports RMS values too.
    ``pure_step`` is what ``step`` is compiled from, to be mapped over several runs.
    ``evaluate(params, batch, byte_lengths_V, fixed)`` returns sums over the batch. ``finite(tree)``: whether all of it is.
    ``stack`` and ``unstack`` convert between the live state and the layout of checkpoints, whose shapes and shardings are
    ``abstract``. ``init(seed, params)`` begins at parameters of the model's, live, instead of fresh ones. ``whole(trained,
    fixed)`` gives the model's parameters of those that are trained and those that are not; ``model`` are their shapes and
    shardings, and ``stored_model`` those in the layout of checkpoints. ``fixed`` are the shapes and shardings of what steps
    read and do not train, and ``trained`` those of the parameters that have gradients.
    """

    recipe: Recipe
    init: Callable[..., State]
    step: jax.stages.Wrapped
    watch_step: jax.stages.Wrapped
    pure_step: Callable[[State, Batch, dict], tuple[State, dict]]
    evaluate: Callable[..., dict]
    gradients: Callable[[State, Batch, dict], dict]
    finite: Callable[[Any], jax.Array]
    stack: Callable[[State], State]
    unstack: Callable[[State], State]
    whole: Callable[[dict, dict], dict]
    abstract: State
    live: State
    model: dict
    stored_model: dict
    fixed: dict
    trained: dict


def make_program(config: Config, mesh: Mesh) -> Program:
    """Everything of a run that runs on devices. Nothing is compiled before its first call.

    Runs of one process that differ only in what steps take as arguments share a program, and what it has compiled.

    Raises:
      UserError: parts of the model do not go together, or a parameter has no rule or no optimizer.
    """
    shape = compiled_from(config)
    return _make_program(_Keyed(shape.to_json(), shape), mesh)


def compile_step(step: jax.stages.Wrapped, state: State, batch: Batch, hyper: dict) -> float:
    """Compiles a step for its first call, and returns the seconds it took: on a CPU that call returns when it has run.

    Raises:
      UserError: there is not the memory to run it.
    """
    started = time.perf_counter()
    compiled = step.lower(state, batch, hyper).compile()
    memory.check_compiled(compiled.memory_analysis(), jax.tree.leaves(state)[0].sharding.addressable_devices)
    return time.perf_counter() - started


def compiled_from(config: Config) -> Config:
    """The configuration, with every knob that no program is compiled from replaced by None, which no program can use."""
    arguments = [name for name in optim.hyper_of(config) if name != "steps"]
    compiled = ("accumulate", "z_loss", "loss_chunk", "on_nonfinite")
    other = [name for name in vars(config.train) if name not in compiled]
    return replace(
        config,
        data=_without(config.data, [name for name in vars(config.data) if name != "pack"]),
        tune=_without(config.tune, [name for name in vars(config.tune) if name not in ("objective", "adapter")]),
        optim=_without(config.optim, arguments),
        train=_without(config.train, other),
        eval=_without(config.eval, vars(config.eval)),
        sample=_without(config.sample, [name for name in vars(config.sample) if name not in _sampled(config)]),
    )


def _sampled(config: Config) -> tuple[str, ...]:
    """The knobs of sampling that a step is compiled from."""
    return ("temperature",) if isinstance(objective_of(config), Policy) else ()


def can_be_exact(model: ModelConfig) -> bool:
    """Whether a GPU's step can leave out what adds up in no fixed order, at little cost.

    Experts scatter the tokens, which takes long in a fixed order. And where a loop's turn calls cuDNN's attention several
    times alike, XLA fails (``attend._told_apart``).
    """
    in_line = not model.scan or model.scan >= model.layers
    alone = model.scan in (True, len(model.attentions)) and len(set(model.attentions)) == len(model.attentions)
    return (in_line or alone) and moe.settings(model.mlp).experts == 1


def _without(section: Any, names: Iterable[str]) -> Any:
    return replace(section, **dict.fromkeys(names))


@dataclass(frozen=True)
class _Keyed:
    """A configuration that is compared by its text: its tables cannot be hashed."""

    key: str
    config: Config = field(compare=False)


@functools.lru_cache(maxsize=8)
def _make_program(shape: _Keyed, mesh: Mesh) -> Program:
    config = shape.config
    period = len(config.model.attentions)
    scanned = bool(config.model.scan)
    if config.data.pack == "segments":
        attend.require(config.model.attend, frozenset({"segments"}))
    recipe = Recipe(
        config,
        gpt.graphdef(config.model),
        objective_of(config),
        adapter_of(config),
        split_of(mesh, config.mesh),
    )

    def init(seed, params=None):
        return init_state(config, jax.random.key(seed), params)

    def to_live(state):
        return state if scanned else layout.unstack(state, period)

    def to_stacked(state):
        return state if scanned else layout.stack(state, period)

    live = _placed(jax.eval_shape(init, 0), mesh, config.mesh.rules, scanned)
    abstract = _placed(jax.eval_shape(to_stacked, live), mesh, config.mesh.rules, scanned=True)
    live_shardings = jax.tree.map(lambda leaf: leaf.sharding, live)
    abstract_shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)

    unplaced = jax.eval_shape(lambda: gpt.init(config.model, jax.random.key(0)))
    model = _placed(unplaced, mesh, config.mesh.rules, scanned)
    initialise = jax.jit(init, out_shardings=live_shardings)

    def step(watched):
        pure = functools.partial(train_step, recipe, watched)
        options = backend.step_options(backend.target_platform(), exact=mesh.size == 1 and can_be_exact(config.model))
        return jax.jit(pure, donate_argnums=0, out_shardings=(live_shardings, None), compiler_options=options)

    return Program(
        recipe=recipe,
        init=lambda seed, params=None: initialise(np.uint32(folded(seed)), params),
        step=step(watched=False),
        watch_step=step(watched=True),
        pure_step=functools.partial(train_step, recipe, False),
        evaluate=jax.jit(functools.partial(eval_step, recipe)),
        gradients=jax.jit(lambda state, batch, hyper: loss_and_grads(recipe, state, batch, hyper)[1]),
        finite=jax.jit(finite.all_finite),
        stack=jax.jit(to_stacked, out_shardings=abstract_shardings),
        unstack=jax.jit(to_live, out_shardings=live_shardings),
        whole=jax.jit(functools.partial(whole, recipe), out_shardings=jax.tree.map(lambda leaf: leaf.sharding, model)),
        abstract=abstract,
        live=live,
        model=model,
        stored_model=_placed(jax.eval_shape(to_stacked, unplaced), mesh, config.mesh.rules, scanned=True),
        fixed={} if recipe.adapter.alone else {"base": model},
        trained=optim.trained(config, live["params"]),
    )


def read_params(state: State) -> dict:
    """The parameters that evaluation and sampling use: the moving average, where the run keeps one."""
    return state["ema"] if "ema" in state else state["params"]


def objective_of(config: Config) -> Objective:
    """What ``tune.objective`` names."""
    return registry.build("train.objectives", config.tune.objective, where="config.tune.objective")


def adapter_of(config: Config) -> Adapter:
    """What ``tune.adapter`` names."""
    return registry.build("train.adapters", config.tune.adapter, where="config.tune.adapter")


def init_state(config: Config, key: jax.Array, params: dict | None = None) -> State:
    """The state before the first update.

    Args:
      params: of the model, live, that training begins with; None: fresh ones.
    """
    params = gpt.init(config.model, key) if params is None else params
    params = adapter_of(config).init(params, config.model, jax.random.fold_in(key, ADAPTER_KEY))
    if heads := objective_of(config).heads(config, jax.random.fold_in(key, HEADS_KEY)):
        params = {**params, HEADS: heads}
    state = {
        "step": jnp.int32(0),
        "skipped": jnp.int32(0),
        "params": params,
        "opt": optim.build(config, params, bool(config.model.scan)).init(params),
    }
    return {**state, "ema": params} if config.optim.ema else state


def train_step(recipe: Recipe, watched: bool, state: State, batch: Batch, hyper: dict) -> tuple[State, dict]:
    """One update: gradients of the objective's mean over what the batch counts, clipped, optimised, applied.

    ``hyper`` holds what sweeps vary, as traced scalars (``optim.hyper_of``, and "seed"). A step whose loss or gradient
    is not finite changes nothing but the counters; with ``on_nonfinite="stop"`` neither does any step after it.
    """
    config = recipe.config
    metrics, grads = loss_and_grads(recipe, state, batch, hyper)
    optimizer = optim.build(config, state["params"], bool(config.model.scan))
    updates, opt, info = optimizer.update(grads, state["opt"], state["params"], state["step"], hyper)
    ok = jnp.isfinite(metrics["loss"]) & jnp.isfinite(info["grad_norm"])
    if config.train.on_nonfinite == "stop":
        ok &= state["skipped"] == 0

    params = optim.added(updates, state["params"])
    new = {"params": params, "opt": opt}
    if config.optim.ema:
        new["ema"] = optim.ema(state["ema"], params, config.optim.ema, state["step"] - state["skipped"])
    new = jax.tree.map(functools.partial(jnp.where, ok), new, {name: state[name] for name in new})
    new |= {"step": state["step"] + 1, "skipped": state["skipped"] + (1 - ok.astype(jnp.int32))}

    metrics |= info | {"skipped": new["skipped"]}
    if watched:
        for name, tree in (("params", params), ("grads", grads), ("updates", updates)):
            metrics |= {
                f"watch/{name}/{path}": value for path, value in watch.rms(tree, bool(config.model.scan)).items()
            }
    return new, metrics


def first_bad_tensor(program: Program, state: State, batch: Batch, hyper: dict) -> str:
    """The name of the first parameter, else gradient, that holds a non-finite value for this batch."""
    for kind, tree in (("parameter", state["params"]), ("gradient of", program.gradients(state, batch, hyper))):
        path = finite.first_bad(tree)
        if path is not None:
            return f"{kind} {path}"
    return "the loss alone"


def _placed(tree: Any, mesh: Mesh, table: str, scanned: bool) -> Any:
    """The tree's shapes with the shardings they have on this mesh."""
    shardings = rules.shardings(tree, mesh, table, scanned)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree, shardings
    )


def hyper_scalars(config: Config) -> dict[str, np.ndarray]:
    """The traced scalars of a run: the optimizer's, and the seed of its dropout."""
    return {**optim.hyper_of(config), "seed": np.uint32(folded(config.train.seed))}
