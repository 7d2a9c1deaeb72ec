"""Validation of what a config says about reaching an upstream (address, headers, key) before anything is sent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from yarl import URL

from p2l_sdk.errors import P2LError

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110
_FRAMING = ("content-length", "transfer-encoding")  # determined by the body
_ENDPOINT = "/chat/completions"


def check_address(url: str) -> None:
    """Raise P2LError for a base_url that is malformed, contains credentials or a fragment, or names the endpoint."""
    try:
        parts = urlsplit(url)
        legal = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        legal = legal and "@" not in parts.netloc and not parts.fragment and not any(map(str.isspace, url))
        (URL(url).raw_host or "").encode("idna")  # as sockets do: refuses empty or overlong labels
    except ValueError:
        legal = False
    if not legal:
        raise P2LError(f"base_url is {url!r}; it must be an address like 'https://api.openai.com/v1'")
    if parts.path.rstrip("/").endswith(_ENDPOINT):
        raise P2LError(f"base_url is {url!r}; write it without {_ENDPOINT}, which is added")


def check_header_name(setting: str, name: str) -> None:
    """Raise P2LError for an illegal header name, or for a header that is determined by the body."""
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING:
        raise P2LError(f"{setting}: {name!r} is no header that a config can set")


def checked_headers(headers: Any) -> Mapping[str, str]:
    """The headers of a config, as strings.

    Raises:
        P2LError: a header cannot be sent. The message omits its value, which may be a key.
    """
    if not isinstance(headers, Mapping):
        raise P2LError(f"headers is {headers!r}; it must be a mapping: {{name: text}}")
    found: dict[str, str] = {}
    for name, value in ((str(name), value) for name, value in headers.items()):
        check_header_name("headers", name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise P2LError(f"headers: {name} must be a text")
        if name.lower() in map(str.lower, found):
            raise P2LError(f"headers: {name} stands twice; upper and lower case are the same")
        found[name] = str(value).strip()
        if not (found[name].isascii() and found[name].isprintable()):
            raise P2LError(f"headers: the value of {name} holds characters that no header can carry; use ASCII")
    return MappingProxyType(found)


def read_key(variable: str | None) -> str:
    """The key in an environment variable, or "" if there is none; P2LError if it cannot be sent in a header."""
    key = "" if variable is None else os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise P2LError(f"the key in {variable} holds characters that no header can carry; set it anew")
    return key
