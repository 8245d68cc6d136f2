"""Beam search (with the rules of transformers 5), beam-sample, and diverse beam search (Vijayakumar et al. 2016)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from gpt_jax.errors import UserError
from gpt_jax.sample.calls import not_finite, program_of
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.engine.program import Sizes
from gpt_jax.sample.rows import Asked
from gpt_jax.sample.searches import Found, beams, check_processors, no_token_left
from gpt_jax.sample.searches.beams import WORST, Shape


@dataclass(frozen=True)
class Beam:
    """The most likely texts among those that grow from the ``beams`` best beginnings of every length.

    Rows that are not greedy draw the candidates of a turn, without replacement, from the softmax of their scores.

    Args:
      beams: over all groups.
      returned: texts a prompt, at most ``beams``.
      groups: that search one after another at every turn; what earlier ones chose costs later ones ``diversity`` for each
        time. That stays in their scores, as in the authors' own program.
      length_penalty: a text's score is its sum of log-probabilities, after processors, over its length to this power.
      early_stopping: when a search ends: True, with as many texts as beams; False, when the best beam, were it to end now,
        would not be among them; "never", when it could not at any length, if ``length_penalty`` is not negative.
    """

    beams: int
    returned: int = 1
    groups: int = 1
    diversity: float = 0.0
    length_penalty: float = 1.0
    early_stopping: bool | str = False

    def run(self, decoder: Decoder, asked: Asked) -> list[list[Found]]:
        check_processors(asked)
        if not max(asked.limits, default=0):
            return [[Found([], [], 0.0)] * self.returned for _ in range(len(asked))]
        sizes = asked.sizes(decoder.platform)
        program, knobs = program_of(decoder.config, decoder.platform, asked.samplings)
        shape = self._shape(asked, decoder.config.vocab)
        given = asked.rows(range(len(asked)), knobs, len(asked), sizes.width)
        begin, advance = beams.compiled(decoder.platform)
        state = begin(program, shape, decoder.weights, *given, self._rules(sizes), sizes)
        while np.asarray(state["open_BG"]).any():
            state = advance(program, shape, decoder.weights, state)
        ended, stuck_BG = jax.device_get((state["ended"], state["stuck_BG"]))
        return [self._texts(asked, number, ended, stuck_BG[number].any()) for number in range(len(asked))]

    def _shape(self, asked: Asked, vocab: int) -> Shape:
        greedy = {sampling.greedy for sampling in asked.samplings}
        if len(greedy) > 1:
            raise ValueError("some prompts are greedy and some are not")
        beams = self.beams // self.groups
        candidates = beams * max(2, 1 + max(len(sampling.stop_ids) for sampling in asked.samplings))
        if candidates > beams * vocab:
            raise UserError(
                f"{candidates} candidates of {beams} beams are more than the {beams * vocab} that there are",
                where="config.sample.num_beams",
                allowed="a vocabulary with more tokens than there are stop ids",
            )
        return Shape(self.groups, beams, candidates, draws=greedy == {False})

    def _rules(self, sizes: Sizes) -> dict:
        with np.errstate(over="ignore", divide="ignore"):
            powers_N = (np.arange(1 + sizes.room, dtype=np.float64) ** self.length_penalty).astype(np.float32)
        return {
            "powers_N": powers_N,
            "full_ends": self.early_stopping is True,
            "full_length": self.early_stopping == "never" and self.length_penalty > 0,
            "diversity": np.float32(self.diversity),
        }

    def _texts(self, asked: Asked, number: int, ended: dict, stuck: bool) -> list[Found]:
        """The best of a prompt's texts over all groups. What stands in for a text where there were too few is left out."""
        if not asked.limits[number]:
            return [Found([], [], 0.0)] * self.returned
        score_GK, count_GK, begin = ended["score_BGK"][number], ended["count_BGK"][number], len(asked.prompts[number])
        real_GK = ended["is_BGK"][number] & (ended["sum_BGK"][number] > WORST / 2)
        order: Sequence[tuple[int, int]] = sorted(zip(*np.nonzero(real_GK), strict=True), key=lambda at: -score_GK[at])
        if np.isnan(ended["sum_BGK"][number]).any():
            raise not_finite(f"prompt {number + 1} of {len(asked)}")
        if not order and stuck:
            raise no_token_left(asked, number)
        if not order:
            raise UserError(
                f"no text of prompt {number + 1} has a score above {WORST:g}",
                where="config.sample.length_penalty",
                fix=f"one nearer to 0 than {self.length_penalty:g}",
            )
        found = []
        for at in order[: self.returned]:
            count = count_GK[at]
            tokens = ended["tokens_BGKS"][number][at][begin : begin + count].tolist()
            logprobs = ended["logprobs_BGKN"][number][at][:count].tolist()
            found.append(Found(tokens, logprobs, float(score_GK[at])))
        return found
