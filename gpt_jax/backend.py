"""Settings of XLA that have to be in the environment before JAX is used."""

import os

# Of the fusions around matrix products that XLA's CPU backend makes by default, those of the backward pass transpose
# and copy their operands; without them a training step takes 7 to 15% less time (docs/performance.md).
CPU_FLAGS = ("--xla_cpu_experimental_ynn_fusion_type=",)


def tune() -> None:
    """Adds the flags to XLA_FLAGS, except those that the user has set there."""
    given = os.environ.get("XLA_FLAGS", "").split()
    names = {flag.partition("=")[0] for flag in given}
    added = [flag for flag in CPU_FLAGS if flag.partition("=")[0] not in names]
    os.environ["XLA_FLAGS"] = " ".join([*given, *added])
