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

from p2l_sdk.serve.gateway.longest import longest


class Medium(Enum):
    """What a part of a message says that it is; its value is the family of its types."""

    IMAGE = "image/"
    AUDIO = "audio/"
    TEXT = "text/"


_IMAGES = "png|jpe?g|gif|webp|bmp|tiff?|hei[cf]|avif|ico"
_SOUNDS = "mp3|mpga|m4a|wav|ogg|oga|opus|flac|aac|weba|pcm|aiff?"
_FILMS = "mp4|mpe?g|mov|m4v|mkv|webm|avi|wmv|flv|3gpp?"
_OTHERS = f"pdf|docx?|pptx?|xls[xm]?|od[tps]|epub|rtf|zip|tar|t?gz|{_FILMS}"
_ENDINGS = {
    medium: re.compile(rf"\.({others})(?![a-z0-9])", re.IGNORECASE)
    for medium, others in (
        (Medium.IMAGE, f"{_SOUNDS}|{_OTHERS}|txt|md|html?|csv|xml"),
        (Medium.AUDIO, "pdf|docx?|pptx?|xlsx?"),
        (Medium.TEXT, f"{_IMAGES}|{_SOUNDS}|{_OTHERS}"),
    )
}
# an address of the web that can be read in one way only: no user, no capitals and no dot at the end of its host
_WEB = re.compile(r"https?://([a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::[0-9]{1,5})?((?:[/?#][!-\[\]-~]*)?)")
_HIDDEN = re.compile(  # escapes of letters, digits, dots and controls, which nobody needs to escape; half ones
    r"%(?:25)*(?:[01].|2e|3[0-9]|4[1-9a-f]|5[0-9a]|6[1-9a-f]|7[0-9af]|c[01]|u)|%(?![0-9a-f]{2})", re.IGNORECASE
)
_FILES = "generativelanguage.googleapis.com"  # where files of any kind lie
_FORMAT = re.compile(r"[a-z0-9_]+")
_DATA = re.compile(r"data:([a-z0-9.+/-]*)((?:;(?:charset=)?utf-?8|;charset=us-ascii|;codecs=[a-z0-9.]+)?(?:;base64)?),")
_IMAGE_KINDS = frozenset(
    f"image/{kind}" for kind in ("png", "jpeg", "jpg", "gif", "webp", "bmp", "tiff", "heic", "heif", "avif")
)
_DRAWN = "image/svg+xml"  # an image that is text, too
_TEXTS = re.compile(
    r"text/(?!rtf)[a-z0-9.+-]+|application/(json|jsonl|x-ndjson|xml|yaml|x-yaml|toml|sql|javascript|x-sh|x-python)"
)
_DOCUMENTS = re.compile(
    r"application/(pdf|msword|rtf|zip|epub\+zip|vnd\.[a-z0-9.+-]+)|text/rtf|(audio|video)/[a-z0-9.+-]+|"
    + "|".join(map(re.escape, sorted(_IMAGE_KINDS)))
)
_HEARD = re.compile(rf"(?:^|\.)({_SOUNDS}|{_FILMS})(?![a-z0-9])", re.IGNORECASE)
_PER_CHARACTER = 9  # tokens, at most, of a character in base64 whose text is not looked at: four may be one U+FDFA
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*://")
_ENTITY = 33  # tokens, at most, of an escape for HTML
_HEAD = 1024  # bytes, in which a PDF may begin
# an image in Markdown, before whose address text of any length may stand in brackets; a file of the vendor's account
_IN_TEXT = re.compile(r"\]\(\s*+(?:<\s*+)?[dD][aA][tT][aA]:|[fF][iI][lL][eE][iI][dD]://")
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
        web = _WEB.fullmatch(address)
        return web is None or web[1] == _FILES or any(odd.search(web[2]) for odd in (_HIDDEN, _ENDINGS[medium]))
    if not _is_of(medium, said[1]):
        return True
    return "://" in address or _is_other(medium, _head(address[said.end() :][: 2 * _HEAD], said[0]))


def may_be_heard(address: str, form: Any = None, name: Any = None) -> bool:
    """Whether an upstream may find sound in a file or an image: in all that lies elsewhere, and in what is sent along
    but for a document, an image or a text by its type, its first bytes, its `format` and its name.

    Args:
        address: its address.
        form: its `format`, if it has one.
        name: the name of its file, if it has one.
    """
    said = _DATA.match(address)
    if said is None or not _is_silent(said[1]) or _plays(_head(address[said.end() :][: 2 * _HEAD], said[0])):
        return True
    if form and not (isinstance(form, str) and (_is_silent(form.lower()) if "/" in form else not _HEARD.search(form))):
        return True
    return isinstance(name, str) and _HEARD.search(name) is not None


def is_packed_image(address: str) -> bool:
    """Whether an address holds an image whose bytes are no text to anybody."""
    said = _DATA.match(address)
    return said is not None and said[1] in _IMAGE_KINDS


def tokens_of_text(address: str) -> int | None:
    """The most tokens that a text in an address can be; None if it is none, or is not in UTF-8."""
    said = _DATA.match(address)
    if said is None or not _TEXTS.fullmatch(said[1]):
        return None
    sent = address[said.end() :]
    if not said[2].endswith(";base64"):  # which some decode all the same
        return _PER_CHARACTER * len(sent)
    try:
        text = base64.b64decode(sent, validate=True).decode()
    except ValueError:
        return None
    return longest(text) + _ENTITY * text.count("&")


def tokens_if_text(address: str, form: Any = None) -> int:
    """The most tokens of what is packed in an address, if somebody takes that for a text.

    Args:
        address: an address.
        form: its `format`, if it has one.
    """
    said = _DATA.match(address)
    if address[:5].lower() != "data:" or (said and _DOCUMENTS.fullmatch(said[1]) and form in (None, said[1])):
        return 0
    return _PER_CHARACTER * len(address)


def files_in(text: str) -> int:
    """How many files of any kind stand in a text: as an image does in Markdown, which proxies (New API, for Google's
    LLMs) unpack, or by the id that the vendor has given them (Qwen-Long reads `fileid://file-fe-...`)."""
    return len(_IN_TEXT.findall(text))


def is_known(address: str) -> bool:
    """Whether it is known what a file of this address can be: a document, a text, or something that lies elsewhere."""
    said = _DATA.match(address)
    if said is None:
        return _ELSEWHERE.match(address) is not None
    return _DOCUMENTS.fullmatch(said[1]) is not None or tokens_of_text(address) is not None


def _is_of(medium: Medium, kind: str) -> bool:
    """Whether a type of MIME is of this medium. A sound may come without one."""
    if medium is Medium.IMAGE:
        return kind in _IMAGE_KINDS or kind == _DRAWN
    if medium is Medium.TEXT:
        return _TEXTS.fullmatch(kind) is not None
    return not kind or kind.startswith(medium.value)


def _fits(medium: Medium, form: str) -> bool:
    """Whether a format is of this medium: a type of MIME, or a short name."""
    if "/" in form:
        return _is_of(medium, form)
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
    return _plays(head, medium is Medium.IMAGE)


def _plays(head: bytes, may_be_image: bool = True) -> bool:
    """Whether the first bytes are those of a film or a sound. Some images begin alike."""
    film = head[4:8] == b"ftyp" and not (may_be_image and head[8:11] in _FTYP_IMAGES)
    riff = head.startswith(b"RIFF") and not (may_be_image and head[8:12] == b"WEBP")
    return film or riff or head.startswith((b"\x1aE\xdf\xa3", b"ID3", b"OggS", b"fLaC"))


def _is_silent(kind: str) -> bool:
    """Whether a type of MIME is that of a document, an image or a text."""
    document = _DOCUMENTS.fullmatch(kind) is not None and not kind.startswith(("audio/", "video/"))
    return document or kind == _DRAWN or _TEXTS.fullmatch(kind) is not None
