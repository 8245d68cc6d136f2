"""What a server takes on at most."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """
    Args:
      rows: texts of a run that are written side by side.
      queue: requests that wait, beyond which others are refused.
      seconds: from a request's arrival to the end of its answer.
      body_bytes: of a request.
      body_seconds: until a request's body has arrived.
      texts: of one request: prompts times samples.
      messages: of one request.
      stops, stop_characters: stop strings of one request, and the length of each.
      top: most likely tokens that are reported of each place.
    """

    rows: int = 8
    queue: int = 64
    seconds: float = 300.0
    body_bytes: int = 2**20
    body_seconds: float = 30.0
    texts: int = 128
    messages: int = 256
    stops: int = 4
    stop_characters: int = 256
    top: int = 20
