"""The output folder of a run: finished parts, and beside them what the run needs to go on after it was stopped.

    output/part-00000.parquet ...   the results
    output/bad-rows.jsonl           the rows that could not be scored, and why
    output/statistics.safetensors   the aggregates (`Totals`)
    output/summary.json             written last: with it, the run is finished
    output/.checkpoints/            until then: run.json (what the run computes), a note on each finished part, the
                                    statistics of parts, and with a joint budget the parts that wait for its price

Each file is written whole or not at all, the note on a part last. So a part is either done or not there, and what is
computed again comes out the same, byte by byte.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2l_sdk.bulk.arrow import need_pyarrow
from p2l_sdk.bulk.files import changes
from p2l_sdk.bulk.left import NEW, PROBE, again, note_of, run_of, same_probe, summary_of
from p2l_sdk.errors import P2LError
from p2l_sdk.outputs.faults import write_faults
from p2l_sdk.outputs.files import new_file
from p2l_sdk.outputs.folders import CHECKPOINTS, require_new
from p2l_sdk.outputs.leftovers import left_over, locked

if TYPE_CHECKING:
    import pyarrow

_RUN, SUMMARY, BAD_ROWS, STATISTICS = "run.json", "summary.json", "bad-rows.jsonl", "statistics.safetensors"
_ADVICE = "; the parts that are finished are kept: make room, and give the same command again to go on"


class RunFolder:
    """The paths in an output folder, and how its files are written.

    Args:
        folder: the folder.
        waiting: whether parts wait in the folder of checkpoints until a joint budget is spent.
    """

    def __init__(self, folder: Path, waiting: bool = False) -> None:
        self.folder = folder
        self.checkpoints = folder / CHECKPOINTS
        self.waiting = waiting

    def part(self, number: int) -> Path:
        """The results of a part."""
        return self.folder / f"part-{number:05d}.parquet"

    def scored(self, number: int) -> Path:
        """Where a part goes as soon as it is scored."""
        return self.checkpoints / f"scored-{number:05d}.parquet" if self.waiting else self.part(number)

    def statistics(self, number: int) -> Path:
        """The statistics of a part."""
        return self.checkpoints / f"part-{number:05d}.safetensors"

    def note_path(self, number: int) -> Path:
        """The note on a part that is done."""
        return self.checkpoints / f"part-{number:05d}.json"

    def note(self, number: int) -> dict[str, Any] | None:
        """The note on a part; None if the part is not done. P2LError if a file holds something else."""
        found = note_of(self.note_path(number))
        there = self.part(number).exists() or self.scored(number).exists()
        return found if there else None

    def read_table(self, path: Path, number: int, columns: Sequence[str] | None = None) -> pyarrow.Table:
        """Read a part again; P2LError if it is not there any more, or damaged."""
        pa = need_pyarrow()
        try:
            return pa.parquet.read_table(path, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise P2LError(f"{str(path)!r} cannot be read: {error}; {again(self.note_path(number))}") from error

    def write_table(self, path: Path, table: pyarrow.Table) -> None:
        """Write a table as Parquet; P2LError if that fails."""
        pa = need_pyarrow()
        with new_file(path, keep=False, advice=_ADVICE) as partial:
            pa.parquet.write_table(table, partial, compression="zstd")

    def write(self, path: Path, content: str | bytes) -> None:
        """Write a small file; P2LError if that fails."""
        with new_file(path, keep=False, advice=_ADVICE) as partial:
            partial.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)

    @contextlib.contextmanager
    def opened(self, output: str | Path, run: Mapping[str, Any]) -> Iterator[bool]:
        """Context manager of a run, which alone may write to the folder.

        Args:
            output: the folder as the user names it.
            run: what it computes, as plain JSON values.

        Yields:
            Whether it goes on with a run that was stopped.

        Raises:
            P2LError: the folder holds something else, a finished run, or one that computes something else; another
                process is writing it, or it cannot be written.
        """
        made = not os.path.isdir(self.folder)  # pathlib raises if the name is too long
        if not os.path.isdir(self.checkpoints):
            require_new(output)
        with write_faults(output, _ADVICE):
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            try:
                lock = locked(self.checkpoints)
            except BlockingIOError:
                message = f"another process is writing {str(output)!r}; wait for its end, or name another folder"
                raise P2LError(message) from None
        try:
            goes_on = self._begun
            if goes_on:
                _require_same(run_of(self.checkpoints / _RUN), run, output)
            else:
                self._clear()
                require_new(output, [CHECKPOINTS])
                self.write(self.checkpoints / _RUN, json.dumps(run, indent=1))
            yield goes_on
        finally:
            if not self._begun:  # so that a mistake in the first settings is no obstacle
                with contextlib.suppress(OSError):
                    self._clear()
                    self.checkpoints.rmdir()
                    if made:
                        self.folder.rmdir()
            if lock is not None:
                os.close(lock)

    @property
    def _begun(self) -> bool:
        """Whether a part is done."""
        return any(self.checkpoints.glob("part-*.json")) or (self.folder / SUMMARY).exists()

    def _clear(self) -> None:
        """Remove what a run left that was stopped before a part was done."""
        if (self.checkpoints / _RUN).exists():
            for pattern in ("part-*.parquet", ".part-*"):
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)
        for path in self.checkpoints.iterdir():
            path.unlink(missing_ok=True)

    def finished(self, output: str | Path, run: Mapping[str, Any]) -> dict[str, Any] | None:
        """The summary of a finished run of the same settings; None if there is no finished run.

        Raises:
            P2LError: the folder holds a finished run of other settings.
        """
        summary = summary_of(self.folder / SUMMARY) if os.path.isdir(self.folder) else None
        if summary is None:
            return None
        if (what := _difference(summary["run"], run)) is not None:
            raise P2LError(f"{str(output)!r} holds another finished run ({SUMMARY}): {what}; {NEW}")
        shutil.rmtree(self.checkpoints, ignore_errors=True)  # it was killed at the very end
        return summary

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary, and remove what only a stopped run needs."""
        for partial in left_over(self.folder, ".part-"):  # of a killed run's workers, if they lived on for a moment
            partial.unlink(missing_ok=True)
        self.write(self.folder / SUMMARY, json.dumps(summary, indent=1))
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def _difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """What differs between two runs, in words; None if they compute the same."""
    for name in dict.fromkeys([*known, *wanted]):
        old, new = known.get(name), json.loads(json.dumps(wanted.get(name)))
        if not (same_probe(old, new) if name == PROBE else old == new):
            if name == PROBE:
                return "the weights of the model have changed"
            if name == "files" and isinstance(old, list):
                return changes(old, new)
            return f"{name} was {_shown(old)}, and is {_shown(new)}"
    return None


def _require_same(known: Mapping[str, Any], wanted: Mapping[str, Any], output: str | Path) -> None:
    """Raise P2LError, naming what differs, unless a run computes the same as the one that it goes on with."""
    what = _difference(known, wanted)
    if what is not None:
        raise P2LError(
            f"{str(output)!r} holds a run that was stopped, and this one differs from it: {what}; give the same "
            "settings to go on, or name another folder"
        )


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
