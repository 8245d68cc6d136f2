"""Attention over texts that are split over devices is attention over whole texts, in float64, with all its gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.spread import split_of
from gpt_jax.model.attend import Reach
from gpt_jax.model.where import Spread, Where
from tests.mesh.sizes import mesh_config
from tests.model.test_attend import Case, arrays, normal, run, spec

KIND = "mesh.context_strategy"
STRATEGIES = ["ring(block=3)", "ring(zigzag=False, block=2)", "gather", "ulysses"]
MESHES = {"context": {"context": 8}, "with data and tensor": {"data": 2, "tensor": 2, "context": 2}}
SIZES = (4, 8, 2, 32, 32)
BREAKS = np.array([[0, 3, 17, 32], [0, 16, 17, 32], [0, 1, 2, 32], [0, 32, 32, 32]])  # of documents, in each row
SEGMENTS = np.stack([np.searchsorted(row[1:], np.arange(32), side="right") for row in BREAKS]).astype(np.int32)
POSITIONS = np.stack([np.arange(32) - row[s] for row, s in zip(BREAKS, SEGMENTS, strict=True)]).astype(np.int32)
PACKED = Where(positions_BT=POSITIONS, segments_BT=SEGMENTS)
CASES = {
    "plain": Case(spec(), SIZES),
    "window": Case(spec(reach=Reach(window=11)), SIZES),
    "chunk and stride": Case(spec(reach=Reach(chunk=12, stride=3)), SIZES),
    "softcap, sink": Case(spec(softcap=0.8, sink=True), SIZES),
    "t5": Case(spec(bias=True), SIZES, position="t5"),
    "packed": Case(spec(), SIZES, where=PACKED),
    "packed window, alibi": Case(spec(reach=Reach(window=5), bias=True), SIZES, where=PACKED, position="alibi"),
    "wide values": Case(spec(values=True), SIZES, values=12),
    "every head for itself": Case(spec(), (4, 8, 8, 32, 32)),
    "mixing": Case(spec(mixing=True), SIZES),
    "dropout": Case(spec(dropout=0.2), SIZES, where=Where(keys_B=jnp.arange(4))),
}
REFUSED = {"mixing": {"ring", "ulysses"}, "dropout": {"ring"}}  # which strategies refuse it, as they say
ALLOWED = [
    (strategy, name)
    for strategy in STRATEGIES
    for name in CASES
    if strategy.partition("(")[0] not in REFUSED.get(name, ())
]


def found(case: Case, given: dict, weights: np.ndarray, split) -> tuple[np.ndarray, dict]:
    """y and the gradients of all arrays, whole or split."""
    keys_B = None if case.where.keys_B is None else jax.random.split(jax.random.key(3), len(case.where.keys_B))
    where = dataclasses.replace(case.where, keys_B=keys_B, spread=Spread(texts=split))

    def weighted(given):
        moves = None if split is None else split.moves(case.sizes[3])
        if moves is None:
            y = run("auto", dataclasses.replace(case, where=where), given)
        else:
            enter, leave = ((lambda a, move=move: move(a.swapaxes(1, 2)).swapaxes(1, 2)) for move in moves)
            moved = dataclasses.replace(case, where=where.moved(moves[0], case.sizes[3]))
            y = leave(run("auto", moved, given | {name: enter(given[name]) for name in "qkv"}))
        return (y * weights).sum(), y

    gradients, y = jax.jit(jax.grad(weighted, has_aux=True))(given)
    return np.asarray(y), jax.tree.map(np.asarray, gradients)


@functools.cache
def whole(name: str):
    """The arrays of a case, what its outputs are weighed with, and what is right."""
    case = CASES[name]
    given = jax.tree.map(np.float64, arrays(case))
    weights = np.float64(normal(*case.sizes[:2], case.sizes[3], case.values))
    with jax.enable_x64(True):
        return given, weights, found(case, given, weights, None)


@pytest.mark.every(4)
@pytest.mark.parametrize("strategy, name", ALLOWED)
def test_split_texts_attend_as_whole_ones(strategy, name):
    sizes = list(MESHES.values())[(STRATEGIES.index(strategy) + list(CASES).index(name)) % 2]
    check(strategy, name, sizes)


def check(strategy: str, name: str, sizes: dict) -> None:
    config = mesh_config(**sizes, context_strategy=strategy)
    mesh = meshes.make(config)
    given, weights, (wanted_y, wanted) = whole(name)
    with jax.enable_x64(True), jax.set_mesh(mesh):
        y, gradients = found(CASES[name], given, weights, split_of(mesh, config).spread.texts)
    np.testing.assert_allclose(y, wanted_y, atol=1e-13)
    for array, right in wanted.items():
        np.testing.assert_allclose(gradients[array], right, atol=1e-12, err_msg=array)


def test_the_cases_are_of_all_strategies_and_of_documents_that_cross_parts():
    assert {call.partition("(")[0] for call in STRATEGIES} == set(registry.names(KIND))
    for parts in (2, 8):
        firsts = SEGMENTS.reshape(4, parts, -1)
        assert (firsts[:, 1:, 0] == firsts[:, :-1, -1]).any()  # one goes on in the next part
        assert (firsts[:, :, 0] != firsts[:, :, -1]).any()  # one ends within
