"""What the memory of a step is for, and what knobs save of it."""

import pytest

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.mesh.planning.budget import by_group, group_of
from gpt_jax.train.plan import print_plan


@pytest.mark.parametrize(
    "path, group",
    [
        ("embed/tokens/w", "embedding"),
        ("blocks/0/attention/q/w", "attention"),
        ("blocks/0/attention/position/w", "attention"),
        ("blocks/3/mlp/down/bias", "mlp"),
        ("blocks/3/mlp/experts/up/w", "experts"),
        ("blocks/3/mlp/router/w", "experts"),
        ("0/mu/readout/w", "readout"),
        ("norm/scale", "norms and the rest"),
    ],
)
def test_groups(path, group):
    assert group_of(path.split("/")) == group


@pytest.fixture(scope="module")
def printed():
    values = base.get_config()
    values.model.update(layers=4, width=64, heads=4, context=256, vocab=250, scan=True)
    values.model.mlp = "moe(experts=4)"
    values.train.update(batch=16, steps=10)
    values.mesh.update(data=4, fsdp=2)
    return Config.from_dict(values)


@pytest.mark.slow
def test_a_plan_says_what_the_state_is_for_and_what_knobs_save(printed, capsys):
    print_plan(printed, None, "h100", savings=True)
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("state per device  by what it is for")
    groups = [line.split(":")[0].split()[0] for line in lines[begin + 1 : begin + 5]]
    assert groups == ["embedding", "attention", "experts", "norms"]
    begin = next(i for i, line in enumerate(lines) if line.startswith("what would save memory"))
    said = {line.split(":")[0].strip(): line for line in lines[begin + 1 :]}
    for knob in ("--config.model.remat=full", "--config.mesh.data=1 --config.mesh.fsdp=8"):
        assert "saves" in said[knob] and "times as long" in said[knob]
    assert {"--config.train.accumulate=2", '--config.optim.optimizer="adamw8bit(b1=0.9, b2=0.95, eps=1e-8)"'} <= set(
        said
    )


def test_groups_are_all_of_the_state(printed):
    from gpt_jax.mesh import mesh as meshes
    from gpt_jax.mesh import rules
    from gpt_jax.train.step import make_program

    mesh = meshes.make(printed.mesh)
    table = rules.describe(make_program(printed, mesh).live, mesh, "default", bool(printed.model.scan))
    grouped = by_group(table)
    numbered = sum(row.bytes_per_device for row in table if "/" not in row.path)
    assert (
        sum(sum(sizes.values()) for sizes in grouped.values()) == sum(row.bytes_per_device for row in table) - numbered
    )
    assert grouped["experts"]["opt"] == 2 * grouped["experts"]["params"]
