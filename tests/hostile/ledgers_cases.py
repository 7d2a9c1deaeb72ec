"""Hostile ledgers: files that somebody has edited, damaged, or that are none."""

from __future__ import annotations

import os
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


_FOREVER = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT"
_TRIGGER = "CREATE TRIGGER x AFTER INSERT ON keys BEGIN UPDATE keys SET total = NULL; END;"


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _keys_file(folder: Path) -> int:
    from p2l_sdk.serve.auth import Keys

    (folder / "keys").write_text("".join(f"sk-{i:030d} key{i}\n" for i in range(200_000)))
    return len(Keys.load(folder / "keys"))


CASES = [
    _case("trigger", _script(_TRIGGER), "its trigger 'x' is none of p2l's"),
    _case(
        "view-without-end",
        _script(f"DROP TABLE keys; CREATE VIEW keys AS {_FOREVER} n AS id, n AS name, n AS total, n AS daily FROM r;"),
        "its table keys is not that of a ledger",
    ),
    _case(
        "computed-column",
        _script("DROP TABLE spend; CREATE TABLE spend (account, period, amount AS (length(zeroblob(900000000))));"),
        "its table spend is not that of a ledger",
    ),
    _case("pipe", _pipe, "is no file; name another"),
    _case("folder", lambda path: (path.unlink(), path.mkdir()), "Is a directory; name another"),
    Case("200000-keys-in-a-file", _keys_file, says="line 10001: more than 10,000 API keys"),
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
