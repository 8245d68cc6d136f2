"""Every number that a user can give has a least and a most; those, and what is far beyond, are refused or work."""

import inspect
import math
import resource
import typing
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from gpt_jax import limits, registry
from gpt_jax.commands.flags import Flags
from gpt_jax.config import Config
from gpt_jax.configs import base
from gpt_jax.data.open import open_data
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Or
from gpt_jax.mesh import memory
from gpt_jax.mesh import mesh as meshes
from gpt_jax.model.position.scaling import Scaling
from gpt_jax.train.step import compile_step, make_program

WHOLE = (2**31, 2**32, 2**63, 10**400)
REAL = (math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308)
SMALL = {
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.context": 16,
    "model.vocab": 64,
    "model.scan": True,  # so that the most layers are as quick to trace as one
    "model.position": "rope",
    "data.source": "markov()",
    "data.tokenizer": "none",
    "train.batch": 8,
}
# Kind of variant -> the knob that names one.
KINDS = {
    **{
        f"model.{part}": f"model.{part}" for part in ("attention", "attend", "position", "norm", "mlp", "block", "init")
    },
    "train.optimizers": "optim.optimizer",
    "train.schedules": "optim.schedule",
    "train.rewards": "tune.reward",
    "data.sources": "data.source",
    "data.tokenizers": "data.tokenizer",
}
CALLS = [(kind, name) for kind in KINDS for name in registry.names(kind)]
VERBS = registry.names("commands")


def limits_of(annotation: typing.Any) -> Limits | None:
    return next((part for part in typing.get_args(annotation)[1:] if isinstance(part, Limits)), None)


def is_number(annotation: typing.Any) -> bool:
    return limits.is_plain(annotation) and limits.names(annotation) in ("int", "float")


def extremes(annotation: typing.Any) -> list[float]:
    """The limits of a number, what is just beyond them, and what is far beyond."""
    found = limits_of(annotation)
    if limits.names(annotation) == "int":
        return sorted({found.least, found.most, found.least - 1, found.most + 1, -1, 0, *WHOLE})
    near = [found.least, found.most, math.nextafter(found.least, -math.inf), math.nextafter(found.most, math.inf)]
    return [*near, *REAL]


def knobs() -> Iterator[tuple[str, typing.Any]]:
    for section, table in typing.get_type_hints(Config, include_extras=True).items():
        for name, annotation in typing.get_type_hints(table, include_extras=True).items():
            yield f"{section}.{name}", annotation


NUMBERS = [(knob, annotation) for knob, annotation in knobs() if is_number(annotation)]


def opened(**changes) -> bool:
    """Whether a configuration is accepted, its model and step built as shapes; anything but a UserError fails the test."""
    values = base.get_config().to_dict()
    for knob, value in (SMALL | changes).items():
        section, name = knob.split(".")
        values[section][name] = value
    try:
        config = Config.from_dict(values)
        mesh = jax.make_mesh((1,) * 6, meshes.AXES, devices=jax.devices()[:1])
        meshes.sizes(config.mesh, 1)
        program = make_program(config, mesh)
        memory.check(config, program.live, mesh, program.trained)
        if "data.source" in changes:
            open_data(config)
    except UserError as refusal:
        assert refusal.where and refusal.what
        return False
    return True


@pytest.mark.every(4)
@pytest.mark.parametrize("knob, annotation", NUMBERS, ids=[knob for knob, _ in NUMBERS])
def test_a_knob_is_tried_at_its_extremes(knob, annotation):
    allowed = limits_of(annotation)
    assert allowed is not None, f"{knob} has no limits"
    for value in extremes(annotation):
        also = any(isinstance(part, Or) and part.allow(value) for part in typing.get_args(annotation))
        if not allowed.allow(value) and not also:
            assert not opened(**{knob: value}), value
        else:
            opened(**{knob: value})


def numbers_of(kind: str, name: str) -> list[inspect.Parameter]:
    return [p for p in registry._keywords(kind, name) if limits.is_plain(p.annotation) and is_number(p.annotation)]


@pytest.mark.every(4)
@pytest.mark.parametrize("kind, name", CALLS, ids=[f"{kind}={name}" for kind, name in CALLS])
def test_an_argument_is_tried_at_its_extremes(kind, name, tmp_path):
    np.arange(4000, dtype="<u2").__mod__(60).tofile(tmp_path / "tokens.bin")
    needed = {p.name: 4 for p in registry._keywords(kind, name) if p.default is p.empty and p.name != "scanned"}
    needed |= {"path": str(tmp_path / "tokens.bin")} if "path" in needed else {}
    numbers = numbers_of(kind, name)
    for p in numbers:
        assert limits_of(p.annotation) is not None, f"{name}({p.name}) has no limits"
        for value in extremes(p.annotation):
            if value == value and limits.exceeded(value, p.annotation):  # there is no literal of nan
                with pytest.raises(UserError, match=p.name):
                    registry.check(kind, call(name, needed | {p.name: value}), "here")
    for end in ("least", "most") if numbers else ():
        reached = [{p.name: getattr(limits_of(p.annotation), end)} for p in numbers]
        together = {key: value for one in reached for key, value in one.items()}
        for changed in reached if kind == "data.sources" else [together]:
            opened(**{KINDS[kind]: call(name, needed | changed)})


def call(name: str, arguments: dict) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})".replace("inf", "1e999")


@pytest.mark.parametrize("kind", ["linear", "ntk", "yarn", "llama3"])
def test_the_fields_of_a_table_have_limits(kind):
    hints = typing.get_type_hints(Scaling, include_extras=True)
    numbers = {name: annotation for name, annotation in hints.items() if is_number(annotation)}
    for name, annotation in numbers.items():
        for end in ("least", "most"):
            opened(
                **{
                    "model.position": call(
                        "rope", {"scaling": {"kind": kind, name: getattr(limits_of(annotation), end)}}
                    )
                }
            )


def test_a_whole_number_is_a_number_where_one_is_asked_for():
    """Else a parameter that starts at it would be one of whole numbers, which have no gradient."""
    config = Config.from_dict({**base.get_config().to_dict()})
    made = registry.build("model.norm", "dyt(alpha=2)", 4, config.model)
    assert made.alpha[...].dtype == jax.numpy.float32


@pytest.mark.parametrize("verb", VERBS)
def test_a_flag_is_refused_beyond_its_limits(verb):
    def parsed(*words: str):
        flags = Flags(verb)
        registry.lookup("commands", verb)().define(flags)
        flags._tables = None
        return flags, flags.parse([*(f"--{name}=x" for name, _ in flags._required), *words])

    flags, _ = parsed()
    typed = [name for name in flags.names() if flags._known[name].flag_type() in ("int", "float")]
    assert set(typed) == set(flags.numbers)
    for name in typed:
        for value in extremes(flags.numbers[name]):
            if limits.exceeded(value, flags.numbers[name]):
                with pytest.raises(UserError, match=name):
                    parsed(f"--{name}={value}")
            else:
                assert getattr(parsed(f"--{name}={value}")[1], name) == value


def test_what_cannot_fit_is_refused_with_an_estimate():
    values = base.get_config().to_dict()
    values["model"] |= {"width": 2**20, "heads": 16, "layers": 256, "vocab": 64, "scan": True}
    config = Config.from_dict(values)
    mesh = jax.make_mesh((1,) * 6, meshes.AXES, devices=jax.devices()[:1])
    live = make_program(config, mesh).live
    with pytest.raises(UserError, match=r"at least .* PiB on each device.*state .* gradients .* activations"):
        memory.check(config, live, mesh, live["params"])
    assert memory.of_machine() < 2**60


@pytest.mark.parametrize(
    "sizes, kept, changes",
    [
        ({}, 16, {}),
        ({"data": 8}, 16 / 8, {}),
        ({"tensor": 8}, 16 / 8, {}),
        ({"context": 2, "tensor": 2}, 16 / 4, {}),
        ({"pipeline": 8}, 2, {"model.scan": True}),
        ({"pipeline": 4}, 2, {"model.scan": True, "mesh.rounds": 2}),
        ({}, 0, {"model.remat": "offload"}),
    ],
)
def test_the_stream_is_counted_as_a_device_keeps_it(sizes, kept, changes, monkeypatch):
    """In GiB, of 16 layers; besides, the last one and its gradient."""
    values = base.get_config().to_dict()
    values["model"] |= {"width": 2**14, "heads": 16, "layers": 16, "context": 2**10}
    values["train"]["batch"] = 16
    for knob, value in changes.items():
        section, name = knob.split(".")
        values[section][name] = value
    shape = [sizes.get(axis, 1) for axis in meshes.AXES]
    mesh = jax.make_mesh(shape, meshes.AXES, devices=jax.devices()[: math.prod(shape)])
    split = math.prod(size for axis, size in sizes.items() if axis != "pipeline")
    monkeypatch.setattr(memory, "check_offload", lambda *_: None)
    monkeypatch.setattr(memory, "_of_device", lambda _: 0)
    with pytest.raises(UserError, match=rf"activations {kept + 2 / split:.3g} GiB"):
        memory.check(Config.from_dict(values), {}, mesh, {})


def test_a_program_that_has_no_room_is_refused_before_it_runs(monkeypatch):
    state = {"w": jax.numpy.ones((8, 8))}
    step = jax.jit(lambda state, batch, hyper: {"w": state["w"] @ jax.numpy.sin(state["w"] @ batch)})
    assert compile_step(step, state, state["w"], {}) > 0
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    monkeypatch.setattr(resource, "getrlimit", lambda _: (pages * resource.getpagesize(), resource.RLIM_INFINITY))
    with pytest.raises(UserError, match=r"a step needs .*B beside what it reads, and .*B are left") as error:
        compile_step(step, state, state["w"], {})
    assert error.value.where == "config.model, config.train.batch" and "train.accumulate" in error.value.fix


@pytest.mark.parametrize(
    "error, known",
    [(MemoryError(), True), (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), True), (RuntimeError("else"), False)],
)
def test_running_out_of_memory_is_no_bug(error, known):
    from gpt_jax.errors import out_of_memory

    assert (out_of_memory(error) is not None) == known
