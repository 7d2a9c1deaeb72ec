"""The files of a model's folder, which may be a stranger's: no pipe that never ends, no link to a secret elsewhere."""

from __future__ import annotations

from pathlib import Path

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.modeling.limits_p2l import shown

CARD = "README.md"
_MOST_CARD = 10_000_000  # bytes
_WEIGHTS = ".safetensors"


def plain_files(folder: Path, pattern: str = "*") -> list[Path]:
    """The files of a folder that match a glob pattern, by name: regular ones, since reading a pipe or a device may
    never end."""
    return sorted(path for path in folder.glob(pattern) if path.is_file())


def own_files(folder: Path, pattern: str = "*") -> list[Path]:
    """As `plain_files`, for what is copied or published.

    Raises:
        ModelFormatError: one is a link out of the folder. A stranger's folder could make the reader's own files part of
            a model that is then published; weights may lie elsewhere.
    """
    files = plain_files(folder, pattern)
    for path in files:
        if leads_elsewhere(path, folder) and not (path.suffix == _WEIGHTS and _has_header(path)):
            raise ModelFormatError(
                f"{str(path)!r} is a link to {shown(str(path.resolve()))}, outside the model's folder; if that file "
                "belongs to the model, put a copy of it in place of the link"
            )
    return files


def leads_elsewhere(path: Path, folder: Path) -> bool:
    """Whether a file is a link out of its folder; the Hub's cache keeps the files of a folder beside it, in "blobs"."""
    if not path.is_symlink():
        return False
    own = folder.resolve()
    places = [own, own.parent.parent / "blobs"] if own.parent.name == "snapshots" else [own]
    target = path.resolve()
    return not any(target.is_relative_to(place) for place in places)


def _has_header(path: Path) -> bool:
    """Whether a file begins as a safetensors file does."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return 2 <= length <= path.stat().st_size - 8 and file.read(1) == b"{"


def read_card(folder: Path) -> str | None:
    """The text of a model's card; None if it has none.

    Raises:
        ModelFormatError: it cannot be read, is no UTF-8, or is very large.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        if (size := path.stat().st_size) > _MOST_CARD:
            raise ModelFormatError(f"the card {str(path)!r} has {size:,} bytes; {_MOST_CARD:,} are legal")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError(
            f"the card {str(path)!r} is no UTF-8 text (byte {error.start}); save it as such"
        ) from None
    except OSError as error:
        raise ModelFormatError(f"the card {str(path)!r} cannot be read: {error.strerror}") from None
