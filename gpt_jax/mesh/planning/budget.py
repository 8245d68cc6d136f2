"""The state of a device by what its arrays are for."""

from collections.abc import Iterable

from gpt_jax.mesh.rules import Placement

# A key of an array's path -> its group; the first that is found, from the innermost key.
GROUPS = {
    "embed": "embedding",
    "attention": "attention",
    "mlp": "mlp",
    "experts": "experts",
    "shared": "experts",
    "router": "experts",
    "readout": "readout",
    "heads": "heads",
}
REST = "norms and the rest"


def by_group(table: Iterable[Placement]) -> dict[str, dict[str, int]]:
    """Group of tensors -> part of the state ("params", "opt", …) -> bytes of a device."""
    found: dict[str, dict[str, int]] = {}
    for row in table:
        part, *keys = row.path.split("/")
        if not keys:  # the step's number
            continue
        sizes = found.setdefault(group_of(keys), {})
        sizes[part] = sizes.get(part, 0) + row.bytes_per_device
    return {group: found[group] for group in (*dict.fromkeys(GROUPS.values()), REST) if group in found}


def group_of(keys: list[str]) -> str:
    return next((GROUPS[key] for key in reversed(keys[:-1]) if key in GROUPS), REST)
