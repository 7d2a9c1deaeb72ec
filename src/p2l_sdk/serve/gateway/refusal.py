"""`Refusal`: why an upstream does not take a request, in OpenAI's shape, whatever the shape that it came in.

Shapes: OpenAI's {"error": {...}} and Google's list of one, {"error": "text"}, flat ones of vLLM and Mistral
({"object": "error", "message": ...}), FastAPI ({"detail": ...}), Cohere and AWS ({"message": ...}), Cloudflare
({"errors": [...]}). In any other shape (a page of HTML), nothing of the upstream's text is passed on.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import unquote

import orjson

from p2l_sdk.serve.errors import INVALID, error_body
from p2l_sdk.serve.gateway.reasons import (
    CONTEXT,
    EMPTY_ACCOUNT,
    MODERATED,
    Work,
    is_of_content,
    is_too_long,
    work_before,
)

# statuses that say something about the request at this LLM: its size, its content, what the LLM can do, its account
REFUSALS = (400, 403, 404, 413, 415, 422, 451)
_REASONS = {  # codes that are reported as the reason; others are the upstream's own text
    CONTEXT, "invalid_api_key", *EMPTY_ACCOUNT, *MODERATED, "model_not_found", "unsupported_parameter",
    "unsupported_value", "unsupported_model", "invalid_image", "rate_limit_exceeded",
    "unsupported_country_region_territory",
}  # fmt: skip
_OF_THE_REQUEST = (CONTEXT, *MODERATED, "unsupported_parameter", "unsupported_value")
_OURS = "refused_by_upstream"
_MOST_TEXT, _LONGEST_CODE = 4000, 100  # characters
SHORTEST_SECRET = 8  # characters; shorter keys ("none", "EMPTY") are no secrets, but words
_BILLED = ("prompt_tokens", "completion_tokens", "total_tokens", "cost", "estimated_cost", "cost_in_usd_ticks")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([0-7]{3})|(.))", re.DOTALL)


@dataclass(frozen=True)
class Refusal:
    """An upstream's refusal of a request.

    Attributes:
        status: of its reply.
        error: OpenAI's error object: message, type, param, code, and what else the upstream put into it.
        request_id: the upstream's, if it sent one.
        work: what an LLM may have done before, which is billed.
        usage: what the reply says to have cost: its `usage`, or a cost, wherever it stands; None if nothing.
    """

    status: int
    error: Mapping[str, Any]
    request_id: str | None = None
    work: Work = Work.WROTE
    usage: Mapping[str, Any] | None = None

    @property
    def kind(self) -> str:
        """The reason in one word, for metrics and the log: a known code, or the status."""
        code = self.error["code"]
        return code if code in _REASONS else MODERATED[0] if self.of_content else f"status_{self.status}"

    @property
    def of_content(self) -> bool:
        """Whether it is for what the prompt or the answer says."""
        return is_of_content(self.error)

    @classmethod
    def of(cls, status: int, content: bytes, llm: str, request_id: str | None = None) -> Refusal:
        """The refusal in a reply of the LLM with this name."""
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            value = None
        found = said = _error(value)
        if found is None:
            page = content.decode("utf-8", "replace").strip()
            said = None if not page or page.startswith("<") else {"message": page}
        usage, answers = billed(value), b'"choices"' in content
        if isinstance(value, dict):
            answers = bool(value.get("choices"))
        work = Work.WROTE if answers else work_before(status, said, usage is not None)
        if found is None:
            text = f"{llm} refused the request with status {status}; send a shorter or simpler one, or name another LLM"
            error: Mapping[str, Any] = error_body(text, INVALID, code=_OURS)["error"]
        else:
            error = _as_openai(found, status, isinstance(value, dict) and value.get("error") is found)
        return cls(status, error, request_id, work, usage)


def refusal_within(value: Any, llm: str) -> Refusal | None:
    """The refusal in a reply whose status said that all was well, as some gateways send it; None if the error in it, if
    any, is the upstream's own."""
    found = _error(value)
    if found is None:
        return None
    code, status = found.get("code"), 400
    if isinstance(code, int) or (isinstance(code, str) and code.isdecimal() and len(code) == 3):
        status = int(code)
    elif code not in _OF_THE_REQUEST and found.get("type") != INVALID:
        return None
    return Refusal.of(status, json.dumps(value).encode(), llm) if status in REFUSALS else None


def billed(value: Any, depth: int = 4) -> dict[str, Any] | None:
    """The `usage` in a value, or the object that states a cost; None if there is none, or all is 0."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict) or depth == 0:
        return None
    usage = value.get("usage")
    for found in (usage, value):
        if isinstance(found, dict) and any(_is_positive(found.get(name)) for name in _BILLED):
            return found
    held = (billed(value.get(name), depth - 1) for name in ("error", "detail", "metadata"))
    return next((found for found in held if found is not None), None)


def _is_positive(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.get("total_cost")
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _error(value: Any, depth: int = 6) -> Mapping[str, Any] | None:
    """The object in a reply that holds the message; None if there is none."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if depth == 0 or not isinstance(value, dict):
        return None
    inner = value.get("error")
    if isinstance(inner, dict) and (found := _error(inner, depth - 1)) is not None:
        return found
    if _is_text(value.get("message")):
        return value
    for name in ("error", "errors", "detail", "message", "Message", "msg"):
        inner = value.get(name)
        if _is_text(inner):
            return {**value, "message": inner}
        if (found := _error(inner, depth - 1)) is not None:
            return found
    return None


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _as_openai(found: Mapping[str, Any], status: int, nested: bool) -> Mapping[str, Any]:
    """OpenAI's error object of one that holds a message; the rest of it is kept if it was nested as OpenAI's is."""
    text = _clean(found["message"])
    code, kind, param = (found.get(name) for name in ("code", "type", "param"))
    if isinstance(code, int) and not isinstance(code, bool):
        code = None if code == status and not nested else str(code)
    code = _clean(code) if _is_text(code) and len(code) <= _LONGEST_CODE else None
    if (code is None or code.isdigit()) and status in (400, 413, 422) and is_too_long(text):
        code = CONTEXT
    own = {
        "message": text,
        "type": _clean(kind) if _is_text(kind) else INVALID,
        "param": _clean(param) if _is_text(param) else None,
        "code": code or (None if nested else _OURS),
    }
    if nested:
        try:
            orjson.dumps(whole := {**found, **own})
        except TypeError:  # half a surrogate pair, an endless integer
            return own
        return whole
    return own


def _clean(text: str) -> str:
    return text[:_MOST_TEXT].encode("utf-8", "replace").decode()


def holds(content: bytes, secrets: Iterable[str]) -> bool:
    """Whether a text holds one of these secrets, as it is or escaped, once or several times, in the ways of JSON, URLs,
    HTML and base64."""
    kept = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
    if not kept:
        return False
    needles = [form.lower() for secret in kept for form in (secret, *_in_base64(secret))]
    text = content.decode("utf-8", "replace")
    for _ in range(4):
        lower = text.lower()
        if any(needle in lower for needle in needles):
            return True
        plain = html.unescape(unquote(_ESCAPE.sub(_character, text)))
        if plain == text:
            return False
        text = plain
    return False


def _character(escape: re.Match[str]) -> str:
    wide, byte, octal, itself = escape.groups()
    return itself or chr(int(octal, 8) if octal else int(wide or byte, 16))


def _in_base64(secret: str) -> list[str]:
    """What of its base64 does not depend on what stands before and after, for each place that it may begin at."""
    raw, found = secret.encode(), []
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        found.append(whole[(0, 2, 3)[before] : len(whole) - (1 if (before + len(raw)) % 3 else 0)])
    return found
