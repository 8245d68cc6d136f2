"""Every backend of the attention core computes what its specification says, or refuses it by name."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax.errors import UserError
from gpt_jax.model.attend import FEATURES, AttentionSpec, Extras, Reach, asked, attend, backend, require
from gpt_jax.model.attend.auto import choose
from gpt_jax.model.position.alibi import Alibi
from gpt_jax.model.position.t5 import T5
from gpt_jax.model.where import Where
from tests import kernels
from tests.model import oracle
from tests.model.variants import calls, config

CALLS = calls("attend")
RUNNABLE = [call for call in CALLS if not backend(call).refusal(frozenset(), "cpu", "float32")]
RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Case:
    """A specification, what it is called with, and the sizes (B, N, K, T, S)."""

    spec: AttentionSpec
    sizes: tuple = (2, 4, 2, 9, 9)
    where: Where = Where()
    position: str = ""
    values: int = 8


def spec(**changes) -> AttentionSpec:
    return AttentionSpec(**{"scale": 8**-0.5, **changes})


SEGMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 3, 3], [1, 2, 2, 2, 2, 2, 2, 2, 2]])
RESTARTED = np.array([[0, 1, 2, 0, 1, 2, 3, 0, 1], [0, 0, 1, 2, 3, 4, 5, 6, 7]])
PACKED = Where(positions_BT=RESTARTED, segments_BT=SEGMENTS)
# Four queries at slots 5 to 8 of 12; the second row begins at slot 3.
HELD = np.array([[*range(9), -1, -1, -1], [-1, -1, -1, *range(6), -1, -1, -1]])
CACHED = Where(positions_BT=np.array([[5, 6, 7, 8], [2, 3, 4, 5]]), start=5, held={12: HELD})
LAST = Where(positions_BT=np.array([[8], [5]]), start=8, held={12: HELD})
# Four queries at the last two slots and the first two, of a ring that has gone round; the second row has a hole.
RING = Where(
    positions_BT=np.array([[20, 21, 22, 23], [2, 3, 4, 5]]),
    start=22,
    held={12: np.array([[22, 23, *range(12, 22)], [4, 5, -1, -1, -1, -1, -1, 0, -1, 1, 2, 3]])},
)
CASES = {
    "multi-head": Case(spec(), (2, 4, 4, 9, 9)),
    "grouped": Case(spec()),
    "multi-query": Case(spec(), (2, 4, 1, 9, 9)),
    "one token": Case(spec(), (1, 2, 2, 1, 1)),
    "odd length": Case(spec(), (1, 2, 2, 13, 13)),
    "scale": Case(spec(scale=0.7)),
    "window": Case(spec(reach=Reach(window=3))),
    "window of one": Case(spec(reach=Reach(window=1))),
    "window of all": Case(spec(reach=Reach(window=2**31 - 1))),
    "chunk": Case(spec(reach=Reach(chunk=4))),
    "stride": Case(spec(reach=Reach(stride=3))),
    "softcap": Case(spec(softcap=0.8)),
    "sink": Case(spec(sink=True)),
    "alibi": Case(spec(bias=True), position="alibi"),
    "t5": Case(spec(bias=True), position="t5"),
    "mixing": Case(spec(mixing=True), (2, 4, 4, 9, 9)),
    "wide values": Case(spec(values=True), values=12),
    "packed": Case(spec(), where=PACKED),
    "packed window": Case(spec(reach=Reach(window=3)), where=PACKED),
    "packed chunk": Case(spec(reach=Reach(chunk=2)), where=PACKED),
    "packed alibi": Case(spec(bias=True), where=PACKED, position="alibi"),
    "cached": Case(spec(), (2, 4, 2, 4, 12), CACHED),
    "cached, one query": Case(spec(), (2, 4, 2, 1, 12), LAST),
    "cached window": Case(spec(reach=Reach(window=3)), (2, 4, 2, 4, 12), CACHED),
    "cached chunk": Case(spec(reach=Reach(chunk=4)), (2, 4, 2, 4, 12), CACHED),
    "cached stride": Case(spec(reach=Reach(stride=2)), (2, 4, 2, 4, 12), CACHED),
    "cached alibi": Case(spec(bias=True), (2, 4, 2, 4, 12), CACHED, "alibi"),
    "ring": Case(spec(), (2, 4, 2, 4, 12), RING),
    "ring, window, alibi": Case(spec(reach=Reach(window=5), bias=True), (2, 4, 2, 4, 12), RING, "alibi"),
    "cached sink": Case(spec(sink=True), (2, 4, 2, 4, 12), CACHED),
    "long": Case(spec(), (1, 4, 2, 40, 40)),
    "long window": Case(spec(reach=Reach(window=7)), (1, 4, 2, 40, 40)),
    "long chunk": Case(spec(reach=Reach(chunk=9)), (1, 2, 2, 40, 40)),
    "long stride, softcap, sink": Case(spec(reach=Reach(stride=5), softcap=1.0, sink=True), (1, 4, 2, 40, 40)),
    "long packed": Case(
        spec(reach=Reach(window=9)),
        (1, 2, 1, 40, 40),
        Where(
            positions_BT=np.concatenate([np.arange(23), np.arange(17)])[None],
            segments_BT=np.repeat([[1, 2]], [23, 17], axis=1),
        ),
    ),
    "window, softcap, sink, alibi, packed": Case(
        spec(reach=Reach(window=4), softcap=1.0, sink=True, bias=True), where=PACKED, position="alibi"
    ),
}


def arrays(case: Case) -> dict:
    """q, k, v and what the specification asks for besides, each trained."""
    b, n, k, t, s = case.sizes
    out = {"q": normal(b, n, t, 8), "k": normal(b, k, s, 8), "v": normal(b, k, s, case.values)}
    if case.spec.sink:
        out["sink"] = normal(n)
    if case.spec.mixing:
        out |= {"before": normal(n, n), "after": normal(n, n)}
    if case.position == "t5":
        out["table"] = normal(6, n)
    return out


def run(call: str, case: Case, given: dict) -> jax.Array:
    heads = case.sizes[1]
    position = None
    if case.position == "alibi":
        position = Alibi(config(heads=heads), nnx.Rngs(0))
    elif case.position == "t5":
        position = T5(config(heads=heads), nnx.Rngs(0), buckets=6, furthest=7)
        position.w[...] = given["table"]
    extras = Extras(position, given.get("sink"), given.get("before"), given.get("after"))
    return attend(call, case.spec, given["q"], given["k"], given["v"], case.where, extras)


def expected(case: Case, given: dict) -> np.ndarray:
    heads = case.sizes[1]
    bias = {
        "": None,
        "alibi": lambda h, t, s: -oracle.slope(h, heads) * (t - s),
        "t5": lambda h, t, s: given["table"][oracle.t5_bucket(t - s, 6, 7), h],
    }[case.position]
    rest = (given.get(name) for name in ("sink", "before", "after"))
    return oracle.attention(case.spec, given["q"], given["k"], given["v"], case.where, bias, *rest)


def refused(call: str, case: Case) -> bool:
    _, _, _, t, s = case.sizes
    return bool(backend(call).refusal(asked(case.spec, case.where.queries(t), case.where.keys(s)), "cpu", "float32"))


@functools.cache
def inputs(name: str) -> tuple[dict, np.ndarray]:
    """The arrays of a case, and what its outputs are weighed with where a derivative is asked for."""
    case = CASES[name]
    return arrays(case), normal(*case.sizes[:2], case.sizes[3], case.values)


def run_and_gradients(call: str, name: str, given: dict) -> tuple[jax.Array, dict]:
    case, (_, weights) = CASES[name], inputs(name)

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradients_and_run(given):
        out = run(call, case, given)
        return (out * weights).sum(), out

    gradients, out = gradients_and_run(given)
    return out, gradients


@functools.cache
def right_gradients(name: str) -> dict:
    """Those of the plainly written backend, in float64."""
    with jax.enable_x64(True):
        return run_and_gradients("reference", name, jax.tree.map(np.float64, inputs(name)[0]))[1]


@pytest.mark.every(4)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("call", RUNNABLE)
def test_a_backend_and_its_gradients_are_right_or_refused(call, name):
    case, (given, _) = CASES[name], inputs(name)
    if refused(call, case):
        with pytest.raises(UserError, match=f"{backend(call).name}.*cannot do"):
            run(call, case, given)
        return
    got, gradients = run_and_gradients(call, name, given)
    np.testing.assert_allclose(got, expected(case, given), atol=1e-5, rtol=1e-5)
    for array, right in right_gradients(name).items():
        scale = np.abs(right).max() + 3e-2
        np.testing.assert_allclose(gradients[array], right, atol=1e-4 * scale, err_msg=array)


@pytest.mark.parametrize("name", ["grouped", "odd length", "wide values"])
def test_the_derivative_of_causal_blocks_is_that_of_xla(name):
    """Of two blocks, the second shorter; to the last digits of float64."""
    with jax.enable_x64(True):
        given = jax.tree.map(np.float64, inputs(name)[0])
        (got, gradients), (right, theirs) = (run_and_gradients(call, name, given) for call in ("causal(rows=4)", "xla"))
    np.testing.assert_allclose(got, right, rtol=0, atol=1e-13)
    for array, gradient in theirs.items():
        np.testing.assert_allclose(gradients[array], gradient, rtol=0, atol=1e-13 * np.abs(gradient).max() * 10)


@pytest.mark.parametrize("call", RUNNABLE)
def test_in_bfloat16(call):
    case = CASES["window"] if not refused(call, CASES["window"]) else CASES["grouped"]
    given = jax.tree.map(lambda a: a.astype(jnp.bfloat16), jax.tree.map(jnp.asarray, arrays(case)))
    got = run(call, case, given)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(got), expected(case, given), atol=0.03)


@pytest.mark.parametrize("call", [c for c in RUNNABLE if "dropout" in backend(c).can])
def test_weights_are_dropped(call):
    """Of 64 weights a query with all keys alike, the kept ones are doubled: y is 2 kept / 64."""
    s = AttentionSpec(scale=1.0, dropout=0.5)
    q, k, v = np.zeros((1, 1, 64, 4)), np.zeros((1, 1, 64, 4)), np.ones((1, 1, 64, 1))
    where = Where(keys_B=jax.random.split(jax.random.key(0), 1))
    last = float(attend(call, s, *(jnp.float32(a) for a in (q, k, v)), where)[0, 0, -1, 0])
    assert last != 1 and 0.5 < last < 1.5 and (last * 32) % 1 == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("call", CALLS)
def test_every_feature_is_known(call):
    assert backend(call).can <= frozenset(FEATURES)


def test_the_blocks_of_one_call_do_not_matter():
    case = CASES["window, softcap, sink, alibi, packed"]
    given = arrays(case)
    right = expected(case, given)
    for block in (1, 2, 3, 5, 9, 512):
        np.testing.assert_allclose(run(f"blockwise(block={block})", case, given), right, atol=1e-5)


@pytest.mark.parametrize(
    "platform, features, dtype, head_dim, scores, chosen",
    [
        ("cpu", set(), "float32", 64, 2**20, "causal"),
        ("cpu", {"values"}, "bfloat16", 64, 2**20, "causal"),
        ("cpu", {"cache"}, "float32", 64, 2**20, "xla"),
        ("cpu", set(), "float32", 264, 2**22, "blockwise"),
        ("cpu", {"window"}, "float32", 64, 2**20, "xla"),
        ("cpu", {"window"}, "float32", 64, 2**22, "blockwise"),
        ("cpu", {"mixing"}, "float32", 64, 2**22, "xla"),
        ("gpu", {"window"}, "bfloat16", 128, 2**20, "cudnn"),
        ("gpu", {"segments"}, "bfloat16", 20, 2**20, "cudnn"),
        ("gpu", {"softcap", "segments"}, "bfloat16", 64, 2**20, "pallas"),
        ("gpu", set(), "float32", 64, 2**20, "pallas"),
        ("gpu", set(), "bfloat16", 264, 2**20, "xla"),
        ("gpu", {"cache"}, "bfloat16", 64, 2**20, "xla"),
        ("tpu", {"segments"}, "bfloat16", 264, 2**20, "splash"),
        ("tpu", {"sink"}, "bfloat16", 64, 2**20, "xla"),
        ("metal", set(), "float32", 64, 2**20, "xla"),
    ],
)
def test_the_choice_of_auto(platform, features, dtype, head_dim, scores, chosen):
    assert choose(platform, frozenset(features), dtype, head_dim, scores).name == chosen


@pytest.mark.parametrize("capability, chosen", [("8.0", "pallas"), ("9.0", "cudnn"), ("10.3", "cudnn")])
def test_heads_as_wide_as_the_gpu_has_them(capability, chosen, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [SimpleNamespace(compute_capability=capability)])
    assert choose("gpu", frozenset(), "bfloat16", 256, 2**20).name == chosen
    if chosen != "cudnn":
        with pytest.raises(UserError, match="up to 128 channels on this device, and these have 256") as refusal:
            require("cudnn", frozenset(), "gpu", "bfloat16", 256)
        assert refusal.value.allowed.startswith("auto") and "pallas" in refusal.value.allowed


@pytest.mark.parametrize("name", ["odd length", "packed", "alibi"])
def test_what_cudnn_gets_is_filled_up(name):
    """To what its kernels take: 5 channels to 8, and an odd length to an even one."""
    case = CASES[name]
    given = {array: a[..., :5] for array, a in inputs(name)[0].items()}
    (b, n, _, t, _), program = case.sizes, jax.make_jaxpr(lambda given: run("cudnn(interpret=True)", case, given))
    assert f"[{b},{t + 1},{n},8]" in str(program(given))
    np.testing.assert_allclose(run("cudnn(interpret=True)", case, given), expected(case, given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("call, platform", [("pallas", "cuda"), ("splash", "tpu")])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["window", "softcap"])
def test_kernels_are_lowered_for_their_devices(call, platform, packed, name):
    """Forward and backward, as far as a machine without the device can; `make kernels` goes on to machine code."""
    function = kernels.gradient(backend(call), kernels.SPECS[name], packed)
    with kernels.pretending(platform):
        lowered = jax.jit(function).trace(*kernels.shapes("bfloat16")).lower(lowering_platforms=(platform,))
    assert lowered.as_text().count("custom_call") >= 2
