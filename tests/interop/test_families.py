"""Every family against transformers: the same logits after our import, and again after our export.

``pytest -rP`` shows by how much they differ.
"""

import json

import numpy as np
import pytest

from gpt_jax.config import Config
from gpt_jax.convert.exporting import Form, export_run
from gpt_jax.convert.importing import import_directory
from gpt_jax.interop import families
from gpt_jax.run_directory import read_config
from tests.interop.models import MODELS, apart, fresh_run, model, others, our_logits, their_logits, torch, transformers

TOLERANCE = 1e-4


def opened(directory):
    """A directory as transformers opens it, every tensor of it used and none made up."""
    made, info = transformers.AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return made.eval()


@pytest.mark.every(3)
@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name, tmp_path):
    theirs = model(name)
    expected = their_logits(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    config = import_directory(tmp_path / "theirs", tmp_path / "run", others())
    got = our_logits(tmp_path / "run")
    imported = apart(got, expected)
    assert max(np.abs(logits).max() for logits in expected) > 0.5
    assert imported < TOLERANCE

    export_run(config, tmp_path / "run", tmp_path / "ours", None, Form())
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == MODELS[name][0]
    exported = apart(their_logits(opened(tmp_path / "ours")), expected)
    assert exported < TOLERANCE
    print(f"{name}: logits at most {imported:.1e} apart after import, {exported:.1e} after export")


def test_every_family_is_tested():
    assert {model_type for model_type, _ in MODELS.values()} == {family.name for family in families.every()}


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_bfloat16(name, tmp_path):
    """Values of 16 bits come in exactly, and go out again as they were."""
    model(name).to(torch.bfloat16).save_pretrained(tmp_path / "theirs")
    config = import_directory(tmp_path / "theirs", tmp_path / "run", others())
    expected = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", dtype=torch.float32).eval()
    assert apart(our_logits(tmp_path / "run"), their_logits(expected)) < TOLERANCE
    export_run(config, tmp_path / "run", tmp_path / "ours", None, Form(dtype="bfloat16"))
    back = opened(tmp_path / "ours")
    assert back.dtype == torch.bfloat16
    for parameter, original in zip(back.parameters(), expected.parameters(), strict=True):
        # Gemma 3's norms of queries and keys are read as 1 more than they are stored, which rounds the smallest.
        torch.testing.assert_close(parameter.float(), original, atol=1e-6, rtol=0.0)


def test_shards(tmp_path):
    theirs = model("llama")
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="8KB")
    assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 2
    config = import_directory(tmp_path / "theirs", tmp_path / "run", others())
    assert apart(our_logits(tmp_path / "run"), their_logits(theirs)) < TOLERANCE
    export_run(config, tmp_path / "run", tmp_path / "ours", None, Form(shard=8000))
    files = sorted((tmp_path / "ours").glob("*.safetensors"))
    assert len(files) > 2 and all(file.stat().st_size < 9000 for file in files)
    assert apart(their_logits(opened(tmp_path / "ours")), their_logits(theirs)) < TOLERANCE


def test_the_model_without_its_head(tmp_path):
    """Names of such directories have no prefix."""
    theirs = model("gpt2")
    theirs.transformer.save_pretrained(tmp_path / "theirs")
    import_directory(tmp_path / "theirs", tmp_path / "run", others())
    assert apart(our_logits(tmp_path / "run"), their_logits(theirs)) < TOLERANCE


def test_a_tied_readout_may_be_stored_twice(tmp_path):
    from safetensors.torch import load_file, save_file

    theirs = model("gpt2")
    theirs.save_pretrained(tmp_path / "theirs")
    path = tmp_path / "theirs" / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}, path, {"format": "pt"})
    import_directory(tmp_path / "theirs", tmp_path / "run", others())
    assert apart(our_logits(tmp_path / "run"), their_logits(theirs)) < TOLERANCE


def test_a_run_made_here(tmp_path):
    """GPT-2 always has biases; a model without them is a GPT-2 whose biases are zero."""
    sizes = {"layers": 2, "width": 16, "heads": 4, "vocab": 67, "context": 24}
    fresh_run(tmp_path / "run", sizes | {"bias": False, "tied": False, "dropout": 0.1})
    config = Config.from_dict(read_config(tmp_path / "run"))
    export_run(config, tmp_path / "run", tmp_path / "ours", None, Form())
    written = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert (written["model_type"], written["attn_pdrop"]) == ("gpt2", 0.1)
    expected = their_logits(opened(tmp_path / "ours"))
    assert apart(our_logits(tmp_path / "run"), expected) < TOLERANCE

    import_directory(tmp_path / "ours", tmp_path / "again", others())
    assert Config.from_dict(read_config(tmp_path / "again")).model.biased("mlp")
    assert apart(our_logits(tmp_path / "again"), expected) < TOLERANCE
