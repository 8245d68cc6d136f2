"""What a request is answered that cannot be served, in OpenAI's form."""

from typing import Any

from gpt_jax.errors import UserError

INVALID, SERVER = "invalid_request_error", "server_error"


class Fault(Exception):
    """
    Args:
      status: of HTTP.
      param: the field that is wrong.
      code: what programs tell faults apart by.
      retry: seconds after which the client may try again; 0: it need not.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        retry: int = 0,
    ):
        super().__init__(message)
        self.status, self.retry = status, retry
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def wrong(param: str, what: str, allowed: str = "") -> Fault:
    """A field with a value that is not allowed."""
    message = f"{param}: {what}" + (f". Allowed: {allowed}." if allowed else ".")
    return Fault(400, message, param=param, code="invalid_value")


def unsupported(param: str, what: str) -> Fault:
    """A field that others have and this server has not."""
    return Fault(400, f"{param} is not supported: {what}.", param=param, code="unsupported_parameter")


def of_user_error(error: UserError, param: str) -> Fault:
    """A refusal of the rooms below, whose texts speak to people."""
    return wrong(param, error.what, error.allowed)


def full() -> Fault:
    what = "Too many requests wait already; try again in a moment."
    return Fault(429, what, kind="rate_limit_error", code="queue_full", retry=1)


def stopping() -> Fault:
    return Fault(503, "The server is stopping.", kind=SERVER, code="stopping", retry=5)


def starting() -> Fault:
    return Fault(503, "The server is starting.", kind=SERVER, code="starting", retry=2)


def late() -> Fault:
    return Fault(504, "The answer took longer than the server allows.", kind=SERVER, code="timeout")


def not_finite() -> Fault:
    return Fault(500, "The model's scores are not finite.", kind=SERVER, code="not_finite")


def broken() -> Fault:
    return Fault(500, "The server had an error while it processed the request.", kind=SERVER, code="internal_error")
