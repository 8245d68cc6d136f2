"""Mesh sections of a config, for tests."""

from gpt_jax.config import MeshConfig


def mesh_config(**sizes) -> MeshConfig:
    """One device along every axis that is not given."""
    one = {"data": 1, "fsdp": 1, "tensor": 1, "context": 1, "expert": 1, "pipeline": 1, "rules": "default"}
    return MeshConfig(**(one | sizes))
