"""A run directory opened for work: its complete configuration, data, mesh and programs."""

import dataclasses
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gpt_jax import backend
from gpt_jax.config import Config
from gpt_jax.data.batches import InOrder
from gpt_jax.data.open import Data, open_data
from gpt_jax.data.prompt_windows import PromptWindows
from gpt_jax.errors import UserError
from gpt_jax.mesh import agreement, memory, processes
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.spread import check as check_mesh
from gpt_jax.model import attend, flops, layout
from gpt_jax.sample.searches.chosen import chosen
from gpt_jax.storage import cache_folder
from gpt_jax.train import describe
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.describe import Say
from gpt_jax.train.forward import HEADS, FixedModel
from gpt_jax.train.objectives.policy import Policy
from gpt_jax.train.starting import facts, fixed_models, parameters, places, policies, start
from gpt_jax.train.starting.fixed_models import REFERENCE, TEACHER, Held
from gpt_jax.train.starting.start import Start
from gpt_jax.train.step import Program, State, make_program, objective_of, read_params


@dataclass(frozen=True)
class ReadRun:
    """A run whose checkpoints can be read: what sampling needs."""

    config: Config
    workdir: Path
    mesh: Mesh
    program: Program

    @functools.cached_property
    def fixed(self) -> dict[str, Any]:
        """What steps read and do not train: "base", live, where there is an adapter."""
        if self.program.recipe.adapter.alone:
            return {}
        base = parameters.read_base(self.config, self.workdir, self.program.stored_model)
        return {"base": self.on_mesh(base)}

    def on_mesh(self, stacked: dict) -> dict:
        """Parameters of the model's, in the layout of checkpoints, made live and placed as the mesh has them."""
        model = self.config.model
        live = stacked if model.scan else layout.unstack(stacked, len(model.attentions))
        return jax.device_put(live, jax.tree.map(lambda leaf: leaf.sharding, self.program.model))

    def params(self, state: State) -> dict:
        """The model's parameters that evaluation and sampling use, live: the moving average, where the run keeps one."""
        trained = read_params(state)
        if self.program.recipe.adapter.alone:
            return {name: tree for name, tree in trained.items() if name != HEADS}
        return self.program.whole(trained, self.fixed)

    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.workdir, self.config.train.keep, self.config.train.keep_best)

    def restore(self, checkpoints: Checkpoints, step: int | None = None) -> tuple[int, State, dict[str, Any]] | None:
        """Step, live state and notes of the newest intact checkpoint, or of ``step``; None if there is none."""
        found = checkpoints.restore(self.program.abstract, step)
        return found and (found[0], self.program.unstack(found[1]), found[2])

    def load(self, step: int | None = None) -> tuple[int, State, dict[str, Any]]:
        """A checkpoint, the newest if no step is named: its step, its state and its notes.

        Raises:
          UserError: there is none.
        """
        found = self.restore(self.checkpoints(), step)
        if found is None:
            raise UserError("there is no checkpoint in this run", where=str(self.workdir), fix="train it first")
        return found


@dataclass(frozen=True)
class Run(ReadRun):
    """A run with its data: what training and evaluation start from."""

    data: Data

    @functools.cached_property
    def teacher(self) -> Start | None:
        """The model that the objective learns from, checked against the data; None where there is none."""
        return self._fixed_model(TEACHER, self.program.recipe.objective.teacher)

    @functools.cached_property
    def reference(self) -> Start | None:
        """What ``tune.reference`` names, which a policy is compared with, checked against the data; None for nothing."""
        policy = isinstance(self.program.recipe.objective, Policy)
        return self._fixed_model(REFERENCE, self.config.tune.reference if policy else "")

    @property
    def validation(self) -> InOrder:
        """The batches that an evaluation reads."""
        settings = self.config.train
        return self.data.valid.overlapping(settings.eval_stride).fixed(settings.batch, settings.eval_batches)

    @property
    def read_beside(self) -> list[Held]:
        """The models that are named to be read and not trained."""
        named = (
            (TEACHER, self.program.recipe.objective.teacher, self.teacher),
            (REFERENCE, self.config.tune.reference, self.reference),
        )
        return [Held(role, where, found.step, found.digest) for role, where, found in named if found is not None]

    @functools.cached_property
    def reference_model(self) -> FixedModel | None:
        """What a policy is compared with: ``reference``, else what it began with, which the run directory keeps."""
        if self.reference is not None:
            return self._placed(REFERENCE, self.reference)
        if not self.config.tune.start:
            return None
        if "base" in self.fixed:
            return FixedModel(self.fixed["base"], self.config.model, self.config.model.vocab)
        kept = parameters.read_base(self.config, self.workdir, self.program.stored_model)
        return FixedModel(self.on_mesh(kept), self.config.model, self.config.model.vocab)

    @functools.cached_property
    def fixed(self) -> dict[str, Any]:
        """As of ``ReadRun``, and "teacher" where there is one."""
        if self.teacher is None:
            return super().fixed
        return {**super().fixed, "teacher": self._placed(TEACHER, self.teacher)}

    def _fixed_model(self, role: fixed_models.Role, where: str) -> Start | None:
        found = fixed_models.read(role, where, self.config, self.workdir) if where else None
        if found is not None:
            fixed_models.ids(role, found, self.config, self.data)
        return found

    def _placed(self, role: fixed_models.Role, found: Start) -> FixedModel:
        known = fixed_models.ids(role, found, self.config, self.data)
        return fixed_models.placed(found, known, self.config, self.mesh)

    @property
    def tokens_per_step(self) -> int:
        """Places of the rows that a step reads; of a policy's rows at most so many."""
        if isinstance(self.program.recipe.objective, Policy):
            return self.config.train.batch * self.longest_row
        return self.config.train.batch * self.data.train.options * self.config.model.context

    @property
    def longest_row(self) -> int:
        """Tokens of the longest prompt with the longest completion."""
        parts = [part for split in (self.data.train, self.data.valid) for part in split.windows]
        longest = max(part.longest for part in parts if isinstance(part, PromptWindows))
        return min(self.config.model.context, longest + self.config.sample.max_new_tokens)

    @property
    def flops_per_token(self) -> float:
        """Training FLOPs by PaLM's convention: 6 N plus attention, not halved for causality, nothing recomputed."""
        return flops.flops_per_token(self.config.model, self.config.model.context, "palm")

    @property
    def byte_lengths_V(self) -> np.ndarray | None:
        """UTF-8 bytes each token id stands for; None where tokens are not text, or do not say how many bytes it has."""
        lengths = self.data.byte_lengths
        return None if lengths is None else padded(lengths, self.config.model.vocab)


def open_to_read(config: Config, workdir: str | Path) -> ReadRun:
    """A run that exists, without its data, on the devices that there are (see ``to_read``)."""
    config = to_read(config)
    _keep_compiled()
    mesh = meshes.make(config.mesh)
    program = make_program(config, mesh)
    memory.check(config, [program.live, program.fixed], mesh)
    return ReadRun(config, Path(workdir), mesh, program)


def to_read(config: Config) -> Config:
    """The configuration with a mesh that fits the devices: what was trained on eight is read on one."""
    processes.start_processes(config.mesh)
    backend.check_precision(config.model.dtype)
    mesh = meshes.fitting(config.mesh)
    if mesh != config.mesh:
        describe.on_stderr("mesh", describe.refitted(config.mesh, mesh))
    return dataclasses.replace(config, mesh=mesh)


def open_run(config: Config, workdir: str | Path, say: Say = describe.nothing, form: str = "") -> Run:
    """Checks the configuration against devices and data, and makes the programs. Writes nothing, compiles nothing.

    Args:
      say: is called with a label and a line about each part when it is known.
      form: of the batches, where not the objective reads them; empty = its own.

    Raises:
      UserError: mesh, batch, data or vocabulary do not fit, knobs of sampling contradict each other, or the processes of
        the launch differ in settings, code or data.
    """
    processes.start_processes(config.mesh)
    agreement.check(functools.partial(facts.facts, config))
    chosen(config.sample)
    check_tuning(config)
    start.check(config, Path(workdir))
    backend.check_precision(config.model.dtype)
    _keep_compiled()
    mesh = meshes.make(config.mesh)
    meshes.check_batch(mesh, config.train.batch, config.train.accumulate)
    say("devices", describe.devices(mesh))
    say("data", describe.data_to_read(config))
    data = open_data(config, form or objective_of(config).form)
    agreement.check(lambda: {"the data's digest": data.fingerprint})
    if data.segmented:
        attend.require(config.model.attend, frozenset({"segments"}))
    say("data", describe.data(data, config))
    for note in data.notes:
        say("data", note)
    data.valid.overlapping(config.train.eval_stride)  # which may be refused
    config = with_vocab(config, data.vocab)
    check_mesh(mesh, config)
    run = Run(config, Path(workdir), mesh, make_program(config, mesh), data)
    memory.check(config, [run.program.live, run.program.fixed], mesh, run.program.trained)
    say("parameters", describe.parameters(config, run.program.trained))
    if compared := describe.checkpoints(config.train):
        say("checkpoints", compared)
    return run


def check_tuning(config: Config) -> None:
    """
    Raises:
      UserError: the knobs of ``config.tune`` do not go together with others.
    """
    objective = objective_of(config)
    if config.model.dropout and not objective.dropout:
        raise UserError(
            f"{config.tune.objective} compares log-probabilities, and dropout would be part of the difference",
            where="config.model.dropout",
            allowed="0 with this objective",
        )
    if config.train.z_loss and not objective.z_loss:
        raise UserError(
            f"{config.tune.objective} adds no z-loss, which belongs to the cross-entropy of tune.objective = 'lm'",
            where="config.train.z_loss",
            allowed="0 with this objective",
        )
    if isinstance(objective, Policy):
        policies.check(config, objective)
    compares = objective.reference or isinstance(objective, Policy) and objective.compares
    if compares and not (config.tune.start or config.tune.reference):
        raise UserError(
            f"{config.tune.objective} measures against a model, and none is named",
            where="config.tune.reference",
            allowed="a run, such as runs/q or runs/q@500, or a Hugging Face directory; empty = that of config.tune.start",
        )
    if not config.tune.start and config.tune.adapter != "none":
        raise UserError(
            f"{config.tune.adapter} adapts a model, and none is named",
            where="config.tune.start",
            allowed=places.ALLOWED,
        )


def with_vocab(config: Config, needed: int) -> Config:
    """The configuration with ``model.vocab`` filled in. A model that training starts from grows with the data.

    Raises:
      UserError: it is smaller than the vocabulary of the data.
    """
    if not config.model.vocab or config.tune.start and config.model.vocab < needed:
        return dataclasses.replace(config, model=dataclasses.replace(config.model, vocab=needed))
    if config.model.vocab < needed:
        raise UserError(
            f"model.vocab = {config.model.vocab} is smaller than the {needed} ids of the data",
            where="config.model.vocab",
            allowed=f"{needed} or more, or 0 for exactly that",
        )
    return config


def padded(lengths: np.ndarray, vocab: int) -> np.ndarray:
    """Per-id lengths for a vocabulary with unused ids at its end, or without a tokenizer's last ones, as float32 [V]."""
    found = np.asarray(lengths, np.float32)[:vocab]
    return np.pad(found, (0, vocab - len(found)))


def _keep_compiled() -> None:
    """Caches compiled programs on disk, unless the environment sets a directory (or none) for them, or there is no place."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := cache_folder("compiled")):
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
