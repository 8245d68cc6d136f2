"""PEFT computes what our adapters compute, with their gradients, and reads what we write."""

import contextlib
import dataclasses
import functools
import importlib
import json
import os
import sys
import tempfile
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gpt_jax.config import Config
from gpt_jax.convert import adapters, exporting
from gpt_jax.errors import UserError
from gpt_jax.interop import families
from gpt_jax.interop.reading import params_of, read_directory
from gpt_jax.model import gpt
from gpt_jax.train.checkpoint.checkpoints import Checkpoints
from gpt_jax.train.starting import parameters
from gpt_jax.train.step import adapter_of, init_state
from tests.interop import models
from tests.train.adapted import shaken
from tests.train.oracles import FOLDER, wheel

torch = models.torch
PINS = ("peft==0.21.2", "accelerate==1.15.0")
FAMILIES = ("gpt2", "llama-biased", "gpt_neox", "qwen3", "gemma", "opt", "gptj")
RS = "lora(rank=3, rs=True, matrices='attention/(q|v|out)/w$')"
CALLS = ("lora(rank=3, alpha=5)", RS, "dora(rank=3)")
SAMPLE = [("gpt2", "dora(rank=3)"), ("llama-biased", RS)]  # python -m tests.train.every_adapter tries all


@functools.cache
def unpacked():
    """The package, unpacked beside its wheel and not installed. It stays on the path: transformers has noticed it."""
    for pin in PINS:
        wheel(pin)
        folder = FOLDER / pin
        if not folder.exists():  # whole or not at all: several test processes may do this at once
            with tempfile.TemporaryDirectory(dir=FOLDER) as temporary, contextlib.suppress(OSError):
                zipfile.ZipFile(wheel(pin)).extractall(f"{temporary}/whole")
                os.rename(f"{temporary}/whole", folder)
        sys.path.append(str(folder))
    return importlib.import_module("peft")


@pytest.fixture(scope="module")
def peft():
    return unpacked()


def a_run(source, workdir, call, size=0.3) -> Config:
    """A run directory of an adapter that has been trained, of the model in a directory."""
    found = read_directory(source, models.others(), workdir)
    config = dataclasses.replace(
        found.config, tune=dataclasses.replace(found.config.tune, start=str(source), adapter=call)
    )
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, scan=True))
    base = params_of(config.model, dict(found.arrays))
    state = init_state(config, jax.random.key(0), base)
    state = {**state, "params": shaken(state["params"], size)}
    parameters.write_base(workdir, base)
    checkpoints = Checkpoints(workdir, 1, False)
    checkpoints.save(5, state, {"data": ""})
    checkpoints.close()
    return config


def logits_and_grads(config, workdir):
    """Of our model, and the derivative of a sum over its logits by what is trained."""
    _, trained = parameters.trained_of_run(config, workdir, None)
    base, adapter = parameters.read_base(config, workdir), adapter_of(config)

    def value(trained):
        model = nnx.merge(gpt.graphdef(config.model), adapter.apply(base, trained))
        logits_TV = model(jnp.asarray([models.PROMPTS[2]]))[0]
        return jnp.sin(logits_TV).sum(), logits_TV

    grads, logits_TV = jax.jit(jax.grad(value, has_aux=True))(trained)
    return np.asarray(logits_TV), grads


def their_logits_and_grads(model):
    logits_TV = model(torch.tensor([models.PROMPTS[2]])).logits[0]
    logits_TV.sin().sum().backward()
    grads = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return logits_TV.detach().numpy(), grads


@pytest.mark.parametrize("name, call", SAMPLE)
def test_peft_reads_an_export_and_computes_the_same(peft, name, call, tmp_path):
    check(peft, name, call, tmp_path)


def check(peft, name, call, tmp_path):
    """Logits before and after merging, and the gradients of A, of B and of magnitudes."""
    source, family = tmp_path / "theirs", models.MODELS[name][0]
    models.model(name).save_pretrained(source)
    config = a_run(source, tmp_path / "run", call)
    assert exporting.export_run(config, tmp_path / "run", tmp_path / "out", None, form("apart", family)) == 5
    base = models.transformers.AutoModelForCausalLM.from_pretrained(source)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out", is_trainable=True)
    ours, our_grads = logits_and_grads(config, tmp_path / "run")
    found, their_grads = their_logits_and_grads(model.eval())
    size = np.abs(ours).max()
    np.testing.assert_allclose(found, ours, atol=2e-5 * size)
    assert their_grads and all("lora" in name for name in their_grads)
    compare_gradients(config, families.named(family, ""), their_grads, our_grads, tmp_path / "run")
    merged = model.merge_and_unload()
    np.testing.assert_allclose(merged(torch.tensor([models.PROMPTS[2]])).logits[0].detach(), ours, atol=2e-5 * size)
    exporting.export_run(config, tmp_path / "run", tmp_path / "merged", None, form("merged", family))
    whole = models.transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    np.testing.assert_allclose(models.their_logits(whole)[2], ours, atol=2e-5 * size)


def compare_gradients(config, family, theirs, ours, folder):
    """Ours are given the names and the order of theirs as parameters are; norms, of a base of zeros, add nothing."""
    zeros = {
        path: np.zeros_like(leaf) for path, leaf in parameters.by_path(parameters.read_base(config, folder)).items()
    }
    for one in adapters.Parts(config, family, ours, zeros).changed():
        for name, grad in one.arrays.items():
            path = name.removesuffix(".weight")
            (found,) = [g for other, g in theirs.items() if other.startswith(f"{adapters.PREFIX}{path}.default")]
            # A fused matrix's B has places where ours have none.
            np.testing.assert_allclose(found * (grad != 0), grad, atol=3e-5 * np.abs(grad).max(), err_msg=name)


def form(adapter, family=""):
    return exporting.Form(family, adapter=adapter)


def test_what_is_trained_whole_is_saved(peft, tmp_path):
    source = tmp_path / "gpt2"
    models.model("gpt2-untied").save_pretrained(source)
    config = a_run(source, tmp_path / "run", "dora(rank=2, full='^norm|readout|embed/position')")
    exporting.export_run(config, tmp_path / "run", tmp_path / "out", None, form("apart"))
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["modules_to_save"] == [
        "lm_head",
        "transformer.ln_f",
        "transformer.wpe",
    ]
    base = models.transformers.AutoModelForCausalLM.from_pretrained(source)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out").eval()
    ours, _ = logits_and_grads(config, tmp_path / "run")
    np.testing.assert_allclose(models.their_logits(model)[2], ours, atol=5e-6 * np.abs(ours).max())


@pytest.mark.parametrize(
    "name, call, said",
    [
        ("gpt2", "lora(rank=2, full='embed/tokens')", "tied"),
        ("gpt2", "lora(rank=2, matrices='embed/tokens')", "embedding"),
        ("gpt2", "lora(rank=2, full='bias$')", "its bias is trained"),
        ("gpt2", "lora(rank=2, full='attention/q/w$')", "trained whole"),
        ("gpt_oss", "lora(rank=2)", "experts"),
    ],
)
def test_what_peft_cannot_say_is_refused(name, call, said, tmp_path):
    source = tmp_path / "theirs"
    models.model(name).save_pretrained(source)
    config = a_run(source, tmp_path / "run", call)
    with pytest.raises(UserError, match=said):
        exporting.export_run(config, tmp_path / "run", tmp_path / "out", None, form("apart"))
    assert not (tmp_path / "out").exists()


def test_what_peft_cannot_say_can_be_merged(tmp_path):
    source = tmp_path / "theirs"
    models.model("gpt2").save_pretrained(source)
    config = a_run(source, tmp_path / "run", "lora(rank=2, matrices='embed|mlp', full='bias$')")
    exporting.export_run(config, tmp_path / "run", tmp_path / "out", None, form("merged"))
    ours, _ = logits_and_grads(config, tmp_path / "run")
    whole = models.transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    np.testing.assert_allclose(models.their_logits(whole)[2], ours, atol=2e-5 * np.abs(ours).max())


def test_the_base_alone_is_what_training_started_from(tmp_path):
    made, source = models.model("gpt2"), tmp_path / "theirs"
    made.save_pretrained(source)
    config = a_run(source, tmp_path / "run", "lora(rank=2)")
    exporting.export_run(config, tmp_path / "run", tmp_path / "out", None, form("base"))
    again = models.transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert models.apart(models.their_logits(again), models.their_logits(made)) < 1e-6
    plain = dataclasses.replace(config, tune=dataclasses.replace(config.tune, adapter="none"))
    with pytest.raises(UserError, match="no adapter"):
        exporting.export_run(plain, tmp_path / "run", tmp_path / "other", None, form("apart"))
