"""Which pages may call the server: those of its own address, and of the origins that it allows.

Beside sites (https://...), applications have origins: app://, tauri:// and capacitor:// of desktop and mobile ones,
chrome-extension:// and moz-extension:// of browsers' extensions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from p2l_sdk.errors import P2LError

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/\s*]+|\*)", re.IGNORECASE)
_SITES = {"http": ":80", "https": ":443"}  # schemes of sites, with the port that browsers leave out


def origin_pattern(origins: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern that matches the origins allowed, whole; None if there are none. "moz-extension://*" stands for all of
    a scheme other than http and https: an extension's origin differs from one browser to the next.

    Raises:
        P2LError: an origin is malformed.
    """
    for origin in origins:
        found = _ORIGIN.fullmatch(origin)
        if found is None or (found[2] == "*" and found[1].lower() in _SITES):
            raise P2LError(f"{origin!r} is no origin; write scheme and host alone, as 'https://app.example.com'")
    if not origins:
        return None
    return re.compile("|".join(re.escape(origin).replace(r"\*", r"[^/\s]+") for origin in origins), re.IGNORECASE)


def is_foreign(origin: str, host: str) -> bool:
    """Whether an origin is another one than that of the server itself, by the name in `Host`. Browsers omit the default
    port, proxies may add it; "null" is foreign, and so is an application that names its pages as this machine."""
    scheme, _, place = origin.lower().partition("://")
    if scheme not in _SITES or not place:
        return True
    return place != host.lower().removesuffix(_SITES[scheme])
