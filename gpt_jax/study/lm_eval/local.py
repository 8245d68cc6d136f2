"""Small tasks for the harness that need no download: ``python -m gpt_jax.study.lm_eval.local DIRECTORY`` writes them.

Each is a file NAME.yaml and one of documents, made by the sources of ``gpt_jax.data``; ``lm_eval --include_path=DIRECTORY``
finds them as well.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_jax import registry
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.data.examples import Row
from gpt_jax.errors import Failure
from gpt_jax.storage import local_path, write_atomically, writing

STORIES = "qa_stories(count={rows}, valid={rows}, kinds=['one', 'deduce'])"
SUMS = "arithmetic(count={rows}, valid={rows}, operations='+-')"
WRITTEN = {"until": ["\n", "."], "do_sample": False, "max_gen_toks": 8}


@dataclass(frozen=True)
class LocalTask:
    """A task.

    Args:
      source: a call that gives the rows.
      documents: (rows, characters of a long text) -> documents.
      settings: of the task's file, besides where the documents are.
    """

    source: str
    documents: Callable[[list[Row], int], Iterator[dict[str, Any]]]
    settings: Mapping[str, Any]


def _whole(rows: list[Row], length: int) -> Iterator[dict[str, Any]]:
    """Texts of stories with their answers, one after another."""
    lines = [f"{row['prompt']} {row['completion']}.\n" for row in rows]
    for i in range(len(rows)):
        yield {"text": _joined(lines, i, length)}


def _choices(rows: list[Row], length: int) -> Iterator[dict[str, Any]]:
    """Questions with a few answers, the right one at a place that differs."""
    answers = sorted({row["completion"] for row in rows})
    for i, row in enumerate(rows):
        others = [answer for answer in answers if answer != row["completion"]]
        options = [others[(i + j) % len(others)] for j in range(min(3, len(others)))]
        at = i % (len(options) + 1)
        options.insert(at, row["completion"])
        yield {"prompt": f"{row['prompt']}", "options": options, "class": at}


def _late_choices(rows: list[Row], length: int) -> Iterator[dict[str, Any]]:
    """The same questions after many other stories."""
    lines = [f"{row['prompt']} {row['completion']}.\n" for row in rows]
    for i, document in enumerate(_choices(rows, length)):
        yield {**document, "prompt": _joined(lines, i + 1, length) + document["prompt"]}


def _answers(rows: list[Row], length: int) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {"prompt": row["prompt"], "answer": row["answer"]}


def _late_answers(rows: list[Row], length: int) -> Iterator[dict[str, Any]]:
    """Sums after many others with their results."""
    lines = [f"{row['prompt']}{row['answer']}\n" for row in rows]
    for i, row in enumerate(rows):
        yield {"prompt": _joined(lines, i + 1, length) + row["prompt"], "answer": row["answer"]}


def _joined(lines: list[str], first: int, length: int) -> str:
    """Lines from one on, in a circle, until there are so many characters."""
    text = ""
    while len(text) < length:
        text += lines[first % len(lines)]
        first += 1
    return text


def _mean(metric: str) -> dict[str, Any]:
    return {"metric": metric, "aggregation": "mean", "higher_is_better": True}


_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{prompt}}",
    "doc_to_choice": "{{options}}",
    "doc_to_target": "{{class}}",
    "metric_list": [_mean("acc"), _mean("acc_norm")],
}
_WRITE = {
    "output_type": "generate_until",
    "doc_to_text": "{{prompt}}",
    "doc_to_target": "{{answer}}",
    "target_delimiter": "",
    "generation_kwargs": WRITTEN,
    "metric_list": [_mean("exact_match")],
}
_ROLLING = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": metric} for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
}
TASKS = {
    "stories_perplexity": LocalTask(STORIES, _whole, _ROLLING),
    "stories": LocalTask(STORIES, _choices, _CHOICE),
    "stories_late": LocalTask(STORIES, _late_choices, _CHOICE),
    "sums": LocalTask(SUMS, _answers, _WRITE),
    "sums_late": LocalTask(SUMS, _late_answers, _WRITE),
}


def write(folder: Path, rows: int = 100, length: int = 4000) -> list[Path]:
    """Writes all of ``TASKS`` and returns their files. The same arguments give the same documents.

    Args:
      rows: documents of a task, none of them one that a model of these sources was trained on.
      length: characters of a long text, at least.

    Raises:
      StorageError: the disk refuses.
    """
    config = Config.from_dict(base.get_config().to_dict())
    files = []
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, task in TASKS.items():
        examples = registry.build("data.sources", task.source.format(rows=rows), config, where="local tasks")
        made = [list(task.documents(side[:rows], length)) for side in (examples.train, examples.valid)]
        data = {}
        for side, documents in zip(("train", "valid"), made, strict=True):
            path = folder.resolve() / f"{name}_{side}.jsonl"
            write_atomically(path, "".join(json.dumps(document) + "\n" for document in documents))
            data[side] = str(path)
        settings = {
            "task": f"gpt_jax_{name}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": data},
            "fewshot_split": "train",
            "test_split": "valid",
            **task.settings,
            "metadata": {"version": 1.0},
        }
        files.append(folder / f"{name}.yaml")
        write_atomically(files[-1], "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description="Tasks for lm-eval that need no download.")
    parser.add_argument("directory", help="where they are written")
    parser.add_argument("--rows", type=int, default=100, help="documents of a task")
    parser.add_argument("--length", type=int, default=4000, help="characters of a long text, at least")
    given = parser.parse_args()
    if given.rows < 2 or given.length < 1:
        parser.error("--rows is 2 or more, --length 1 or more")
    try:
        files = write(local_path(given.directory, "directory"), given.rows, given.length)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.exit_code
    print("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
