"""What test_processes runs in each of two processes; prints one line of JSON."""

import json

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from gpt_jax.mesh import mesh as meshes
from gpt_jax.mesh.processes import start_processes
from tests.mesh.sizes import mesh_config

BATCH, TIME = 16, 3


def main() -> None:
    start_processes()
    found = {"process": jax.process_index(), "processes": jax.process_count(), "devices": jax.device_count()}
    for name, sizes in {
        "data": {"data": 8},
        "tensor": {"data": 1, "tensor": 8},
        "mixed": {"data": 4, "tensor": 2},
        "pipeline": {"data": 4, "pipeline": 2},
    }.items():
        mesh = meshes.make(mesh_config(**sizes))
        start, stop = meshes.my_rows(mesh, BATCH)
        tokens_BT = np.arange(BATCH * TIME, dtype=np.int32).reshape(BATCH, TIME)
        batch = meshes.put_batch({"tokens": tokens_BT[start:stop]}, mesh)
        whole = jax.jit(lambda x: x * 2, out_shardings=NamedSharding(mesh, PartitionSpec()))(batch["tokens"])
        summed = jax.jit(
            jax.shard_map(
                lambda x: jax.lax.psum(x.sum(), meshes.BATCH_AXES),
                mesh=mesh,
                in_specs=PartitionSpec(meshes.BATCH_AXES),
                out_specs=PartitionSpec(),
            )
        )(batch["tokens"])
        equal = bool(np.array_equal(np.asarray(whole), 2 * tokens_BT))
        found[name] = {"rows": [start, stop], "sum": int(summed), "equal": equal, "shape": list(batch["tokens"].shape)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
