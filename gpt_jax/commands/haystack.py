"""The verb haystack."""

from pathlib import Path
from typing import Annotated, Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits, Natural
from gpt_jax.registry import register


@register("commands", "haystack")
class Haystack(Command):
    """What a checkpoint finds again in long texts: exact match by length and depth, as a picture."""

    usage = (
        "--workdir=runs/q --lengths=128,256,512",
        '--workdir=runs/q --source="variables(hops=1)" --lengths=200,400 --depths=5 --count=50 --sample.beyond_context=roll',
    )
    works = True

    def define(self, flags: Flags) -> None:
        settings.of_run(flags, "sample")
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.string("source", "needle", "a source of texts with lengths and depths, such as needle(others=2)")
        flags.string("lengths", None, "of the texts in characters, by commas", "--lengths=128,256,512")
        flags.integer(
            "depths", 5, "places of the statement, evenly from the beginning to the end", Annotated[int, Limits(1, 100)]
        )
        flags.integer("count", 20, "texts of each length and depth", Annotated[int, Limits(1, 100_000)])
        flags.path("to", None, "directory for the picture and the numbers; WORKDIR/haystack if not given")

    def run(self, flags: Any) -> None:
        from gpt_jax import api
        from gpt_jax.config import Config
        from gpt_jax.sample.decoders import Decoders
        from gpt_jax.sample.prompts import writer_of
        from gpt_jax.study import haystack

        lengths = _lengths(flags.lengths)
        depths = [i / max(1, flags.depths - 1) for i in range(flags.depths)]
        config = Config.from_dict({**flags.config, "sample": flags.sample})
        cells = [
            (length, depth, haystack.rows_of(config, flags.source, length, depth, flags.count))
            for length in lengths
            for depth in depths
        ]
        model = api.opened(config, flags.workdir, flags.step)
        decoder = Decoders(config.model, model.params, model.tokenizer, api.draft).of(config.sample)
        found = haystack.measure(config, decoder, model.tokenizer, writer_of(config, model.tokenizer), cells)
        to = Path(flags.workdir) / "haystack" if flags.to is None else Path(flags.to)
        for length in lengths:
            shares = [f"{cell.right / cell.count:.2f}" for cell in found if cell.length == length]
            print(f"{length:>8,} characters  {'  '.join(shares)}")
        print(haystack.write(found, f"{flags.source}, step {model.step}", to))


def _lengths(words: str) -> list[int]:
    """
    Raises:
      UserError: they are no numbers.
    """
    found = [int(word) if word.strip().isdecimal() else 0 for word in words.split(",")]
    if min(found) < 1:
        raise UserError(f"--lengths={words}", where="haystack", allowed="numbers of characters from 1, by commas")
    return sorted(set(found))
