"""Whether the processes of a launch were started alike. Else they hang, or train what no configuration says."""

import collections
import json
from collections.abc import Callable, Mapping, Sequence

import jax

from gpt_jax.errors import UserError, shortened
from gpt_jax.mesh import collectives

SHOWN = 5  # differences that a message names
NOTHING = "nothing"


def check(facts: Callable[[], Mapping[str, str]]) -> None:
    """Compares what every process says of itself, and returns if it is the same. All processes must call it.

    Args:
      facts: gives what has to be equal: a name -> a value.

    Raises:
      UserError: in every process, naming those that differ from most, and in what.
    """
    if jax.process_count() == 1:
        return
    found = [json.loads(text) for text in collectives.gather(json.dumps(facts()))]
    if differing := differences(found):
        more = f", and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
        raise UserError(
            f"the {len(found)} processes were not started alike: {'; '.join(differing[:SHOWN])}{more}",
            where=f"process {jax.process_index()}",
            fix="start all of them with the same command, code and files",
        )


def differences(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """In words, what is not equal in all of these, one a process. The usual value is that of most, or of the first process
    where there are as many of another."""
    found = []
    for name in dict.fromkeys(name for of_process in facts for name in of_process):
        values = [of_process.get(name, NOTHING) for of_process in facts]
        ((usual, _),) = collections.Counter(values).most_common(1)
        odd: dict[str, list[int]] = {}
        for process, value in enumerate(values):
            if value != usual:
                odd.setdefault(value, []).append(process)
        found += [
            f"{name} is {shortened(value)} in process {', '.join(map(str, processes))}, {shortened(usual)} in the others"
            for value, processes in odd.items()
        ]
    return found
