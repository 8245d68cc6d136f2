"""The verb eval with tasks: what a run answers, in figures, and those of another run beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt_jax import bars
from gpt_jax.data import cache
from gpt_jax.errors import UserError
from gpt_jax.judge import evaluate
from gpt_jax.judge.bootstrap import LEVEL, RESAMPLES
from gpt_jax.judge.evaluate import Answers
from gpt_jax.judge.opened import Opened, open_tasks
from gpt_jax.judge.prompting import Judged
from gpt_jax.sample.decode import Decoder
from gpt_jax.storage import make_folder, read_json, write_atomically, write_json
from gpt_jax.study.compare.verdicts import Rows
from gpt_jax.study.tasks import kept, page
from gpt_jax.study.tasks.result import Model, Result, table

FOLDER = "eval"  # of a run
RESULTS = "results.json"


def judge(model: Model, other: Model | None, calls: Sequence[str], workdir: Path) -> Path:
    """Asks a run tasks, prints a table, and writes answers, figures and a page into its directory, where what was answered
    before is read. Returns the page.

    Args:
      other: a model whose figures are compared, problem by problem.

    Raises:
      UserError: a task cannot be asked of one of the models; nothing has been written.
      StorageError: the disk refuses.
    """
    opened = open_tasks(calls, model.config)
    folder = workdir / FOLDER / str(model.step)
    models = [model] if other is None else [model, other]
    said = [_Asked.of(one) for one in models]
    for asked in said:
        for task in opened:
            asked.judged.prompting(task.task.asking).fitting(task)
    make_folder(folder)
    results = [_result(task, [asked.answers(task, folder) for asked in said]) for task in opened]
    print(_printed(table(results, models)))
    _write(folder, cache.digest(*(asked.digest for asked in said)), models, results)
    path = folder / f"{_name(models)}.html"
    write_atomically(path, page.page(results, [one.name for one in models], table(results, models)))
    return path


@dataclass(frozen=True, eq=False)
class _Asked:
    """A model that is asked, and the digest of it."""

    name: str
    judged: Judged
    digest: str

    @staticmethod
    def of(model: Model) -> "_Asked":
        judged = Judged.of(model.config, Decoder(model.config.model, model.params), model.tokenizer)
        return _Asked(model.name, judged, kept.digest_of(model.config, model.params, model.tokenizer))

    def answers(self, opened: Opened, folder: Path) -> Answers:
        path = kept.path_of(folder, opened, self.digest)
        if (known := kept.read(path, opened)) is not None:
            return known

        def bar(steps, total):
            return bars.bar(steps, total=total, desc=f"{self.name}: {opened.name}", leave=False)

        found = evaluate.answers(opened, self.judged, bar=bar)
        assert found is not None
        kept.write(path, found)
        return found


def _result(opened: Opened, said: Sequence[Answers]) -> Result:
    if len(said) == 1:
        return Result(opened, said[0], evaluate.figures(opened, said[0]), evaluate.details(opened, said[0]))
    one, other = said[0].only(said[1].numbers), said[1].only(said[0].numbers)
    if not one.numbers:
        raise UserError(f"no problem of {opened.call} fits into the contexts of both models", where="--compare")
    figures = [evaluate.figures(opened, given) for given in (one, other)]
    return Result(
        opened,
        one,
        figures[0],
        evaluate.details(opened, one),
        other,
        figures[1],
        evaluate.differences(opened, one, other),
    )


def _write(folder: Path, digest: str, models: Sequence[Model], results: Sequence[Result]) -> None:
    """results.json: of this model, the tasks that were asked before and now; of two, a file of that comparison."""
    path = folder / (RESULTS if len(models) == 1 else f"{_name(models)}.json")
    values = read_json(path, missing={}, fields={"model": str, "tasks": dict})
    before = values["tasks"] if "tasks" in values and values.get("model") == digest else {}
    new = {result.opened.call: result.values() for result in results}
    head = {"runs": [one.name for one in models], "steps": [one.step for one in models], "model": digest}
    write_json(path, {**head, "interval": LEVEL, "resamples": RESAMPLES, "tasks": {**before, **new}})


def _name(models: Sequence[Model]) -> str:
    """Of the page."""
    other = "".join(f"-{one.name}-{one.step}" for one in models[1:])
    return "tasks" + "".join(letter if letter.isalnum() else "-" for letter in other)


def _printed(rows: Rows) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
