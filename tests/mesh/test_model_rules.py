"""Every registered variant of the model has a sharding rule for each of its parameters."""

import jax
import pytest

from configs import base
from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.model import gpt
from tests.mesh.sizes import mesh_config

VARIANTS = [
    (knob, name)
    for knob in ("attention", "mlp", "norm", "position", "block")
    for name in registry.names(f"model.{knob}")
]


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
        if row.path.endswith("/w"):
            assert set(row.spec) - {None} >= {"fsdp"}, row
