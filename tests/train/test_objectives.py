"""What holds of every objective: its value and gradient are a mean over the rows of the batch that count, and nothing else.

``python -m tests.train.every_objective`` tries all examples in all ways; a sample is tried here.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax import registry
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.spread import BatchSplit, split_of
from gpt_jax.model import gpt
from gpt_jax.train import losses
from gpt_jax.train.forward import HEADS, FixedModel, Recipe
from gpt_jax.train.gradients import loss_and_grads
from gpt_jax.train.step import adapter_of, hyper_scalars, make_program, objective_of
from tests.mesh.sizes import mesh_config
from tests.model import variants
from tests.train import tiny
from tests.train.objective_batches import Batch, filling, form_of, laid, rows, together

KIND = "train.objectives"
CALLS = {name: registry.examples(KIND, name) for name in registry.names(KIND)}
CALLS["distill"] = ("distill(teacher='a run', beta=0.5, alpha=0.7)",)  # whose teacher is ``Case.fixed``
EVERY = [call for calls in CALLS.values() for call in calls]
ROWS, FILLING, CONTEXT = 6, 2, 20
MOST = CONTEXT // 2  # targets of a sequence: there is room for padding, and for another one
CLOSE = 1e-11  # in float64

Found = tuple[dict, dict]  # metrics, gradients


@dataclasses.dataclass(frozen=True)
class Case:
    """An objective with a model of one layer in float64, and rows of its form."""

    call: str

    @functools.cached_property
    def config(self):
        model = variants.config(layers=1, width=8, heads=2, kv_heads=2, mlp_width=8, context=CONTEXT, dtype="float64")
        return dataclasses.replace(tiny.config(tune__objective=self.call, train__batch=8), model=model)

    @functools.cached_property
    def form(self) -> str:
        return form_of(objective_of(self.config).form)

    @functools.cached_property
    def rows(self) -> list:
        """Those that count, then filling."""
        vocab, arguments = self.config.model.vocab, registry.parse(objective_of(self.config).form)[1]
        return [
            *rows(self.form, ROWS, vocab, MOST, ends="ends" in arguments),
            *(filling(self.form, i) for i in range(FILLING)),
        ]

    @functools.cached_property
    def params(self) -> dict:
        model = dataclasses.replace(self.config.model, dtype="float32")
        heads = objective_of(self.config).heads(self.config, jax.random.key(0))
        draw = np.random.default_rng(1)
        heads = jax.tree.map(lambda a: a + 0.3 * draw.standard_normal(a.shape), heads)
        params = {**variants.parameters(model), **({HEADS: heads} if heads else {})}
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    @functools.cached_property
    def fixed(self) -> dict:
        """Of the arguments of a step: the teacher, another model in float64, of whose ids the last is filling."""
        if not objective_of(self.config).teacher:
            return {}
        model = dataclasses.replace(self.config.model, width=12, mlp_width=8, head_dim=6)
        params = gpt.init(dataclasses.replace(model, dtype="float32"), jax.random.key(5))
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        return {"fixed": {"teacher": FixedModel(params, model, model.vocab - 1)}}

    def laid(self, found=None, **how) -> Batch:
        return laid(self.form, self.rows if found is None else found, CONTEXT, self.config.model.vocab, **how)

    def program(self, accumulate: int = 1, mesh=None) -> Callable[[Batch], Found]:
        """(metrics, gradients) of a batch."""
        config = dataclasses.replace(self.config, train=dataclasses.replace(self.config.train, accumulate=accumulate))
        split = BatchSplit() if mesh is None else split_of(mesh, config.mesh)
        recipe = Recipe(config, gpt.graphdef(config.model), objective_of(config), adapter_of(config), split)
        compiled = jax.jit(functools.partial(loss_and_grads, recipe))
        state, hyper = {"step": jnp.int32(0), "params": self.params}, {**hyper_scalars(config), **self.fixed}
        return lambda batch: compiled(state, batch if mesh is None else meshes.put_batch(batch, mesh), hyper)


def assert_same(found: Found, wanted: Found, close: float = CLOSE) -> None:
    """Metrics that one of the two lacks (the noise of micro-batches) are its own."""
    for name in found[0].keys() & wanted[0].keys():
        np.testing.assert_allclose(found[0][name], wanted[0][name], rtol=close, atol=close, err_msg=name)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted[1]))
    for (path, a), b in zip(jax.tree.leaves_with_path(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        assert np.isfinite(a).all(), path
        np.testing.assert_allclose(a, b, rtol=close, atol=close * largest, err_msg=jax.tree_util.keystr(path))


def check_layouts(case: Case, run: Callable[[Batch], Found], wanted: Found) -> None:
    """Padding on either side, whatever stands in it and in masked targets, and the order of rows."""
    assert any(float(jnp.abs(leaf).max()) > 1e-3 for leaf in jax.tree.leaves(wanted[1]))
    assert_same(run(case.laid(garbage=1)), wanted)
    assert_same(run(case.laid(left=True, garbage=2)), wanted)
    order = np.random.default_rng(3).permutation(len(case.rows))
    assert_same(run(case.laid([case.rows[i] for i in order])), wanted)
    others = [*case.rows[:ROWS], *(filling(case.form, 10 + i) for i in range(FILLING))]
    assert_same(run(case.laid(others)), wanted)
    if case.form == "text":
        assert_same(run(together(case.rows[:ROWS], len(case.rows), CONTEXT, case.config.model.vocab)), wanted)


@pytest.mark.every(3)
@pytest.mark.parametrize("name", CALLS)
def test_layouts_and_micro_batches_change_nothing(name):
    """In float64. Filling is in a micro-batch of its own."""
    if not CALLS[name]:
        pytest.skip("it needs a run, and has no example")
    case = Case(CALLS[name][-1])
    with jax.enable_x64(True):
        run = case.program()
        wanted = run(case.laid())
        check_layouts(case, run, wanted)
        assert_same(case.program(accumulate=4)(case.laid()), wanted)
        without = {name: array[:ROWS] for name, array in case.laid().items()}
        assert float(objective_of(case.config).count(without)) == float(wanted[0]["tokens"])


@pytest.mark.parametrize("call", ["kto", "ppo(entropy=0.1)"])
def test_devices_change_nothing(call):
    case = Case(call)
    with jax.enable_x64(True):
        mesh = meshes.make(mesh_config(data=4, fsdp=2))
        with jax.set_mesh(mesh):
            found = case.program(mesh=mesh)(case.laid())
        assert_same(jax.tree.map(np.asarray, found), case.program()(case.laid()))


@pytest.mark.parametrize("call", ["dpo"])
def test_without_a_learning_rate_nothing_drifts(call):
    check_still(call)


def check_still(call: str, steps: int = 20) -> None:
    case = Case(call)
    config = dataclasses.replace(case.config, model=dataclasses.replace(case.config.model, dtype="float32"))
    mesh = meshes.make(mesh_config(data=8))
    program, hyper = make_program(config, mesh), {**hyper_scalars(config), **case.fixed, "lr": np.float32(0)}
    batch, found = meshes.put_batch(case.laid(), mesh), []
    with jax.set_mesh(mesh):
        state = program.init(0)
        before = jax.tree.map(np.array, state["params"])
        for _ in range(steps):
            state, metrics = program.step(state, batch, hyper)
            found.append(float(metrics["loss"]))
    assert len(set(found)) == 1 and np.isfinite(found[0])
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == np.asarray(b)).all()), before, state["params"]))


def test_the_loss_of_a_language_model_is_compiled_as_cross_entropy_alone():
    """The seams cost nothing: the step's program has the same text as one that knows of no objectives."""
    config = tiny.config()
    recipe = Recipe(config, gpt.graphdef(config.model), objective_of(config), adapter_of(config), BatchSplit())

    def direct(state, batch, hyper):
        count = jnp.maximum(batch["weights"].sum(), 1)

        def mean(params):
            model = nnx.merge(gpt.graphdef(config.model), params)
            x_BTD, _ = model.hidden(batch["tokens"])
            sums = losses.cross_entropy(
                x_BTD, model.projection(), batch["targets"], batch["weights"], z_loss=0.0, chunk=0, shards=1
            )
            return sums["objective"] / count, sums

        grads, sums = jax.grad(mean, has_aux=True)(state["params"])
        return {"loss": sums["loss"] / count, "z_loss": sums["z_loss"] / count, "tokens": count}, grads

    def text(function):
        params = jax.eval_shape(lambda: gpt.init(config.model, jax.random.key(0)))
        state, (batch,) = {"step": jnp.int32(0), "params": params}, tiny.batches(1)
        return jax.jit(function).lower(state, batch, hyper_scalars(config)).as_text().partition("\n")[2]

    assert text(functools.partial(loss_and_grads, recipe)) == text(direct)
