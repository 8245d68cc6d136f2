"""Which files of a directory hold the weights: those that transformers would read, and what is said where there are none."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from gpt_jax.errors import UserError
from gpt_jax.interop import packed
from gpt_jax.interop.tensors import Reader, read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture
def put(tmp_path):
    """Writes a file with the tensors of its keywords, each full of one number; an index where a dict of names is given."""

    def write(name, placed=None, **tensors):
        if placed is not None:
            (tmp_path / name).write_text(json.dumps({"weight_map": placed}))
        else:
            save_file({key: np.full(3, value, np.float32) for key, value in tensors.items()}, tmp_path / name)

    return write


def values(folder, chosen=""):
    with Reader(folder, chosen) as reader:
        return {name: float(reader.get(name)[0]) for name in reader.names()}


def refusal(folder, chosen=""):
    with pytest.raises(UserError) as caught:
        Reader(folder, chosen)
    assert caught.value.exit_code == 2 and str(folder) in caught.value.where
    return str(caught.value)


def test_one_file_is_read_before_an_index(put, tmp_path):
    """An index may be that of the directory a model was made from, whose files are not here."""
    put(SINGLE, a=1)
    put(INDEX, placed={"a": "model-00001-of-00002.safetensors"})
    put("consolidated.safetensors", b=2)
    assert values(tmp_path) == {"a": 1}


def test_the_file_that_config_json_names(put, tmp_path):
    put(SINGLE, a=1)
    put("other.safetensors", a=2)
    put("other.safetensors.index.json", placed={"a": "other.safetensors"})
    assert values(tmp_path, "other.safetensors") == values(tmp_path, "other.safetensors.index.json") == {"a": 2}
    assert "bare name" in refusal(tmp_path, "../other.safetensors")
    assert "missing" in refusal(tmp_path, "another.safetensors")


def test_tensors_that_the_index_leaves_out_are_read(put, tmp_path):
    put("x.safetensors", a=1, b=2)
    put(INDEX, placed={"a": "x.safetensors"})
    assert values(tmp_path) == {"a": 1, "b": 2}


def test_a_tensor_in_two_files(put, tmp_path):
    """transformers takes the last: where that is not what the index says, they have to be the same."""
    put("x.safetensors", a=1, b=1)
    put("y.safetensors", a=2, b=1)
    put(INDEX, placed={"a": "y.safetensors", "b": "x.safetensors"})
    assert values(tmp_path) == {"a": 2, "b": 1}
    put(INDEX, placed={"a": "x.safetensors", "b": "y.safetensors"})
    assert "two files hold the tensor a" in refusal(tmp_path)


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "x.bin", 3, ""])
def test_an_index_that_points_elsewhere(put, tmp_path, file):
    put(INDEX, placed={"transformer.wte.weight": file})
    said = refusal(tmp_path)
    assert all(part in said for part in ("transformer.wte.weight", repr(file), "bare name"))


def test_an_index_without_its_files(put, tmp_path):
    put(INDEX, placed={"a": "b.safetensors"})
    assert "b.safetensors is missing" in refusal(tmp_path)
    put(INDEX, placed={})
    assert "no weight_map" in refusal(tmp_path)


@pytest.mark.parametrize(
    "file, said",
    [
        ("pytorch_model.bin", "save_pretrained writes safetensors"),
        ("pytorch_model-00001-of-00002.bin", "any code"),
        ("tf_model.h5", "only tf_model.h5"),
        ("flax_model.msgpack", "only flax_model.msgpack"),
        ("model-00001-of-00002.safetensors", INDEX),
        ("consolidated.00.pth", "form of the model's authors"),
        ("consolidated.safetensors", "download the files of transformers"),
        ("model.fp16.safetensors", "rename the file"),
        ("llama-q4.gguf", "quantised"),
        ("notes.txt", "download the model's weights"),
    ],
)
def test_what_is_said_where_there_are_none(tmp_path, file, said):
    (tmp_path / file).touch()
    assert said in refusal(tmp_path)


@pytest.mark.parametrize("name", [SINGLE, "model-00001-of-00001.safetensors"])
def test_what_git_lfs_has_not_fetched(put, tmp_path, name):
    put(INDEX, placed={"a": "model-00001-of-00001.safetensors"})
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 548105171\n")
    assert "git lfs pull" in refusal(tmp_path)


def test_the_folder_of_a_cache_says_where_the_model_is(tmp_path):
    model = tmp_path / "models--gpt2" / "snapshots" / "607a30"
    model.mkdir(parents=True)
    (model / "config.json").write_text("\ufeff{}")
    with pytest.raises(UserError, match=f"the model is in {model}"):
        read_json(tmp_path / "models--gpt2" / "config.json")
    assert read_json(model / "config.json") == {}  # a byte order mark is none of its text


def test_adapters(put, tmp_path):
    """transformers would read the model that an adapter is of, and not what lies beside it."""
    put(SINGLE, a=1)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "merge_and_unload()" in refusal(tmp_path)


def test_four_bits(tmp_path):
    """MXFP4, unpacked as transformers does it."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (2, 6, 3, 16), dtype=np.uint8)
    scales = rng.integers(120, 132, (2, 6, 3), dtype=np.uint8)
    blocks[0, 0, 0, 0], scales[0, 0, 0] = 0x9F, 128  # -6 and -0.5, twice
    save_file({"w_blocks": blocks, "w_scales": scales, "b": np.zeros(2, np.float32)}, tmp_path / SINGLE)
    with Reader(tmp_path) as reader:
        assert reader.names() == {"w", "b"}
        found = reader.get("w")
        assert reader.shape("w") == found.shape == (2, 96, 6)
    np.testing.assert_array_equal(found[0, :2, 0], [-12, -1])
    torch = pytest.importorskip("torch")
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    theirs = mxfp4.convert_moe_packed_tensors(torch.tensor(blocks), torch.tensor(scales), dtype=torch.float32)
    np.testing.assert_array_equal(found, theirs.numpy())


def test_four_bits_of_other_shapes(tmp_path):
    blocks, scales = np.zeros((2, 6, 3, 16), np.uint8), np.zeros((2, 6, 2), np.uint8)
    save_file({"w_blocks": blocks, "w_scales": scales}, tmp_path / SINGLE)
    with Reader(tmp_path) as reader, pytest.raises(UserError, match=r"w have shape .* and their scales \(2, 6, 2\)"):
        reader.shape("w")


def test_half_of_four_bits_is_not_folded():
    assert packed.names({"a_blocks", "a_scales", "b_blocks", "c_scales"}) == {"a"}
