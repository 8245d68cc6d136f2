"""What every claim of the scoreboard has to state, beside its values (docs/protocol.md)."""

import math
import re

from gpt_jax.study.compare.claims import FAIL, PASS, ClaimResult

# Where in a paper: "table 1", "figures 2 and 3", "equation (4)", "section 5.1", "appendix B", "theorem 1", or in code.
PLACE = re.compile(
    r"\b(tables?|figures?|figs?\.|equations?|eqs?\.|sections?|sec\.|appendix|theorem|lemma|algorithm|listing|README|\w+\.py)\b",
    re.IGNORECASE,
)
SEEDS = 3  # at the least


def lacking(claim: ClaimResult) -> list[str]:
    """What a claim does not state, in words; empty where it keeps the protocol."""
    kinds = {control.wanted for control in claim.controls}
    tests = {
        "a source to the table, figure, equation or section": bool(PLACE.search(claim.source)),
        "the reason of its range": bool(claim.reason),
        "a range": bool(claim.range.ends),
        "the value that it states, for which its power is": claim.expected is not None,
        f"{SEEDS} values or an interval": len(claim.values) >= SEEDS or (not claim.values and math.isfinite(claim.low)),
        "a control that must fail": FAIL in kinds,
        "a control that must pass": PASS in kinds,
    }
    return [words for words, kept in tests.items() if not kept]
