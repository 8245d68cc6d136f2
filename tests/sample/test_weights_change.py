"""What changes between calls and compiles nothing: parameters, and the settings of a sweep."""

import dataclasses

import jax
import pytest

from gpt_jax.model import layout
from gpt_jax.sample import calls
from gpt_jax.sample.decode import Decoder, Sampling
from gpt_jax.sample.engine import turns
from gpt_jax.sample.knobs import sampling
from gpt_jax.sample.platform import CPU
from gpt_jax.sample.processors import Vocabulary
from tests.model.variants import config, parameters

C = config(context=32, layers=2)
GIVEN = [[3, 1, 4], [1, 5]]


def compiled_programs():
    return [program._cache_size() for several in (False, True) for program in turns.compiled(CPU, several)]


def write(decoder, **asked):
    options = {"max_new_tokens": 8, "sampling": Sampling(), "seeds": [0, 1]} | asked
    return decoder.generate(GIVEN, **options)


@pytest.mark.parametrize("scan", [False, True])
def test_other_parameters_compile_nothing(scan):
    """What is written is theirs, and the first decoder keeps its own."""
    c = dataclasses.replace(C, scan=scan)
    first = layout.stack(parameters(C), 1) if scan else parameters(C)
    second = jax.tree.map(lambda leaf: leaf[..., ::-1], first)
    decoder = Decoder(c, first)
    before, programs = write(decoder), compiled_programs()
    other = decoder.with_params(second)
    assert write(other) == write(Decoder(c, second)) != before
    assert write(decoder) == before and compiled_programs() == programs


def test_a_sweep_of_a_hundred_settings_is_one_program():
    """A row a setting, and the same with other values; each row writes what it writes under its setting alone."""
    given = Vocabulary(C.vocab)
    settings = [sampling(given, temperature=0.2 + 0.02 * i, top_p=1 - 0.005 * i, top_k=i % 7) for i in range(100)]
    decoder, prompts = Decoder(C, parameters(C)), [[5, 9, 2]] * 100
    asked = {"max_new_tokens": 8, "seeds": range(100)}
    got = decoder.generate(prompts, sampling=settings, **asked)
    programs = compiled_programs()
    turned = decoder.generate(prompts, sampling=settings[::-1], **asked)
    assert compiled_programs() == programs
    assert got.tokens != turned.tokens
    for row in (0, 41, 98):
        alone = decoder.generate([prompts[row]], sampling=settings[row], max_new_tokens=8, seeds=[row])
        assert alone.tokens[0] == got.tokens[row]


def test_rows_that_end_together_are_replaced_together(monkeypatch):
    """In one call of a program for a power of two, so that eight rows compile four programs at most."""
    sizes, replace = [], calls.Calls.replace

    def noted(self, rows, numbers):
        sizes.append(len(rows))
        replace(self, rows, numbers)

    monkeypatch.setattr(calls.Calls, "replace", noted)
    decoder = Decoder(C, parameters(C))
    asked = {"sampling": Sampling(), "seeds": range(8)}
    got = decoder.generate([[7, i] for i in range(8)], max_new_tokens=[2, 2, 2, 9, 3, 3, 3, 3], rows=4, **asked)
    assert sizes == [3, 1]
    assert [len(row) for row in got.tokens] == [2, 2, 2, 9, 3, 3, 3, 3]
