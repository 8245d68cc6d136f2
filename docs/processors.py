"""The table of score processors, from their docstrings: ``python -m docs.processors`` writes it into sampling.md."""

import re
from pathlib import Path

from gpt_jax import registry
from gpt_jax.mesh.diagram.trace import paragraph
from gpt_jax.sample.knobs import KIND, KNOBS, ORDERS

PAGE = Path(__file__).resolve().parent / "sampling.md"
BEGIN, END = "<!-- processors -->\n", "<!-- /processors -->"
SOURCE = re.compile(r"\s*\(([^()]*(?:\b(?:19|20)\d\d\b|Hugging Face|OpenAI|vLLM|llama\.cpp)[^()]*)\)")


def table(names: list[str]) -> str:
    """A row for each processor, in the default order."""
    order = ORDERS["huggingface"]
    ranks = {name: order.index(name) if name in order else order.index("…") for name in names}
    rows = [_row(name) for name in sorted(names, key=lambda name: (ranks[name], name))]
    head = "| processor | plain knob | what it does | source |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def source(name: str) -> str:
    """Where a processor is from, as its docstring says; empty where that says nothing."""
    return next(iter(SOURCE.findall(paragraph(registry.lookup(KIND, name)))[-1:]), "")


def written() -> str:
    """The table that the page has."""
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def _row(name: str) -> str:
    knobs = ", ".join(f"`{knob}`" for knob, of in KNOBS.items() if of.processor == name)
    said = SOURCE.sub("", paragraph(registry.lookup(KIND, name))).replace("``", "`").replace("|", r"\|")
    return f"| `{registry.typical(KIND, name)}` | {knobs} | {said} | {source(name)} |"


def main() -> None:
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(registry.names(KIND)) + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main()
