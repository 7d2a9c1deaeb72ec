"""The answers of a measurement: JSON lines, each written whole before it is counted, so that a killed run goes on where
it stood.

A line is one question: `model, benchmark, question_id, score`, `seconds`, `first_token_seconds`, `input_tokens`,
`output_tokens`, `cost` (null where not known), `answer`, `finish_reason`; `session` (when this part of the run began)
and `due` (seconds from then to when the query was due); `run` (what every part of a run must share). A query without an
answer has `error`, its kind, with `detail` and `failed_after`, and null for score and seconds.
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
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

Row = dict[str, Any]
_BEGINNING = b'{"model": '


class AnswersFile:
    """Appends rows; use it in `with`.

    Attributes:
        rows: all that the file holds, in its order.
        last: the last row of each question.
    """

    def __init__(self, path: str | Path, model: str, run: Mapping[str, Any]) -> None:
        """Opens or makes the file, for this process alone; a half-written last line is taken off.

        Args:
            path: of the file.
            model: name of the LLM.
            run: what makes two parts the same run.

        Raises:
            ResultsError: the file holds something else, or another run, or another process writes to it.
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
        """One line, in the hands of the system when this returns: the end of this process cannot lose it."""
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
    """Keep other processes out until the file is closed; a file system without locks keeps nobody out."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ResultsError(f"another process writes to {str(path)!r}; wait for its end, or name another file") from None
    except OSError:
        return


def read_answers(path: str | Path, content: bytes | None = None) -> list[Row]:
    """The rows of an answers file. Raises `ResultsError` where it is none."""
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
    """What names a question: its benchmark and id."""
    return row["benchmark"], row["question_id"]
