"""`score_files`: from files of prompts to a folder of results, on one machine."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2l_sdk.bulk import joint
from p2l_sdk.bulk.arrow import need_pyarrow
from p2l_sdk.bulk.batch import BatchScorer
from p2l_sdk.bulk.folder import BAD_ROWS, STATISTICS, RunFolder
from p2l_sdk.bulk.left import NEW, PROBE, again
from p2l_sdk.bulk.pool import Done, n_cores, scored_parts
from p2l_sdk.bulk.reading import FILE, ROW, Columns, Input
from p2l_sdk.bulk.routes import COST
from p2l_sdk.bulk.settings import Aggregate, Settings
from p2l_sdk.bulk.totals import Totals
from p2l_sdk.bulk.work import Part, PartScorer, cost_of
from p2l_sdk.errors import P2LError
from p2l_sdk.options import whole_number
from p2l_sdk.outputs.faults import real_path
from p2l_sdk.outputs.files import new_file
from p2l_sdk.p2l import P2L
from p2l_sdk.scorers.encoder import warn_of_cut
from p2l_sdk.scorers.static import StaticScorer

PART_ROWS, SLOW_PART_ROWS = 20_000, 2_000  # of a static model, and of a transformer: minutes of a core
_PROBE = "What is this?"  # as good as any other prompt
_FIRST = 20  # faulty rows in a summary
_OFTEN = 16  # parts after which the merged statistics are saved, and those of the parts are removed

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        folder: with the results.
        n_rows, n_scored: rows of the input, and those that were scored.
        n_bad: rows that could not be scored; they stand in bad-rows.jsonl.
        n_cut: rows that were scored by the end of their prompts, which are longer than what the model reads.
        first_bad: the first twenty of them, each as its place and what is wrong.
        n_parts: files of results.
        mean_cost: of the routes, USD per response, exactly; None if nothing is routed, or a cost is not known.
        multiplier: with a joint budget, its price of money: score per USD at the margin.
        totals: the statistics; None if none were kept.
        resumed: prompts that an earlier run had scored.
    """

    folder: Path
    n_rows: int
    n_scored: int
    n_bad: int
    n_cut: int
    first_bad: tuple[str, ...]
    n_parts: int
    mean_cost: float | None
    multiplier: float | None
    totals: Totals | None
    resumed: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the same for a run that was stopped and went on."""
        names = ("n_rows", "n_scored", "n_bad", "n_cut", "first_bad", "n_parts", "mean_cost", "multiplier")
        found = {name: getattr(self, name) for name in names}
        return {**found, "first_bad": list(self.first_bad)}


def score_files(
    files: Sequence[str | Path] | str | Path,
    output: str | Path,
    settings: Settings | None = None,
    *,
    columns: Columns | None = None,
    processes: int | None = None,
    part_rows: int | None = None,
    ray: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Score the prompts of files, and write the results as Parquet.

    The same call goes on where a stopped one ended; the results are the same to the byte.

    Args:
        files: files of prompts (.parquet, .jsonl, .csv, ..., also .gz), patterns of them, folders, Hub data sets.
        output: a new folder, or that of a run that was stopped.
        settings: what is computed.
        columns: which columns are read.
        processes: number of worker processes; by default one for each core if the model is quick (static), and 1, this
            process, for others. They change no result.
        part_rows: rows of a part: what is lost at most when a run is stopped, in each process; by default 20,000 if the
            model is static, and 2,000 for others.
        ray: score on this Ray cluster instead, in actors (`processes` is their number): "local", "auto", "host:port" or
            "ray://host:10001". It changes no result either.
        progress: called with the number of rows done and that of all (None: not known).

    Raises:
        TableError: a file cannot be read, or has no such column.
        P2LError: the model does not fit the settings, the folder holds something else, cannot be written, or a process
            died.
        MissingExtraError: pyarrow is not installed.

    Warns:
        P2LWarning: prompts were longer than what the model reads.
    """
    need_pyarrow()
    if part_rows is not None:
        part_rows = whole_number("part_rows", part_rows, least=1)
    if processes is not None:
        processes = whole_number("processes", processes, least=1)
    names = [files] if isinstance(files, str | Path) else list(files)
    settings, columns = settings or Settings(), columns or Columns()
    place = real_path(output)
    source, scorer = Input(names, columns, but=place), BatchScorer(settings)
    part_rows = part_rows or (PART_ROWS if isinstance(scorer.p2l._scorer, StaticScorer) else SLOW_PART_ROWS)
    run = {
        "files": source.identity(),
        **settings.to_dict(),
        "columns": columns.to_dict(),
        "part_rows": part_rows,
        "llms": list(scorer.p2l.models),
        PROBE: [round(float(coef), 4) for coef in scorer.p2l.leaderboard(_PROBE).coefs],
    }
    if settings.route is not None:
        assert scorer.router is not None
        run["route_costs"] = [None if math.isnan(price) else float(price) for price in scorer.router.known_prices]
    folder = RunFolder(place, waiting=settings.joint)
    if (finished := folder.finished(output, run)) is not None:
        return _told(_of_finished(folder, finished, scorer.p2l), scorer)
    source.require_columns()
    count = processes or (n_cores() if scorer.p2l.quick else 1)
    pool = functools.partial(scored_parts, processes=count)
    if ray is not None:
        from p2l_sdk.bulk import cluster

        cluster.need_ray()
        pool = functools.partial(cluster.scored_parts, address=ray, workers=processes)
    with folder.opened(output, run), _advice():
        found = _Run(source, scorer, folder, part_rows, progress).finished(pool, run)
    return _told(found, scorer)


def _told(found: Summary, scorer: BatchScorer) -> Summary:
    """The summary, once it has been said how many prompts were cut."""
    warn_of_cut(scorer.scorer, found.n_cut, found.n_scored)
    return found


@contextlib.contextmanager
def _advice() -> Iterator[None]:
    """Context manager that says how to go on after Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("finished parts are kept: give the same command again to go on") from None


class _Run:
    def __init__(
        self, source: Input, scorer: BatchScorer, folder: RunFolder, part_rows: int, progress: Progress | None
    ) -> None:
        self._source, self._scorer, self._folder, self._part_rows = source, scorer, folder, part_rows
        self._progress = progress or (lambda done, total: None)
        self._total = source.n_rows() if progress is not None else None
        self._notes: dict[int, Mapping[str, Any]] = {}
        self._resumed = self._done = 0
        self._merged, self._n_merged = Totals(scorer.p2l), 0

    def finished(self, pool: Callable[..., Iterator[Done]], run: Mapping[str, Any]) -> Summary:
        self._load_merged()
        for number, note in pool(PartScorer(self._scorer, self._folder), self._left()):
            self._note(number, note)
            self._merge()
        self._merge()
        if self._n_merged != len(self._notes):
            raise P2LError(f"the input has fewer rows than it had when parts of it were scored; {NEW}")
        notes = [self._notes[number] for number in range(len(self._notes))]  # without their faulty rows
        n_rows, n_scored, n_cut = (sum(note[name] for note in notes) for name in ("n_rows", "n_scored", "n_cut"))
        if n_rows == 0:
            raise P2LError("the input has no rows; name a file with prompts")
        multiplier, costs = None, [note["cost"] for note in notes]
        if self._scorer.settings.joint and n_scored:
            multiplier, costs = self._spend(len(notes), n_scored)
        known = None if None in costs or not n_scored else math.fsum(costs) / n_scored
        first = self._write_bad(len(notes)) if n_scored < n_rows else ()
        totals = None
        if self._scorer.settings.aggregate is not Aggregate.NONE:
            totals = self._merged
            self._folder.write(self._folder.folder / STATISTICS, totals.to_bytes())
        summary = Summary(
            self._folder.folder, n_rows, n_scored, n_rows - n_scored, n_cut, first, len(notes), known, multiplier,
            totals, self._resumed,
        )  # fmt: skip
        self._folder.finish({**summary.to_dict(), "run": run})
        return summary

    def _left(self) -> Iterator[tuple[int, Part]]:
        """The parts that are not done yet."""
        for number, part in enumerate(self._source.parts(self._part_rows)):
            note = self._folder.note(number)
            if note is None:
                yield number, part
                continue
            if note["n_rows"] != len(part["prompt"]):
                raise P2LError(f"the input has changed since part {number} of it was scored; name another folder")
            self._resumed += note["n_scored"]
            self._note(number, note)

    def _note(self, number: int, note: Mapping[str, Any]) -> None:
        self._notes[number] = {name: value for name, value in note.items() if name != "errors"}
        self._done += note["n_rows"]
        self._progress(self._done, self._total)

    # --- statistics ---------------------------------------------------------------------------------------------------

    def _merge(self) -> None:
        """Merge the statistics of parts, in their order."""
        while self._n_merged in self._notes:
            path, note = (file(self._n_merged) for file in (self._folder.statistics, self._folder.note_path))
            try:
                part = Totals.load(path, self._scorer.p2l)
                if len(part) != self._notes[self._n_merged]["n_scored"]:
                    raise P2LError(f"{str(path)!r} holds the statistics of other prompts")
                self._merged.merge(part)
            except P2LError as error:
                raise P2LError(f"{error}; {again(note)}") from error
            self._n_merged += 1
            if self._n_merged % _OFTEN == 0:
                self._save_merged()

    def _merged_path(self, n: int) -> Path:
        return self._folder.checkpoints / f"merged-{n:05d}.safetensors"

    def _save_merged(self) -> None:
        self._folder.write(self._merged_path(self._n_merged), self._merged.to_bytes())
        for number in range(self._n_merged - _OFTEN, self._n_merged):
            self._folder.statistics(number).unlink(missing_ok=True)
        self._merged_path(self._n_merged - _OFTEN).unlink(missing_ok=True)

    def _load_merged(self) -> None:
        found = sorted(self._folder.checkpoints.glob("merged-*.safetensors"))
        if not found:
            return
        path, number = found[-1], found[-1].stem.partition("-")[2]
        wrong = f"{str(path)!r} does not hold the merged statistics of finished parts; {NEW}"
        if not re.fullmatch("[0-9]{5,9}", number):
            raise P2LError(wrong)
        try:
            self._merged, self._n_merged = Totals.load(path, self._scorer.p2l), int(number)
        except P2LError as error:
            raise P2LError(f"{error}; {NEW}") from error
        n_scored = 0  # the statistics of these parts are gone: nothing but their notes tells whether one is missing
        for part in range(self._n_merged):
            note = self._folder.note(part)
            if note is None:
                raise P2LError(wrong)
            n_scored += note["n_scored"]
        if n_scored != len(self._merged):
            raise P2LError(wrong)

    # --- when all parts are scored ------------------------------------------------------------------------------------

    def _spend(self, n_parts: int, n_prompts: int) -> tuple[float, list[float | None]]:
        """Spend the joint budget: the price of money, and the costs of the parts."""
        settings, router = self._scorer.settings, self._scorer.router
        assert router is not None
        path = self._folder.checkpoints / "price.json"
        if path.exists():
            price = joint.load(path, n_parts)
        else:
            budget = settings.cost if settings.total is None else settings.total / n_prompts
            assert budget is not None
            price = joint.price_of(self._folder, n_parts, n_prompts, router.prices, budget)
            self._folder.write(path, joint.to_json(price))
        joint.spend(self._folder, n_parts, router, price, settings.seed, lambda number: None)
        folder = self._folder
        tables = (folder.read_table(folder.part(number), number, [COST]) for number in range(n_parts))
        return price.multiplier, list(map(cost_of, tables))

    def _write_bad(self, n_parts: int) -> tuple[str, ...]:
        """Write the rows that could not be scored, part by part; returns the first twenty, in words."""
        first = list[str]()
        with new_file(self._folder.folder / BAD_ROWS, keep=False) as partial, partial.open("wb") as file:
            for number in range(n_parts):
                for row in (self._folder.note(number) or {})["errors"]:
                    if row[FILE] not in self._source.places:
                        path = self._folder.note_path(number)
                        raise P2LError(f"{str(path)!r} names no file of the input; {again(path)}")
                    place = self._source.places[row[FILE]](row[ROW] - 1)
                    line = json.dumps({FILE: row[FILE], "place": place, **row}) + "\n"
                    file.write(line.encode())
                    if len(first) < _FIRST:
                        first.append(f"{row[FILE]!r}, {place}: {row['error']}")
        return tuple(first)


def _of_finished(folder: RunFolder, summary: Mapping[str, Any], p2l: P2L) -> Summary:
    """The summary of a run that had been finished before."""
    path = folder.folder / STATISTICS
    totals = Totals.load(path, p2l) if path.exists() else None
    told = {name: value for name, value in summary.items() if name != "run"}
    told["first_bad"] = tuple(told["first_bad"])
    return Summary(folder=folder.folder, totals=totals, resumed=summary["n_scored"], **told)
