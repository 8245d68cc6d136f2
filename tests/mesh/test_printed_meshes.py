"""The commands for several devices that the documents print: their meshes and batches fit the devices they are for."""

import re
import shlex
from pathlib import Path

import pytest

from gpt_jax import registry
from gpt_jax.cluster.devices import check
from gpt_jax.commands.flags import Flags
from gpt_jax.config import Config
from gpt_jax.mesh.planning import chips, fit

ROOT = Path(__file__).resolve().parents[2]
PRINTED = re.compile(
    r"launch\.py (train|plan) +(--config=[^`\n]*?(?:--devices|--config\.mesh|--slurm=)[^`\n#]*)", re.MULTILINE
)
SLURM = re.compile(r"#SBATCH --nodes=(\d+) .*--gpus-per-node=(\d+).*\n.*$", re.MULTILINE)
ASKED = re.compile(r"--nodes=(\d+) .*--gpus-per-node=(\d+)")
VIRTUAL = 8  # devices, where a command names none


def printed() -> list[tuple[str, str, int]]:
    """(verb, flags, devices) of every such command."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        for command in PRINTED.finditer(text):
            jobs = [job for job in SLURM.finditer(text) if job.start() < command.start() < job.end()]
            asked = jobs[0] if jobs else ASKED.search(command[2])
            devices = int(asked[1]) * int(asked[2]) if asked else VIRTUAL
            found.append((command[1], command[2], devices))
    return found


@pytest.mark.parametrize("verb, words, devices", printed())
def test_a_printed_command_divides_its_batch(verb, words, devices):
    command, flags = registry.lookup("commands", verb)(), Flags(verb)
    command.define(flags)
    values = flags.parse(shlex.split(words))
    config = Config.from_dict(values.config)
    devices = getattr(values, "devices", None) or devices
    chip = chips.find(getattr(values, "chip", ""))
    if verb == "plan" and chip and fit.unfit(config, devices, chip):
        assert fit.proposals(config, devices, chip, [name.removeprefix("config.") for name in values.given])
        return
    check(config, devices)


def test_the_documents_print_some_for_a_cluster_too():
    assert {("plan", 8), ("train", 32), ("train", 16)} <= {(verb, devices) for verb, _, devices in printed()}
