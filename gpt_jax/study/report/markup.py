"""What pages are made of: one file with everything inside, to be opened from the disk, printed, or sent."""

import html
from collections.abc import Sequence

from gpt_jax.study.compare.verdicts import Rows

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f23; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.question { color: #39424a; }
.wide { overflow-x: auto; }
.cards + .cards { margin-top: 1.2rem; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .5rem; text-align: right; border-bottom: 1px solid #e3e6e8; white-space: nowrap; }
.words td, .words th { white-space: normal; text-align: left; }
th:first-child, td:first-child, td:last-child, th:last-child { text-align: left; }
.verdicts th:nth-child(2), .verdicts td:nth-child(2) { text-align: left; }
th { border-bottom: 2px solid #9aa3a9; }
.better, .pass { color: #0072b2; font-weight: 600; }
.worse, .fail { color: #b34700; font-weight: 600; } .equivalent { color: #00714f; }
figure { margin: 1rem 0; } figure svg { min-width: 44rem; height: auto; } figcaption { color: #5b6770; font-size: .9rem; }
pre { background: #f4f6f7; padding: .8rem; overflow-x: auto; font-size: .82rem; white-space: pre-wrap; }
.running { background: #fff4e5; padding: .5rem .8rem; border-left: 4px solid #e69f00; }
/* A phone shows a row of verdicts or settings as a card: one cell a line, behind the name of its column. */
@media (max-width: 40rem) {
  .cards thead { display: none; }
  .cards table, .cards tbody, .cards tr, .cards td { display: block; }
  .cards tr { border-bottom: 2px solid #9aa3a9; padding: .4rem 0; }
  .cards td { border: none; padding: .1rem 0; text-align: left; white-space: normal; overflow-wrap: anywhere; }
  .cards td:first-child { font-weight: 600; }
  .cards td:not(:first-child)::before { content: attr(data-column) ": "; color: #5b6770; font-weight: 400; }
}
@media print { body { max-width: none; margin: 0; } h2, figure { break-inside: avoid; } details { display: block; } }
"""


def page(title: str, parts: Sequence[str], style: str = "") -> str:
    """A whole page. ``style``: rules beside those of all pages."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def table(rows: Rows, kind: str = "wide", marks: Sequence[Sequence[str]] = ()) -> str:
    """A head and rows.

    Args:
      kind: CSS classes of the table.
      marks: those of each cell below the head, "" for none.
    """
    head, *body = rows
    lines = []
    for row, classes in zip(body, marks or [[""] * len(head)] * len(body), strict=True):
        cells = zip(head, row, [f' class="{mark}"' if mark else "" for mark in classes], strict=True)
        lines.append(
            "<tr>"
            + "".join(
                f'<td data-column="{html.escape(name)}"{mark}>{html.escape(cell)}</td>' for name, cell, mark in cells
            )
            + "</tr>"
        )
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    return f'<div class="{kind}"><table><thead><tr>{names}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def figure(svg: str, caption: str, alt: str = "") -> str:
    """A picture with a line below. ``alt``: what it shows, for who cannot see it."""
    if alt:
        svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)
    return f'<figure><div class="wide">{svg}</div><figcaption>{html.escape(caption)}</figcaption></figure>'


def folded(title: str, text: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"
