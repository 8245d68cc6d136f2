"""Settings of runs: ``base`` has every knob, the other files differ from it in a few."""


def pick(sizes: dict, size: str) -> dict:
    """The row of a table of sizes."""
    if size not in sizes:
        raise ValueError(f"there is no size {size!r}; the sizes are {', '.join(sizes)}")
    return sizes[size]
