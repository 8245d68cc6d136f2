"""Reference log-probabilities: what the model that preferences are measured against makes of every completion.

They are data: computed once, before the first step, and kept in the run directory, so that the run needs the reference no
more. The fingerprint of the data covers them.
"""

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gpt_jax import bars
from gpt_jax.config import ModelConfig
from gpt_jax.data import cache
from gpt_jax.data.batches import Split
from gpt_jax.data.example_windows import ExampleWindows
from gpt_jax.errors import StorageError, UserError
from gpt_jax.mesh import collectives, rules
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.spread import split_of
from gpt_jax.model import gpt, layout
from gpt_jax.storage import make_folder, refused, write_atomically
from gpt_jax.train import describe
from gpt_jax.train.adapters.none import NoAdapter
from gpt_jax.train.forward import ModelForward, Recipe
from gpt_jax.train.objectives import Batch
from gpt_jax.train.objectives.preference import Completions
from gpt_jax.train.run import Run
from gpt_jax.train.starting import fixed_models, start

FILE = "reference.npz"  # in the run directory
COLUMN = "reference"  # in batches
SIDES = ("train", "valid")
WHERE = "config.tune.reference"

Score = Callable[[Batch], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Kept:
    """The log-probabilities of a run's completions.

    Attributes:
      data: the fingerprint of the data they are of.
      model: the digest of the parameters they are from.
      values: side -> of each of its sources, in nats, [windows, C].
    """

    data: str
    model: str
    values: dict[str, list[np.ndarray]]


def read(run: Run, began: start.Start | None = None) -> start.Start | None:
    """The model that log-probabilities are to be computed with: that of ``tune.reference``, else of ``tune.start``.

    None where no objective reads them, or a run that has begun has them.

    Args:
      began: what training starts from, where that has been read.

    Raises:
      UserError: there is no such model, or its tokens are not the run's.
      StorageError: it is damaged, or the file in the run directory is.
    """
    if not run.program.recipe.objective.reference:
        return None
    here = _of_data(run) is not None and start.has_begun(run.workdir)
    if not collectives.all_reduce_max(int(not here)):
        return None
    tune, own = run.config.tune, run.data.tokenizer
    found = _named(tune.reference, run) if tune.reference else began or start.read(tune.start, run.config.to_dict())
    if tune.reference and (found.tokenizer is None or own is None or found.tokenizer.fingerprint != own.fingerprint):
        raise UserError(
            f"{found.where} has other tokens than this run, so that their log-probabilities cannot be compared",
            where=WHERE,
            fix="name a run with the tokenizer of this one, or leave it empty: tune.start",
        )
    return found


def _named(where: str, run: Run) -> start.Start:
    try:
        return start.read(where, run.config.to_dict())
    except UserError as error:
        raise UserError(error.what, where=WHERE, allowed=error.allowed, fix=error.fix) from None


def attached(run: Run, found: start.Start | None, keep: bool) -> Run:
    """The run with the log-probabilities in its batches, where its objective reads them.

    Args:
      found: what ``read`` gave.
      keep: whether the run directory gets what it lacks.

    Raises:
      UserError: the reference cannot read sequences of this length.
      StorageError: the disk refuses.
    """
    if not run.program.recipe.objective.reference:
        return run
    kept = _of_data(run)
    missing = found is not None and (kept is None or kept.model != found.digest)
    if found is not None and collectives.all_reduce_max(int(missing)):
        kept = Kept(run.data.fingerprint, found.digest, _computed(run, found))
        if keep and jax.process_index() == 0:
            write_atomically(make_folder(run.workdir) / FILE, _packed(kept))
    assert kept is not None
    return _with(run, kept)


def of_run(run: Run) -> Run:
    """The run with its log-probabilities, to be read: nothing is written. Errors as of ``read`` and ``attached``."""
    return attached(run, read(run), keep=False)


def _with(run: Run, kept: Kept) -> Run:
    sides: dict[str, Any] = {}
    for name in SIDES:
        split: Split = getattr(run.data, name)
        pairs = zip(_windows(split), kept.values[name], strict=True)
        sides[name] = dataclasses.replace(split, windows=tuple(part.with_column(COLUMN, v) for part, v in pairs))
    fingerprint = cache.digest(run.data.fingerprint, kept.model)
    return dataclasses.replace(run, data=dataclasses.replace(run.data, fingerprint=fingerprint, **sides))


def _computed(run: Run, found: start.Start) -> dict[str, list[np.ndarray]]:
    # The policy as it is before its first update, where no other model is named: of a longer context, for example.
    of = fixed_models.as_read(found.model) if run.config.tune.reference else run.config.model
    score = _scorer(run, found, dataclasses.replace(of, context=run.config.model.context))
    parts = [(name, windows) for name in SIDES for windows in _windows(getattr(run.data, name))]
    count = sum(windows.count for _, windows in parts)
    describe.on_stderr("reference", f"log-probabilities of {count:,} examples under {found.where}")
    values: dict[str, list[np.ndarray]] = {name: [] for name in SIDES}
    shown = bars.bar(total=count, desc="reference", leave=False) if jax.process_index() == 0 else None
    with jax.set_mesh(run.mesh):
        for name, windows in parts:
            values[name].append(_scored(run, windows, score, shown))
    if shown is not None:
        shown.close()
    return values


def _scored(run: Run, windows: ExampleWindows, score: Score, shown: Any) -> np.ndarray:
    """[windows, C]; the last batch is filled up with the last window."""
    settings, shards = run.config.train, meshes.batch_shards(run.mesh)
    batch = shards * max(1, settings.batch // (settings.accumulate * shards))
    first, last = meshes.my_rows(run.mesh, batch)
    found = []
    for begin in range(0, windows.count, batch):
        window_B = np.minimum(np.arange(begin + first, begin + last), windows.count - 1)
        rows = windows.gather(window_B, np.zeros_like(window_B))
        found.append(score(meshes.put_batch(rows, run.mesh)))
        if shown is not None:
            shown.update(min(batch, windows.count - begin))
    return np.concatenate(found)[: windows.count]


def _scorer(run: Run, found: start.Start, model: ModelConfig) -> Score:
    """From a batch to the log-probabilities of its completions, [B, C], in every process."""
    config, mesh = dataclasses.replace(run.config, model=model), run.mesh
    stacked, _ = start.begun(found, config, run.data)
    live = stacked if model.scan else layout.unstack(stacked, len(model.attentions))
    params = jax.device_put(live, rules.shardings(live, mesh, config.mesh.rules, bool(model.scan)))
    recipe = Recipe(
        config,
        gpt.graphdef(model),
        run.program.recipe.objective,
        NoAdapter(),
        split_of(mesh, config.mesh),
    )

    def score(params, batch):
        return Completions.of(ModelForward.of(recipe, params, {}), batch).log_prob_BC

    compiled = jax.jit(score, out_shardings=NamedSharding(mesh, PartitionSpec()))
    return lambda batch: np.asarray(compiled(params, batch))


def _windows(split: Split) -> list[ExampleWindows]:
    found = [part for part in split.windows if isinstance(part, ExampleWindows)]
    assert len(found) == len(split.windows), "the form of an objective with a reference has examples alone"
    return found


def _packed(kept: Kept) -> bytes:
    arrays: dict[str, Any] = {
        f"{name}/{i}": part for name, parts in kept.values.items() for i, part in enumerate(parts)
    }
    arrays["about"] = np.array(json.dumps({"data": kept.data, "model": kept.model}))
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _of_data(run: Run) -> Kept | None:
    """What the run directory has, if it is of these data."""
    kept = _kept(run.workdir / FILE)
    return kept if kept is not None and kept.data == run.data.fingerprint else None


def _kept(path: Path) -> Kept | None:
    """What ``_packed`` made, None where there is no file.

    Raises:
      StorageError: it is damaged.
    """
    try:
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            values = {
                name: [file[f"{name}/{i}"] for i in range(sum(key.startswith(f"{name}/") for key in file.files))]
                for name in SIDES
            }
        return Kept(about["data"], about["model"], values)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise StorageError(
            f"{path.name} is damaged: {error}", where=str(path), fix="remove it: it is computed again"
        ) from error
    except OSError as error:
        raise refused(path, error) from error
