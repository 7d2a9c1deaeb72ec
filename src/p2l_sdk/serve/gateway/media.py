"""What an upstream may read in an image, a sound or a text of a request: what it is called is not always what it is.

Proxies go by a `format`, by the ending of an address or of a file's name, or by the first bytes, and open a PDF or a
video wherever one stands. A PDF of 2 kB may be 90,000 tokens, so what may be one counts as one.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from enum import Enum
from typing import Any


class Medium(Enum):
    """What a part of a message says that it is; its value is the family of its types."""

    IMAGE = "image/"
    AUDIO = "audio/"
    TEXT = "text/"


_IMAGES = "png|jpe?g|gif|webp|bmp|tiff?|hei[cf]|avif|ico"
_SOUNDS = "mp3|mpga|m4a|wav|ogg|oga|opus|flac|aac|weba|pcm|aiff?"
_OTHERS = "pdf|docx?|pptx?|xls[xm]?|od[tps]|epub|rtf|zip|tar|t?gz|mp4|mpe?g|mov|m4v|mkv|webm|avi|wmv|flv|3gpp?"
_ENDINGS = {
    medium: re.compile(rf"\.({others})(?![a-z0-9])", re.IGNORECASE)
    for medium, others in (
        (Medium.IMAGE, f"{_SOUNDS}|{_OTHERS}|txt|md|html?|csv|xml"),
        (Medium.AUDIO, "pdf|docx?|pptx?|xlsx?"),
        (Medium.TEXT, f"{_IMAGES}|{_SOUNDS}|{_OTHERS}"),
    )
}
_IMAGE_ENDING = re.compile(rf"\.({_IMAGES})$", re.IGNORECASE)
_WEB = re.compile(r"https?://(?!generativelanguage\.googleapis\.com/)", re.IGNORECASE)  # where files of any kind lie
_FORMAT = re.compile(r"[a-z0-9_]+")
_DATA = re.compile(r"data:([^,;]*)[^,]*,", re.IGNORECASE)
_PACKED = ("png", "jpeg", "jpg", "gif", "webp", "bmp", "tiff", "heic", "heif", "avif")
_HEAD = 1024  # bytes, in which a PDF may begin
_FTYP_IMAGES = (b"hei", b"hev", b"mif", b"msf", b"avi")  # brands of images in the container of MP4


def may_be_other(medium: Medium, address: str, form: Any = None, name: Any = None) -> bool:
    """Whether an upstream may read something dearer than what a part says that it is.

    Args:
        medium: what it says.
        address: its address, with its content if it begins with "data:".
        form: its `format`, if it has one.
        name: the name of its file, if it has one.
    """
    if form and not (isinstance(form, str) and _fits(medium, form.lower())):
        return True
    if isinstance(name, str) and _ENDINGS[medium].search(name):
        return True
    said = _DATA.match(address)
    if said is None:
        path = address.partition("//")[2].partition("/")[2]
        known = _WEB.match(address) or (medium is Medium.IMAGE and _IMAGE_ENDING.search(path))
        return not known or _ENDINGS[medium].search(path) is not None
    kind = said[1].lower()
    if kind and not kind.startswith(medium.value):
        return True
    return "://" in address or _is_other(medium, _head(address[said.end() :][: 2 * _HEAD], said[0]))


def is_packed_image(address: str) -> bool:
    """Whether an address holds an image whose bytes are no text to anybody."""
    said = _DATA.match(address)
    return said is not None and said[1].lower() in [f"image/{kind}" for kind in _PACKED]


def _fits(medium: Medium, form: str) -> bool:
    """Whether a format is of this medium: a type of MIME, or a short name."""
    if "/" in form:
        return form.startswith(medium.value)
    return _FORMAT.fullmatch(form) is not None and not _ENDINGS[medium].fullmatch(f".{form}")


def _head(content: str, said: str) -> bytes:
    if ";base64" not in said.lower():
        return urllib.parse.unquote_to_bytes(content)
    whole = re.sub(r"[^A-Za-z0-9+/]", "", content.replace("-", "+").replace("_", "/"))
    try:
        return base64.b64decode(whole[: len(whole) - (len(whole) % 4 == 1)] + "=" * (-len(whole) % 4))
    except (ValueError, binascii.Error):
        return b""


def _is_other(medium: Medium, head: bytes) -> bool:
    if b"%PDF" in head[: _HEAD + 4] or head.startswith(b"PK\x03\x04"):
        return True
    if medium is Medium.AUDIO:
        return False
    film = head[4:8] == b"ftyp" and not (medium is Medium.IMAGE and head[8:11] in _FTYP_IMAGES)
    riff = head.startswith(b"RIFF") and not (medium is Medium.IMAGE and head[8:12] == b"WEBP")
    return film or riff or head.startswith((b"\x1aE\xdf\xa3", b"ID3", b"OggS", b"fLaC"))
