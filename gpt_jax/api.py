"""The Python front door: ``load`` a model, ``train`` one, run a ``sweep``. The commands call the same functions."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gpt_jax import configs
from gpt_jax.backend import tune
from gpt_jax.config import Config
from gpt_jax.data.rendering import template_of, with_tokens
from gpt_jax.data.templates import Message
from gpt_jax.data.tokenizers import Tokenizer
from gpt_jax.errors import UserError
from gpt_jax.interop import reading, tokenizer
from gpt_jax.interpret import attention, residual_stream
from gpt_jax.interpret.model import logits, nats
from gpt_jax.model import layout
from gpt_jax.overrides import changed
from gpt_jax.run_directory import read_config, read_tokenizer
from gpt_jax.sample import chunks
from gpt_jax.sample.continuation import Continuations
from gpt_jax.sample.decoders import Decoders
from gpt_jax.sample.outputs.requests import requests
from gpt_jax.sample.outputs.writing import Score, written
from gpt_jax.sample.prompts import any_prompt, encoded, is_dialogue, note_shortened, writer_of
from gpt_jax.sample.speculative.choice import Draft
from gpt_jax.storage import local_path
from gpt_jax.study import run as studies
from gpt_jax.study.sweep import sweep as sweeps
from gpt_jax.study.sweep.results import SweepResults
from gpt_jax.study.sweep.sweep import Sweep
from gpt_jax.train import loop, scoring
from gpt_jax.train.checkpoint.directory import DIRECTORY
from gpt_jax.train.record.progress import quantity
from gpt_jax.train.record.summary import RunSummary
from gpt_jax.train.run import open_to_read

# A text, ids [T], or ids [B, T].
Given: TypeAlias = str | Sequence[int] | Sequence[Sequence[int]] | np.ndarray | jax.Array
Prompts: TypeAlias = Given | Sequence[str] | Sequence[Message] | Sequence[Sequence[Message]]
Settings: TypeAlias = ConfigDict | Config | str | Path  # of a run; a preset or a file by its name
Place: TypeAlias = str | Path


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Model:
    """A trained model, and what it is asked most often.

    Attributes:
      config: of the run. Of a model from elsewhere, only ``config.model`` says something about it.
      params: a nested dict of arrays, in the layout of ``config.model.scan``; the moving average, where a run has one.
      tokenizer: None where tokens are not text; the methods then take ids alone.
      step: completed updates; 0 for a model from elsewhere.
      where: the directory it was read from.
    """

    config: Config
    params: dict
    tokenizer: Tokenizer | None
    step: int
    where: Path

    def logits(self, given: Given) -> jax.Array:
        """Scores of the next token after each of T tokens, float32 [T, V]; [B, T, V] for a batch of ids.

        Raises:
          UserError: the text or ids are empty, longer than the context, or not of this vocabulary.
        """
        tokens_BT, batched = self._tokens(given, self.config.model.context)
        logits_BTV = logits(self.config.model, self.params, tokens_BT)
        return logits_BTV if batched else logits_BTV[0]

    def loss(self, given: Given) -> jax.Array:
        """Nats of every token but the first, which nothing predicts: [T-1]; [B, T-1] for a batch of ids.

        Entry t is -log p(token t+1 | tokens 0 to t), the loss of evaluation; T is at most the context and one more.

        Raises:
          UserError: as in ``logits``.
        """
        tokens_BT, batched = self._tokens(given, self.config.model.context + 1)
        if tokens_BT.shape[1] < 2:
            raise UserError("one token has no loss: nothing predicts the first", allowed="two tokens or more")
        loss_BT = nats(logits(self.config.model, self.params, tokens_BT[:, :-1]), tokens_BT[:, 1:])
        return loss_BT if batched else loss_BT[0]

    def read(self, given: str | Sequence[int] | np.ndarray, way: str = "", stride: int = 0) -> chunks.Reading:
        """The log-probabilities of a text of any length, every token but the first; see ``gpt_jax.sample.chunks.read``.

        Raises:
          UserError: there is no such text, or the model cannot read it so.
        """
        ids = any_prompt(given, "the text", self.tokenizer, None).ids
        return chunks.read(self._decoders.of(self.config.sample), ids, way, stride)

    def generate(self, prompts: Prompts, *, score: Score | None = None, **knobs: Any) -> Any:
        """What the model writes after a prompt: a ``Continuation``, or ``Continuations`` where several are asked for.

        Args:
          prompts: a text, messages ({"role": …, "content": …}) or ids [T], or a list of them, of any lengths. Where the run
            has a template, it writes texts and messages, unless ``templated`` is false: a text is the user's. Prompt i is
            continued with the seed ``seed`` + i, its further samples with others (``gpt_jax.sample.outputs.requests``).
          score: what ``best_of`` texts are ranked by, of a ``Continuation``; None: the model's mean log-probability.
          knobs: of ``config.sample``: max_new_tokens, temperature, num_return_sequences, stop_strings, logprobs, … Without a
            ``max_new_tokens`` of its own, a text ends with the context at the latest, and a line on standard error says so.

        Raises:
          UserError: there is no such knob, or the model cannot continue a prompt.
        """
        config = _config(self.config, {f"sample.{name}": value for name, value in knobs.items()})
        sample, single = config.sample, _is_single(prompts)
        given = enumerate([prompts] if single else prompts, start=1)
        writer = writer_of(config, self.tokenizer)
        found = [any_prompt(prompt, f"prompt {i}", self.tokenizer, writer) for i, prompt in given]
        asked = requests(found, self.config.model, sample, "max_new_tokens" in knobs, self.tokenizer)
        note_shortened([request.length for request in asked], self.config.model, sample.max_new_tokens)
        rows = [row for _, row in written(self._decoders.of(sample), asked, self.tokenizer, score)]
        return rows[0] if single and sample.num_return_sequences == 1 else Continuations(rows)

    def streams(self, given: Given) -> jax.Array:
        """The residual stream before the first layer and after each, [L+1, T, D]; [L+1, B, T, D] for a batch of ids.

        Raises:
          UserError: as in ``logits``.
        """
        tokens_BT, batched = self._tokens(given, self.config.model.context)
        streams_LBTD = residual_stream.streams(self.config.model, self.params, tokens_BT)
        return streams_LBTD if batched else streams_LBTD[:, 0]

    def attention(self, given: Given) -> attention.AttentionMaps:
        """Where every head looks in one text, with its picture in notebooks.

        Raises:
          UserError: as in ``logits``, or the model has a layer without a softmax.
        """
        tokens_BT, batched = self._tokens(given, self.config.model.context)
        if batched:
            raise UserError("attention is of one text", allowed="a text, or ids [T]")
        weights_MNTS = attention.maps(self.config.model, self.params, tokens_BT)[:, 0]
        labels = [attention.label(self.tokenizer, token) for token in np.asarray(tokens_BT[0])]
        return attention.AttentionMaps(weights_MNTS, labels)

    @functools.cached_property
    def head(self) -> scoring.Head:
        """Of a run that trained one: ``head.classify(text)``, ``head.reward(prompt, completion)``."""
        return scoring.head_of(open_to_read(self.config, self.where), self.step, self.tokenizer)

    def __repr__(self) -> str:
        model = self.config.model
        tokenizer = "no tokenizer" if self.tokenizer is None else f"tokenizer of {self.tokenizer.vocab} ids"
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        sizes = f"{quantity(count)} parameters, {model.layers} layers, width {model.width}, context {model.context}"
        return f"Model({self.where.resolve().name!r}: {sizes}, step {self.step}, {tokenizer}, in {self.where})"

    @functools.cached_property
    def _decoders(self) -> Decoders:
        return Decoders(self.config.model, self.params, self.tokenizer, draft)

    def _tokens(self, given: Given, most: int) -> tuple[jax.Array, bool]:
        """ids [B, T], and whether a batch was given."""
        try:
            tokens = np.asarray(encoded(given, "the text", self.tokenizer).ids if isinstance(given, str) else given)
        except ValueError:  # lists of several lengths
            tokens = np.zeros(0)
        vocab = self.config.model.vocab
        if tokens.dtype.kind not in "iu" or tokens.ndim not in (1, 2) or not tokens.size:
            raise UserError(f"{given!r} is neither text nor ids", allowed="a text, ids [T] or [B, T] of equal lengths")
        outside = tokens[(tokens < 0) | (tokens >= vocab)]
        if outside.size:
            raise UserError(f"token id {outside[0]} is outside the vocabulary", allowed=f"0 to {vocab - 1}")
        if tokens.shape[-1] > most:
            raise UserError(f"{tokens.shape[-1]} tokens do not fit", where="model.context", allowed=f"up to {most}")
        return jnp.asarray(np.atleast_2d(tokens), jnp.int32), tokens.ndim == 2


def load(where: Place, step: int | None = None) -> Model:
    """The model in a run directory, in one step of it (``runs/q/checkpoints/500``), or in a directory of Hugging Face's.

    A run is read without its data, on the devices that there are, whatever it was trained on.

    Args:
      step: of a run; the newest if not given.

    Raises:
      UserError: there is no such model.
      StorageError: the checkpoint is damaged.
    """
    tune()
    path = local_path(str(where), "load")
    if path.parent.name == DIRECTORY and path.name.isdecimal():
        if step not in (None, int(path.name)):
            raise UserError(f"step = {step} and the directory of another one", where=str(path), fix="give one of them")
        path, step = path.parent.parent, int(path.name)
    if "model_type" not in read_config(path):
        return opened(Config.from_dict(configs.of_run(path)), path, step)
    if step is not None:
        raise UserError("a directory of Hugging Face's has no steps", where=str(path), fix="leave step out")
    return _pretrained(path)


def opened(config: Config, workdir: Place, step: int | None = None) -> Model:
    """The model of a run whose settings were read, and perhaps changed."""
    run = open_to_read(config, workdir)
    step, state, _ = run.load(step)
    own = read_tokenizer(workdir)
    own = own and with_tokens(own, template_of(config))  # which may be another than it was imported with
    return Model(config, run.params(state), own, step, Path(workdir))


def draft(where: str) -> Draft:
    """The model that ``sample.draft`` names: ``runs/small``, ``runs/small@500`` for a step, or what else ``load`` takes.

    Raises:
      UserError: there is no such model.
    """
    path, at, step = where.rpartition("@")
    found = load(path, int(step)) if at and step.isdecimal() else load(where)
    fingerprint = None if found.tokenizer is None else found.tokenizer.fingerprint
    return Draft(found.config.model, found.params, fingerprint)


def train(config: Settings, workdir: Place, overrides: Mapping[str, Any] | None = None, **knobs: Any) -> RunSummary:
    """Trains a model, or resumes what ``workdir`` holds; returns what summary.json says.

    Args:
      config: a ConfigDict, a Config, or the name of a preset or file as --config takes it.
      overrides, knobs: {"optim.lr": 1e-3}, as a mapping or as keywords.

    Raises:
      Failure: what would end the command, such as ``UserError`` or, after an interrupt, ``Stopped``.
    """
    tune()
    settings = configs.load(str(config)) if isinstance(config, str | Path) else config
    folder = local_path(str(workdir), "workdir")
    return RunSummary(loop.train(_config(settings, {**(overrides or {}), **knobs}, folder), folder), folder)


def sweep(
    sweep: Sweep | Place,
    workdir: Place,
    *,
    jobs: int = 0,
    together: int = 0,
    slurm: str | None = None,
    retry: bool = False,
) -> SweepResults:
    """Trains every arm with every seed, as far as ``workdir`` does not hold them, and returns what they came to.

    Args:
      sweep: a ``Sweep``, or a file with a function sweep().
      jobs: runs at once; 0 = one a GPU, or one a core.
      together: runs alike but for seeds and scalars that one program trains; 0 = what is fastest on a GPU, else 1.
      slurm: options for sbatch where SLURM runs them; None = this machine does.
      retry: whether failed runs are tried again.

    Raises:
      Failure: what would end the command: the experiment is not in order, some runs failed, or it was stopped.
    """
    tune()
    folder = local_path(str(workdir), "workdir")
    source = Path(folder.resolve().name) if isinstance(sweep, Sweep) else local_path(str(sweep), "sweep")
    made = sweep if isinstance(sweep, Sweep) else sweeps.load(source)
    execution = studies.Execution(
        source, folder, jobs=jobs, slurm=slurm is not None, options=slurm or "", together=together, retry=retry
    )
    return studies.run(made, execution)


def _pretrained(path: Path) -> Model:
    others = configs.load("base")
    others.data.tokenizer = tokenizer.NONE
    found = reading.read_directory(path, others.to_dict(), path.absolute())
    model, run = found.config.model, open_to_read(found.config, path)
    params = reading.params_of(model, found.arrays)
    params = params if model.scan else layout.unstack(params, len(model.attentions))
    shardings = jax.tree.map(lambda leaf: leaf.sharding, run.program.live["params"])
    return Model(found.config, jax.device_put(params, shardings), found.tokenizer, 0, path)


def _config(settings: ConfigDict | Config, changes: Mapping[str, Any], workdir: Path | None = None) -> Config:
    return configs.settled(changed(settings.to_dict() if isinstance(settings, Config) else settings, changes), workdir)


def _is_single(prompts: Any) -> bool:
    """Whether it is one text, one dialogue, or the ids of one."""
    if isinstance(prompts, str) or is_dialogue(prompts) or not len(prompts):
        return True
    return not isinstance(prompts[0], str) and np.ndim(prompts[0]) == 0
