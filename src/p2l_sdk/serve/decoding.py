"""Compressed request bodies, decoded as they arrive: never further than to the limit of a body, so that a few kilobytes
cannot become gigabytes."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

from p2l_sdk.serve.errors import BodyTooLarge, UnreadableBody, UnsupportedEncoding

_ON_THE_LOOP = 4096  # bytes, which at most become 4 MB, in a few milliseconds
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's numbers for what stands around the compressed data
_WINDOWS = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}


class Decoder:
    """Decodes one body.

    Args:
        encoding: gzip or deflate, as in `Content-Encoding`.
        limit: bytes that the decoded body may have.
    """

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._window, self._left = _WINDOWS[encoding], limit
        self._zlib: Any = None
        self._begun = b""

    @classmethod
    def of(cls, encodings: list[bytes], limit: int) -> Decoder | None:
        """The decoder for the values of `Content-Encoding`; None if the body is not encoded.

        Raises:
            UnsupportedEncoding: it is encoded in another way, or twice.
        """
        names = [name.strip().lower() for value in encodings for name in value.split(b",")]
        names = [name for name in names if name not in (b"", b"identity")]
        if not names:
            return None
        if len(names) > 1 or names[0] not in _WINDOWS:
            raise UnsupportedEncoding(
                "the body is encoded in a way that is not read here; send it plain, or with gzip or deflate once",
                headers={"Accept-Encoding": "gzip, deflate"},
            )
        return cls(names[0], limit)

    async def feed(self, part: bytes, last: bool) -> bytes:
        """The decoded bytes of a part.

        Raises:
            BodyTooLarge: the decoded body exceeds the limit.
            UnreadableBody: it is not encoded as it says, or ends too early.
        """
        part = self._begun + part
        if self._zlib is None and len(part) < 2 and not last:
            self._begun = part
            return b""
        self._begun = b""
        if not part and self._zlib is None:
            return b""  # there is no body
        try:
            decode = asyncio.to_thread(self._decode, part) if len(part) > _ON_THE_LOOP else None
            whole = self._decode(part) if decode is None else await decode
        except zlib.error:
            raise self._unreadable() from None
        self._left -= len(whole)
        if self._left < 0:
            raise BodyTooLarge("the body is too large once it is decoded; send less in one request")
        if self._zlib.unused_data or (last and not self._zlib.eof):
            raise self._unreadable()
        return whole

    def _decode(self, part: bytes) -> bytes:
        if self._zlib is None:
            # deflate is zlib's format, but some clients send it without its first two bytes
            bare = self._window == _ZLIB and (part[0] & 15 != 8 or int.from_bytes(part[:2], "big") % 31)
            self._zlib = zlib.decompressobj(_RAW if bare else self._window)
        decoded: bytes = self._zlib.decompress(part, self._left + 1)
        return decoded

    @staticmethod
    def _unreadable() -> UnreadableBody:
        return UnreadableBody("the body is not encoded as Content-Encoding says, or it is cut off")
