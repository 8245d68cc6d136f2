"""A run planned without training: its step is lowered and compiled, and never run."""

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import jax
from jax.sharding import Mesh

from gpt_jax.backend import compiling_for, first_contact
from gpt_jax.bars import bar
from gpt_jax.config import Config
from gpt_jax.errors import UserError
from gpt_jax.mesh import memory
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.planning import chips, text
from gpt_jax.mesh.planning import fit as fitting
from gpt_jax.mesh.planning import plan as plans
from gpt_jax.mesh.planning import topology as topologies
from gpt_jax.mesh.planning.chips import Chip
from gpt_jax.mesh.planning.fit import Proposal
from gpt_jax.mesh.planning.savings import Knob
from gpt_jax.mesh.planning.topology import Topology
from gpt_jax.overrides import changed
from gpt_jax.train import losses, reference
from gpt_jax.train.forward import FixedModel
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.run import with_vocab
from gpt_jax.train.starting import fixed_models
from gpt_jax.train.step import hyper_scalars, make_program, objective_of

TRIED = 3  # proposals that are compiled, at most


def print_plan(
    config: Config,
    devices: int | None,
    chip: str,
    fit: bool = False,
    given: Collection[str] = (),
    price: float = 0.0,
    topology: str = "",
    savings: bool = False,
) -> None:
    """Prints the plan of a run; of the settings that fit the chip best where the configuration as it is does not.

    Args:
      devices: virtual CPU devices to compile for; None = those of this machine.
      chip: a name or memory size for ``chips.find``.
      fit: plan with the fastest settings in any case.
      given: knobs that stay as they are, as "mesh.fsdp".
      price: of an hour of a chip.
      savings: compile as well with each knob that would lower the memory, and say what it saves.
      topology: devices for ``topologies.parse``, in place of both: their own compiler compiles, where it is installed.

    Raises:
      UserError: an unknown chip, or a configuration that does not fit the devices.
    """
    described = topologies.parse(topology) if topology else None
    compared = described.chip if described else chips.find(chip)
    if fit and (compared is None or not compared.known):
        raise UserError("--fit has no chip to fit", where="--chip", allowed=", ".join(chips.CHIPS))
    there = _devices(devices, described)
    config = with_vocab(config, _planned_vocab(config))
    options = _options(config)
    reason = fitting.unfit(config, len(there), compared, options) if compared and compared.known else ""
    if compared is None or not (fit or reason):
        made = _compiled(config, compared, there, options)
    else:
        found = fitting.proposals(config, len(there), compared, given, options)
        made, proposal = _first_that_fits(config, found, compared, there, options)
        config = proposal.applied(config)
        print(text.render_proposals(proposal, found, reason, compared, len(there)))
    if described is not None:
        print(text.render_compiler(described, topologies.compiler(described)))
    print(text.render(made, compared, price), end="")
    if savings:
        print(text.render_savings(made, list(_tried(config, made, compared, there, options))))


def _tried(
    config: Config, made: plans.Plan, chip: Chip | None, devices: list[Any], options: int
) -> Iterator[tuple[Knob, plans.Plan | UserError]]:
    """The plan with each knob that would lower the memory on the devices there are; or why it cannot be."""
    for knob in bar([knob for knob in made.knobs if knob.devices is None], desc="savings"):
        try:
            yield knob, _compiled(Config.from_dict(changed(config.to_dict(), knob.values)), chip, devices, options)
        except UserError as error:
            yield knob, error


def _devices(virtual: int | None, described: Topology | None) -> list[Any]:
    """Those that the step is compiled for."""
    if described is not None and topologies.compiler(described):
        topologies.ready()
        first_contact()
        return topologies.devices(described)
    if described is not None:
        virtual = described.count
    if virtual is not None:
        plans.virtual_devices(virtual)
    first_contact()
    return jax.devices()


def _first_that_fits(
    config: Config, found: list[Proposal], chip: Chip, devices: list[Any], options: int
) -> tuple[plans.Plan, Proposal]:
    """Of proposals the first whose memory, as compiled, fits; else that which needs least of those that were compiled."""
    tried: list[tuple[int, plans.Plan, Proposal]] = []
    more = 1.0  # of what one was thought to need, that it needs as compiled
    for proposal in found:
        if len(tried) == TRIED or proposal.memory * more > chip.memory:
            continue
        made = _compiled(proposal.applied(config), chip, devices, options)
        needed = made.memory.total if made.memory else 0
        if needed <= chip.memory:
            return made, proposal
        tried.append((needed, made, proposal))
        more = max(more, needed / proposal.memory)
    _, made, proposal = min(tried, key=lambda one: one[0])
    return made, proposal


def _compiled(config: Config, chip: Chip | None, devices: list[Any], options: int) -> plans.Plan:
    with compiling_for(devices[0].platform):
        return _planned(config, chip, meshes.over(config.mesh, devices), options)


def _planned(config: Config, chip: Chip | None, mesh: Mesh, options: int) -> plans.Plan:
    program = make_program(config, mesh)
    memory.check_sizes(config, program.live)
    fixed = dict(program.fixed)
    if teacher := program.recipe.objective.teacher:
        fixed["teacher"] = fixed_models.planned(fixed_models.TEACHER, teacher, config, mesh)
    train = config.train
    if chip is not None and not train.loss_chunk:
        train = replace(train, loss_chunk=losses.logits_at_once(chip.memory) // config.model.vocab)

    def lower(mesh, attend):
        return lowered(replace(config, train=train, model=replace(config.model, attend=attend)), mesh, fixed)

    read = {name: tree.params if isinstance(tree, FixedModel) else tree for name, tree in fixed.items()}
    return plans.plan(config, mesh, {**program.live, **read}, lower, chip, program.trained, options)


def lowered(config: Config, mesh: Mesh, fixed: dict[str, Any] | None = None) -> jax.stages.Lowered:
    """The training step of a run on a mesh, from shapes alone.

    Args:
      fixed: what steps read and do not train, by name.
    """
    program = make_program(config, mesh)
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=meshes.batch_sharding(mesh, shape))
        for name, (shape, dtype) in arrays_of(config).items()
    }
    with jax.set_mesh(mesh):
        return program.step.lower(program.live, batch, {**hyper_scalars(config), **({"fixed": fixed} if fixed else {})})


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


def _options(config: Config) -> int:
    """Texts of an example: 2 of pairs."""
    shape, _ = arrays_of(config)["tokens"]
    return math.prod(shape[1:-1])


def _planned_vocab(config: Config) -> int:
    """The vocabulary of the data, which is read only where the configuration does not give one."""
    if config.model.vocab:
        return config.model.vocab
    from gpt_jax.data.open import open_data

    return open_data(config, objective_of(config).form).vocab
