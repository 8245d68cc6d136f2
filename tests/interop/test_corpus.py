"""Configurations of published models: ``published.jsonl`` has what each says, what that is here, and its parameters.

Fields of a line: name; config, its config.json; model, knobs that it has to have here; params, the number of its
parameters as published; refused, what a refusal names instead.
"""

import dataclasses
import functools
import json
import math
from pathlib import Path

import pytest

from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.interop import families
from gpt_jax.interop.reading import shapes
from gpt_jax.interop.rows import sizes_of

LINES = (Path(__file__).parent / "published.jsonl").read_text("utf-8").splitlines()
ROWS = {row["name"]: row for row in map(json.loads, LINES)}
TAKEN = [name for name, row in ROWS.items() if "refused" not in row]
OTHERS = base.get_config().to_dict()


def read(values):
    """The family and the model of a config.json."""
    family = families.of_directory(values, "config.json")
    return family, family.config(values, "config.json", OTHERS).model


@functools.cache
def paths(model):
    return frozenset(shapes(model))


def parameters(family, model):
    """By the family's tensors; which of them there are, a model of one layer says."""
    sizes = {"width": 64, "heads": 2, "kv_heads": 2, "head_dim": 32, "mlp_width": 8, "vocab": 8, "context": 8}
    known = paths(dataclasses.replace(model, layers=1, attention=model.attentions[0], **sizes))
    return sum(
        math.prod(row.shape(sizes_of(model))) * (model.layers if "{i}" in row.theirs else 1)
        for row in family.rows
        if known.issuperset(path.format(i=0) for path in row.ours)
    )


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name):
    row = ROWS[name]
    family, model = read(row["config"])
    assert parameters(family, model) == row["params"]
    for knob, value in row.get("model", {}).items():
        found = getattr(model, knob)
        if knob == "attention":
            found, value = ((list(cycle) * model.layers)[: model.layers] for cycle in (model.attentions, value))
        assert (list(found) if isinstance(found, tuple) else found) == value, knob


@pytest.mark.parametrize("name", [name for name in ROWS if name not in TAKEN])
def test_refused(name):
    with pytest.raises(UserError) as caught:
        read(ROWS[name]["config"])
    assert ROWS[name]["refused"] in str(caught.value) and "config.json" in caught.value.where


def test_the_corpus_has_every_family():
    assert {ROWS[name]["config"]["model_type"] for name in TAKEN} == {family.name for family in families.every()}


@pytest.mark.parametrize("family", [family.name for family in families.every()])
def test_a_full_dump(family):
    """All keys with their defaults, as transformers writes them, and those that differ from the defaults alone."""
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(family)
    for diff in (True, False):
        read(json.loads(config.to_json_string(use_diff=diff)))


TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 24,
    "vocab_size": 67,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


@pytest.mark.parametrize(
    "name, changes",
    [
        ("HuggingFaceTB/SmolLM2-360M-Instruct", {}),
        ("NousResearch/Yarn-Llama-2-7b-64k", {"rope_scaling": {"factor": 4.0, "type": "yarn", "finetuned": True}}),
        ("google/gemma-2b", {}),
    ],
)
def test_logits(name, changes, tmp_path):
    """Of a model of those settings in small, which transformers opens by the same config.json."""
    models = pytest.importorskip("tests.interop.models")
    from gpt_jax.convert.importing import import_directory

    values = {key: value for key, value in ROWS[name]["config"].items() if key != "auto_map"} | TINY | changes
    (tmp_path / "theirs").mkdir()
    path = tmp_path / "theirs" / "config.json"
    path.write_text(json.dumps(values))
    theirs = models.shaken(models.transformers.AutoConfig.from_pretrained(tmp_path / "theirs"))
    theirs.save_pretrained(tmp_path / "theirs")
    path.write_text(json.dumps(values))
    import_directory(tmp_path / "theirs", tmp_path / "run", models.others())
    assert models.apart(models.our_logits(tmp_path / "run"), models.their_logits(theirs)) < 1e-4


NASTY = (10**400, 2**63, -1, 0, 0.5, 1e308, math.nan, math.inf, "x", None, True, [], [1], {}, {"x": 1}, [[]])
OF_A_FAMILY = {row["config"]["model_type"]: name for name, row in reversed(ROWS.items()) if name in TAKEN}


def changed(value):
    """Others in the place of a setting, and of those in it."""
    yield from NASTY
    if isinstance(value, dict):
        yield from ({**value, key: other} for key in value for other in changed(value[key]))
    if isinstance(value, list):
        yield from ([other, *value[1:]] for other in NASTY)


@pytest.mark.every(4)
@pytest.mark.parametrize("name", OF_A_FAMILY.values())
def test_whatever_a_setting_is_it_is_read_or_refused(name):
    values = ROWS[name]["config"]
    refused = 0
    for key in values:
        for other in changed(values[key]):
            try:
                read({**values, key: other})
            except UserError as error:
                assert error.where
                refused += 1
    assert refused > 2 * len(values)
