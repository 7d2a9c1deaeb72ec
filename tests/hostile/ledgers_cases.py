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


_OPEN: list[sqlite3.Connection] = []  # of other processes, as it were


def _locked(path: Path) -> None:
    _OPEN.append(sqlite3.connect(path, isolation_level=None))
    _OPEN[-1].execute("PRAGMA journal_mode = DELETE")
    _OPEN[-1].execute("BEGIN EXCLUSIVE")


def _bytes_at(place: int, content: bytes) -> Callable[[Path], None]:
    """Bytes of the file are others, after all is written to it."""

    def change(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        whole = path.read_bytes()
        path.write_bytes(whole[:place] + content + whole[place + len(content) :])

    return change


def _beside(ending: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        make(path.with_name(path.name + ending))

    return change


def _whole(name: str, change: Callable[[Path], Any]) -> Case:
    """A ledger that is still whole, with the key that it had."""
    return Case(name, _case(name, change).run, right=lambda text: '"bob"' in text and "Traceback" not in text)


def _keys_file(folder: Path) -> int:
    from p2l_sdk.serve.auth import Keys

    (folder / "keys").write_text("".join(f"sk-{i:030d} key{i}\n" for i in range(200_000)))
    return len(Keys.load(folder / "keys"))


def _keys_of(text: str) -> Callable[[Path], int]:
    def run(folder: Path) -> int:
        from p2l_sdk.serve.auth import Keys

        (folder / "keys").write_text(text, encoding="utf-8")
        return len(Keys.load(folder / "keys"))

    return run


CASES = [
    Case("locked", _case("locked", _locked).run, "locked|in use|busy", quick=False),
    _whole("layout-to-be-made-anew", _script("PRAGMA user_version = 0")),
    _case("newer-layout", _script("PRAGMA user_version = 2147483647"), "another version"),
    _case("negative-layout", _script("PRAGMA user_version = -1"), "another version"),
    _case("column-gone", _script("ALTER TABLE keys DROP COLUMN total"), "is not that of a ledger"),
    _case("column-more", _script("ALTER TABLE keys ADD COLUMN more DEFAULT 1"), "is not that of a ledger"),
    _case("name-of-escapes", _set("name", "\x1b[2Jbob\n"), FAULT),
    _case("name-of-nul", _set("name", "bob\0"), FAULT),
    _case("name-of-bytes", _set("name", b"\xff"), FAULT),
    Case("name-of-escapes-in-a-file", _keys_of(f"{'s' * 20} \x1b[2J"), says="one word of printable characters"),
    Case("name-of-a-direction-in-a-file", _keys_of(f"{'s' * 20} \u202ebob"), says="one word of printable characters"),
    Case("key-of-nul-in-a-file", _keys_of("\0" * 5000), says="printable characters only"),
    Case("key-of-escapes-in-a-file", _keys_of("\x1b[31m" * 5), says="printable characters only"),
    Case("budget-without-end-in-a-file", _keys_of(f"{'s' * 20} bob 1e999"), says="a number"),
    Case("budget-of-5000-digits-in-a-file", _keys_of(f"{'s' * 20} bob {'9' * 5000}"), says="a number"),
    Case("key-of-1e7-letters-in-a-file", _keys_of("s" * 10**7), right=(1).__eq__),
    _case("page-size-0", _bytes_at(16, b"\0\0")),
    _case("page-size-odd", _bytes_at(16, b"\x12\x34")),
    _case("pages-of-zeros", _bytes_at(4096, bytes(4096))),
    _case("schema-of-zeros", _bytes_at(100, bytes(8))),
    _case("schema-cookie", _bytes_at(44, b"\xff" * 4)),
    _case("encoding", _bytes_at(56, b"\xff" * 4)),
    _case("roots-of-schema", _bytes_at(108, b"\xff" * 16)),
    _whole("journal-of-zeros", _beside("-journal", lambda path: path.write_bytes(bytes(100_000)))),
    _whole("journal-of-noise", _beside("-journal", lambda path: path.write_bytes(os.urandom(100_000)))),
    _whole("wal-of-noise", _beside("-wal", lambda path: path.write_bytes(os.urandom(100_000)))),
    _case("journal-is-a-folder", _beside("-journal", Path.mkdir)),
    _case("wal-is-a-folder", _beside("-wal", Path.mkdir)),
    _whole("wal-is-a-pipe", _beside("-wal", os.mkfifo)),
    _case("link-to-itself", lambda path: (path.unlink(), path.symlink_to(path.name))),
    _case("link-to-memory", lambda path: (path.unlink(), path.symlink_to("/proc/self/mem"))),
    _case("link-to-zeros", lambda path: (path.unlink(), path.symlink_to("/dev/zero"))),
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
