"""The coordinate check of muP (Yang et al. 2022, appendix D.1), and how its pieces follow the width."""

import math

import jax
import pytest

from benchmarks import mup
from gpt_jax.errors import UserError
from gpt_jax.model import gpt, init
from tests.model.variants import config

WIDTHS = [64, 128, 256, 512]


@pytest.mark.every(2)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_activations_keep_their_size_under_mup(optimizer, capsys):
    found = mup.slopes("muP", WIDTHS, optimizer)
    with capsys.disabled():
        print(f"\nmuP, {optimizer}: " + ", ".join(f"{name} {slope:+.3f}" for name, slope in found.items()))
    assert max(map(abs, found.values())) < 0.1


def test_they_grow_under_the_standard_parametrisation():
    found = mup.slopes("standard", WIDTHS)
    assert max(found.values()) > 0.3


def test_initial_values_and_rates_follow_the_width():
    m = 8
    scheme = init.scheme(config(width=64 * m, init="mup(base_width=64)", layers=2, head_dim=16))
    assert scheme.std("linear", 1, 1) == pytest.approx(0.02 / math.sqrt(m))
    assert scheme.std("residual", 1, 1) == pytest.approx(0.02 / math.sqrt(m) / 2)
    assert scheme.std("embed", 1, 1) == scheme.std("readout", 1, 1) == 0.02
    assert scheme.logits == 1 / m and scheme.scale(16) == 16**-0.5 and scheme.scale(64) == 4 / 64
    assert [scheme.lr(role, "adamw") for role in ("embed", "vector", "linear", "router")] == [1, 1, 1 / m, 1 / m]
    assert scheme.lr("residual", "muon") == m**-0.5
    with pytest.raises(UserError, match="sgd"):
        scheme.lr("linear", "sgd")


def test_every_parameter_has_a_role():
    c = config(attention="full(gate=True, sink=True)", mlp="moe(experts=2)", tied=False, position="learned")
    shapes = jax.eval_shape(lambda: gpt.init(c, jax.random.key(0)))
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(shapes)]
    roles = {path: init.role_of(path) for path in paths}
    assert roles["embed/tokens/w"] == "embed" and roles["embed/position/w"] == "position"
    assert roles["readout/w"] == "readout" and roles["blocks/0/mlp/router/w"] == "router"
    assert roles["blocks/1/attention/out/w"] == roles["blocks/0/mlp/experts/down/w"] == "residual"
    assert roles["blocks/1/attention/q/w"] == roles["blocks/0/mlp/experts/up/w"] == "linear"
    assert roles["blocks/1/attention/q/bias"] == roles["norm/scale"] == roles["blocks/0/attention/sink"] == "vector"


def test_at_the_base_width_it_is_the_standard_one():
    c = config(width=64, heads=4, head_dim=16, layers=3)
    ours, standard = (
        init.scheme(config(width=64, heads=4, head_dim=16, layers=3, init=name))
        for name in ("mup(base_width=64)", "gpt2")
    )
    for role in ("embed", "linear", "residual", "readout"):
        assert ours.std(role, 1, 1) == pytest.approx(standard.std(role, 1, 1))
    assert ours.logits == 1 and ours.scale(c.head_dim) == standard.scale(c.head_dim)
