"""Every file in configs/ is valid and survives JSON, wrong settings are refused with a hint, no knob is idle."""

import ast
import functools
import importlib
import math
import re
from pathlib import Path

import jax
import pytest

from gpt_jax.config import Config, flatten
from gpt_jax.configs import base, gpt2
from gpt_jax.errors import UserError
from gpt_jax.model import gpt
from gpt_jax.overrides import INHERITED
from gpt_jax.sample import knobs

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p.stem for p in (ROOT / "gpt_jax" / "configs").glob("*.py") if p.stem != "__init__")
# A file with several sizes lists them in SIZES; its get_config takes one, and has a default.
SETTINGS = [
    (name, size)
    for name in FILES
    for size in getattr(importlib.import_module(f"gpt_jax.configs.{name}"), "SIZES", [None])
]
KNOBS = [f"{section}.{key}" for section, knobs in base.get_config().to_dict().items() for key in knobs]

# What the name and the value say by themselves: sizes with a letter in the legend, and names of registered variants.
SELF_EVIDENT = {"layers", "position", "norm", "mlp", "init", "tokenizer", "schedule", "optimizer", "steps", "keep"}
SELF_EVIDENT |= {"seed", "split", "bias", "temperature", "max_new_tokens", "tensorboard", "expert", "pipeline"}


def _values(name: str, size: str | None):
    get_config = importlib.import_module(f"gpt_jax.configs.{name}").get_config
    made, defaults = (get_config(size) if size else get_config()).to_dict(), base.get_config().to_dict()
    # What is to be as in a start is here as in base.
    return {
        section: {key: defaults[section][key] if value == INHERITED else value for key, value in knobs.items()}
        for section, knobs in made.items()
    }


@pytest.mark.parametrize("name, size", SETTINGS)
def test_loads_and_survives_json(name, size):
    config = Config.from_dict(_values(name, size))
    assert Config.from_json(config.to_json()) == config
    assert set(flatten(config)) == set(KNOBS)


@pytest.mark.parametrize("name, size", [s for s in SETTINGS if s[0] != "base"])
def test_is_a_diff_of_base(name, size):
    config, defaults = flatten(Config.from_dict(_values(name, size))), flatten(Config.from_dict(base.get_config()))
    assert 0 < sum(config[key] != defaults[key] for key in KNOBS) < len(KNOBS) / 2
    lines = (ROOT / "gpt_jax" / "configs" / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 35, f"configs/{name}.py has {len(lines)} lines; it is meant to be a diff of configs/base.py"


# Of the published models, all parameters. Sources: GPT-1 to GPT-3 by their tables (the papers round); Pythia's by its
# paper; the others by the published weights, OPT's without the two unused rows of its table of positions.
PARAMETERS = {
    "gpt1": 116_534_784,
    "gpt2:124m": 124_439_808,
    "gpt2:355m": 354_823_168,
    "gpt2:774m": 774_030_080,
    "gpt2:1558m": 1_557_611_200,
    "gptj": 6_050_882_784,
    "pythia:70m": 70_426_624,
    "pythia:160m": 162_322_944,
    "pythia:410m": 405_334_016,
    "pythia:1b": 1_011_781_632,
    "pythia:1.4b": 1_414_647_808,
    "pythia:2.8b": 2_775_208_960,
    "pythia:6.9b": 6_857_302_016,
    "pythia:12b": 11_846_072_320,
    "opt:125m": 125_239_296 - 2 * 768,
    "opt:1.3b": 1_315_758_080 - 2 * 2048,
    "opt:2.7b": 2_651_596_800 - 2 * 2560,
    "opt:6.7b": 6_658_473_984 - 2 * 4096,
    "opt:13b": 12_853_473_280 - 2 * 5120,
    "opt:30b": 29_974_540_288 - 2 * 7168,
    "opt:66b": 65_719_701_504 - 2 * 9216,
    "llama:7b": 6_738_415_616,
    "llama:13b": 13_015_864_320,
    "llama:llama2-70b": 68_976_648_192,
    "llama:llama3-8b": 8_030_261_248,
    "mistral": 7_241_732_096,
    "tinyllama": 1_100_048_384,
    "stories:260k": 260_032,
    "stories:15m": 15_191_712,
    "stories:42m": 41_689_600,
    "stories:110m": 109_529_856,
    "qwen3:0.6b": 596_049_920,
    "qwen3:1.7b": 1_720_574_976,
    "qwen3:4b": 4_022_468_096,
    "qwen3:8b": 8_190_735_360,
    "gemma:2-2b": 2_614_341_888,
    "gemma:3-1b": 999_885_952,
    "gpt_oss": 20_914_757_184,
    "nanochat": 560_988_160,
}
# 6 * parameters * 300B tokens, Brown et al. 2020, table D.1.
GPT3_FLOPS = {
    "small": 2.25e20,
    "medium": 6.41e20,
    "large": 1.37e21,
    "xl": 2.38e21,
    "2.7b": 4.77e21,
    "6.7b": 1.20e22,
    "13b": 2.31e22,
    "175b": 3.14e23,
}


@functools.cache
def _parameters(name: str, size: str | None) -> int:
    model = Config.from_dict(_values(name, size)).model
    shapes = jax.eval_shape(functools.partial(gpt.init, model), jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


MODELS = [(name, size) for name, size in SETTINGS if Config.from_dict(_values(name, size)).model.vocab]


@pytest.mark.parametrize("name, size", [setting for setting in MODELS if setting[0] != "gpt3"])
def test_published_parameters(name, size):
    assert _parameters(name, size) == PARAMETERS[f"{name}:{size}" if size else name]


@pytest.mark.parametrize("name, size", MODELS)
def test_micro_batches_of_published_models_divide_over_eight_devices(name, size):
    train = Config.from_dict(_values(name, size)).train
    assert train.batch // train.accumulate % 8 == 0


@pytest.mark.parametrize("size", GPT3_FLOPS)
def test_gpt3_has_its_training_flops(size):
    assert 6 * _parameters("gpt3", size) * 300e9 == pytest.approx(GPT3_FLOPS[size], rel=0.006)


@pytest.mark.parametrize("name", sorted({name for name, size in SETTINGS if size}))
def test_an_unknown_size_lists_the_others(name):
    module = importlib.import_module(f"gpt_jax.configs.{name}")
    with pytest.raises(ValueError, match=re.escape(", ".join(module.SIZES))):
        module.get_config("none")


def test_gpt2_has_its_four_sizes():
    """Radford et al. 2019, table 2."""
    shapes = {size: Config.from_dict(gpt2.get_config(size)).model for size in gpt2.SIZES}
    assert {size: (m.layers, m.width, m.heads) for size, m in shapes.items()} == {
        "124m": (12, 768, 12),
        "355m": (24, 1024, 16),
        "774m": (36, 1280, 20),
        "1558m": (48, 1600, 25),
    }
    assert {(m.vocab, m.context, m.head_dim) for m in shapes.values()} == {(50257, 1024, 64)}


def test_derived_sizes():
    values = base.get_config()
    values.model.update(width=96, heads=6, kv_heads=0, head_dim=0, mlp_width=0)
    model = Config.from_dict(values).model
    assert (model.kv_heads, model.head_dim, model.mlp_width) == (6, 16, 384)


@pytest.mark.parametrize(
    "key, value, hint",
    [
        ("model.widht", 3, "did you mean 'width'?"),
        ("modle", {}, "did you mean 'model'?"),
        ("model.width", "wide", "an int"),
        ("model.width", 2.5, "an int"),
        ("model.tied", 1, "a bool"),
        ("train.steps", True, "an int"),
        ("optim.schedule", "cosin", "did you mean 'cosine'?"),
        ("model.norm", "layernrom", "did you mean 'layernorm'?"),
        ("optim.optimizer", "adamv(b1=0.9)", "did you mean 'adamw'?"),
        ("optim.schedule", "cosine(final=__import__('os'))", "literal"),
        ("model.heads", 7, "divide"),
        ("model.kv_heads", 5, "divisor of model.heads"),
        ("train.batch", 0, "1 to 16777216"),
        ("sample.temperature", -1.0, "greedy"),
        ("model.dtype", "float13", "bfloat16"),
        ("mesh.data", 0, "-1 = the rest"),
    ],
)
def test_refuses(key, value, hint):
    values = base.get_config().to_dict()
    *sections, last = key.split(".")
    at = values
    for section in sections:
        at = at[section]
    at[last] = value
    with pytest.raises(UserError) as caught:
        Config.from_dict(values)
    assert hint in str(caught.value)
    assert caught.value.where == f"config.{key}"
    assert caught.value.exit_code == 2


def test_refuses_a_batch_that_does_not_split():
    values = base.get_config()
    values.train.update(batch=8, accumulate=3)
    with pytest.raises(UserError, match="multiple of train.accumulate = 3"):
        Config.from_dict(values)


@pytest.mark.parametrize(
    ("layers", "asked", "scanned"),
    [(32, -1, False), (33, -1, True), (64, False, False), (2, True, True), (64, 4, 4)],
)
def test_many_layers_are_scanned_unless_the_config_says_otherwise(layers, asked, scanned):
    c = base.get_config()
    c.model.update(layers=layers, scan=asked)
    assert Config.from_dict(c).model.scan == scanned


@pytest.mark.parametrize(("layers", "scan"), [(4, -2), (257, False)])
def test_layers_that_take_too_long_to_compile_are_refused(layers, scan):
    c = base.get_config()
    c.model.update(layers=layers, scan=scan)
    with pytest.raises(UserError, match="out of range"):
        Config.from_dict(c)


def test_names_a_missing_key():
    values = base.get_config().to_dict()
    del values["train"]["steps"]
    with pytest.raises(UserError, match="steps"):
        Config.from_dict(values)


def test_base_is_locked():
    with pytest.raises((AttributeError, KeyError), match="width"):
        base.get_config().model.widht = 1


def test_every_knob_is_explained():
    lines = (ROOT / "gpt_jax" / "configs" / "base.py").read_text(encoding="utf-8").splitlines()
    silent = []
    for key in KNOBS:
        name = key.split(".")[1]
        at = [i for i, line in enumerate(lines) if re.match(rf"\s+\w\.{name} = ", line)]
        assert at, f"configs/base.py does not set {key}"
        explained = any("#" in lines[i] or "#" in lines[i - 1] for i in at)
        if not explained and name not in SELF_EVIDENT:
            silent.append(key)
    assert not silent, f"without a unit or reason in configs/base.py: {', '.join(silent)}"


def _read_names() -> set[str]:
    """Attributes that gpt_jax and launch.py read, and the names they read attributes by."""
    names = set()
    for path in [*(ROOT / "gpt_jax").rglob("*.py"), ROOT / "launch.py"]:
        if path.parent != ROOT / "gpt_jax" / "config":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    names.add(node.attr)
                elif path.parent.name == "mesh" and isinstance(node, ast.Constant):
                    names.add(node.value)  # the mesh's axes are a tuple of names
    return names


def test_every_knob_is_read():
    names = _read_names() | set(knobs.KNOBS)  # a table, by whose names of_config reads
    idle = [key for key in KNOBS if key.split(".")[1] not in names]
    assert not idle, f"no code reads {', '.join(idle)}"
