"""The processors of a batch, whose rows may each have others, as one sequence that is compiled once."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from gpt_jax.sample.processors import NONE, Advance, Change, Ends, Processor, Step


@dataclass(frozen=True)
class Link:
    """What is compiled of a processor. Its knobs, and which rows have it, are arguments of the program."""

    change: Change
    advance: Advance | None
    ends: Ends | None


Knobs = list[dict[str, jax.Array]]  # of each link, [B, …]; "on_B" says which rows have it


def join(rows: Sequence[Sequence[Processor]], always: Sequence[Processor] = ()) -> tuple[tuple[Link, ...], Knobs]:
    """One sequence of links in which every row's processors occur in its order.

    Args:
      always: links that are there in any case, so that the program stays the same whether or not a row has them.
    """
    links: list[Link] = [_link(processor) for processor in always]
    for row in rows:
        place = 0
        for link in map(_link, row):
            if link in links[place:]:
                place = links.index(link, place) + 1
            else:
                links.insert(place, link)
                place += 1
    members: list[list[Processor | None]] = [[None] * len(rows) for _ in links]
    for number, row in enumerate(rows):
        place = 0
        for processor in row:
            place = links.index(_link(processor), place)
            members[place][number] = processor
            place += 1
    fillers = dict(zip(map(_link, always), always, strict=True))
    return tuple(links), [
        _stacked(of_link, next((p for p in of_link if p is not None), None) or fillers[link])
        for link, of_link in zip(links, members, strict=True)
    ]


def process(links: tuple[Link, ...], knobs: Knobs, logits_BV, step: Step, skips: bool) -> jax.Array:
    """The scores after all links, float32 [B, V].

    Args:
      skips: whether a link that no row has is skipped at run time.
    """
    for link, values in zip(links, knobs, strict=True):
        on_B, own = values["on_B"], {name: value for name, value in values.items() if name != "on_B"}

        def changed(x_BV, link=link, on_B=on_B, own=own):
            return jnp.where(on_B[:, None], link.change(x_BV, step, **own), x_BV)

        logits_BV = jax.lax.cond(on_B.any(), changed, lambda x: x, logits_BV) if skips else changed(logits_BV)
    return logits_BV


def advance(links: tuple[Link, ...], knobs: Knobs, logits_BV, tokens_B, step: Step) -> Knobs:
    """The knobs after ``tokens_B`` were chosen from the final scores."""
    after = []
    for link, values in zip(links, knobs, strict=True):
        own = {name: value for name, value in values.items() if name != "on_B"}
        new = {} if link.advance is None else link.advance(logits_BV, tokens_B, step, **own)
        after.append({**values, **new})
    return after


def go_on(links: tuple[Link, ...], knobs: Knobs, step: Step, open_B) -> jax.Array:
    """Those of the rows ``open_B`` that no link ends, by the knobs after ``advance``."""
    for link, values in zip(links, knobs, strict=True):
        if link.ends is not None:
            own = {name: value for name, value in values.items() if name != "on_B"}
            open_B &= ~(values["on_B"] & link.ends(step, **own))
    return open_B


def _link(processor: Processor) -> Link:
    return Link(processor.change, processor.advance, processor.ends)


def _stacked(members: Sequence[Processor | None], example: Processor) -> dict[str, np.ndarray]:
    """The knobs of all rows. One without the processor gets another's: they have no effect there."""
    found = {name: [np.asarray((m or example).knobs[name]) for m in members] for name in example.knobs}
    stacked = {name: np.stack(_filled(values)) for name, values in found.items()}
    return stacked | {"on_B": np.array([member is not None for member in members])}


def _filled(values: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays of one shape, the largest along each axis."""
    if not values[0].ndim:
        return values
    shape = np.max([value.shape for value in values], axis=0)
    fill = NONE if values[0].dtype.kind == "i" else 0
    return [
        np.pad(v, [(0, most - own) for most, own in zip(shape, v.shape, strict=True)], constant_values=fill)
        for v in values
    ]
