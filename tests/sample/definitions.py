"""What processors compute, by others: transformers' own where it has one, else the definition written out in NumPy."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest

from gpt_jax import registry


@dataclass(frozen=True)
class Case:
    """A row: its scores, its text up to now, of which the first tokens are the prompt, and its processors, as calls."""

    scores_V: np.ndarray
    text: tuple[int, ...]
    prompt: int
    stop_ids: tuple[int, ...]
    calls: tuple[str, ...]


class Theirs:
    """transformers' processors by name; what needs them is skipped where torch is absent."""

    def __getattr__(self, name: str):
        pytest.importorskip("torch")
        return getattr(pytest.importorskip("transformers.generation.logits_process"), name)


theirs = Theirs()


class StableTopP:
    """transformers' top-p with the one order among equals that does not depend on their number: torch's default sort has
    another for more than 16 scores, and says that it may be any."""

    def __init__(self, p: float):
        self._warper = theirs.TopPLogitsWarper(p)

    def __call__(self, input_ids, scores):
        import torch

        with mock.patch.object(torch, "sort", functools.partial(torch.sort, stable=True)):
            return self._warper(input_ids, scores)


PEERS: dict[str, Callable] = {
    "temperature": lambda case, t: theirs.TemperatureLogitsWarper(t),
    "top_k": lambda case, k: theirs.TopKLogitsWarper(k),
    "top_p": lambda case, p: StableTopP(p),
    "min_p": lambda case, p: theirs.MinPLogitsWarper(p),
    "typical": lambda case, mass: theirs.TypicalLogitsWarper(mass),
    "epsilon": lambda case, cutoff: theirs.EpsilonLogitsWarper(cutoff),
    "eta": lambda case, cutoff: theirs.EtaLogitsWarper(cutoff),
    "repetition": lambda case, penalty: theirs.RepetitionPenaltyLogitsProcessor(penalty),
    "no_repeat_ngram": lambda case, size: theirs.NoRepeatNGramLogitsProcessor(size),
    "min_new_tokens": lambda case, tokens: theirs.MinNewTokensLengthLogitsProcessor(
        case.prompt, tokens, list(case.stop_ids)
    ),
    "exponential_decay": lambda case, start, factor: theirs.ExponentialDecayLengthPenalty(
        (start, factor), list(case.stop_ids), case.prompt
    ),
}


def top_n_sigma(scores_V, case, n):
    finite = scores_V[np.isfinite(scores_V)]
    return np.where(scores_V < finite.max() - n * finite.std(), -np.inf, scores_V)


def mirostat(scores_V, case, tau, eta=0.1):
    surprise_V = -np.log2(softmax(scores_V).clip(1e-300))
    kept_V = surprise_V <= 2 * tau
    return np.where(kept_V if kept_V.any() else scores_V == scores_V.max(), scores_V, -np.inf)


def xtc(scores_V, case, probability, threshold):
    """Where it strikes in any case, or never."""
    assert probability in (0, 1)
    p_V = softmax(scores_V)
    order = np.argsort(-p_V, kind="stable")  # the last of equals counts as the least likely
    reaching = order[(p_V[order] >= threshold) & (p_V[order] > 0)]
    out = scores_V.copy()
    out[reaching[:-1] if probability else []] = -np.inf
    return out


def presence(scores_V, case, penalty):
    out = scores_V.copy()
    for token in set(case.text[case.prompt :]):
        out[token] -= penalty
    return out


def frequency(scores_V, case, penalty):
    out = scores_V.copy()
    for token in case.text[case.prompt :]:
        out[token] -= penalty
    return out


def dry(scores_V, case, multiplier, base=1.75, allowed_length=2, breakers=()):
    text, out = list(case.text), scores_V.copy()
    longest: dict[int, int] = {}
    for place in range(1, len(text)):
        length = 0
        while length < place and text[place - 1 - length] == text[-1 - length] not in breakers:
            length += 1
        longest[text[place]] = max(length, longest.get(text[place], 0))
    for token, length in longest.items():
        if length >= allowed_length and token not in breakers:
            out[token] -= multiplier * base ** (length - allowed_length)
    return out


DEFINED: dict[str, Callable] = {f.__name__: f for f in (top_n_sigma, mirostat, xtc, presence, frequency, dry)}


def expected(case: Case, dtype: str = "float32", scale: float = 1.0) -> np.ndarray:
    """The scores after the case's processors, float64 [V].

    Args:
      dtype: in which transformers' processors compute.
      scale: by which scores are multiplied before, and settings that are probabilities.
    """
    scores_V = case.scores_V.astype(np.float64) * scale
    torch = pytest.importorskip("torch")
    ids = torch.tensor([case.text], dtype=torch.int64)
    for name, given in map(registry.parse, case.calls):
        values = {key: _scaled(value, scale) for key, value in given.items()}
        if name in PEERS:
            peer = theirs.LogitsProcessorList([PEERS[name](case, **values)])
            scores_V = peer(ids, torch.tensor(scores_V[None], dtype=getattr(torch, dtype)))[0].double().numpy()
        else:
            scores_V = DEFINED[name](scores_V, case, **values)
    return scores_V


def _scaled(value, scale: float):
    return value * scale if isinstance(value, float) and 0 < value < 1 else value


def softmax(scores_V) -> np.ndarray:
    weights_V = np.exp(scores_V - scores_V.max())
    return weights_V / weights_V.sum()


def kept(scores_V) -> np.ndarray:
    return ~np.isneginf(scores_V)
