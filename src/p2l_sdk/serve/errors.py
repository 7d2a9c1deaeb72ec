"""Errors as the caller sees them: a status and OpenAI's error shape, without any text of a prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from p2l_sdk.errors import BudgetError, P2LError, PromptError

INVALID, OVERLOADED, SERVER = "invalid_request_error", "rate_limit_error", "server_error"


def error_body(message: str, type: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error shape."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


class ApiError(P2LError):
    """An error with an HTTP status of its own.

    Attributes:
        status: of the HTTP reply.
        type, code: OpenAI's error type, and a code for programs.
        param: the part of the request that is at fault.
        headers: of the reply.
    """

    status, type, code = 400, INVALID, "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The body of the reply."""
        return error_body(str(self), self.type, self.param, self.code)


class BodyTooLarge(ApiError):  # noqa: N818  named for what happened, like all here
    """More bytes or prompts than the server accepts in one request."""

    status, code = 413, "request_too_large"


class Forbidden(ApiError):  # noqa: N818
    """A request from a page of another site, or to a host name other than localhost on a server without keys."""

    status, code = 403, "forbidden"


class BodyTimeout(ApiError):  # noqa: N818
    """The body did not arrive in time."""

    status, code = 408, "request_timeout"


class BodiesWait(ApiError):  # noqa: N818
    """There is no room for another large body: those of other requests have to be answered first."""

    status, type, code = 503, SERVER, "bodies_wait"

    def __init__(self) -> None:
        super().__init__("too many large requests are being answered; try again later", headers={"Retry-After": "5"})


class UnsupportedEncoding(ApiError):  # noqa: N818
    """The body is compressed in a way that the server does not read."""

    status, code = 415, "unsupported_content_encoding"


class Malformed(ApiError):  # noqa: N818
    """Bytes that are no HTTP/1.1, or whose end two readers could see at different places."""

    code = "malformed_request"


class HeaderTooLarge(ApiError):  # noqa: N818
    """More header fields, or more bytes of them, than the server reads."""

    status, code = 431, "header_too_large"


class HeaderTimeout(ApiError):  # noqa: N818
    """The header did not arrive in time."""

    status, code = 408, "header_timeout"


class TooManyConnections(ApiError):  # noqa: N818
    """The client, or all of them together, have as many connections as they may have."""

    status, type, code = 429, OVERLOADED, "too_many_connections"


class UnreadableBody(ApiError):  # noqa: N818
    """The body is not JSON."""

    code = "invalid_json"


class InvalidBody(ApiError):  # noqa: N818
    """The body is JSON, but does not match the endpoint's schema."""

    status, code = 422, "invalid_body"


class QueueFull(ApiError):  # noqa: N818
    """Too many prompts (or whatever `what` names) are waiting.

    Attributes:
        retry_after: seconds until another try is worthwhile.
    """

    status, type, code = 429, OVERLOADED, "queue_full"

    def __init__(self, waiting: int, retry_after: float, what: str = "prompts") -> None:
        seconds = max(1, math.ceil(retry_after))
        super().__init__(
            f"{waiting} {what} wait already; try again in {seconds} s", headers={"Retry-After": str(seconds)}
        )
        self.retry_after = float(seconds)


class ScoringTimeout(ApiError):  # noqa: N818
    """The model did not answer in time."""

    status, type, code = 504, SERVER, "timeout"


class ScoringFailed(ApiError):  # noqa: N818
    """The model failed on these prompts."""

    status, type, code = 500, SERVER, "scoring_failed"


class Closing(ApiError):  # noqa: N818
    """The server is shutting down: it finishes accepted requests and takes no more."""

    status, type, code = 503, SERVER, "closing"

    def __init__(self) -> None:
        super().__init__("the server is closing; try another one", headers={"Retry-After": "1"})


def as_reply(error: P2LError) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers of the reply for any P2LError."""
    if isinstance(error, ApiError):
        return error.status, error.body(), error.headers
    code, param = _snake(type(error).__name__), None
    if isinstance(error, PromptError):
        param = "prompt" if error.index is None else f"prompts[{error.index}]"
    elif isinstance(error, BudgetError):
        param = "cost"
    return 400, error_body(str(error), INVALID, param, code), {}


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z][a-z])", "_", name).lower()
