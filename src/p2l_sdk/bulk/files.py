"""The files of a run: what names, patterns and folders stand for, and by what they are recognised later."""

from __future__ import annotations

import glob
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from p2l_sdk.bulk.chunks import LINES, TEXT
from p2l_sdk.errors import TableError
from p2l_sdk.tables.files import KINDS, UNTYPED, is_data, kind_of, no_table
from p2l_sdk.tables.parquet import parquet_rows
from p2l_sdk.tables.saved import is_saved
from p2l_sdk.tables.text import cannot_read, expanded

_NO_TABLES = (".txt", ".md", ".yaml", ".yml")  # of a folder: they describe its tables
_ENDS = 1 << 16  # bytes at both ends of a file, by which it is recognised
_SHOWN = 3  # files in a message


def files_of(name: str, but: Path | None = None) -> Iterator[str]:
    """The files that a name stands for, sorted: those of a pattern, the tables in a folder; otherwise the name itself.

    Args:
        name: a file, a pattern, a folder or a Hub data set.
        but: a folder whose files are no input: that of the results.

    Raises:
        TableError: there are none, or a folder holds data that cannot be read.
    """
    path = expanded(name)
    if path.is_dir() and not is_saved(path):
        yield from _inside(path, name, but)
    elif any(mark in name for mark in "*?[") and not path.exists():
        found = sorted(glob.glob(str(path), recursive=True))
        if "**" in name:  # names what is in its folders, too
            found = [file for file in found if os.path.isfile(file)]
        if not found:
            raise TableError(f"no file is named like {name!r}")
        for file in _without(found, but):
            yield from files_of(file, but)
    else:
        yield name


def _inside(folder: Path, name: str, but: Path | None) -> Iterator[str]:
    """The tables in a folder and its folders, but for what other programs hide there ("_delta_log", ".tmp")."""
    found = list[str]()
    names = sorted(glob.glob("**/*", root_dir=folder, recursive=True))
    shown = [os.path.join(folder, inside) for inside in names if not any(p[0] == "_" for p in Path(inside).parts)]
    for file in _without(list(filter(os.path.isfile, shown)), but):
        if kind_of(file) is not None:
            found.append(file)
        elif is_data(file) and Path(file).suffix.lower() not in _NO_TABLES:
            raise TableError(f"{no_table(file)}; or name the files to be scored: {os.path.join(name, '*.parquet')!r}")
    if not found:
        raise TableError(f"the folder {name!r} holds no table: {KINDS}; files of text are named by a pattern")
    yield from found


def _without(files: list[str], but: Path | None) -> list[str]:
    """The files that are not in a folder of results; all of them if they all are, and the folder will be refused."""
    return [file for file in files if but is None or not Path(os.path.realpath(file)).is_relative_to(but)] or files


def identity(name: str) -> list[Any]:
    """The name of a file, its size in bytes, and a check sum of its beginning and end (None: not on this disk);
    TableError if it cannot be read."""
    path = expanded(name)
    if not path.is_file():
        return [name, None, None]
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            told = zlib.crc32(file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            return [name, size, zlib.crc32(file.read(_ENDS), told)]
    except OSError as error:
        raise TableError(cannot_read(name, error)) from None


def changes(old: Sequence[Sequence[Any]], new: Sequence[Sequence[Any]]) -> str:
    """What differs between the files of two runs, in words."""
    was, now = ({file[0]: file for file in files} for files in (old, new))
    differ = {
        "changed": [name for name in was if name in now and was[name] != now[name]],
        "more": [name for name in now if name not in was],
        "fewer": [name for name in was if name not in now],
    }
    told = [f"{_counted(names)} {how} ({_listed(names)})" for how, names in differ.items() if names]
    return f"its input has {', '.join(told)}" if told else "its files come in another order"


def _counted(names: Sequence[str]) -> str:
    return f"{len(names):,} file{'' if len(names) == 1 else 's'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def n_rows(name: str) -> int | None:
    """About how many rows a file has; None if that is not known before it is read."""
    path, kind = expanded(name), kind_of(name)
    if not path.is_file():
        return None
    if kind == ".parquet":
        return parquet_rows(path)
    if path.suffix.lower() not in (*LINES, *UNTYPED[:2], *TEXT):  # compressed, or a document
        return None
    with path.open("rb") as file:
        n = sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b""))
    return max(0, n - (kind in UNTYPED))
