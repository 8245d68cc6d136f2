"""The order of axes in tensors, without any model; and how much memory reading takes."""

import tracemalloc

import numpy as np
import pytest

from gpt_jax.config import ModelConfig
from gpt_jax.errors import UserError
from gpt_jax.interop.plan import Part, Tensor
from gpt_jax.interop.rows import Row
from gpt_jax.interop.weights import aligned_zeros, make
from tests.model.variants import SMALL

SIZES = {"D": 6, "N": 2, "K": 2, "H": 3, "F": 5, "V": 7, "T": 4}
ROWS = [
    Row(("w",), "D N H", "linear", "(N H) D"),
    Row(("w",), "N H D", "linear", "D (N H)"),
    Row(("w",), "D F", "conv1d", "D F"),
    Row(("q", "k", "v"), "D N H", "side by side", "D (p N H)"),
    Row(("q", "k", "v"), "D N H", "head by head", "(N p H) D"),
    Row(("q", "k", "v"), "N H", "their bias", "(N p H)"),
    Row(("w",), "T D", "positions", "T D", skip=2),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.theirs)
def test_rows_are_inverse(row):
    theirs = np.arange(np.prod(row.shape(SIZES)), dtype=np.float32).reshape(row.shape(SIZES))
    theirs[: row.skip] = 0
    ours = row.split(theirs, SIZES)
    assert [part.shape for part in ours] == [row.our_shape(SIZES)] * len(row.ours)
    back = row.join(ours, SIZES)
    np.testing.assert_array_equal(back, theirs)
    assert back.flags.c_contiguous


def test_heads_that_are_interleaved():
    """GPT-NeoX: head 1's key begins after head 0's three parts and head 1's query."""
    row = ROWS[4]
    theirs = np.arange(2 * 3 * 3)[:, None] * np.ones((1, 6))
    _, k_DNH, _ = row.split(theirs, SIZES)
    np.testing.assert_array_equal(k_DNH[0, 1], [12, 13, 14])


def test_plus_is_taken_off_again():
    row = Row(("scale",), "H", "norm", "H", plus=1.0)
    np.testing.assert_allclose(row.join([np.array([1.5, 1.0, 0.0])], SIZES), [0.5, 0.0, -1.0])


def test_values_too_large_for_float16_are_refused():
    sizes = {"layers": 1, "width": 2, "heads": 1, "vocab": 2, "context": 2, "kv_heads": 1, "head_dim": 2}
    model = ModelConfig(**(SMALL | sizes))
    tensor = Tensor("large", Row(("norm/scale",), "D", "large", "D"), (Part("norm/scale", None),))
    arrays = {"norm/scale": np.array([1.0, 1e6], np.float32)}
    with pytest.raises(UserError, match="large has values too large for float16"):
        make(tensor, model, arrays, np.dtype("float16"))
    np.testing.assert_array_equal(make(tensor, model, arrays, np.dtype("float32")), arrays["norm/scale"])


@pytest.mark.parametrize("shape", [(3,), (5, 7), ()])
def test_alignment(shape):
    array = aligned_zeros(shape)
    assert array.shape == shape and array.dtype == np.float32 and array.ctypes.data % 64 == 0


def test_memory(tmp_path):
    """Besides the parameters, reading holds one tensor at a time."""
    models = pytest.importorskip("tests.interop.models")
    from gpt_jax.config import Config
    from gpt_jax.interop import families
    from gpt_jax.interop.reading import shapes
    from gpt_jax.interop.tensors import Reader, read_json
    from gpt_jax.interop.weights import read

    sizes = {"vocab_size": 512, "n_positions": 64, "n_embd": 256, "n_layer": 4, "n_head": 4}
    made = models.transformers.AutoModelForCausalLM.from_config(
        models.transformers.GPT2Config(**models.NO_TOKENS, **sizes)
    )
    made.save_pretrained(tmp_path)
    family = families.named("gpt2", "")
    model = Config.from_dict(family.config(read_json(tmp_path / "config.json"), "", models.others()).to_dict()).model
    known = shapes(model)
    with Reader(tmp_path) as files:
        largest = 4 * max(int(np.prod(files.shape(name))) for name in files.names())
        tracemalloc.start()
        arrays = read(family, model, known, files, "")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    parameters = sum(array.nbytes for array in arrays.values())
    assert parameters < peak < parameters + 1.3 * largest
