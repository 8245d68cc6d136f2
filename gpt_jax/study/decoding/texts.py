"""The texts of a study: samplers x prompts x seeds, written by one compiled batch and kept as JSON lines.

A line says what it is the text of (the model's digest, the sampler, the prompt, the seed and the length), so that a study
that is started again writes only what is missing, whatever else has changed.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gpt_jax import bars
from gpt_jax.errors import StorageError
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.processors import Vocabulary
from gpt_jax.storage import refused, to_json, write_atomically, writing
from gpt_jax.study.decoding.samplers import Sampler

NAME = "texts.jsonl"
FINAL = "final_logprobs"


@dataclass(frozen=True)
class Text:
    """What was written after a prompt.

    Args:
      prompt, seed: their numbers in the study.
      logprobs: of the model's own distribution, in nats.
      final_logprobs: of the distribution that the token was drawn from.
    """

    sampler: str
    prompt: int
    seed: int
    ids: list[int]
    logprobs: list[float]
    final_logprobs: list[float]


@dataclass(frozen=True)
class Grid:
    """What is to be written.

    Args:
      prompts: token ids, P of them.
      seeds: texts of each sampler after each prompt; greedy decoding has one.
      new: tokens of a text, at most.
      model: a digest of the parameters.
    """

    samplers: tuple[Sampler, ...]
    prompts: Sequence[Sequence[int]]
    seeds: int
    new: int
    model: str

    def seed(self, prompt: int, seed: int) -> int:
        """The random key's; the same for all samplers, so that their differences are paired (common random numbers)."""
        return (seed << 16) + prompt

    def key(self, sampler: Sampler, prompt: int, seed: int) -> dict[str, Any]:
        """What a text is determined by, as it is kept."""
        return {
            "model": self.model,
            "sampler": to_json(sampler.knobs),
            "prompt": list(map(int, self.prompts[prompt])),
            "seed": self.seed(prompt, seed),
            "new": self.new,
        }

    def rows(self, given: Vocabulary) -> list[list[tuple[Sampler, int, int]]]:
        """(sampler, prompt, seed) of every text, by prompt."""
        counts = {s.name: 1 if s.sampling(given).greedy else self.seeds for s in self.samplers}
        return [
            [(s, prompt, seed) for seed in range(self.seeds) for s in self.samplers if seed < counts[s.name]]
            for prompt in range(len(self.prompts))
        ]


def digest(params: dict) -> str:
    """Of a model's parameters."""
    found = hashlib.blake2b(digest_size=12)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def write(decoder: Decoder, given: Vocabulary, grid: Grid, folder: Path, rows: int) -> list[Text]:
    """All texts of a grid; those that ``folder`` does not hold are written now, and kept there.

    Args:
      rows: texts that are written side by side, about; all texts of a prompt are.

    Raises:
      UserError: a sampler is wrong, or leaves no token.
      StorageError: the disk refuses.
    """
    planned = grid.rows(given)
    kept = _read(folder / NAME)
    missing = [[row for row in of_prompt if _line_key(grid.key(*row)) not in kept] for of_prompt in planned]
    missing = [of_prompt for of_prompt in missing if of_prompt]
    total = sum(map(len, missing))
    together = max(1, rows // max(map(len, missing), default=1))
    with bars.bar(desc="texts", total=total) as bar:
        for first in range(0, len(missing), together):
            batch = [row for of_prompt in missing[first : first + together] for row in of_prompt]
            size = len(missing[0]) * min(together, len(missing))
            texts = _written(decoder, given, grid, batch, max(size, len(batch)))
            _append(folder / NAME, grid, batch, texts)
            kept |= {_line_key(grid.key(*row)): text for row, text in zip(batch, texts, strict=True)}
            bar.update(len(batch))
    return [
        dataclasses.replace(kept[_line_key(grid.key(*row))], sampler=row[0].name, prompt=row[1], seed=row[2])
        for of_prompt in planned
        for row in of_prompt
    ]


def _written(decoder: Decoder, given: Vocabulary, grid: Grid, batch: Sequence[tuple], size: int) -> list[Text]:
    """The texts of some rows. The batch is filled up to ``size`` with rows that are dropped, so that one program does."""
    filled = [batch[i % len(batch)] for i in range(size)]
    samplings = {sampler.name: sampler.sampling(given) for sampler in grid.samplers}
    found = decoder.generate(
        [grid.prompts[prompt] for _, prompt, _ in filled],
        max_new_tokens=grid.new,
        sampling=[samplings[sampler.name] for sampler, _, _ in filled],
        seeds=[grid.seed(prompt, seed) for _, prompt, seed in filled],
        noted=(FINAL,),
    )
    texts = []
    for i, (sampler, prompt, seed) in enumerate(batch):
        # A greedy token was certain: what only shapes a draw has not been applied to its scores.
        final = [0.0] * len(found.tokens[i]) if samplings[sampler.name].greedy else found.notes[FINAL][i]
        texts.append(Text(sampler.name, prompt, seed, found.tokens[i], _rounded(found.logprobs[i]), _rounded(final)))
    return texts


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 5) for value in values]


def _line_key(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def _append(path: Path, grid: Grid, batch: Sequence[tuple], texts: Sequence[Text]) -> None:
    lines = [
        json.dumps({"of": grid.key(*row), **dataclasses.asdict(text)}) for row, text in zip(batch, texts, strict=True)
    ]
    with writing(path), open(path, "a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def _read(path: Path) -> dict[str, Text]:
    """The texts of a file by what determines them. A line that was cut off by a crash is removed from it."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise refused(path, error) from error
    whole, _, rest = text.rpartition("\n")
    if rest:
        write_atomically(path, f"{whole}\n" if whole else "")
    found = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            values = json.loads(line)
            key = _line_key(values.pop("of"))
            found[key] = Text(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(f"line {number} is damaged: {error}", where=str(path), fix="remove it") from None
    return found
