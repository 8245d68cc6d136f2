"""A run as the harness sees a model: what it gives to texts, and what it writes.

The rules at the edges are those of the harness's own ``hf`` model (lm_eval/models/huggingface.py), so that the numbers are.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from gpt_jax import bars
from gpt_jax.config import SampleConfig
from gpt_jax.errors import UserError
from gpt_jax.sample import likelihood
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.outputs.requests import Request
from gpt_jax.sample.outputs.writing import written
from gpt_jax.sample.prompts import Prompt
from gpt_jax.study.lm_eval.generation import settings_of
from gpt_jax.study.lm_eval.spelling import Spelling

Pair = tuple[Any, list[int], list[int]]  # (the request's own arguments, ids of the context, ids of the continuation)

EMPTY = "continuations have no token of their own, as one spans the border to the context: counted as log 1, and greedy"
SPANNED = (
    "contexts are encoded otherwise with their continuation than alone: the continuation is what follows their length"
)
CUT = "texts did not fit into the context, and lost their beginning"


class RunLM(TemplateLM):
    """See ``lm_eval.api.model.LM``.

    Args:
      decoder: of the run's model.
      neutral: knobs of sampling of which none changes what the model would write; ``rows`` and ``seed`` are used.
      about: facts about the run, for the results.

    Attributes:
      noted: how often something happened at an edge, by what it is in words.
    """

    def __init__(self, decoder: Decoder, spelling: Spelling, neutral: SampleConfig, about: Mapping[str, Any]):
        super().__init__()
        self._decoder, self._spelling, self._neutral, self._about = decoder, spelling, neutral, dict(about)
        self.noted: Counter[str] = Counter()

    @property
    def max_length(self) -> int:
        """Tokens that the model reads at once."""
        return self._decoder.config.context

    @property
    def eot_token_id(self) -> int:
        return self._spelling.end

    @property
    def prefix_token_id(self) -> int:
        return self._spelling.prefix

    @property
    def tokenizer_name(self) -> str:
        return f"{self._spelling.tokenizer.fingerprint[:16]}-{self._spelling.name}"

    def chat_template(self, chat_template: bool | str = False) -> str:
        return self._spelling.template.jinja or self._spelling.name

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return self._spelling.spelt(chat_history, add_generation_prompt)

    def get_model_info(self) -> dict[str, Any]:
        return dict(self._about)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        return self._spelling.encode(string, add_special_tokens)

    def loglikelihood(self, requests: list[Instance], **options: Any) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation and whether greedy decoding would write it.

        Raises:
          UserError: a continuation is longer than the context.
        """
        return self._loglikelihood_tokens([self._pair(*request.args) for request in requests])

    def _pair(self, context: str, continuation: str) -> Pair:
        args = (context, continuation)
        if not context.strip():
            ids = self.tok_encode(context + continuation, add_special_tokens=False)
            begun = ids[:1] == [self.prefix_token_id]  # a text that begins with it needs no second one
            return args, [self.prefix_token_id], ids[1:] if begun else ids
        before, after = self._encode_pair(context, continuation)
        self.noted[SPANNED] += self.tok_encode(context + continuation)[: len(before)] != before
        return args, before, after

    def _loglikelihood_tokens(self, requests: Sequence[Pair], **kwargs: Any) -> list[tuple[float, bool]]:
        texts = [self._text(before, after) for _, before, after in requests]
        different = list(dict.fromkeys(tuple(text) for text in texts if text))
        found: dict[tuple[int, ...], likelihood.Likelihood] = {}
        with bars.bar(total=len(different), desc="log-likelihoods", unit="text") as bar:
            for number, said in likelihood.each(self._decoder, different):
                found[different[number]] = said
                bar.update()
        answers = []
        for (args, _, after), text in zip(requests, texts, strict=True):
            said = found[tuple(text)] if text else likelihood.Likelihood([], [], [], [])
            answers.append((sum(said.logprobs[-len(after) :]), all(said.likeliest[-len(after) :])))
            if args is not None:
                self.cache_hook.add_partial("loglikelihood", args, answers[-1])
        return answers

    def _text(self, before: list[int], after: list[int]) -> list[int]:
        """What is read; nothing where the continuation is empty."""
        if not after:
            self.noted[EMPTY] += 1
            return []
        if len(after) > self.max_length:
            raise UserError(
                f"a continuation of {len(after)} tokens is longer than the context",
                where="--tasks, model.context",
                allowed=f"{self.max_length} tokens",
                fix="choose a task with shorter answers, or one of rolling log-likelihoods",
            )
        self.noted[CUT] += len(before) + len(after) > self.max_length + 1
        return [*before, *after][-(self.max_length + 1) :]

    def loglikelihood_rolling(self, requests: list[Instance], **options: Any) -> list[float]:
        """The log-likelihood of each whole text, every token once, in windows of the context."""
        windows: list[Pair] = []
        counts = []
        for request in requests:
            ids = self.tok_encode(request.args[0])
            parts = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, 1)
            pairs = [(None, *make_disjoint_window(part)) for part in parts]
            windows += pairs
            counts.append(len(pairs))
        answers = iter(self._loglikelihood_tokens(windows))
        totals = [sum(logprob for logprob, _ in itertools.islice(answers, count)) for count in counts]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: list[Instance], **options: Any) -> list[str]:
        """What is written after each context, up to the first text that ends it.

        Raises:
          UserError: ``generation_kwargs`` cannot be followed.
        """
        asked, stops = zip(*map(self._request, itertools.count(), requests), strict=True)
        found = [""] * len(requests)
        with bars.bar(total=len(requests), desc="writing", unit="text") as bar:
            for _, alike in itertools.groupby(sorted(asked, key=_alike), key=lambda request: repr(request.sample)):
                for request, text in written(self._decoder, list(alike), self._spelling.tokenizer):
                    args = requests[request.number].args
                    said = self._spelling.decode(text.ids)
                    found[request.number] = postprocess_generated_text(said, list(stops[request.number]), None)
                    self.cache_hook.add_partial("generate_until", args, found[request.number])
                    bar.update()
        return found

    def _request(self, number: int, given: Instance) -> tuple[Request, tuple[str, ...]]:
        context, kwargs = given.args
        where = f"--tasks=lm_eval:{given.task_name}"
        end = self._spelling.tokenizer.decode([self.eot_token_id])
        settings, stops = settings_of(kwargs, self._neutral, self.max_length, end, where)
        ids = self.tok_encode(context) or [self.prefix_token_id]
        kept = ids[-(self.max_length - settings.max_new_tokens) :]
        self.noted[CUT] += len(kept) < len(ids)
        prompt = Prompt(kept, None, f"{where}, document {given.doc_id}")
        seed = (settings.seed + number) % 2**32
        return Request(prompt, number, 0, settings, settings.max_new_tokens, seed), stops


def _alike(request: Request) -> tuple[str, int]:
    """Those with the same settings stand together, the longest first, so that rows side by side are of a length."""
    return repr(request.sample), -len(request.prompt.ids)


def neutral(usual: SampleConfig, own: SampleConfig) -> SampleConfig:
    """``usual`` without what changes distributions; ``rows`` and ``seed`` of ``own``."""
    return dataclasses.replace(
        usual,
        temperature=1.0,
        processors=(),
        stop_strings=(),
        templated=False,
        rows=own.rows,
        seed=own.seed,
    )
