"""Hostile exports of chatbots: trees that go in circles, archives that lie, mails that take for ever to read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case

NO_TURN = "holds no conversation with a user turn"
MAIL = "From a\n{}\n\nhello\n"


def _case(name: str, file: str, content: Any, says: str | None, right: Callable[[Any], bool] | None = None) -> Case:
    def run(folder: Path) -> int:
        from p2l_sdk.analysis.history import read_history

        path = folder / file
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_history(path).n_requests

    return Case(name, run, says, right)


def _node(parent: Any, **more: Any) -> dict[str, Any]:
    message = {"author": {"role": "user"}, "content": {"parts": ["hi"]}}
    return {"message": message, "parent": parent, "children": [], **more}


def _tree(name: str, nodes: Any, last: Any, n: int) -> Case:
    return _case(
        f"tree-{name}", "conversations.json", [{"mapping": nodes, "current_node": last}], None, {n}.__contains__
    )


def _archive(name: str, content: bytes, says: str, change: Callable[[bytearray], Any] = lambda _: None) -> Case:
    def run(folder: Path) -> int:
        from p2l_sdk.analysis.history import read_history

        path = folder / "export.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("conversations.json", content)
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(bytes(data))
        return read_history(path).n_requests

    return Case(f"archive-{name}", run, says)


def _mail(name: str, head: str, says: str | None, right: Callable[[Any], bool] | None = None) -> Case:
    return _case(f"mail-{name}", "mails.mbox", MAIL.format(head), says, right)


TEXT = json.dumps([{"messages": [{"role": "user", "content": "hi"}]}] * 50).encode()
NESTED = "".join(f'Content-Type: multipart/mixed; boundary="b{i}"\n\n--b{i}\n' for i in range(2000))
CASES = [
    _tree("circle", {"a": _node("b"), "b": _node("a")}, "a", 2),
    _tree("own-parent", {"a": _node("a")}, "a", 1),
    _tree("last-is-a-list", {"a": _node(["x"])}, ["a"], 1),
    _tree("last-is-an-object", {"a": _node({})}, {}, 1),
    _tree("parent-is-a-list", {"a": _node([])}, "a", 1),
    _tree("no-last", {"a": _node(None)}, "z", 1),
    _tree("long-chain", {str(i): _node(str(i - 1)) for i in range(20_000)}, "19999", 20_000),
    _case("mapping-is-a-list", "c.json", [{"mapping": [1]}], NO_TURN),
    _case("author-is-text", "c.json", [{"mapping": {"a": {"message": {"author": "user"}}}}], NO_TURN),
    _case("messages-are-numbers", "c.json", [{"chat_messages": [1, None]}], NO_TURN),
    _case("role-is-a-list", "c.json", [{"chat_messages": [{"sender": ["human"], "text": "a"}]}], NO_TURN),
    _case("a-number", "c.json", 5, "no list of conversations"),
    _case("nested", "c.json", "[" * 200_000, "it is nested too deeply"),
    _case("long-number", "c.json", "[" + "9" * 5000 + "]", "is no JSON"),
    _case("time-of-1e308", "c.json", [{"prompt": "hi", "create_time": 1e308}], None, {1}.__contains__),
    _case("date-of-year-0", "c.json", [{"prompt": "hi", "created_at": "0000-00-00"}], None, {1}.__contains__),
    _archive("bomb", TEXT + b" " * (1 << 26), "100 times as large"),
    _archive("damaged", TEXT, "cannot be read as a zip archive", lambda d: d.__setitem__(slice(60, 64), b"ABCD")),
    _archive("cut", TEXT, "cannot be read as a zip archive", lambda d: d.__delitem__(slice(80, None))),
    _archive("of-no-text", b"\xff\xfe\xfd", "cannot be read as a zip archive|is no JSON"),
    _archive("packed-in-a-way-of-its-own", TEXT, "cannot be read", lambda d: _method(d, 97)),
    _mail("plain", "Subject: x", None, {1}.__contains__),
    _mail("nested", NESTED, NO_TURN),
    _mail("nested-messages", "Content-Type: message/rfc822\n\n" * 5000, NO_TURN),
    _mail("quadratic", "Content-Type: text/plain; " + ";".join(f"a*{i}=b" for i in range(20_000)), NO_TURN),
    _mail("folded", "Content-Type: text/plain;" + "".join(f"\n a*{i}=b;" for i in range(20_000)), NO_TURN),
    _mail("comments", "Date: " + "(" * 50_000, NO_TURN),
    _mail("unknown-letters", "Content-Type: text/plain; charset=klingon", NO_TURN),
    _mail("packed-letters", "Content-Type: text/plain; charset=zip", NO_TURN),
    _mail("year-99999", "Date: Mon, 1 Jan 99999 00:00:00 +9999", NO_TURN),
    _case("no-mail", "mails.mbox", "", NO_TURN),
]


def _method(data: bytearray, method: int) -> None:
    data[8] = data[bytes(data).index(b"PK\x01\x02") + 10] = method
