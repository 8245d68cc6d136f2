"""Mesh sections of a config, for tests."""

from gpt_jax.config import MeshConfig


def mesh_config(**sizes) -> MeshConfig:
    """One device along every axis that is not given."""
    one = {"data": 1, "fsdp": 1, "tensor": 1, "context": 1, "expert": 1, "pipeline": 1}
    one |= {"context_strategy": "ring", "rounds": 1, "microbatches": 0, "rules": "default"}
    one |= {"start_timeout": 300, "heartbeat_timeout": 20, "step_timeout": 600.0, "phase_timeout": 3600.0}
    return MeshConfig(**(one | sizes))
