"""The processors of a batch's rows as one compiled sequence."""

import jax.numpy as jnp
import numpy as np

from gpt_jax.sample.engine import chain
from gpt_jax.sample.processors import Processor
from tests.sample.definitions import Case
from tests.sample.every_processor import process, step_of

STEP = step_of([Case(np.zeros(2, np.float32), (0,), 1, (), ())] * 5)


def times(logits_BV, step, f_B):
    return logits_BV * f_B[:, None]


def plus(logits_BV, step, by_BI):
    return logits_BV + jnp.where(by_BI >= 0, by_BI, 0).sum(-1)[:, None]


def test_rows_have_processors_and_orders_of_their_own():
    """Two rows whose orders contradict, one with a processor twice, one with none, and words of different numbers."""
    f, g, h = (Processor(times, {"f_B": np.float32(f)}) for f in (2, 3, 5))
    p, q = (Processor(plus, {"by_BI": np.array(by, np.int32)}) for by in ([1], [1, 2, 4]))
    rows = [(f, p), (q, f), (), (f, q, g), (h, h)]
    for always in ((), (g, p)):
        links, knobs = chain.join(rows, always)
        got = np.asarray(process(links, knobs, np.ones((5, 2), np.float32), STEP))[:, 0]
        assert got.tolist() == [3, 16, 1, 27, 25]


def test_the_program_does_not_depend_on_which_rows_have_what():
    f, p = Processor(times, {"f_B": np.float32(2)}), Processor(plus, {"by_BI": np.array([1], np.int32)})
    assert chain.join([(f,), (p,)], (f, p))[0] == chain.join([(), (f, p)], (f, p))[0]
