"""Every registered variant of the model, and every optimizer, has a sharding rule for each of its arrays."""

import jax
import pytest
from jax.sharding import PartitionSpec

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.model import gpt
from gpt_jax.train import optim
from tests.mesh.sizes import mesh_config
from tests.model import variants

VARIANTS = [(kind, call) for kind, call in variants.VARIANTS if kind != "attend"]


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("knob, name", VARIANTS)
def test_matrices_are_split_on_a_mesh_of_fsdp_and_tensor(knob, name, scanned):
    values = base.get_config()
    values.model.update(layers=2, width=32, heads=4, context=16, vocab=64, tied=False, scan=scanned)
    values.model[knob] = name
    model = Config.from_dict(values).model
    params = jax.eval_shape(lambda: gpt.init(model, jax.random.key(0)))
    mesh = meshes.make(mesh_config(data=2, fsdp=2, tensor=2))
    for row in rules.describe(params, mesh, "default", scanned):
        assert row.note == "", row
        if row.path.endswith("/w") and "position" not in row.path.split("/"):
            assert set(row.spec) - {None} >= {"fsdp"}, row


@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize("name", registry.names("train.optimizers"))
def test_the_state_of_every_optimizer_lies_with_its_parameters(name, scanned):
    values = base.get_config()
    values.model.update(layers=2, width=256, heads=4, context=16, vocab=64, tied=False, scan=scanned)
    values.optim.optimizer = name
    config = Config.from_dict(values)
    params = jax.eval_shape(lambda: gpt.init(config.model, jax.random.key(0)))
    opt = jax.eval_shape(lambda p: optim.build(config, p, scanned).init(p), params)
    mesh = meshes.make(mesh_config(data=2, fsdp=2, tensor=2))
    of_params = {row.path: row for row in rules.describe(params, mesh, "default", scanned)}
    for row in rules.describe(opt, mesh, "default", scanned):
        if "scales" in row.path.split("/"):  # with fewer numbers on the last axis: tests/train/test_eight_bit.py
            continue
        twin = next((r for path, r in of_params.items() if row.path.endswith(path) and r.shape == row.shape), None)
        if twin is None:  # a scalar, or Adafactor's means
            assert row.spec == PartitionSpec(), row
        else:
            assert row.spec == twin.spec, row
