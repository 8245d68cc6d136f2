import threading

import jax
import jax.numpy as jnp
import pytest

from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.errors import UserError
from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh import rules
from gpt_jax.mesh.planning import chips
from gpt_jax.mesh.planning.plan import BLOCKWISE, Memory, plan, virtual_devices
from gpt_jax.mesh.planning.text import render
from gpt_jax.train.plan import print_plan
from tests.mesh import trees

GPT2 = {"layers": 12, "width": 768, "heads": 12, "kv_heads": 12, "head_dim": 64, "mlp": 3072, "vocab": 50257}
GPT2_PARAMETERS = 124_439_808  # Radford et al. (2019) as released: 124M
GPT2_TABLES = (50257 + 1024) * 768
BATCH, CONTEXT = 16, 1024


def gpt2_config(**mesh) -> Config:
    values = base.get_config()
    values.model.vocab = 50257
    values.train.update(batch=BATCH, steps=10)
    values.mesh.update(mesh)
    return Config.from_dict(values)


def gpt2_state(scanned=False):
    params = trees.params(**GPT2, context=CONTEXT, scanned=scanned)
    del params["readout"]
    return {"step": jax.ShapeDtypeStruct((), jnp.int32), "params": params, "opt": {"mu": params, "nu": params}}


def lowering(state, config):
    """A step of known memory: the state is donated and comes back, the batch is read."""

    def lower(mesh, attend):
        shardings = rules.shardings(state, mesh, config.mesh.rules, config.model.scan)
        placed = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
        batch = jax.ShapeDtypeStruct((BATCH, CONTEXT), jnp.int32, sharding=meshes.batch_sharding(mesh))
        step = jax.jit(
            lambda state, tokens_BT: jax.tree.map(lambda x: x + tokens_BT[0, 0].astype(x.dtype), state),
            donate_argnums=0,
            out_shardings=shardings,
        )
        return step.lower(placed, batch)

    return lower


@pytest.fixture(scope="module")
def sharded():
    config = gpt2_config(data=1, fsdp=8)
    state = gpt2_state()
    return plan(config, meshes.make(config.mesh), state, lowering(state, config))


def test_the_counts_are_those_of_the_release(sharded):
    assert sharded.parameters.total == GPT2_PARAMETERS
    assert sharded.parameters.non_embedding == GPT2_PARAMETERS - GPT2_TABLES
    assert sharded.flops_per_token["6n"] == 6 * GPT2_PARAMETERS
    assert sharded.tokens_per_step == BATCH * CONTEXT


def test_state_per_device(sharded):
    whole, piece = sharded.state["params"]
    assert whole == 4 * GPT2_PARAMETERS
    # Matrices are split along their 768 channels; norms and biases stay whole.
    vectors = 12 * (13 * 768) + 2 * 768
    assert piece == 4 * ((GPT2_PARAMETERS - vectors) // 8 + vectors)
    assert sharded.state["opt"] == (2 * whole, 2 * piece)


def test_memory_of_the_compiled_step_is_that_of_one_device(sharded):
    pieces = sum(row.bytes_per_device for row in sharded.table)
    batch = BATCH * CONTEXT * 4 // 8
    assert sharded.memory.arguments == pytest.approx(pieces + batch, rel=1e-3)
    assert sharded.memory.outputs == pytest.approx(pieces, rel=1e-3)
    assert sharded.memory.aliased == pytest.approx(pieces, rel=1e-3)
    assert sharded.memory.total < 1.2 * pieces


def test_total_memory_counts_aliased_bytes_once():
    assert Memory(arguments=100, outputs=90, aliased=80, temporaries=7).total == 117


def test_rendering_folds_equal_layers_and_names_what_is_not_split(sharded):
    text = render(sharded)
    lines = text.splitlines()
    assert "fsdp=8 (devices: 8)" in text and "124,439,808" in text
    (query,) = [line for line in lines if "attention/q/w" in line]
    assert "params/blocks/*/attention/q/w" in query and "768x12x64 (12 times)" in query and "fsdp" in query
    assert f"{12 * 768 * 768 * 4 / 8 / 2**20:.2f} MiB" in query
    assert not any("opt/" in line for line in lines)
    assert max(map(len, lines)) < 140


def test_rendering_for_a_chip_says_whether_it_fits_and_how_long(sharded):
    text = render(sharded, chips.find("h100"))
    assert "fits: " in text and "of 80 GB" in text
    assert "s a step, as estimated" not in text  # a plan for no chip

    config = gpt2_config(data=1, fsdp=8)
    text = render(
        plan(config, meshes.make(config.mesh), gpt2_state(), lowering(gpt2_state(), config), chips.find("h100")),
        chips.find("h100"),
        2.0,
    )
    (line,) = [line for line in text.splitlines() if "s a step, as estimated" in line]
    seconds = float(line.split()[1])
    share = sharded.flops_per_token["nanogpt"] * BATCH * CONTEXT / (8 * 989e12) / seconds
    assert f"MFU {share:.0%}" in text and 0.01 < share < 0.52
    assert f"{BATCH * CONTEXT / seconds / 8:,.0f} tokens/s a device"[:3] in text and "at 2 an hour" in text


def test_what_does_not_fit_is_told_what_helps(sharded):
    text = render(sharded, chips.find("0.1GB"))
    assert "DOES NOT FIT: " in text and "of 0.1 GB" in text and "s a step" not in text
    for flag in ("model.remat=full", "train.accumulate=2", "model.dtype=bfloat16", "--devices=16 --config.mesh.data=1"):
        assert flag in text
    values = gpt2_config(data=1, fsdp=8).to_dict()
    values["model"].update(remat="full", dtype="bfloat16")
    values["train"].update(accumulate=2)
    frugal = Config.from_dict(values)
    made = plan(frugal, meshes.make(frugal.mesh), gpt2_state(), lowering(gpt2_state(), frugal))
    assert [knob.flags for knob in made.knobs] == [
        "--devices=16 --config.mesh.data=1 --config.mesh.fsdp=16",
        '--config.optim.optimizer="adamw8bit(b1=0.9, b2=0.95, eps=1e-8)"',
    ]


@pytest.mark.parametrize(
    "text, memory, platform",
    [
        ("h100", 80e9, "gpu"),
        ("H100", 80e9, "gpu"),
        ("v5e", 16e9, "tpu"),
        ("24GB", 24e9, "gpu"),
        ("16 GiB", 2**34, "gpu"),
    ],
)
def test_chips_are_found_by_name_or_memory(text, memory, platform):
    chip = chips.find(text)
    assert (chip.memory, chip.platform) == (memory, platform)


def test_an_unknown_chip_is_refused_before_anything_is_made():
    with pytest.raises(UserError, match="no chip called 'h10'") as caught:
        print_plan(gpt2_config(), None, "h10")
    assert "did you mean 'h100'" in caught.value.fix and "24GB" in caught.value.allowed


def test_scores_that_the_chip_does_not_keep_are_not_counted(capsys):
    """On a GPU softmax attention keeps no [T, T] matrices; XLA on the CPU that compiles the plan would."""
    values = base.get_config()
    values.model.update(layers=1, width=32, heads=8, context=512, vocab=64)
    values.train.update(batch=8, steps=10)
    scores = 8 * 512**2 * 4  # of a sequence, one of which is on every device
    found = {}
    for chip in ("", "24GB"):
        print_plan(Config.from_dict(values), None, chip)
        text = capsys.readouterr().out
        (line,) = [line for line in text.splitlines() if "temporaries" in line and "activations" in line]
        size, unit = line.split()[1:3]
        found[chip] = float(size) * {"KiB": 2**10, "MiB": 2**20}[unit]
        assert f"attention by {BLOCKWISE if chip else 'auto'}" in text
    assert found[""] > scores and found["24GB"] < 0.7 * scores


def test_what_goes_between_devices_and_how_long_a_pipeline_waits(capsys):
    values = base.get_config()
    values.model.update(layers=4, width=32, heads=8, context=64, vocab=64, scan=True)
    values.train.update(batch=16, steps=10)
    values.mesh.update(data=2, fsdp=2, pipeline=2)
    print_plan(Config.from_dict(values), None, "")
    lines = capsys.readouterr().out.splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("sent per device"))
    end = next(i for i, line in enumerate(lines) if line.startswith("pipeline"))
    assert "a stage waits 20% of a pass: 2 stages, 4 micro-batches" in lines[end]
    sent = {line[:17].strip(): line[17:] for line in lines[begin + 1 : end]}
    assert "collective-permute" in sent["pipeline"] and "all-gather" in sent["fsdp"] and "all-reduce" in sent["data"]


def test_dimensions_that_do_not_divide_stand_in_the_table():
    config = gpt2_config(data=4, tensor=2)
    state = gpt2_state()
    text = render(plan(config, meshes.make(config.mesh), state, lowering(state, config)))
    noted = [line for line in text.splitlines() if "50257 does not divide over tensor=2" in line]
    assert [line.split()[0] for line in noted] == [f"{part}/embed/tokens/w" for part in ("params", "opt/mu", "opt/nu")]


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_compiled():
    config = gpt2_config(data=8)
    config = Config.from_dict({**config.to_dict(), "train": {**config.to_dict()["train"], "batch": 12}})
    with pytest.raises(UserError, match="train.batch = 12"):
        plan(config, meshes.make(config.mesh), gpt2_state(), lower=None)


def test_virtual_devices_need_a_fresh_process():
    jax.devices()
    with pytest.raises(UserError, match="cannot be made"):
        virtual_devices(512)
    with pytest.raises(UserError, match="0 devices"):
        virtual_devices(0)


def chosen(chip: str, **changes) -> dict[str, str]:
    values = base.get_config()
    values.model.update(vocab=50257, **changes)
    config = Config.from_dict(values)
    made = plan(config, meshes.make(config.mesh), gpt2_state(), lowering(gpt2_state(), config), chips.find(chip))
    assert all(f"  {call}: {backend}" in render(made, chips.find(chip)) for call, backend in made.attention)
    return dict(made.attention)


def test_the_choice_of_attention_backends_is_shown():
    calls = ("sliding(window=8)", "full(softcap=5.0)", "gated_delta")
    assert chosen("h100", attention=calls, dtype="bfloat16") == {
        "sliding(window=8)": "cudnn",
        "full(softcap=5.0)": "pallas",
        "gated_delta": "a recurrence, no softmax",
    }
    assert chosen("v5e", attention=calls)["full(softcap=5.0)"] == "splash"
    assert chosen("", attention="full") == {"full": "causal"}
    assert "runs on gpu only" in chosen("", attention="full", attend="pallas")["full"]


def test_more_devices_than_there_are_threads_for_are_refused(monkeypatch):
    """XLA would end the process without a word of ours."""
    start, started = threading.Thread.start, []

    def few(thread):
        if len(started) == 10:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    with pytest.raises(UserError, match="2000 threads") as caught:
        virtual_devices(1000)
    assert "about 5" in str(caught.value) and not any(thread.is_alive() for thread in started)
