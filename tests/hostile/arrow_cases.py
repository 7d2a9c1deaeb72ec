"""Hostile folders saved by `datasets`: Arrow streams whose lengths lie or explode, and misleading JSON beside them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile import Case

ROW = {"prompt": "hello", "model_a": "a", "model_b": "b", "winner": "tie"}
N = 1003  # rows of an honest file; no other number in it
Columns = Callable[[], dict[str, Any]]


def _honest(n: int = N, **more: Any) -> dict[str, Any]:
    return {**{name: [text] * n for name, text in ROW.items()}, **more}


def _saved(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    """Write a folder as `datasets` does; returns its Arrow file."""
    import pyarrow
    from pyarrow import ipc

    table = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns)
    path = folder / "data-00000-of-00001.arrow"
    with ipc.new_stream(path, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": path.name}], "_split": None}))
    (folder / "dataset_info.json").write_text("{}")
    return path


def _case(
    name: str, columns: Columns, says: str | None, right: Callable[[Any], bool] | None = None, **options: Any
) -> Case:
    quick, more = options.pop("quick", True), options.pop("read", {})

    def run(folder: Path) -> int:
        from p2l_sdk import Votes

        _saved(folder, columns(), **options)
        return len(Votes.read(folder, **more))

    return Case(f"saved-{name}", run, says, right, quick)


def _patched(name: str, change: Callable[[bytearray], Any], says: str | None = "Arrow stream", **options: Any) -> Case:
    """An honest file with other bytes."""
    right, columns = options.pop("right", None), options.pop("columns", _honest)

    def run(folder: Path) -> int:
        from p2l_sdk import Votes

        path = _saved(folder, columns(), **options)
        data = bytearray(path.read_bytes())
        path.write_bytes(bytes(change(data) or data))
        return len(Votes.read(folder))

    return Case(f"patched-{name}", run, says, right)


def _replaced(old: int, new: int, times: int = -1) -> Callable[[bytearray], Any]:
    """Every 64-bit number `old` becomes `new`."""
    return lambda data: data.replace(struct.pack("<q", old), struct.pack("<q", new), times)


def _offsets(data: bytearray) -> None:
    """The offsets of the prompts point beyond their letters."""
    at = data.index(struct.pack("<4i", 0, 5, 10, 15))
    data[at : at + 8] = struct.pack("<2i", 0, 1 << 30)


def _backwards(data: bytearray) -> None:
    at = data.index(struct.pack("<4i", 0, 5, 10, 15))
    data[at : at + 16] = struct.pack("<4i", 0, 15, 5, -7)


def _state(name: str, files: dict[str, Any], says: str) -> Case:
    def run(folder: Path) -> int:
        from p2l_sdk import Votes

        _saved(folder, _honest())
        for file, value in files.items():
            (folder / file).write_text(value if isinstance(value, str) else json.dumps(value))
        return len(Votes.read(folder))

    return Case(f"state-{name}", run, says)


def _nested(depth: int) -> dict[str, Any]:
    import pyarrow

    kind: Any = pyarrow.int8()
    for _ in range(depth):
        kind = pyarrow.list_(kind)
    return _honest(extra=pyarrow.nulls(N, kind))


def _of_type(make: Callable[[Any], Any]) -> Columns:
    def columns() -> dict[str, Any]:
        import pyarrow

        return _honest(3, extra=make(pyarrow))

    return columns


def _nulls(n: int) -> Columns:
    def columns() -> dict[str, Any]:
        import pyarrow

        return {name: pyarrow.nulls(n) for name in ROW}

    return columns


def _repeated(n: int, length: int) -> Columns:
    """One long text for all rows."""

    def columns() -> dict[str, Any]:
        import numpy as np
        import pyarrow

        codes = np.zeros(n, dtype=np.int8)
        return _honest(n, prompt=pyarrow.DictionaryArray.from_arrays(codes, ["x" * length]))

    return columns


def _ree(p: Any) -> Any:
    return p.RunEndEncodedArray.from_arrays(p.array([3], p.int32()), p.array(["x" * 1000]))


FILES = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
CASES = [
    _case("honest", _honest, None, {N}.__contains__),
    _case(
        "honest-packed",
        lambda: _honest(prompt=[f"p {i}" for i in range(N)]),
        None,
        {N}.__contains__,
        compression="zstd",
    ),
    _case("no-rows", lambda: {name: [] for name in ROW}, "no votes|no row|empty"),
    _case(
        "zstd-bomb", lambda: _honest(1, prompt=["x" * (1 << 27)]), "unpacks to more than 100 times", compression="zstd"
    ),
    _case(
        "lz4-bomb", lambda: _honest(1, prompt=["x" * (1 << 27)]), "unpacks to more than 100 times", compression="lz4"
    ),
    _patched("million-million-nulls", _replaced(N, 10**12), "1,000,000,000,000 values in one batch", columns=_nulls(N)),
    _case("fifty-thousand-nulls", _nulls(50_000), "winner|rows"),
    _case("one-long-text", lambda: _honest(1, prompt=["x" * (1 << 26)]), "a row of 64 MB"),
    _case("repeated-text", _repeated(100_000, 1 << 20), "is of the type"),
    _case("run-ends", _of_type(_ree), "is of the type"),
    _case("views", _of_type(lambda p: p.array(["x", "y", "z"], p.string_view())), "is of the type"),
    _case(
        "union",
        _of_type(lambda p: p.UnionArray.from_sparse(p.array([0, 0, 0], p.int8()), [p.array([1, 2, 3])])),
        "is of the type",
    ),
    _case(
        "list-of-a-billion-nulls",
        _of_type(lambda p: p.ListArray.from_arrays([0, 10**9, 10**9, 10**9], p.nulls(10**9))),
        "1,000,000,000 values in one batch",
    ),
    _case(
        "fixed-list-of-a-billion",
        _of_type(lambda p: p.FixedSizeListArray.from_arrays(p.nulls(3 * 10**9), 10**9)),
        "3,000,000,000 values in one batch",
        allow_64bit=True,
    ),
    _case("33-levels", lambda: _nested(34), "levels deep"),
    _case("60-levels", lambda: _nested(60), "Arrow stream|levels deep"),
    _case("5000-columns", lambda: _honest(1, **{f"c{i}": [1] for i in range(20_000)}), "columns"),
    _case("max-rows", _honest, "more than 99 rows", read={"max_rows": 99}),
    _patched("rows-lie", _replaced(N, 10**12), "values in one batch"),
    _patched("rows-lie-a-little", _replaced(N, N + 100)),
    _patched("rows-below-zero", _replaced(N, -1)),
    _patched("offsets-beyond", _offsets),
    _patched("offsets-backwards", _backwards),
    _patched("cut", lambda data: data[: len(data) // 2]),
    _patched("cut-in-the-schema", lambda data: data[:40]),
    _patched("empty", lambda data: data[:0] or bytearray(b"\0")),
    _patched("zeros", lambda data: bytearray(len(data))),
    _patched("ones", lambda data: bytearray(b"\xff" * len(data))),
    _patched("length-of-2-gb", lambda data: data.__setitem__(slice(4, 8), struct.pack("<i", (1 << 31) - 1))),
    _patched("length-below-zero", lambda data: data.__setitem__(slice(4, 8), struct.pack("<i", -8))),
    _patched("text", lambda _: bytearray(b"prompt,model_a\n" * 50)),
    _patched("no-utf-8", lambda data: data.replace(b"hellohello", b"\xff\xfe\xfd\xfc\xfb" * 2)),
    *(
        _patched(
            f"every-{step}th-byte-turned",
            lambda data, s=step: data.__setitem__(slice(8, None, s), bytes(b ^ 0x5A for b in data[8::s])),
            "Arrow|nested|values|column|unpacks|type",
        )
        for step in (1, 7, 64, 501)
    ),
    *(
        _patched(
            f"unpacked-size-{size}", lambda data, s=size: _size(data, s), "Arrow stream|unpacks to", compression="zstd"
        )
        for size in (1 << 62, 1 << 40, 1 << 20, 3, -2)
    ),
    _state("file-elsewhere", {"state.json": {"_data_files": [{"filename": "../../etc/passwd"}]}}, "its files are"),
    _state("file-absolute", {"state.json": {"_data_files": [{"filename": "/dev/zero"}]}}, "its files are"),
    _state("file-missing", {"state.json": {"_data_files": [{"filename": "none.arrow"}]}}, "no such file"),
    _state("file-is-json", {"state.json": {"_data_files": [{"filename": "state.json"}]}}, "Arrow stream"),
    _state("no-files", {"state.json": {"_data_files": []}}, "its files are"),
    _state("files-are-text", {"state.json": {"_data_files": "data"}}, "its files are"),
    _state("file-is-a-number", {"state.json": {"_data_files": [{"filename": 3}]}}, "its files are"),
    _state("a-list", {"state.json": []}, "no JSON object"),
    _state("no-json", {"state.json": "{"}, "cannot be read as JSON"),
    _state("nested", {"state.json": "[" * 100_000}, "nested deeper"),
    _state("indices", {"state.json": {**FILES, "_indices_data_files": [{"filename": "x"}]}}, "save it again"),
    _state("splits-elsewhere", {"dataset_dict.json": {"splits": ["../train"]}}, "its splits are"),
    _state("splits-absent", {"dataset_dict.json": {"splits": ["train"]}}, "cannot be loaded"),
    _state("splits-none", {"dataset_dict.json": {"splits": []}}, "no split 'train'"),
    _state("splits-text", {"dataset_dict.json": {"splits": "train"}}, "its splits are"),
]


def _size(data: bytearray, size: int) -> None:
    """The size that the first packed buffer says it unpacks to."""
    at = data.index(b"\x28\xb5\x2f\xfd")  # zstd
    data[at - 8 : at] = struct.pack("<q", size)
