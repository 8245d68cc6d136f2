"""The verb serve."""

import importlib
from pathlib import Path
from typing import Annotated, Any

from gpt_jax.commands import Command
from gpt_jax.commands.flags import Flags
from gpt_jax.errors import UserError
from gpt_jax.limits import Count, Limits, Positive, Share, Texts
from gpt_jax.registry import register

NEEDED = ("starlette", "uvicorn", "regex")


@register("commands", "serve")
class Serve(Command):
    """Answer OpenAI's API over HTTP with one run or several."""

    usage = (
        "--workdir=runs/sft",
        "--workdir=runs/sft --also=runs/q,runs/dpo --port=8000",
        "--workdir=runs/sft --host=0.0.0.0 --key_file=key.txt",
        "--workdir=runs/sft --filter=words.txt",
    )
    works = True

    def define(self, flags: Flags) -> None:
        flags.path("workdir", None, "directory of the run", "--workdir=runs/q")
        flags.string("also", "", "further runs, with commas between their directories")
        flags.string("host", "127.0.0.1", "address to listen at; any but this machine's own needs a key")
        flags.integer("port", 8000, "port to listen at; 0 = one that is free", Annotated[int, Limits(0, 65535)])
        flags.string("key", "", "what requests have to bring as Authorization: Bearer")
        flags.path("key_file", None, "file with the key, which then is in no list of processes")
        flags.integer("rows", 8, "texts of a run that are written side by side", Texts)
        flags.integer("queue", 64, "requests that wait at most", Count)
        flags.number("timeout", 300.0, "seconds that a request may take", Positive)
        flags.path("filter", None, "content filter: a file of words and /regular expressions/, one a line")
        flags.path("classifier", None, "content filter: directory of a run that classifies texts")
        flags.string("classifier_class", "", "the class that is not to be said")
        flags.number("classifier_threshold", 0.5, "its probability from which on the filter acts", Share)

    def run(self, flags: Any) -> None:
        _check_packages()
        key = _key(flags)

        from gpt_jax.serve import runs
        from gpt_jax.serve.moderation import classifier, filters
        from gpt_jax.serve.server import Server, is_loopback
        from gpt_jax.serve.settings import Bounds
        from gpt_jax.storage import local_path

        if not is_loopback(flags.host) and not key:
            raise UserError(
                f"--host={flags.host} lets other machines in, and there is no key",
                where="--host, --key",
                fix="--key_file=FILE with a secret, or leave --host out",
            )
        rules = [] if flags.filter is None else filters.read(Path(flags.filter))
        if flags.classifier is not None:
            given = (Path(flags.classifier), flags.classifier_class, flags.classifier_threshold)
            rules.append(classifier.read(*given))
        others = [local_path(place, "--also") for place in flags.also.split(",") if place]
        found = runs.opened([Path(flags.workdir), *others])
        bounds = Bounds(rows=flags.rows, queue=flags.queue, seconds=flags.timeout)
        Server(found, bounds, flags.host, flags.port, key, rules).serve_until_stopped()


def _check_packages() -> None:
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            raise UserError(
                f"serving needs the package {name}", where="serve", fix='pip install ".[serve]" in the checkout'
            ) from None


def _key(flags: Any) -> str:
    if flags.key_file is None:
        return flags.key
    if flags.key:
        raise UserError("--key and --key_file cannot be used together", where="serve")
    try:
        found = Path(flags.key_file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{flags.key_file} cannot be read: {error}", where="--key_file") from None
    if not found:
        raise UserError(f"{flags.key_file} is empty", where="--key_file")
    return found
