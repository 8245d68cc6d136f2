"""The verb decoding."""

from pathlib import Path
from typing import Annotated, Any

from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.limits import Limits, Natural
from gpt_jax.registry import register


@register("commands", "decoding")
class Decoding(Command):
    """Samplers of a checkpoint beside human text: metrics, figures and a page."""

    usage = (
        "--workdir=runs/q [--second=runs/other]",
        "--workdir=runs/q --grid=samplers.json --prompts=128 --seeds=4 --to=decoding/q",
    )
    works = True

    def define(self, flags: Flags) -> None:
        settings.of_run(flags)
        flags.integer("step", None, "checkpoint; the newest if not given", Natural)
        flags.path("second", "", "a run with the same tokens, whose perplexity is measured too")
        flags.integer("second_step", None, "its checkpoint; the newest if not given", Natural)
        flags.path("grid", "", 'JSON: {"NAME": {"temperature": 0.8, "top_p": 0.9}, …}; the usual samplers if not given')
        flags.integer("prompts", 64, "windows of the validation text", Annotated[int, Limits(2, 4096)])
        flags.integer("seeds", 2, "texts of each sampler after each prompt", Annotated[int, Limits(1, 1024)])
        flags.integer("prompt_tokens", 0, "of a window; 0 = a quarter of the context", Natural)
        flags.integer("new_tokens", 0, "of a text, at most; 0 = what is left of the context", Natural)
        flags.integer("rows", 256, "texts that are written side by side", Annotated[int, Limits(1, 65536)])
        flags.path("to", "", "directory for texts, metrics, figures and the page; WORKDIR/decoding if not given")

    def run(self, flags: Any) -> None:
        from gpt_jax.config import Config
        from gpt_jax.study.decoding import page, samplers, study

        workdir = Path(flags.workdir)
        to = Path(flags.to) if flags.to else workdir / "decoding"
        grid = samplers.read(Path(flags.grid)) if flags.grid else samplers.default()
        sizes = {name: getattr(flags, name) for name in ("prompts", "seeds", "prompt_tokens", "new_tokens", "rows")}
        second = study.Judge(Path(flags.second), flags.second_step) if flags.second else None
        config = Config.from_dict(flags.config)
        found = study.study_run(config, workdir, flags.step, grid, study.Settings(**sizes), to, second)
        print(page.write(found, to))
