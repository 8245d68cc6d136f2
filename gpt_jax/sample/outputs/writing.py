"""Requests in, continuations out: what a decoder writes, as text, up to where it ends and with why it does."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

from gpt_jax.config import SampleConfig
from gpt_jax.errors import UserError
from gpt_jax.sample.continuation import Continuation
from gpt_jax.sample.decode import Decoder, Row, Sampling
from gpt_jax.sample.engine import notes
from gpt_jax.sample.knobs import of_config
from gpt_jax.sample.likelihood import likelihoods
from gpt_jax.sample.outputs.requests import Request
from gpt_jax.sample.outputs.stream import TextStream, stops_of
from gpt_jax.sample.processors import Tokenizer, Vocabulary
from gpt_jax.sample.searches import Found, Search, mean
from gpt_jax.sample.searches.chosen import chosen
from gpt_jax.sample.speculative.acceptance import Acceptance

Score = Callable[[Continuation], float]


class Writing:
    """A request that is being written.

    Args:
      stop_ids: what ends it.
    """

    def __init__(self, request: Request, stop_ids: Sequence[int], tokenizer: Tokenizer | None):
        self._request, self._stop_ids, self._tokenizer = request, stop_ids, tokenizer
        self._stream = None if tokenizer is None else stream_of(request, tokenizer)
        self._text, self._seen = "", 0

    def goes_on_with(self, tokens: list[int]) -> bool:
        """Whether a text of these new tokens goes on; all but the last look's were seen before."""
        self._read(tokens)
        return self._stream is None or not self._stream.stopped

    def ended(self, row: Row) -> Continuation:
        """The continuation, once the row has ended."""
        prompt = self._request.prompt
        stopped_by_id = bool(row.tokens) and row.tokens[-1] in self._stop_ids
        self._read(row.tokens[:-1] if stopped_by_id else row.tokens)
        count = len(row.tokens)  # of which there are fewer than were asked for where a constraint is complete too
        reason = "stop" if stopped_by_id or count < self._request.length else "length"
        if self._stream is not None and self._stream.stopped:
            count, reason = len(self._stream.ids) - len(prompt.ids), "stop_string"
        values: dict[str, Any] = {name: of_tokens[:count] for name, of_tokens in row.notes.items()}
        if self._stream is None or self._tokenizer is None:
            text, before = None, prompt.text
        else:
            text = self._text + self._stream.close()
            before = self._tokenizer.decode(prompt.ids) if prompt.text is None else prompt.text
        ends: dict[str, Any] = {"finish_reason": reason, "acceptance": row.acceptance}
        return Continuation(before, text, prompt.ids, row.tokens[:count], **ends, **values)

    def _read(self, tokens: list[int]) -> None:
        if self._stream is not None:
            self._text += self._stream.write(tokens[self._seen :])
            self._seen = len(tokens)


def written(
    decoder: Decoder, requests: Sequence[Request], tokenizer: Tokenizer | None, score: Score | None = None
) -> Iterator[tuple[Request, Continuation]]:
    """Every request with its text, in their order, as soon as it and those before it have ended; with several texts, where
    a search finds them.

    Args:
      score: what ``sample.best_of`` texts are ranked by; the highest is the best.

    Raises:
      UserError: its settings cannot be followed; the first error comes before anything is compiled.
    """
    if not requests:
        return
    shared = requests[0].sample  # how many rows, and what is reported, is the same for all
    samplings = samplings_of(decoder, requests, tokenizer)
    searching = chosen(shared, None if score is None else lambda number, found: 0.0) is not None
    texts = (_searched if searching else _drawn)(decoder, requests, samplings, tokenizer, score)
    for request, text in texts:
        yield request, _scored(decoder, text) if shared.prompt_logprobs else text


def _drawn(
    decoder: Decoder,
    requests: Sequence[Request],
    samplings: Sequence[Sampling],
    tokenizer: Tokenizer | None,
    score: Score | None,
) -> Iterator[tuple[Request, Continuation]]:
    shared = requests[0].sample
    begun: dict[int, Writing] = {}
    done: dict[int, Continuation] = {}

    def writing(number: int) -> Writing:
        return begun.setdefault(number, Writing(requests[number], samplings[number].stop_ids, tokenizer))

    rows = decoder.beyond(shared.beyond_context).each(
        [request.prompt.ids for request in requests],
        max_new_tokens=[request.length for request in requests],
        sampling=samplings,
        seeds=[request.seed for request in requests],
        noted=[name for name in notes.NOTES if name != notes.LOGPROBS] if shared.logprobs else (),
        top=shared.logprobs,
        rows=shared.rows,
        ended=(lambda number, tokens: not writing(number).goes_on_with(tokens))
        if any(stops_of(request.sample).texts for request in requests)
        else None,
    )
    following = 0
    for number, row in rows:
        done[number] = writing(number).ended(row)
        del begun[number]
        while following in done:
            yield requests[following], done.pop(following)
            following += 1


def _searched(
    decoder: Decoder,
    requests: Sequence[Request],
    samplings: Sequence[Sampling],
    tokenizer: Tokenizer | None,
    score: Score | None,
) -> Iterator[tuple[Request, Continuation]]:
    """What searches find, for those side by side that are asked for in the same way."""
    judged = score or (lambda text: mean(text.logprobs))

    def way(number: int) -> tuple:
        return chosen(requests[number].sample), samplings[number].greedy

    for _, alike in itertools.groupby(range(len(requests)), way):
        numbers, rows = list(alike), requests[0].sample.rows
        for first in range(0, len(numbers), rows):
            together = numbers[first : first + rows]
            group = [requests[number] for number in together]

            def text(place: int, found: Found, group=group, together=together) -> Continuation:
                writing = Writing(group[place], samplings[together[place]].stop_ids, tokenizer)
                text = writing.ended(Row(found.tokens, {notes.LOGPROBS: found.logprobs}))
                own = found.token_scores
                return replace(text, score=found.score if own is None else mean(own[: len(text.ids)]))

            # Texts are compared as they are returned, without what follows a stop string.
            best_of = group[0].sample.best_of > 1
            rank = (lambda place, found, text=text: judged(text(place, found))) if best_of else None
            search = cast(Search, chosen(group[0].sample, rank))
            ids, limits = [request.prompt.ids for request in group], [request.length for request in group]
            seeds = [request.seed for request in group]
            asked = decoder.asked(ids, limits, [samplings[number] for number in together], seeds)
            for place, texts in enumerate(search.run(decoder, asked)):
                for copy, found in enumerate(texts):
                    yield replace(group[place], copy=copy), text(place, found)


def pieces(decoder: Decoder, request: Request, tokenizer: Tokenizer) -> Iterator[tuple[str, Acceptance | None]]:
    """One request's text in pieces as it is written, and what became of drafted tokens so far; no piece ends within a
    character or a stop string."""
    (sampling,) = samplings_of(decoder, [request], tokenizer)
    stream = stream_of(request, tokenizer)
    parts = decoder.beyond(request.sample.beyond_context).stream(
        [request.prompt.ids], max_new_tokens=request.length, sampling=sampling, seeds=[request.seed]
    )
    accepted = None
    for part in parts:
        tokens, accepted = part.tokens[0], None if part.acceptance is None else part.acceptance[0]
        yield stream.write(tokens[:-1] if tokens and tokens[-1] in sampling.stop_ids else tokens), accepted
        if stream.stopped:
            return
    yield stream.close(), accepted


def stream_of(request: Request, tokenizer: Tokenizer) -> TextStream:
    prompt, sample = request.prompt, request.sample
    return TextStream(tokenizer, prompt.ids, complete=prompt.text is not None, stops=stops_of(sample))


def samplings_of(decoder: Decoder, requests: Sequence[Request], tokenizer: Tokenizer | None) -> list[Sampling]:
    """How each request's tokens are drawn."""
    made: dict[SampleConfig, Sampling] = {}
    for request in requests:
        if request.sample not in made:
            made[request.sample] = of_config(request.sample, vocabulary(decoder, request.sample, tokenizer))
    return [made[request.sample] for request in requests]


def vocabulary(decoder: Decoder, sample: SampleConfig, tokenizer: Tokenizer | None) -> Vocabulary:
    """What processors are built for. The ids that end a text are those of the tokenizer, unless they are ignored, and
    those of ``sample.stop_token_ids``.

    Raises:
      UserError: there are stop strings, and no tokenizer.
    """
    if stops_of(sample).texts and tokenizer is None:
        raise UserError(
            "this run's data has no tokenizer, so no stop string can be found",
            where="config.sample.stop_strings",
            fix="give token ids: --sample.stop_token_ids",
        )
    own = () if tokenizer is None or sample.ignore_eos else tokenizer.stop_ids
    return Vocabulary(decoder.config.vocab, tokenizer, tuple(dict.fromkeys((*own, *sample.stop_token_ids))))


def _scored(decoder: Decoder, row: Continuation) -> Continuation:
    (found,) = likelihoods(decoder, [row.prompt_ids])
    return replace(row, prompt_logprobs=[None, *found.logprobs])
