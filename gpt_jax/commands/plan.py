"""The verb plan."""

from typing import Annotated, Any

from gpt_jax import configs
from gpt_jax.commands import Command, settings
from gpt_jax.commands.flags import Flags
from gpt_jax.errors import UserError
from gpt_jax.limits import Limits
from gpt_jax.registry import register


@register("commands", "plan")
class Plan(Command):
    """Parameters, FLOPs and memory of a configuration, without training; or a drawing of its layers."""

    usage = (
        "--config=gpt2:124m [--devices=8 --chip=h100]",
        "--config=gpt3:175b --devices=512 --chip=h100 [--fit]",
        "--config=gpt3:175b --topology=v5p:8x8x8",
        "--config=gpt2:124m --diagram=text",
    )

    def define(self, flags: Flags) -> None:
        settings.of_file(flags)
        virtual = "compile for so many virtual CPU devices; those of this machine if not given"
        flags.integer("devices", None, virtual, Annotated[int, Limits(1, 2048)])
        flags.string("chip", "", "chip to compare with, such as h100, or a memory size, such as 24GB")
        flags.string(
            "topology", "", "chips and how they stand, such as v5p:8x8x8, to compile for with their own compiler"
        )
        flags.boolean("fit", False, "look for the fastest mesh, batch and recomputation that fit the chip")
        flags.boolean("savings", False, "compile with each knob that lowers the memory as well, and say what it saves")
        flags.number("price", 0.0, "of an hour of a chip, to say what the run costs", Annotated[float, Limits(0, 1e6)])
        flags.path("diagram", "", "draw the model with its shapes: text, or the name of an .svg file to make")

    def run(self, flags: Any) -> None:
        config = configs.settled(flags.config)
        if flags.diagram:
            from gpt_jax.mesh.diagram.show import show

            show(config, flags.config_name, flags.diagram)
            return
        from gpt_jax.train.plan import print_plan

        given = [name.removeprefix("config.") for name in flags.given]
        if flags.topology and (flags.devices or flags.chip):
            raise UserError("--topology says which chips there are, and how many", fix="leave out --devices and --chip")
        wanted = {"fit": flags.fit, "given": given, "price": flags.price, "topology": flags.topology}
        wanted |= {"savings": flags.savings}
        print_plan(config, flags.devices, flags.chip, **wanted)
