"""Places that cannot take a result: folders and files, each made in an empty folder, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Place = Callable[[Path], str]  # makes a place in an empty folder


def taken(folder: Path) -> str:
    (folder / "out").mkdir()
    (folder / "out" / "notes.txt").write_text("mine")
    return str(folder / "out")


def a_file(folder: Path) -> str:
    (folder / "out").write_text("mine")
    return str(folder / "out")


def below_a_file(folder: Path) -> str:
    return f"{a_file(folder)}/model"


def loop(folder: Path) -> str:
    (folder / "out").symlink_to(folder / "out")
    return str(folder / "out")


def link_to_taken(folder: Path) -> str:
    (folder / "link").symlink_to(taken(folder))
    return str(folder / "link")


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "out")
    return str(folder / "out")


# place, and what is said of it
NO_FOLDERS: dict[str, tuple[Place, str]] = {
    "taken": (taken, "exists already"),
    "file": (a_file, "exists already"),
    "below-a-file": (below_a_file, "cannot be written: Not a directory"),
    "long-name": (lambda folder: str(folder / ("m" * 300)), "cannot be written: File name too long"),
    "long-parent": (lambda folder: str(folder / ("m" * 300) / "out"), "cannot be written: File name too long"),
    "long-path": (lambda folder: str(folder.joinpath(*["m" * 200] * 30)), "cannot be written: File name too long"),
    "nul": (lambda folder: str(folder / "a\0b"), "cannot be written"),
    "empty-name": (lambda _: "", "the name of the output is empty|it must be given"),
    "loop": (loop, "exists already|Too many levels"),
    "link-to-taken": (link_to_taken, "exists already"),
    "pipe": (pipe, "exists already"),
    "device": (lambda _: "/dev/null", "exists already"),
    "below-a-device": (lambda _: "/dev/null/out", "cannot be written: Not a directory"),
    "root": (lambda _: "/", "exists already"),
    "parent": (lambda folder: f"{taken(folder)}/../out", "exists already"),
    "name-of-bytes": (lambda folder: str(folder / "a\udcffb"), "cannot be written"),
    "nobody": (lambda _: "~nobody-of-this-name/out", "cannot be written"),
    "proc": (lambda _: "/proc/out", "cannot be written"),
}
NO_FILES: dict[str, tuple[Place, str]] = {
    "folder": (lambda folder: str(folder), "is a folder|is no name of a picture"),
    "no-parent": (lambda folder: str(folder / "none" / "x.png"), "cannot be written: No such file"),
    "below-a-file": (lambda folder: f"{a_file(folder)}/x.png", "cannot be written: Not a directory"),
    "long-name": (lambda folder: str(folder / f"{'m' * 300}.png"), "cannot be written: File name too long"),
    "nul": (lambda folder: str(folder / "a\0b.png"), "cannot be written"),
    "empty-name": (lambda _: "", "the name of the output is empty|is no name of a picture"),
    "nobody": (lambda _: "~nobody-of-this-name/x.png", "cannot be written"),
}
