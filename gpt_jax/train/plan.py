"""A run planned without training: its step is lowered and compiled, and never run."""

from dataclasses import replace

import jax

from gpt_jax.backend import first_contact
from gpt_jax.config import Config
from gpt_jax.mesh import chips, memory, plan_text
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import plan as plans
from gpt_jax.train import reference
from gpt_jax.train.forward import FixedModel
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.run import with_vocab
from gpt_jax.train.starting import fixed_models
from gpt_jax.train.step import hyper_scalars, make_program, objective_of


def print_plan(config: Config, devices: int | None, chip: str) -> None:
    """Prints the plan of a run.

    Args:
      devices: virtual CPU devices to compile for; None = those of this machine.
      chip: a name or memory size for ``chips.find``.

    Raises:
      UserError: an unknown chip, or a configuration that does not fit the devices.
    """
    compared = chips.find(chip)
    if devices is not None:
        plans.virtual_devices(devices)
    first_contact()
    mesh = meshes.make(config.mesh)
    config = with_vocab(config, _planned_vocab(config))
    program = make_program(config, mesh)
    memory.check_sizes(config, program.live)
    arrays, fixed = arrays_of(config), dict(program.fixed)
    if teacher := program.recipe.objective.teacher:
        fixed["teacher"] = fixed_models.planned(fixed_models.TEACHER, teacher, config, mesh)

    def lower(mesh, attend):
        planned = make_program(replace(config, model=replace(config.model, attend=attend)), mesh)
        batch = {
            name: jax.ShapeDtypeStruct(shape, dtype, sharding=meshes.batch_sharding(mesh, shape))
            for name, (shape, dtype) in arrays.items()
        }
        with jax.set_mesh(mesh):
            hyper = {**hyper_scalars(config), **({"fixed": fixed} if fixed else {})}
            return planned.step.lower(program.live, batch, hyper)

    read = {name: tree.params if isinstance(tree, FixedModel) else tree for name, tree in fixed.items()}
    made = plans.plan(config, mesh, {**program.live, **read}, lower, compared, program.trained)
    print(plan_text.render(made, compared), end="")


def arrays_of(config: Config) -> dict[str, tuple[tuple[int, ...], str]]:
    """The shape and type of every array of a batch; data are read only where the objective compares their examples."""
    objective, rows = objective_of(config), config.train.batch
    if isinstance(objective, Policy):
        return objective.arrays(rows, config.model.context)
    if objective.form == "text":
        names = {"tokens": "int32", "targets": "int32", "weights": "float32"}
        if config.data.pack == "segments":
            names |= {"segments": "int32", "positions": "int32"}
        return {name: ((rows, config.model.context), dtype) for name, dtype in names.items()}
    from gpt_jax.data.open import open_data

    one = open_data(config, objective.form).train.fixed(1, 1)[0]
    if objective.reference:
        one[reference.COLUMN] = one["weights"].sum(-1)
    return {name: ((rows, *array.shape[1:]), str(array.dtype)) for name, array in one.items()}


def _planned_vocab(config: Config) -> int:
    """The vocabulary of the data, which is read only where the configuration does not give one."""
    if config.model.vocab:
        return config.model.vocab
    from gpt_jax.data.open import open_data

    return open_data(config, objective_of(config).form).vocab
