"""What a backend of the attention core does not know, it refuses: features, and rules and fields of research files."""

import dataclasses
import math

import numpy as np
import pytest

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.model.attend import FEATURES, AttentionSpec, Reach, backend, require
from gpt_jax.model.attend.auto import CPU_SCORES, choose
from tests.model.test_attend import RUNNABLE, Case, arrays, run, spec


def test_a_refusal_names_the_feature_and_who_can():
    with pytest.raises(UserError) as refusal:
        require("blockwise", frozenset({"mixing"}))
    said = str(refusal.value)
    assert FEATURES["mixing"] in said and "xla" in said and "auto" in said
    assert "blockwise" not in said.split("allowed")[1]


@dataclasses.dataclass(frozen=True)
class WithFirst(Reach):
    """The last tokens, and the ``first`` of the document: a rule that a research file may add."""

    first: int = 0

    def seen(self, slots, positions, segments):
        return super().seen(slots, positions, segments) | Reach().seen(slots, positions, segments) & (
            positions[1] < self.first
        )


class EverySecond(Reach):
    """No field of its own, only another rule."""

    def visible(self, queries, keys):
        return super().visible(queries, keys) & (keys.order_BT % 2 == 0)[:, None]


@pytest.mark.parametrize("reach", [WithFirst(window=3, first=2), EverySecond(window=3)])
@pytest.mark.parametrize("call", RUNNABLE)
def test_a_rule_that_a_backend_does_not_know_is_refused(call, reach):
    """At a length at which each backend skips blocks of keys beyond the windows that it knows."""
    case = Case(spec(reach=reach), (1, 2, 2, 40, 40))
    given = arrays(case)
    if backend(call).name in ("auto", "reference", "xla"):
        np.testing.assert_allclose(run(call, case, given), by_mask(case, given), atol=1e-5)
    else:
        with pytest.raises(UserError, match="cannot do a rule of its own for which keys are visible") as refusal:
            run(call, case, given)
        assert "xla" in refusal.value.allowed


def test_auto_computes_a_rule_of_its_own_beyond_the_length_at_which_it_takes_blocks():
    length = math.isqrt(CPU_SCORES) + 16
    case = Case(spec(reach=WithFirst(window=100, first=4)), (1, 1, 1, length, length))
    given = arrays(case)
    assert choose("cpu", frozenset({"window"}), "float32", 64, length**2).name == "blockwise"
    np.testing.assert_allclose(run("auto", case, given), by_mask(case, given), atol=1e-5)


def by_mask(case: Case, given: dict) -> np.ndarray:
    """softmax(scores) v with the visible keys written out as a matrix."""
    t, reach = np.arange(case.sizes[3]), case.spec.reach
    seen_TS = (t[:, None] >= t) & (t[:, None] - t < reach.window)
    if isinstance(reach, WithFirst):
        seen_TS |= (t[:, None] >= t) & (t < reach.first)
    else:
        seen_TS &= t % 2 == 0
    scores = case.spec.scale * np.einsum("bnth,bnsh->bnts", np.float64(given["q"]), given["k"])
    weights = np.where(seen_TS, np.exp(scores), 0)
    total = weights.sum(-1, keepdims=True)
    return np.einsum("bnts,bnsj->bntj", weights / np.where(total > 0, total, 1), given["v"])


def test_a_limit_without_a_name_is_a_rule_of_its_own(monkeypatch):
    """As when a field is added to ``Reach`` and nowhere else."""
    assert Reach(stride=3).features == {"stride"}
    monkeypatch.delitem(FEATURES, "stride")
    assert Reach(window=2, stride=3).features == {"window", "reach"}


def test_a_field_of_a_specification_that_nobody_knows_is_refused_by_all():
    @dataclasses.dataclass(frozen=True)
    class Warmer(AttentionSpec):
        temperature: float = 0.0

    assert Warmer(scale=1.0).features == frozenset()
    for call in RUNNABLE:
        with pytest.raises(UserError, match="cannot do temperature") as refusal:
            require(call, Warmer(scale=1.0, temperature=2.0).features)
        assert "none" in refusal.value.allowed and "FEATURES" in refusal.value.fix


@pytest.mark.parametrize("call", ["pallas(block=8)", "pallas(block=48)", "splash(block=64)", "blockwise(block=0)"])
def test_blocks_that_a_kernel_cannot_have_are_refused(call):
    with pytest.raises(UserError, match="block"):
        backend(call)


def test_the_former_name_of_a_backend_is_accepted_and_not_listed():
    assert backend("chunked(block=8)").name == "blockwise"
    values = base.get_config()
    values.model.attend = "chunked(block=8)"  # as a stored config.json may say
    assert Config.from_dict(values).model.attend == "chunked(block=8)"
    with pytest.raises(UserError, match="did you mean 'blockwise'"):
        backend("blockwize")
    assert "chunked" not in registry.names("model.attend") and "chunked" in registry.names("model.attention")
