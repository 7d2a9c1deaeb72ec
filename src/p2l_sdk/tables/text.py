"""Opening files: the one message for a missing file, gzip, encodings, lines of text, and their limits."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from p2l_sdk.errors import LONGEST_NAME, TableError
from p2l_sdk.tables.limits import LARGEST_JSON, LONGEST_ROW, PACKED_TIMES, UNPACKED, is_bomb
from p2l_sdk.tables.progress import located

_GZIP = b"\x1f\x8b"
_MARKS = {  # bytes at the beginning -> encoding; the longer marks first
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
_NO_TEXT = {
    b"PAR1": "a Parquet file: let its name end with .parquet",
    b"PK\x03\x04": "an Excel or zip file: let its name end with .xlsx, or unpack it",
    b"\xd0\xcf\x11\xe0": "an old Excel file: save it as .xlsx or CSV",
    b"BZh": "compressed (bzip2): unpack it, or compress it with gzip",
    b"\xfd7zXZ": "compressed (xz): unpack it, or compress it with gzip",
    b"\x28\xb5\x2f\xfd": "compressed (zstd): unpack it, or compress it with gzip",
}
_SHEET = re.compile(r"(?P<file>.+\.xlsx):(?P<sheet>[^:/\\]+)", re.IGNORECASE | re.DOTALL)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # s3:/, https:/, file:/; "C:/" is none
_PIECE = 1 << 16  # bytes that are read at once
_SIMILAR = 3  # names of files in a message


def expanded(path: str | Path) -> Path:
    """The path with its "~" resolved, if there is such a user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def path_of(name: str | Path) -> Path:
    """The path that a user names, with its "~" resolved.

    Raises:
        TableError: no file can have that name: it has a null character, or is too long.
    """
    path = Path(name)
    if "\0" in str(path):
        raise TableError(f"{str(path)!r} is no name of a file: it has a null character")
    path = expanded(path)
    try:
        path.exists()
    except (OSError, ValueError) as error:
        short = f"{str(name)[:LONGEST_NAME]!r}..."
        raise TableError(f"{short} is no name of a file: {getattr(error, 'strerror', None) or error}") from None
    return path


def sheet_of(path: str | Path) -> tuple[Path, str | None]:
    """The file and the sheet of "votes.xlsx:Sheet 2"; no sheet if none is named."""
    found = None if Path(path).exists() else _SHEET.fullmatch(str(path))
    return (Path(found["file"]), found["sheet"]) if found else (Path(path), None)


def no_file(path: str | Path) -> str:
    """The message for a file that is not there, with the nearest names in its folder."""
    if _ADDRESS.match(str(path)):
        return f"{str(path)!r} is an address; download the file, and name that"
    message, path = f"no such file: {str(path)!r}", expanded(path)
    with contextlib.suppress(OSError, ValueError):
        if path.is_symlink():
            return f"{message}: it is a link to {str(path.readlink())!r}, which is not there"
        if not path.parent.is_dir():
            return f"{message} (there is no folder {str(path.parent)!r})"
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.iterdir()], _SIMILAR, 0.7)
        if near:
            return f"{message}; in its folder there is {', '.join(map(repr, near))}"
    return message


def cannot_read(path: str | Path, error: OSError) -> str:
    """The message for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return no_file(path)
    return f"{str(path)!r} cannot be read: {error.strerror or error}"


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes, unpacked if it is compressed by gzip, whatever its name.

    Raises:
        TableError: it is not there, cannot be read, or is no whole gzip file; also while it is read.
    """
    path = path_of(path)
    try:
        with path.open("rb") as file:
            head = file.peek(len(_GZIP))[: len(_GZIP)]
            if head == _GZIP:
                with gzip.GzipFile(fileobj=file) as unpacked, located(path, file):
                    yield _Watched(unpacked, path, file)  # type: ignore[misc]
            elif path.suffix.lower() == ".gz" and (not head or _GZIP.startswith(head)):
                raise TableError(f"{str(path)!r} is no whole gzip file: it has {len(head)} bytes")
            else:
                with located(path, file):
                    yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(f"{str(path)!r} is no whole gzip file: {error}") from None
    except OSError as error:
        raise TableError(cannot_read(path, error)) from None


class _Watched(io.BufferedIOBase):
    """Passes bytes on, and stops where a row has no end, or a compressed file unpacks to far more than its size.

    Args:
        raw: where the bytes come from.
        path: its file, for messages.
        packed: the compressed file below `raw`, if there is one.
    """

    def __init__(self, raw: BinaryIO | gzip.GzipFile | _Watched, path: Path, packed: BinaryIO | None = None) -> None:
        self._raw, self._path, self._packed = raw, path, packed
        self._done = self._row = 0  # bytes so far, and of the row that is being read

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def peek(self, size: int = 0) -> bytes:
        return self._raw.peek(size)  # type: ignore[union-attr]

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size >= 0:
            return self._passed(self._raw.read(size))
        return b"".join(iter(lambda: self._passed(self._raw.read(_PIECE)), b""))

    def read1(self, size: int = -1) -> bytes:
        return self._passed(self._raw.read1(size if size >= 0 else _PIECE))  # type: ignore[union-attr]

    def _passed(self, piece: bytes) -> bytes:
        self._done += len(piece)
        if self._packed is not None:
            if self._done > UNPACKED and is_bomb(self._done, self._packed.tell()):
                raise TableError(
                    f"{str(self._path)!r} unpacks to more than {PACKED_TIMES} times its size, as no table does; if it "
                    "is one, unpack it first (gunzip)"
                )
        else:
            end = piece.rfind(b"\n")
            self._row = self._row + len(piece) if end < 0 else len(piece) - end
            if self._row > LONGEST_ROW:
                raise TableError(
                    f"{str(self._path)!r} has a line of more than {LONGEST_ROW >> 20} MB, as no table does"
                )
        return piece


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file in UTF-8, or in UTF-16 or UTF-32 if it begins with a byte order mark; gzip is unpacked.

    Line endings are left as they are.

    Raises:
        TableError: it cannot be opened, or is no such text; also while it is read.
    """
    with open_bytes(path) as raw:
        head: bytes = raw.peek(4096)  # type: ignore[attr-defined]
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
        is_what = next((what for mark, what in _NO_TEXT.items() if head.startswith(mark)), None)
        if is_what is not None:
            raise TableError(f"{str(path)!r} is no text but {is_what}")
        if encoding == "utf-8" and head.count(0) * 4 > len(head):
            raise TableError(
                f"{str(path)!r} is not UTF-8 text (byte {head.index(0)} is 0; it may be UTF-16 without a byte order "
                "mark); save it as UTF-8"
            )
        with io.TextIOWrapper(_Watched(raw, path), encoding, newline="") as file:  # type: ignore[type-var]
            file._CHUNK_SIZE = _PIECE  # type: ignore[attr-defined]
            try:
                yield file
            except UnicodeError:
                raise TableError(_not_text(path, encoding)) from None


def text_lines(file: Iterable[str], name: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield the non-blank lines, without line endings, each with its number from 1.

    Args:
        file: of `open_text`, which says what is wrong with a file.
        name: of a stream that comes from elsewhere, for the message.
    """
    try:
        for number, line in enumerate(file, 1):
            if not line.isspace():
                yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        if name is None:
            raise
        raise TableError(f"{str(name)!r} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_text(path: str | Path, most: int = LARGEST_JSON) -> str:
    """The whole text of a file of at most `most` characters; errors as in `open_text`."""
    with open_text(Path(path)) as file:
        pieces, left = [], most
        while piece := file.read(min(left + 1, _PIECE)):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise TableError(f"{str(path)!r} has more than {most:,} characters; a large table goes into JSON lines")
        return "".join(pieces)


def _not_text(path: Path, encoding: str) -> str:
    """The message for a file that is not in its encoding: the first byte that is wrong, and its line."""
    remedy = "save it as UTF-8 (Excel: 'CSV UTF-8'), or convert it: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW"
    if not encoding.startswith("utf-8"):
        return f"{str(path)!r} is no whole {encoding.upper()} text, as its byte order mark says; save it as UTF-8"
    start = 0
    with open_bytes(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                at = error.start
                return (
                    f"{str(path)!r}, line {number} is not UTF-8 text (byte {start + at} is {line[at]:#04x}); {remedy}"
                )
            start += len(line)
    return f"{str(path)!r} is not UTF-8 text; {remedy}"
