"""``launch.py eval --tasks=lm_eval:NAME``: tasks of the harness on a run, printed and written as the harness does."""

import contextlib
import importlib.util
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.data.rendering import template_of
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import StorageError, UserError
from gpt_jax.sample.decode import Decoder
from gpt_jax.study.lm_eval.asked import Asked
from gpt_jax.study.lm_eval.spelling import Spelling

PACKAGE, OLDEST = "lm_eval", (0, 4, 10)
RESAMPLES = 1000  # for the standard errors of what is not a mean


def require() -> None:
    """
    Raises:
      UserError: the harness is not installed, or too old.
    """
    fix = "pip install 'lm-eval>=0.4.10'"
    if importlib.util.find_spec(PACKAGE) is None:
        raise UserError("lm-eval is not installed", where="--tasks", fix=fix)
    version = metadata.version(PACKAGE)
    if tuple(int(part) for part in version.split(".")[:3] if part.isdecimal()) < OLDEST:
        raise UserError(f"lm-eval {version} is too old", where="--tasks", allowed="0.4.10 or newer", fix=fix)


def model_of(config: Config, params: dict, tokenizer: Tokenizer | None, about: dict[str, Any]) -> Any:
    """The ``lm_eval.api.model.LM`` of a run.

    Args:
      about: facts about the run, which the results hold as their ``config``.

    Raises:
      UserError: the harness is not there, or the run reads no text.
    """
    require()
    if tokenizer is None:
        raise UserError(
            "this run's data has no tokenizer, and the tasks of lm-eval are texts",
            where="config.data.source",
            fix="evaluate a run that was trained on text",
        )
    from gpt_jax.study.lm_eval.model import RunLM, neutral

    usual = Config.from_dict(base.get_config().to_dict()).sample
    spelling = Spelling(tokenizer, template_of(config), config.data.template)
    return RunLM(Decoder(config.model, params), spelling, neutral(usual, config.sample), about)


@dataclass(frozen=True)
class Loaded:
    """Tasks with the same options, as the harness takes them, with their documents read."""

    options: Asked
    items: list[Any]


def loaded(tasks: Sequence[Asked]) -> list[Loaded]:
    """
    Raises:
      UserError: a task is unknown, or cannot be run, or the harness is not there.
    """
    if not tasks:
        return []
    require()
    from gpt_jax.study.lm_eval.finding import found

    ordered = sorted(tasks, key=lambda task: repr(task.options))
    groups = [list(group) for _, group in itertools.groupby(ordered, key=lambda task: task.options)]
    return [Loaded(group[0], found([task.name for task in group])) for group in groups]


def evaluate(model: Any, tasks: Sequence[Loaded], to: Path) -> list[dict[str, Any]]:
    """Runs tasks, prints the harness's tables, and writes ``results_….json`` and ``samples_….jsonl`` into ``to``; what is
    asked for with other options has files of its own.

    Raises:
      UserError: a task asks for what cannot be done.
      StorageError: the disk refuses.
    """
    return [_of_options(model, group.items, group.options, to) for group in tasks]


def _of_options(model: Any, items: list[Any], options: Asked, to: Path) -> dict[str, Any]:
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.utils import make_table

    tracker = EvaluationTracker(output_path=str(to))
    model.noted.clear()
    with _one_process():
        results = lm_eval.simple_evaluate(
            model=model,
            tasks=items,
            num_fewshot=options.shots,
            limit=options.limit,
            bootstrap_iters=RESAMPLES,
            evaluation_tracker=tracker,
            apply_chat_template=options.chat,
            fewshot_as_multiturn=options.chat,
        )
    samples = results.pop("samples")
    print(make_table(results))
    if results.get("groups"):
        print(make_table(results, "groups"))
    for what, count in model.noted.items():
        if count:
            print(f"note: {count} {what}", file=sys.stderr)
    print(_write(tracker, results, samples, to))
    return {**results, "samples": samples}


def _write(tracker: Any, results: dict[str, Any], samples: dict[str, Any], to: Path) -> Path:
    tracker.general_config_tracker.model_name_sanitized = ""  # the folder is the run's own
    tracker.save_results_aggregated(results=results, samples=samples)
    path = to / f"results_{getattr(tracker, 'date_id', '')}.json"
    files = [path]
    for name, rows in samples.items():
        tracker.save_results_samples(task_name=name, samples=rows)
        files.append(to / f"samples_{name}_{getattr(tracker, 'date_id', '')}.jsonl")
    missing = [file for file in files if not file.is_file() or not file.stat().st_size]
    if missing:  # the harness goes on where the disk refuses
        raise StorageError(f"{missing[0].name} could not be written", where=str(to))
    return path


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    """The harness would fork for resamples, which a process with JAX's threads must not."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before
