"""What cannot be taken as it was meant is refused by name, and nothing is left behind."""

import json
import shutil

import numpy as np
import pytest

from gpt_jax.config import Config
from gpt_jax.convert.exporting import Form, export_run
from gpt_jax.convert.importing import import_directory
from gpt_jax.errors import UserError
from gpt_jax.interop import families
from gpt_jax.interop.reading import read_directory
from gpt_jax.run_directory import read_config
from tests.interop.models import fresh_run, model, others

SIZES = {"layers": 2, "width": 16, "heads": 4, "vocab": 67, "context": 24}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """model_type -> a directory that can be imported."""
    made = {}

    def save(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            model(name).save_pretrained(made[name])
        return made[name]

    return save


@pytest.fixture
def copy(saved, tmp_path):
    def make(name):
        return shutil.copytree(saved(name), tmp_path / "theirs")

    return make


def refused(source, *said):
    """The error of importing a directory; it names what it is about, and there is no trace of a run."""
    workdir = source.parent / "run"
    before = sorted(source.parent.iterdir())
    with pytest.raises(UserError) as caught:
        import_directory(source, workdir, others())
    assert sorted(source.parent.iterdir()) == before
    assert caught.value.exit_code == 2
    for text in said:
        assert text in str(caught.value)


def change(source, **settings):
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def rewrite(source, edit):
    """Passes the tensors through ``edit``, which may change them."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    edit(tensors)
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, source / "model.safetensors")


@pytest.mark.parametrize(
    "name, settings, said",
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
        ("gpt2", {"activation_function": "mish"}, "activation_function"),
        ("gpt2", {"n_embd": None}, "n_embd"),
        ("gpt2", {"n_embd": "wide"}, "type"),
        ("gpt2", {"no_such_setting": 3}, "no_such_setting"),
        ("gpt2", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("gpt2", {"model_type": "gpt-2"}, "did you mean 'gpt2'?"),
        ("gpt2", {"model_type": None}, "model_type"),
        ("opt", {"word_embed_proj_dim": 8}, "word_embed_proj_dim"),
        ("opt", {"_remove_final_layer_norm": True}, "_remove_final_layer_norm"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_parameters.rope_type"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0, "mscale": 1.0}}, "rope_scaling.mscale"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0, "attention_factor": 1.2}}, "attention_factor"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "changes nothing"),
        ("llama", {"rope_interleaved": True}, "rope_interleaved"),
        ("llama", {"use_sliding_window": True, "sliding_window": 4}, "sliding_window"),
        ("llama", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("llama", {"is_encoder_decoder": True}, "encoder with a decoder"),
        ("llama", {"is_causal": False}, "is_causal"),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, "dequantize()"),
        ("gpt2", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
        ("gpt_oss", {"experts_per_token": 3}, "experts_per_token"),
        ("gpt_oss", {"num_experts_per_tok": 1}, "num_experts_per_tok"),
        ("gpt_oss", {"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ("llama", {"rope_scaling": {"type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ("qwen3", {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
        ("qwen2", {"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
        ("qwen2", {"layer_types": ["full_attention"]}, "one type for each of 2 layers"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3", {"rope_parameters": {"other_attention": {}}}, "other_attention"),
    ],
)
def test_settings(copy, name, settings, said):
    source = copy(name)
    change(source, **settings)
    refused(source, said, str(source))


def test_a_config_that_is_none(copy):
    source = copy("gpt2")
    (source / "config.json").write_text("{")
    refused(source, "config.json is not JSON")
    (source / "config.json").write_text("[]")
    refused(source, "config.json is not a JSON object")
    (source / "config.json").unlink()
    refused(source, "config.json cannot be read")


@pytest.mark.parametrize(
    "edit, said",
    [
        (lambda t: t.pop("transformer.h.1.ln_1.bias"), "transformer.h.1.ln_1.bias is missing"),
        (lambda t: [t.pop(name) for name in list(t) if "mlp" in name], "and 3 more are missing"),
        (lambda t: t.update(extra=np.zeros(3, np.float32)), "the tensor extra is no part of a gpt2"),
        (
            lambda t: t.update({"transformer.ln_f.bias": np.zeros(3, np.float32)}),
            "transformer.ln_f.bias has shape (3,)",
        ),
        (lambda t: t.update({"transformer.ln_f.bias": np.zeros(16, np.int32)}), "transformer.ln_f.bias is of type I32"),
        (lambda t: t.update({"lm_head.weight": np.zeros((67, 16), np.float32)}), "lm_head.weight differs"),
        (lambda t: t.update({"lm_head.weight": np.zeros((3, 16), np.float32)}), "lm_head.weight is no part"),
    ],
)
def test_tensors(copy, edit, said):
    source = copy("gpt2")
    rewrite(source, edit)
    refused(source, said, str(source))


def test_of_a_tied_pair_either_may_be_stored(copy):
    """safetensors' save_model keeps the first by name."""
    source = copy("gpt2")
    expected = read_directory(source, others(), source).arrays
    rewrite(source, lambda t: t.update({"lm_head.weight": t.pop("transformer.wte.weight")}))
    found = read_directory(source, others(), source).arrays
    assert all(np.array_equal(found[path], array) for path, array in expected.items())


def test_a_readout_that_ought_to_be_there(copy):
    source = copy("gpt2")
    change(source, tie_word_embeddings=False)
    refused(source, "lm_head.weight is missing", '"tie_word_embeddings": true')


def test_buffers_are_left_out(copy, tmp_path):
    source = copy("gpt2")
    rewrite(source, lambda t: t.update({"transformer.h.0.attn.bias": np.ones((1, 1, 24, 24), np.uint8)}))
    import_directory(source, tmp_path / "run", others())


@pytest.mark.parametrize("length", [4, 300, -10])
def test_truncated_files(copy, length):
    source = copy("gpt2")
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    refused(source, "model.safetensors is damaged", str(path))


def test_a_directory_in_use(saved, tmp_path):
    import_directory(saved("gpt2"), tmp_path / "run", others())
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(UserError, match="there is something already"):
        import_directory(saved("gpt2"), tmp_path / "run", others())
    config = Config.from_dict(read_config(tmp_path / "run"))
    with pytest.raises(UserError, match="there is something already"):
        export_run(config, tmp_path / "run", tmp_path / "run", None, Form())
    assert sorted((tmp_path / "run").rglob("*")) == before
    (tmp_path / "empty").mkdir()
    import_directory(saved("gpt2"), tmp_path / "empty", others())
    assert (tmp_path / "empty" / "config.json").exists()


@pytest.mark.parametrize(
    "changes, family, knob",
    [
        ({"position": "alibi"}, "gpt2", "model.position"),
        ({"position": "rope"}, "gpt2", "model.position"),
        ({"norm": "rmsnorm"}, "gpt2", "model.norm"),
        ({"mlp": "swiglu"}, "gpt2", "model.mlp"),
        ({"mlp": "moe(experts=2, top_k=1)"}, "gpt2", "model.mlp"),
        ({"block": "sandwich"}, "gpt2", "model.block"),
        ({"block": "pre(branch=0.5)"}, "gpt2", "model.block"),
        ({"attention": "sliding(window=4)"}, "gpt2", "model.attention"),
        ({"attention": "full(gate=True)"}, "gpt2", "model.attention"),
        ({"attention": "linear"}, "gpt2", "model.attention"),
        ({"kv_heads": 2}, "gpt2", "model.kv_heads"),
        ({"head_dim": 8}, "gpt2", "model.head_dim"),
        ({"head_dim": 8, "heads": 20, "kv_heads": 20}, "gpt2", "model.head_dim"),  # which has 0 at this width
        ({"embed_scale": 4.0}, "gpt2", "model.embed_scale"),
        ({"logit_softcap": 30.0}, "gpt2", "model.logit_softcap"),
        ({"bias": ("qkv", "readout")}, "gpt2", "model.bias"),
        ({"init": "mup(base_width=8)"}, "gpt2", "model.init"),
        ({"norm": "layernorm(eps=1e-3)"}, "opt", "model.norm"),
        ({"position": "rope", "norm": "rmsnorm", "mlp": "swiglu", "bias": True}, "mistral", "model.bias"),
        (
            {"position": "rope", "norm": "rmsnorm", "mlp": "swiglu", "bias": False, "width": 18, "head_dim": 4},
            "llama",
            "num_attention_heads",
        ),
        ({"position": "rope(fraction=0.5)", "norm": "rmsnorm", "mlp": "swiglu", "bias": False}, "llama", "position"),
    ],
)
def test_models_that_a_family_cannot_say(changes, family, knob):
    values = others()
    values["model"].update(SIZES | changes)
    with pytest.raises(UserError) as caught:
        families.named(family, "").settings(Config.from_dict(values).model)
    assert knob in str(caught.value) and family in str(caught.value)
    assert caught.value.exit_code == 2


def test_exports(tmp_path):
    fresh_run(tmp_path / "run", SIZES | {"position": "alibi"})
    config = Config.from_dict(read_config(tmp_path / "run"))
    with pytest.raises(UserError, match="gpt2: model.position"):
        export_run(config, tmp_path / "run", tmp_path / "ours", None, Form())
    with pytest.raises(UserError, match="did you mean 'llama'"):
        export_run(config, tmp_path / "run", tmp_path / "ours", None, Form(family="lama"))
    fresh_run(tmp_path / "other", SIZES)
    config = Config.from_dict(read_config(tmp_path / "other"))
    with pytest.raises(UserError, match="there is no checkpoint of step 3"):
        export_run(config, tmp_path / "other", tmp_path / "ours", 3, Form())
    assert {path.name for path in tmp_path.iterdir()} == {"run", "other"}


@pytest.mark.parametrize("name, key, layers", [("gpt2", "n_layer", 2**63), ("llama", "num_hidden_layers", 2**31)])
def test_more_layers_than_can_be_are_refused_before_a_list_of_them_is_made(copy, name, key, layers):
    source = copy(name)
    change(source, **{key: layers})
    refused(source, "config.json: layers", "1 to 4096")
