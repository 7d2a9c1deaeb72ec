"""Hostile folders of data files, as repositories on the Hub are: bombs, files that are no tables, misleading cards."""

from __future__ import annotations

import bz2
import gzip
import itertools
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case

ROW = {"prompt": "hello", "model_a": "a", "model_b": "b", "winner": "tie"}
LINE = json.dumps(ROW).encode() + b"\n"
BOMB = b" " * (1 << 26)


def _case(name: str, files: dict[str, Any], says: str | None, right: Callable[[Any], bool] | None = None) -> Case:
    """A folder with these files: bytes, or what writes to the path that it is given."""

    def run(folder: Path) -> int:
        from p2l_sdk import Votes

        for file, content in files.items():
            path = folder / "votes" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(path)
            else:
                path.write_bytes(content)
        return len(Votes.read(folder / "votes"))

    return Case(f"folder-{name}", run, says, right)


def _parquet(n: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({name: pyarrow.nulls(n, pyarrow.string()) for name in ROW}), path)

    return make


def _bomb(compress: Callable[[bytes], bytes], first: bytes = LINE) -> Callable[[Path], Any]:
    """Packed when its case runs, as that takes a second."""
    return lambda path: path.write_bytes(compress(first + BOMB))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../votes.jsonl", LINE)
        archive.writestr("b.jsonl", BOMB)


def _endless(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b'{"prompt": "')
        file.truncate(3 << 30)


def _card(text: str) -> bytes:
    return f"---\n{text}\n---\n# x\n".encode()


def _laughs() -> str:
    names = "abcdefghij"
    lines = [f"{name}: &{name} [{','.join([f'*{below}'] * 9)}]" for below, name in itertools.pairwise(names)]
    return "\n".join(["a: &a [x]", *lines])


def _neighbour(folder: Path) -> int:
    from p2l_sdk import Votes

    (folder / "secret.jsonl").write_bytes(LINE)
    (folder / "votes").mkdir()
    card = _card(f"configs:\n- config_name: x\n  data_files: {folder}/secret.jsonl")
    (folder / "votes" / "README.md").write_bytes(card)
    return len(Votes.read(folder / "votes"))


CASES = [
    _case("honest", {"data/train-00000-of-00001.jsonl": LINE * 3}, None, {3}.__contains__),
    _case("two-files", {"train-0.jsonl": LINE * 3, "train-1.jsonl": LINE}, None, {4}.__contains__),
    _case("gzip", {"train.jsonl.gz": gzip.compress(LINE * 3)}, None, {3}.__contains__),
    _case("gzip-bomb", {"train.jsonl.gz": _bomb(gzip.compress)}, "unpacks to more than 100 times"),
    _case("csv-gzip-bomb", {"train.csv.gz": _bomb(gzip.compress, b"prompt\n")}, "unpacks to more than 100 times"),
    _case("xz-bomb", {"train.jsonl.xz": _bomb(lzma.compress)}, "cannot be loaded|of no known kind"),
    _case("bz2-bomb", {"train.jsonl.bz2": _bomb(bz2.compress)}, "cannot be loaded|of no known kind"),
    _case("zip-bomb", {"train.zip": _zip}, "cannot be loaded|of no known kind"),
    _case("zip-that-is-none", {"train.zip": b"PK\3\4" + bytes(100)}, "cannot be loaded|of no known kind"),
    _case("11-million-rows", {"train.parquet": _parquet(11_000_000)}, "11,000,000 rows, more than.*--max-rows"),
    _case("line-of-3-gb", {"train.jsonl": _endless}, "line of more than 32 MB|byte .* is 0"),
    _case("text", {"train.txt": b"hello\n" * 10}, "of no known kind"),
    _case("pickle", {"train.pkl": b"cos\nsystem\n(S'touch /tmp/p2l'\ntR."}, "cannot be loaded|of no known kind"),
    _case("script", {"votes.py": b"raise SystemExit(7)\n"}, "cannot be loaded|no data files"),
    _case("script-beside", {"votes.py": b"raise SystemExit(7)\n", "a.jsonl": LINE}, "scripts are no longer supported"),
    _case("pictures", {"train/a.png": b"\x89PNG\r\n\x1a\n" + bytes(50)}, "cannot be loaded|of no known kind"),
    _case("audio", {"train/a.wav": b"RIFF" + bytes(50)}, "cannot be loaded|of no known kind"),
    _case("arrow", {"train.arrow": b"ARROW1\0\0" + bytes(50)}, "of no known kind"),
    _case("empty-parquet", {"train.parquet": b""}, "no whole Parquet file"),
    _case("nothing", {"README.md": b"# x"}, "cannot be loaded|no data files"),
    *(
        _case(f"card-{name}", {"README.md": _card(f"configs:\n- config_name: default\n  data_files: {place}")}, says)
        for name, place, says in (
            ("elsewhere", "../../../../etc/passwd", "cannot be loaded|of no known kind"),
            ("absolute", "/etc/hostname", "cannot be loaded|of no known kind"),
            ("address", "http://127.0.0.1:9/a.jsonl", "cannot be loaded"),
            ("repository", "hf://datasets/org/other/a.jsonl", "cannot be loaded"),
            ("socket", "ftp://127.0.0.1:9/a.jsonl", "cannot be loaded"),
            ("none", "[]", "cannot be loaded|no data files"),
            ("number", "3", "cannot be loaded|no data files"),
        )
    ),
    Case("folder-card-names-a-neighbour", _neighbour, "which is not in it"),
    *(
        _case(f"card-{name}", {"README.md": _card(text), "a.jsonl": LINE}, says)
        for name, text, says in (
            ("of-no-yaml", "configs: [1", "cannot be loaded"),
            ("of-tags", "configs: !!python/object/apply:os.system ['exit 3']", "cannot be loaded"),
            ("nested", "a: " + "[" * 5000, "cannot be loaded"),
        )
    ),
    _case("card-billion-laughs", {"README.md": _card(_laughs()), "a.jsonl": LINE}, None, {1}.__contains__),
]  # fmt: skip
