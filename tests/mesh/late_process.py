"""What test_processes runs to show that a process may come late to the first step; the argument is by how many seconds."""

import sys
import time

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.processes import start_processes
from tests.mesh.sizes import mesh_config

BATCH = 16


def main() -> None:
    start_processes()
    mesh = meshes.make(mesh_config(data=2, fsdp=2, tensor=2))
    if jax.process_index() == 1:
        time.sleep(float(sys.argv[1]))
    rows = np.arange(BATCH * BATCH, dtype=np.float32).reshape(BATCH, BATCH)
    start, stop = meshes.my_rows(mesh, BATCH)
    batch = meshes.put_batch({"x": rows[start:stop]}, mesh)
    weights = jax.device_put(np.eye(BATCH, dtype=np.float32), NamedSharding(mesh, PartitionSpec("fsdp", "tensor")))
    product = jax.jit(jax.numpy.matmul, out_shardings=NamedSharding(mesh, PartitionSpec()))(batch["x"], weights)
    assert np.array_equal(np.asarray(product), rows)
    assert multihost_utils.process_allgather(np.int32(jax.process_index())).tolist() == [0, 1]


if __name__ == "__main__":
    main()
