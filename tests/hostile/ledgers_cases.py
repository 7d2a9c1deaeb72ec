"""Hostile ledgers: files that somebody has edited, damaged, or that are none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case, command

FAULT = "for a number; restore|cannot be used|which is none|ledger"


def _case(name: str, change: Callable[[Path], Any], says: str = FAULT) -> Case:
    def run(folder: Path) -> str:
        path = folder / "keys.ledger"
        command("keys", "add", "bob", "--budget", "5", "--ledger", str(path))
        change(path)
        return command("keys", "list", "--ledger", str(path), "--json")

    return Case(name, run, says)


def _set(column: str, value: Any, table: str = "keys") -> Callable[[Path], Any]:
    def change(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            if table == "spend":
                connection.execute("INSERT INTO spend (account, period, amount) SELECT id, '', 1 FROM keys")
            connection.execute(f"UPDATE {table} SET {column} = ?", (value,))

    return change


def _script(text: str) -> Callable[[Path], Any]:
    def change(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.executescript(text)

    return change


CASES = [
    *(
        _case(f"{column}-{name}", _set(column, value))
        for column in ("created", "total", "revoked")
        for name, value in (("infinite", float("inf")), ("text", "abc"), ("blob", b"\xff\0"), ("1e300", 1e300))
    ),
    _case("spend-text", _set("amount", "abc", "spend")),
    _case("spend-blob", _set("amount", b"\xff", "spend")),
    _case("created-year-1e9", _set("created", 3e16), "which is none"),
    _case("no-tables", _script("DROP TABLE keys; DROP TABLE spend;")),
    _case("text", lambda path: path.write_text("hello" * 1000)),
    _case("cut", lambda path: path.write_bytes(path.read_bytes()[:3000])),
]
