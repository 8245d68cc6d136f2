"""Functions of the standard library, and the first line of their docstrings: summaries that people wrote."""

from typing import Annotated

from gpt_jax.config import Config
from gpt_jax.data import cache
from gpt_jax.data.examples import Examples
from gpt_jax.data.rows import holdout
from gpt_jax.data.rows.functions import functions, of_files
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits
from gpt_jax.registry import register

PURE = 10  # characters of a summary, at least: shorter ones say nothing


@register("data.sources", "docstrings", examples=("docstrings(packages=['json', 'email'])",))
def docstrings(
    config: Config,
    *,
    packages: list[str] | None = None,
    longest: Annotated[int, Limits(40, 2**20)] = 600,
) -> Examples:
    """{prompt, completion, file}: a function without its docstring, and that one's first line. Files are held out whole.

    Args:
      packages: of the standard library; all of it where there is no list.
      longest: characters of a function, at most.

    Raises:
      UserError: a package that this interpreter lacks, or packages with too few such functions.
    """
    found, digest = functions(config, packages or [])
    rows = [
        {"prompt": f"{function.text}\n", "completion": function.summary, "file": function.file}
        for function in found
        if len(function.summary) >= PURE and len(function.text) <= longest
    ]
    rows = list({(row["prompt"], row["completion"]): row for row in rows}.values())
    files = list(dict.fromkeys(row["file"] for row in rows))
    if len(files) < 2:
        raise UserError(
            f"{len(files)} files have functions with a docstring and up to {longest} characters",
            where="config.data.source",
            allowed="2 or more, of which one can be held out",
        )
    held = holdout.held([holdout.draw(name.encode()) for name in files], config.data.valid_fraction)
    out = dict(zip(files, held, strict=True))
    train, valid = ([row for row in rows if out[row["file"]] == side] for side in (False, True))
    return of_files(train, valid, cache.digest("docstrings", digest, longest, config.data.valid_fraction))
