"""`judge`: an LLM compares answers two by two, and its verdicts become votes.

Every pair of answers is shown in both orders. If the two verdicts agree, that is the vote; if they do not, it is a tie.
A reply in which no verdict can be read is asked for once more (with a new code and the demand for the verdict's line
alone, so that it is another question even at temperature 0); if that cannot be read either, there is no vote.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.judging.answers import Answers, fingerprint
from p2l_sdk.judging.asking import LLM, Asker, Outcome, Query, Stopped, require_prices
from p2l_sdk.judging.limits import Limits, require_spend
from p2l_sdk.judging.pairs import Pairs
from p2l_sdk.judging.rubric import RUBRIC, Verdict, question
from p2l_sdk.judging.spending import Ledger
from p2l_sdk.judging.verdicts import (
    ATTEMPTS,
    LAYOUT,
    Comparison,
    comparisons,
    is_final,
    verdict_row,
    verdicts_path,
)
from p2l_sdk.mpg.measure.journal import Journal, Row
from p2l_sdk.options import named_options
from p2l_sdk.outputs.files import new_file, require_file
from p2l_sdk.serve.gateway.address import read_key
from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Judgement(Tabular):
    """The votes of a judge.

    Attributes:
        output: path of the votes.
        judge: name of the judge.
        votes: winner -> number of votes.
        n_pairs: pairs of answers to compare.
        n_skipped: pairs that lack an answer, since its query failed or it is empty.
        n_disagreed: votes that are ties because the verdicts of the two orders differ.
        n_unreadable: pairs without a vote, since a verdict could not be read.
        n_failed: pairs without a vote, since a query failed.
        n_open: pairs without a vote, since not everything was asked.
        n_first, n_decided: of the verdicts for one of the answers, those for the one shown first, and all.
        n_reread: replies that could not be read at first.
        input_tokens, output_tokens: sums of those counted.
        spent, assumed: USD; see `Collection`.
        judges_itself: whether the judge has the name of an LLM that it judges.
        stopped: why questions were not asked.
    """

    output: Path
    judge: str
    votes: Mapping[str, int]
    n_pairs: int
    n_skipped: int
    n_disagreed: int
    n_unreadable: int
    n_failed: int
    n_open: int
    n_first: int
    n_decided: int
    n_reread: int
    input_tokens: int
    output_tokens: int
    spent: float
    assumed: float
    judges_itself: bool
    stopped: Stopped

    @property
    def n_votes(self) -> int:
        """Number of votes."""
        return sum(self.votes.values())

    @property
    def disagreement(self) -> float | None:
        """Share of the votes whose two verdicts differ; None without votes."""
        return self.n_disagreed / self.n_votes if self.n_votes else None

    @property
    def first_share(self) -> float | None:
        """Share of the answer shown first in verdicts for one of the answers: 0.5 without a bias; None without such."""
        return self.n_first / self.n_decided if self.n_decided else None

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"{self.n_votes:,} votes of {self.judge} on {self.n_pairs:,} pairs of answers, ${self.spent:,.4g}"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each outcome of a pair, and for each reason for which it has no vote: outcome and n."""
        without = {
            "skipped": self.n_skipped,
            "unreadable": self.n_unreadable,
            "failed": self.n_failed,
            "open": self.n_open,
        }
        told = {**self.votes, **{f"no vote: {name}": n for name, n in without.items()}}
        return [{"outcome": name, "n": n} for name, n in told.items()]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw how the pairs ended.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(self.rows(), "outcome", "n", meaning="pairs of answers", title=self.caption, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        names = [name for name in vars(self) if name not in ("output", "votes", "stopped")]
        return {
            "output": str(self.output),
            "votes": dict(self.votes),
            "n_votes": self.n_votes,
            **{name: getattr(self, name) for name in names},
            "disagreement": self.disagreement,
            "first_share": self.first_share,
            "spend_limit_reached": self.stopped.limit_reached,
            "n_not_asked": self.stopped.n_left,
        }


class JudgeOptions(TypedDict, total=False):
    """The keywords of `judging`, for functions that pass them on."""

    pairs: Pairs
    limits: Limits
    rubric: str
    max_tokens: int
    retry_failed: bool
    progress: Progress | None


@named_options(JudgeOptions)
def judge(answers: Answers, llm: LLMConfig, output: str | Path, **options: Unpack[JudgeOptions]) -> Judgement:
    """`judging` for callers without an event loop."""
    return asyncio.run(judging(answers, llm, output, **options))


async def judging(
    answers: Answers,
    llm: LLMConfig,
    output: str | Path,
    *,
    pairs: Pairs = Pairs(),  # noqa: B008 - frozen
    limits: Limits = Limits(),  # noqa: B008
    rubric: str = RUBRIC,
    max_tokens: int = 1024,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Judgement:
    """Have a judge compare the answers two by two, and write its votes.

    Args:
        answers: see `read_answers`.
        llm: the judge: its address, key, prices, and sampling (temperature 0 if it does not say).
        output: the file of votes, which is written anew when the judge is done or has to stop. Verdicts and costs stand
            beside it, in files that end in .verdicts (from which an interrupted run resumes) and .spending.
        pairs: the pairs of LLMs to compare; by default all. It also draws which of them is model_a.
        limits: how fast, how often, for how much.
        rubric: what makes an answer better.
        max_tokens: longest reply, where the judge's settings do not say.
        retry_failed: also ask again what failed before.
        progress: called after each reply with the number of questions that are settled, of all, and USD.

    Raises:
        P2LError: a setting is illegal, the key is not set, or there is a spend limit and no price.
        ResultsError: the file belongs to another run, or is not one of ours.
        VotesError: no prompt has two answers.
    """
    if llm.api_key_env is not None and not read_key(llm.api_key_env):
        raise P2LError(f"the environment variable {llm.api_key_env!r} of the judge's key is not set")
    if not rubric.strip():
        raise P2LError("the rubric is empty; say what makes an answer better, or leave it out")
    judged_by = LLM.of(llm, max_tokens=max_tokens, temperature=0.0, deadline=max(600.0, llm.timeout), env=True)
    require_spend(limits.spend)
    require_prices({llm.name: judged_by}, limits, "the judge's settings")
    pairs.require_known(answers.prompts, answers.models)
    todo, skipped = comparisons(answers, pairs)
    if not todo:
        raise VotesError(
            f"there is nothing to compare: no prompt has two answers ({answers.n_failed:,} failed, "
            f"{answers.n_empty:,} are empty)"
        )
    run = {"judge": llm.name, **judged_by.settings}
    run |= {"rubric": fingerprint([rubric]), "pairs": pairs.text(answers.models)}
    with Journal(verdicts_path(output), LAYOUT, lambda _: run) as journal:
        file = require_file(output)
        recorded = sum(row.get("cost") or 0.0 for row in journal.rows)
        with Ledger(file, recorded, limits.spend) as ledger:
            part = _Part(journal, ledger, judged_by, rubric, run, progress, 2 * len(todo))
            stopped = await part.ask(todo, limits, retry_failed)
            found = _judgement(todo, journal, Path(output), llm.name)
            return replace(
                found,
                n_skipped=skipped,
                spent=ledger.spent,
                assumed=ledger.assumed,
                judges_itself=llm.name in answers.models or llm.model in answers.models,
                stopped=stopped,
            )


class _Part:
    """One part of a run: the questions of this process."""

    def __init__(
        self,
        journal: Journal,
        ledger: Ledger,
        llm: LLM,
        rubric: str,
        run: Mapping[str, Any],
        progress: Progress | None,
        n_questions: int,
    ) -> None:
        self.journal, self.ledger, self.llm, self.rubric, self.run = journal, ledger, llm, rubric, run
        self.progress, self.n_questions, self.n_settled = progress, n_questions, 0

    async def ask(self, todo: Iterable[Comparison], limits: Limits, retry_failed: bool) -> Stopped:
        self.by_key = {c.key(swapped): (c, swapped) for c in todo for swapped in (False, True)}
        queries = []
        for key in self.by_key:
            row = self.journal.last.get(key)
            if row is None:
                queries.append(self._query(key, 1))
            elif not is_final(row, retry_failed):
                queries.append(self._query(key, row["attempt"] + (not row.get("error"))))
        self.n_settled = self.n_questions - len(queries)
        self._tell()
        return await Asker([self.llm], limits, self.ledger, self._done).ask(queries)

    def _query(self, key: Any, attempt: int) -> Query:
        comparison, swapped = self.by_key[key]
        *_, first, second = comparison.shown(swapped)
        asked = question(comparison.prompt, first, second, self.rubric, again=attempt > 1)
        return Query(key, self.llm, asked, attempt)

    def _done(self, query: Query, outcome: Outcome) -> Query | None:
        key: Any = query.key
        row = verdict_row(query, key, outcome, self.run)
        self.journal.write(row)
        if not is_final(row, retry_failed=False):
            return self._query(key, query.attempt + 1)
        self.n_settled += 1
        self._tell()
        return None

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.n_settled, self.n_questions, self.ledger.spent)


def _judgement(todo: Iterable[Comparison], journal: Journal, output: Path, name: str) -> Judgement:
    """Make votes of the verdicts, write them, and count."""
    pairs, votes, first, count = list(todo), [], Counter[str](), Counter[str]()
    for pair in pairs:
        rows = [journal.last.get(pair.key(swapped)) for swapped in (False, True)]
        verdicts = [_verdict(row) for row in rows]
        first.update(str(verdict) for verdict in verdicts if verdict is not None)
        if None not in verdicts:
            there, back = (Verdict(str(verdict)) for verdict in verdicts)
            agreed = there == back.mirrored
            count["disagreed"] += not agreed
            votes.append(pair.vote(there if agreed else Verdict.TIE, name))
        elif any(row is not None and row.get("error") for row in rows):
            count["failed"] += 1
        elif any(row is not None and row["verdict"] is None and row["attempt"] >= ATTEMPTS for row in rows):
            count["unreadable"] += 1
        else:
            count["open"] += 1
    write_rows(output, votes)
    return Judgement(
        output=output,
        judge=name,
        votes={str(v): sum(vote["winner"] == v for vote in votes) for v in Verdict},
        n_pairs=len(pairs),
        n_skipped=0,
        n_disagreed=count["disagreed"],
        n_unreadable=count["unreadable"],
        n_failed=count["failed"],
        n_open=count["open"],
        n_first=first[Verdict.A],
        n_decided=first[Verdict.A] + first[Verdict.B],
        n_reread=sum(row["attempt"] == 1 and row["verdict"] is None and not row.get("error") for row in journal.rows),
        input_tokens=sum(row["input_tokens"] or 0 for row in journal.rows),
        output_tokens=sum(row["output_tokens"] or 0 for row in journal.rows),
        spent=0.0,
        assumed=0.0,
        judges_itself=False,
        stopped=Stopped(),
    )


def _verdict(row: Row | None) -> Verdict | None:
    return None if row is None or row["verdict"] is None else Verdict(row["verdict"])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines to a file, which is replaced as a whole."""
    with new_file(path) as partial, partial.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
