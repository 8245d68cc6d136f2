"""Beam search beside transformers', token for token, on random tiny GPT-2 models: python -m tests.sample.every_beam [COUNT]

Cases differ in weights, prompt, beams, lengths, length penalty, end tokens and processors; each is run in the three modes
of early stopping. ``tests/sample/test_beam.py`` runs the first few.
"""

import functools
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
import transformers

from gpt_jax import registry
from gpt_jax.configs import base
from gpt_jax.interop import reading
from gpt_jax.model import layout
from gpt_jax.sample.decode import Decoder
from gpt_jax.sample.knobs import KIND, KNOBS, sampling
from gpt_jax.sample.processors import Vocabulary
from gpt_jax.sample.searches import Found
from gpt_jax.sample.searches.beam import Beam

VOCAB, CONTEXT = 31, 48
SIZES = {"vocab_size": VOCAB, "n_positions": CONTEXT, "n_embd": 16, "n_layer": 2, "n_head": 2}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
MODES = (False, True, "never")
# Knobs of both, where a search is not drawn, and values to choose from. Those are used that are registered here.
PROCESSORS: dict[str, tuple] = {
    "repetition_penalty": (1.3, 0.8),
    "no_repeat_ngram_size": (1, 2, 3),
    "min_new_tokens": (2, 5),
}
CLOSE = 2e-4  # of scores


@dataclass(frozen=True)
class Case:
    """A search: its prompts are of one length, as transformers would attend to the padding of others."""

    seed: int
    prompts: tuple[tuple[int, ...], ...]
    new: int
    stop_ids: tuple[int, ...]
    beam: dict[str, Any]
    knobs: dict[str, Any]


def usable() -> dict[str, tuple]:
    """The knobs of ``PROCESSORS`` whose processors are registered."""
    known = registry.names(KIND)
    return {name: values for name, values in PROCESSORS.items() if KNOBS[name].processor in known}


def case(number: int) -> Case:
    """The case of a number."""
    random = np.random.default_rng(number)
    beams = int(random.choice([1, 2, 3, 4, 6], p=[0.1, 0.25, 0.25, 0.25, 0.15]))
    rows, length = int(random.integers(1, 4)), int(random.integers(1, 12))
    prompts = tuple(tuple(row) for row in random.integers(VOCAB, size=(rows, length)).tolist())
    stops = tuple(random.choice(VOCAB, size=int(random.integers(0, 4)), replace=False).tolist())
    knobs = {name: values[random.integers(len(values))] for name, values in usable().items() if random.random() < 0.35}
    beam = {
        "beams": beams,
        "returned": int(random.integers(1, beams + 1)),
        "length_penalty": float(random.choice([1.0, 0.0, 2.0, 0.5, -1.0])),
    }
    return Case(number, prompts, int(random.choice([1, 4, 9, 16])), stops, beam, knobs)


@functools.cache
def model(seed: int) -> tuple[Any, Decoder]:
    """A GPT-2 with random weights: theirs, and ours that is imported from its files."""
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SIZES, **NO_TOKENS)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    others = base.get_config()
    others.data.tokenizer = "none"
    with tempfile.TemporaryDirectory() as directory:
        theirs.save_pretrained(directory)
        found = reading.read_directory(Path(directory), others.to_dict(), Path(directory))
        config = found.config.model
        params = reading.params_of(config, {name: jnp.array(array) for name, array in found.arrays.items()})
        params = params if config.scan else layout.unstack(params, len(config.attentions))
    return theirs, Decoder(config, params)


def ours(case: Case, mode: bool | str) -> list[list[Found]]:
    """The texts that are found here, by prompt."""
    how = sampling(Vocabulary(VOCAB, stop_ids=case.stop_ids), temperature=0, **case.knobs)
    decoder, rows = model(case.seed)[1], len(case.prompts)
    asked = decoder.asked(case.prompts, [case.new] * rows, how, range(rows))
    return Beam(**case.beam, early_stopping=mode).run(decoder, asked)


def theirs(case: Case, mode: bool | str) -> list[list[tuple[list[int], float]]]:
    """Tokens and score of each text that transformers finds, by prompt."""
    given = torch.tensor(case.prompts)
    beam = {"num_beams": case.beam["beams"], "num_return_sequences": case.beam["returned"]}
    single = beam["num_beams"] == 1
    rules = {} if single else {"early_stopping": mode, "length_penalty": case.beam["length_penalty"]}
    stops = {"eos_token_id": list(case.stop_ids)} if case.stop_ids else {}
    with torch.no_grad():
        found = model(case.seed)[0].generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=case.new,
            do_sample=False,
            pad_token_id=VOCAB - 1,
            return_dict_in_generate=True,
            output_scores=True,
            **beam,
            **rules,
            **stops,
            **case.knobs,
        )
    rows = [_cut(row[given.shape[1] :], case.stop_ids) for row in found.sequences.tolist()]
    scores = [float("nan")] * len(rows) if single else found.sequences_scores.tolist()
    each, pairs = case.beam["returned"], list(zip(rows, scores, strict=True))
    return [pairs[at : at + each] for at in range(0, len(pairs), each)]


def _cut(ids: list[int], stop_ids: tuple[int, ...]) -> list[int]:
    end = next((at for at, token in enumerate(ids, start=1) if token in stop_ids), len(ids))
    return ids[:end]


def differences(case: Case, mode: bool | str) -> list[str]:
    """What differs, a line a text."""
    faults = []
    for number, (here, there) in enumerate(zip(ours(case, mode), theirs(case, mode), strict=True)):
        there = [(tokens, score) for tokens, score in there if not score < -1e8]  # what stands in for a text there
        if [text.tokens for text in here] != [tokens for tokens, _ in there]:
            faults.append(f"case {case.seed}, {mode}, prompt {number}: {[t.tokens for t in here]} != {there}")
        elif any(
            abs(text.score - score) > CLOSE * max(1, abs(score)) for text, (_, score) in zip(here, there, strict=True)
        ):
            faults.append(f"case {case.seed}, {mode}, prompt {number}: scores {[t.score for t in here]} != {there}")
    return faults


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    faults = []
    for number in range(count):
        found = [line for mode in MODES for line in differences(case(number), mode)]
        print("\n".join(found) or f"case {number}: the same", flush=True)
        faults += found
    processors = ", ".join(usable()) or "no processor"
    print(f"{count} cases in {len(MODES)} modes, with {processors}: {len(faults)} differences")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
