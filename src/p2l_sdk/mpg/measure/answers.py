"""The answers file of a measurement: JSON lines, each written in full before it counts, so that an interrupted run can
be resumed.

A line is one question: `model, benchmark, question_id, score`, `seconds`, `first_token_seconds`, `input_tokens`,
`output_tokens`, `cost` (null where unknown), `answer`, `finish_reason`; `session` (when this part of the run began)
and `due` (seconds from then until the query was due); `run` (the settings that all parts of a run must share). A failed
query has `error` (its kind), `detail` and `failed_after`, and null for score and seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from p2l_sdk.errors import ResultsError

try:
    import fcntl
except ImportError:  # not available on Windows
    fcntl = None  # type: ignore[assignment]

Row = dict[str, Any]
_BEGINNING = b'{"model": '


class AnswersFile:
    """Appends rows to an answers file; a context manager.

    Attributes:
        rows: all rows of the file, in order.
        last: the last row of each question, by `key_of`.
    """

    def __init__(self, path: str | Path, model: str, run: Mapping[str, Any]) -> None:
        """Open or create the file for this process alone; a half-written last line is removed.

        Args:
            path: path of the file.
            model: name of the LLM.
            run: the settings that all parts of a run must share.

        Raises:
            ResultsError: the file holds something else or another run, or another process is writing to it.
        """
        self.path, self._head, self._run = Path(path), {"model": model}, dict(run)
        if self.path.is_dir():
            raise ResultsError(f"{str(path)!r} is a folder; name a file for the answers")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b")
        try:
            _lock(self._file, path)
            self._file.seek(0)
            content = self._file.read()
            whole = content[: content.rfind(b"\n") + 1]
            rows = read_answers(self.path, whole) if whole else []
            half = content[len(whole) :]
            if half and not (half.startswith(_BEGINNING) or _BEGINNING.startswith(half)):
                raise ResultsError(f"{str(path)!r} holds no answers of a measurement; name another file")
            self._require_same(rows)
            self._file.truncate(len(whole))
        except BaseException:
            self._file.close()
            raise
        self.rows, self.last = rows, {key_of(row): row for row in rows}

    def __enter__(self) -> AnswersFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one line; it is handed to the operating system before this returns, so it survives this process."""
        full = {**self._head, **row, "run": self._run}
        self._file.write(json.dumps(full, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()
        self.rows.append(full)
        self.last[key_of(full)] = full

    def _require_same(self, rows: list[Row]) -> None:
        now = {**self._head, **self._run}
        for row in rows:
            then = {"model": row["model"], **row["run"]}
            for name in now:
                if then.get(name) != now[name]:
                    raise ResultsError(
                        f"{str(self.path)!r} holds a run with {name} {then.get(name)!r}, not {now[name]!r}; "
                        "run it again as it was, or name another file"
                    )


def _lock(file: IO[bytes], path: str | Path) -> None:
    """Lock out other processes until the file is closed; without effect on file systems that have no locks."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResultsError(f"another process writes to {str(path)!r}; wait for its end, or name another file") from None
    except OSError:
        return


def read_answers(path: str | Path, content: bytes | None = None) -> list[Row]:
    """The rows of an answers file. Raises `ResultsError` if it is not one."""
    text = Path(path).read_bytes() if content is None else content
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = json.loads(line)
            sound = isinstance(row["run"], dict) and {"model", "benchmark", "question_id", "session", "due"} <= set(row)
        except (ValueError, KeyError, TypeError, RecursionError):
            sound = False
        if not sound:
            raise ResultsError(f"{str(path)!r}, line {number} is no answer of a measurement; name another file")
        rows.append(row)
    return rows


def key_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """The key of a question: its benchmark and id."""
    return row["benchmark"], row["question_id"]
