"""Variables of the environment that change what JAX computes, or where, are recorded or refused by name."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from gpt_jax import backend
from gpt_jax.errors import UserError
from gpt_jax.train.record.environment import environment

ROOT = Path(__file__).resolve().parents[1]
OTHERS = {bool: lambda value: not value, int: lambda value: value + 5}
VALUES = {
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_TRANSFER_GUARD_HOST_TO_DEVICE": "disallow",
    "JAX_TRANSFER_GUARD_DEVICE_TO_HOST": "disallow",
    "JAX_ERROR_CHECKING_BEHAVIOR_NAN": "raise",
    "JAX_ERROR_CHECKING_BEHAVIOR_DIVIDE": "raise",
    "JAX_ERROR_CHECKING_BEHAVIOR_OOB": "raise",
}


@pytest.mark.parametrize("name", backend.REFUSED)
def test_what_would_change_numbers_is_refused(name, monkeypatch):
    knob, (allowed, _) = name.lower(), backend.REFUSED[name]
    before = getattr(jax.config, knob)
    assert getattr(before, "value", before) in allowed
    monkeypatch.setenv(name, str(before))
    backend.check_variables()  # its default may be spelt out
    other = VALUES.get(name) or OTHERS[type(before)](before)
    monkeypatch.setenv(name, str(other))
    jax.config.update(knob, other)
    try:
        with pytest.raises(UserError, match=f"{name}={other} is set"):
            backend.check_variables()
    finally:
        jax.config.update(knob, before)


@pytest.mark.parametrize("double, dtype", [(True, "float32"), (False, "float64")])
def test_double_precision_is_asked_for_by_variable_and_knob_alike(double, dtype):
    with jax.enable_x64(double):
        with pytest.raises(UserError, match="float64|JAX_ENABLE_X64"):
            backend.check_precision(dtype)
        backend.check_precision("float64" if double else "float32")


def test_every_variable_has_its_row_in_the_documents():
    text = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    assert not [name for name in backend.REFUSED if f"`{name}`" not in text]


def test_variables_of_jax_are_recorded(monkeypatch):
    monkeypatch.setenv("JAX_SOMETHING_NEW", "1")
    assert environment()["variables"]["JAX_SOMETHING_NEW"] == "1"


@pytest.mark.parametrize(
    "name, value",
    [
        ("JAX_PLATFORMS", "cuda"),
        ("JAX_ENABLE_X64", "maybe"),
        ("XLA_FLAGS", "--xla_no_such_flag=1"),
    ],
)
def test_what_jax_refuses_is_named(name, value):
    """Before anything is read or written; a flag that XLA does not know would end the process without a word of ours."""
    command = [sys.executable, "launch.py", "train", "--config=quickstart", "--workdir=/nowhere/at/all"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {name: value}, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert name in done.stderr and value in done.stderr
