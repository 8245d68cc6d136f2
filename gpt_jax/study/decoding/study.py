"""A study of decoding from start to end: texts, metrics, figures and the page, in one directory."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt_jax import bars, configs
from gpt_jax.config import Config, ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.run_directory import read_tokenizer
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.processors import Tokenizer, Vocabulary
from gpt_jax.storage import write_json
from gpt_jax.study.decoding import texts
from gpt_jax.study.decoding.metrics import OWN, SECOND, Corpus, measure
from gpt_jax.study.decoding.samplers import HUMAN, Sampler
from gpt_jax.study.decoding.scores import score
from gpt_jax.train.checkpoint.lock import WorkdirLock
from gpt_jax.train.run import Run, open_run, open_to_read, to_read

TOP = 8  # alternatives to a token on the page
METRICS = "metrics.json"


@dataclass(frozen=True)
class Settings:
    """How large a study is.

    Args:
      prompts: windows of the validation text, spread evenly; each gives a prompt and the human text after it.
      seeds: texts of each sampler after each prompt.
      prompt_tokens, new_tokens: of a window; 0: a quarter of the context, and what is left of it.
      rows: texts that are written side by side.
    """

    prompts: int = 64
    seeds: int = 2
    prompt_tokens: int = 0
    new_tokens: int = 0
    rows: int = 256


@dataclass(frozen=True)
class Study:
    """Texts and what was measured of them.

    Args:
      title: the run and its step.
      samplers: those of the grid, without the human text.
      corpora: sampler or ``HUMAN`` -> a corpus a seed.
      values: sampler or ``HUMAN`` -> metric -> a value a prompt.
    """

    title: str
    samplers: tuple[Sampler, ...]
    corpora: Mapping[str, Sequence[Corpus]]
    values: Mapping[str, Mapping[str, np.ndarray]]
    tokenizer: Tokenizer | None


@dataclass(frozen=True)
class Judge:
    """A second model that scores the texts: a run, and a checkpoint of it."""

    workdir: Path
    step: int | None = None


def study_run(
    config: Config,
    workdir: Path,
    step: int | None,
    samplers: tuple[Sampler, ...],
    settings: Settings,
    to: Path,
    judge: Judge | None = None,
) -> Study:
    """Writes the texts that ``to`` lacks, measures all of them, and keeps metrics.json there.

    Raises:
      UserError: there is no such run or checkpoint, a sampler is wrong, the study does not fit the context or the
        validation text, or the second model has other tokens.
      StorageError: the disk refuses.
    """
    run = open_run(to_read(config), workdir, form="text")
    step, state, _ = run.load(step)
    model, params, tokenizer = run.config.model, run.params(state), run.data.tokenizer
    stops = () if tokenizer is None else tokenizer.stop_ids
    given = Vocabulary(model.vocab, tokenizer, stops)
    for sampler in samplers:  # before anything is compiled
        sampler.sampling(given)
    models: dict[str, tuple[ModelConfig, dict]] = {OWN: (model, params)}
    prompts, human = held_out(run, settings)
    human = [_cut(text, stops) for text in human]
    if judge is not None:
        models[SECOND] = _second(judge, run, len(prompts[0]) + max(map(len, human)))
    new = _sizes(run.config.model.context, settings)[1]
    grid = texts.Grid(samplers, [p.tolist() for p in prompts], settings.seeds, new, texts.digest(params))
    with WorkdirLock(to):
        written = texts.write(Decoder(model, params), given, grid, to, settings.rows)
        corpora = _corpora(models, prompts, human, written, samplers)
        values = {
            name: measure(of_seeds, corpora[HUMAN][0])
            for name, of_seeds in bars.bar(corpora.items(), desc="metrics", leave=False)
        }
        kept = {name: {m: v.tolist() for m, v in found.items()} for name, found in values.items()}
        write_json(to / METRICS, {"step": step, "settings": dataclasses.asdict(settings), "by_prompt": kept})
    title = f"{workdir.resolve().name}, step {step}"
    return Study(title, samplers, corpora, values, tokenizer)


def held_out(run: Run, settings: Settings) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Prompts, and the human text after each: windows of the validation split, spread evenly.

    Raises:
      UserError: there are too few windows, or prompt and text do not fit the context.
    """
    prompt, new = _sizes(run.config.model.context, settings)
    windows = run.data.valid.fixed(1, 0)
    if len(windows) < settings.prompts:
        raise UserError(
            f"the validation text has {len(windows)} windows for {settings.prompts} prompts",
            where="--prompts",
            fix=f"--prompts={len(windows)}",
        )
    chosen = np.linspace(0, len(windows) - 1, settings.prompts).astype(int)
    tokens = [np.asarray(windows[int(k)]["tokens"][0], np.int64) for k in chosen]
    return [ids[:prompt] for ids in tokens], [ids[prompt : prompt + new] for ids in tokens]


def _sizes(context: int, settings: Settings) -> tuple[int, int]:
    """Tokens of a prompt and of a text."""
    prompt = settings.prompt_tokens or max(1, context // 4)
    new = settings.new_tokens or context - prompt
    if new < 1 or prompt + new > context:
        raise UserError(
            f"prompts of {prompt} tokens and texts of {new} do not fit into {context} positions",
            where="--prompt_tokens, --new_tokens",
            allowed=f"{context} tokens in all",
        )
    return prompt, new


def _cut(ids: np.ndarray, stops: tuple[int, ...]) -> np.ndarray:
    """A text as far as it would have been written: up to its first end of text."""
    ends = np.flatnonzero(np.isin(ids, stops))
    return ids[: ends[0] + 1] if len(ends) else ids


def _second(judge: Judge, run: Run, length: int) -> tuple[ModelConfig, dict]:
    stored = Config.from_dict(configs.of_run(judge.workdir))
    other = open_to_read(stored, judge.workdir)
    ours, theirs = run.data.tokenizer, read_tokenizer(judge.workdir)
    same = ours is None and theirs is None or ours and theirs and ours.fingerprint == theirs.fingerprint
    if not same or other.config.model.vocab != run.config.model.vocab:
        raise UserError(
            f"{judge.workdir} has other tokens than this run",
            where="--second",
            allowed="a run with the same tokenizer and vocabulary",
        )
    if other.config.model.context < length:
        raise UserError(
            f"{judge.workdir} reads {other.config.model.context} tokens, and a text has up to {length}",
            where="--second, --new_tokens",
            fix="shorter texts",
        )
    _, state, _ = other.load(judge.step)
    return other.config.model, other.params(state)


def _corpora(
    models: Mapping[str, tuple[ModelConfig, dict]],
    prompts: Sequence[np.ndarray],
    human: Sequence[np.ndarray],
    written: Sequence[texts.Text],
    samplers: Sequence[Sampler],
) -> dict[str, list[Corpus]]:
    """A corpus of P texts for each sampler and seed, and the human one, as the models score them."""
    every = [*human, *(np.array(text.ids, np.int64) for text in written)]
    before = [*prompts, *(prompts[text.prompt] for text in written)]
    scored = {name: score(*model, before, every, TOP) for name, model in models.items()}

    def corpus(places: Sequence[int], gains: Sequence[np.ndarray] | None) -> Corpus:
        scores = {name: [found[i] for i in places] for name, found in scored.items()}
        return Corpus(prompts, [every[i] for i in places], scores, gains)

    found = {HUMAN: [corpus(range(len(human)), None)]}
    for sampler in samplers:
        own = [i for i, text in enumerate(written) if text.sampler == sampler.name]
        found[sampler.name] = []
        for seed in sorted({written[i].seed for i in own}):
            places = sorted((i for i in own if written[i].seed == seed), key=lambda i: written[i].prompt)
            gains = [np.subtract(written[i].final_logprobs, written[i].logprobs) for i in places]
            found[sampler.name].append(corpus([len(human) + i for i in places], gains))
    return found
