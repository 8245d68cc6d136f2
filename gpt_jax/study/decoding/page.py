"""decoding.html: texts of all samplers side by side, their metrics and figures, in one file without a script."""

import html
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gpt_jax.plotting import save
from gpt_jax.sample.outputs.stream import TextStream
from gpt_jax.sample.processors import Tokenizer
from gpt_jax.storage import make_folder, write_atomically
from gpt_jax.study.compare.verdicts import Rows
from gpt_jax.study.decoding import figures
from gpt_jax.study.decoding.metrics import METRICS, OWN, Corpus, differs, estimate
from gpt_jax.study.decoding.samplers import HUMAN
from gpt_jax.study.decoding.scores import Scores
from gpt_jax.study.decoding.study import Study
from gpt_jax.study.report import markup
from gpt_jax.study.sweep.run_rows import to_csv

NAME = "decoding.html"
SHOWN = 4  # prompts
LEVELS = ("#cfe3f3", "#e3eef7", "#f4f6f7", "#fdf0e3", "#fbdfc3", "#f7c79b", "#f2a96b", "#e98a3f")
STYLE = """
body { max-width: 92rem; padding-bottom: 16rem; }
.differs { font-weight: 600; }
.prompt { color: #5b6770; }
.texts { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .8rem; }
.text { border: 1px solid #e3e6e8; padding: .5rem .7rem; min-width: 0; }
.text h3 { font-size: .95rem; margin: 0 0 .3rem; }
.text div { font: .8rem/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.t:hover { outline: 2px solid #0072b2; }
.t:hover::after { content: attr(data-top); position: fixed; left: 0; right: 0; bottom: 0; padding: .6rem 1rem;
  background: #fff; border-top: 2px solid #0072b2; font: .85rem/1.4 ui-monospace, monospace; white-space: pre; z-index: 1; }
""" + "".join(f".l{level} {{ background: {colour}; }}\n" for level, colour in enumerate(LEVELS))
LEGEND = (
    "A token's background says how likely the model itself found it: from p > 1/2 (blue) to p < 1/128 (orange), a step for "
    "each factor of 2. Point at a token to see what the model found likeliest in its place."
)
TABLE_LEGEND = (
    "Means over prompts with 95% bootstrap intervals, which resample prompts (bias-corrected and accelerated). Bold: the "
    "interval of the paired difference from the human text after the same prompts excludes 0. A corpus holds one text a "
    "prompt, so that human text is as long and as much; several seeds are averaged."
)


def write(study: Study, folder: Path) -> Path:
    """Writes decoding.html, and beside it metrics.csv and the figures as PNG and SVG.

    Raises:
      StorageError: the disk refuses.
    """
    pictures = make_folder(folder / "figures")
    write_atomically(folder / "metrics.csv", to_csv(records(study)))
    rows, marks = _metrics(study)
    parts = [
        f"<h1>How {html.escape(study.title)} decodes</h1>",
        "<h2>Metrics</h2>",
        markup.table(rows, "wide", marks),
        f'<p class="question">{TABLE_LEGEND}</p>',
        markup.table(_meanings(study), "words cards"),
        "<h2>Figures</h2>",
    ]
    for name, (figure, caption) in drawn(study).items():
        parts.append(markup.figure(save(figure, pictures / name), caption))
    parts += ["<h2>Texts</h2>", f'<p class="question">{LEGEND}</p>', *_texts(study)]
    path = folder / NAME
    write_atomically(path, markup.page(study.title, parts, STYLE))
    return path


def drawn(study: Study) -> dict[str, tuple]:
    """File name -> (figure, caption)."""
    heat = figures.heat_map(study)
    found = {
        "frontier": (
            figures.frontier(study),
            "Quality against diversity, with 95% intervals; the star is human text. Grey lines join one temperature.",
        ),
        "heat_map": (heat, "Temperature and top-p."),
        "repetition": (
            figures.repetition(study),
            "Repeated 4-grams by position (left) and up to a length (right).",
        ),
    }
    return {name: (figure, caption) for name, (figure, caption) in found.items() if figure is not None}


def records(study: Study) -> list[dict]:
    """A row a sampler: each metric with its interval, None where it is not known."""
    found = []
    for name, values in study.values.items():
        row: dict = {"sampler": name}
        for metric in METRICS:
            made = estimate(values[metric]) if metric in values else None
            interval = made.interval if made else None
            row[metric] = made.value if made else None
            row[f"{metric}_low"], row[f"{metric}_high"] = (interval.low, interval.high) if interval else (None, None)
        found.append(row)
    return found


def _metrics(study: Study) -> tuple[Rows, list[list[str]]]:
    """The table, and which of its cells differ from the human text's."""
    names = [name for name in METRICS if any(name in values for values in study.values.values())]
    rows, marks = [["sampler", *(METRICS[name].title for name in names)]], []
    human = study.values[HUMAN]
    for sampler, values in study.values.items():
        rows.append([sampler, *(str(estimate(values[name])) if name in values else "" for name in names)])
        compared = [name in values and name in human and differs(values[name], human[name]) for name in names]
        marks.append(["", *("differs" if found else "" for found in compared)])
    return rows, marks


def _meanings(study: Study) -> Rows:
    known = {name for values in study.values.values() for name in values}
    return [["metric", "what it is"], *([m.title, m.meaning] for name, m in METRICS.items() if name in known)]


def _texts(study: Study) -> Iterator[str]:
    """The texts after the first prompts, of the first seed, side by side."""
    corpora = {name: of_seeds[0] for name, of_seeds in study.corpora.items()}
    for number in range(min(SHOWN, len(corpora[HUMAN].texts))):
        prompt = "".join(_pieces(corpora[HUMAN].prompts[number], (), study.tokenizer))
        cards = "".join(_card(name, corpus, number, study.tokenizer) for name, corpus in corpora.items())
        yield f'<pre class="prompt">{html.escape(prompt)}</pre><div class="texts">{cards}</div>'


def _card(name: str, corpus: Corpus, number: int, tokenizer: Tokenizer | None) -> str:
    ids, scores = corpus.texts[number], corpus.scores[OWN][number]
    pieces = _pieces(ids, corpus.prompts[number], tokenizer)
    tokens = "".join(_token(piece, t, ids, scores, tokenizer) for t, piece in enumerate(pieces))
    nats = f"{-scores.logprobs_T.mean():.2f} nats/token"
    return f'<div class="text"><h3>{html.escape(name)} · {nats}</h3><div>{tokens}</div></div>'


def _token(piece: str, t: int, ids: np.ndarray, scores: Scores, tokenizer: Tokenizer | None) -> str:
    logprob = float(scores.logprobs_T[t])
    level = min(len(LEVELS) - 1, int(-logprob / math.log(2)))
    lines = [f"{_label(ids[t], tokenizer)}  {_share(logprob)}", ""]
    for id, log in zip(scores.top_ids_TN[t], scores.top_logprobs_TN[t], strict=True):
        lines.append(f"{_share(float(log))}  {_label(id, tokenizer)}")
    return f'<span class="t l{level}" data-top="{_attribute(lines)}">{html.escape(piece)}</span>'


def _attribute(lines: Sequence[str]) -> str:
    return html.escape("\n".join(lines)).replace("\n", "&#10;")


def _share(logprob: float) -> str:
    return f"{math.exp(logprob):7.2%}"


def _label(id: int, tokenizer: Tokenizer | None) -> str:
    return str(int(id)) if tokenizer is None else repr(tokenizer.decode([int(id)]))


def _pieces(ids: Iterable[int], before: Iterable[int], tokenizer: Tokenizer | None) -> list[str]:
    """The text of each token; a character that several make stands with the last of them."""
    if tokenizer is None:
        return [f"{int(id)} " for id in ids]
    stream = TextStream(tokenizer, [int(id) for id in before])
    pieces = [stream.write([int(id)]) for id in ids]
    return [*pieces[:-1], pieces[-1] + stream.close()]
