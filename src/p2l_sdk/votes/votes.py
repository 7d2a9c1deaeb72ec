"""Reading votes, validating them against the data contract and encoding them as arrays.

The columns are those of Chatbot Arena: `prompt` (a string, a list of user turns, or chat messages) or `conversation_a`;
`model_a`, `model_b`; `winner`; and optionally `weight`. Every other column of short strings, bools or integers is a
category, except `timestamp`, `conversation_b` and pandas' index columns, which are ignored. Columns and winners may be
written in other ways (`tables.headers`, `tables.winners`). A table of scores (see `Scores`) is converted to votes. Rows
that violate the contract are an error that lists them, or are left out and counted.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LWarning, ScoresError, VotesError, require_known
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.modeling.prompt_p2l import Prompt
from p2l_sdk.tables.columns import Categories, PromptIndex, may_be_scores, turns_of
from p2l_sdk.tables.files import Row
from p2l_sdk.tables.headers import numeric_sides
from p2l_sdk.tables.near_names import warning_of
from p2l_sdk.tables.reading import Applied, Findings, Reading
from p2l_sdk.tables.score_cells import is_scores
from p2l_sdk.tables.sources import Source, of_rows, open_source, table_errors
from p2l_sdk.tables.vote_codes import VoteCodes
from p2l_sdk.tables.winners import WINNERS
from p2l_sdk.votes.compared import compared
from p2l_sdk.votes.missing_columns import require_columns
from p2l_sdk.votes.scores import Scores, as_outside
from p2l_sdk.votes.scores_outside import REMEDY, Outside, OutsideScores

__all__ = ["WINNERS", "Scores", "Votes", "shared_prompts", "warn_if_shared"]

_USABLE = 0.5  # two equal scores in [0, 1] are a tie from here up, and both bad below


@dataclass(frozen=True, eq=False)
class Votes:
    """Votes as arrays; each distinct prompt is stored once (prompts with the same user turns are the same prompt).

    Attributes:
        prompts: `n_prompts` distinct prompts.
        models: names of the LLMs.
        prompt: `(n_votes,)` indices into prompts.
        a, b: `(n_votes,)` indices into models.
        winner: `(n_votes,)` `Winner` codes.
        weight: `(n_votes,)` weights of the votes.
        categories: `(n_votes,)` labels by column: bools or integers, otherwise strings ('' if a vote has none; always
            strings from CSV). Columns with a string of more than 200 characters hold texts and are left out.
        findings: what was noticed, and done, when the table was read.
    """

    prompts: list[Prompt]
    models: tuple[str, ...]
    prompt: np.ndarray
    a: np.ndarray
    b: np.ndarray
    winner: np.ndarray
    weight: np.ndarray
    categories: Mapping[str, np.ndarray] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)

    def __repr__(self) -> str:
        return f"Votes({len(self):,} votes on {len(self.prompts):,} prompts, {len(self.models):,} LLMs)"

    def __len__(self) -> int:
        return len(self.winner)

    @classmethod
    def read(
        cls,
        source: Any,
        models: Sequence[str] | None = None,
        *,
        not_llms: Sequence[str] = (),
        scores_outside: Outside | str | None = None,
        columns: Mapping[str, str] | None = None,
        winners: Mapping[Any, str] | None = None,
        rename: Mapping[str, str] | str | Path | None = None,
        skip_invalid: bool = False,
        max_rows: int | None = None,
    ) -> Votes:
        """Read a table of votes, or convert a table of scores (see `Scores.read`).

        Args:
            source: a file (`p2l_sdk.tables.files.KINDS`), or several by a pattern ("votes-*.jsonl"); a folder
                saved by `datasets`, or one that it can load ("folder:split"); a data set on the Hub ("org/name",
                "org/name:split", "org/name@revision"); a datasets.Dataset, a pandas frame, a pyarrow table, a mapping
                of columns, or an iterable of dictionaries. The default split is "train".
            models: the LLMs that may occur, in this order; by default all that occur, sorted.
            not_llms: of scores, columns that are no LLMs, see `Scores.read`.
            scores_outside: what to do with scores outside [0, 1], see `Scores.read`; of no effect on votes.
            columns: names of columns, where they are not certain: {"prompt": "Question"}.
            winners: spellings of the winner, likewise: {"Model A": "model_a", "n/a": "skip"}.
            rename: LLMs to rename, {old: new} or a file of it: a misspelt name becomes that of the LLM.
            skip_invalid: whether faulty rows are left out; `findings` says how many, and why.
            max_rows: the most rows that are read, by default ten millions; a table with more is an error.

        Raises:
            VotesError: the source cannot be read, a column is missing, or rows violate the contract (all are listed).
            UnknownModelError: a vote names an LLM that is not in `models`.
            MissingExtraError: the package that reads the source is not installed.
            P2LError: a setting is illegal.

        Warns:
            P2LWarning: two names are probably one LLM.
        """
        reading = Reading.of(columns, winners, rename, skip_invalid, max_rows)
        with table_errors(VotesError, source):
            if scores_outside is not None:
                as_outside(scores_outside)
            opened, applied = reading.apply(open_source(source))
            first, opened = opened.peek()
            if {"prompt", "model", "answer"} <= first.keys() and not {"score", "winner"} & first.keys():
                raise VotesError("these are answers, as p2l collect writes them, not votes; let p2l judge compare them")
            if may_be_scores(first) and is_scores(first, opened.untyped, bool(models and {*models} <= first.keys())):
                if models is None and (sides := numeric_sides(first)):
                    llms = shlex.quote(",".join(sides))
                    raise VotesError(
                        f"{sides[0]!r} and {sides[1]!r} may be two LLMs with scores (--llms {llms}; models) "
                        f"or the sides of votes, with numbers as names (--column {shlex.quote(f'model_a={sides[0]}')} "
                        f"--column {shlex.quote(f'model_b={sides[1]}')}); say which"
                    )
                scores = Scores.of_source(
                    opened,
                    models,
                    not_llms=not_llms,
                    allow_missing=True,
                    outside=scores_outside,
                    reading=reading,
                    applied=applied,
                )
                return cls._of_scores(scores, stacklevel=3)
            return cls._of_source(opened, reading, applied, models)

    @classmethod
    def from_rows(cls, rows: Iterable[Row], models: Sequence[str] | None = None) -> Votes:
        """Votes from dictionaries with the columns of the contract; errors as in `read`."""
        reading = Reading()
        with table_errors(VotesError):
            named, applied = reading.apply(Source("the table", of_rows(rows)))
            return cls._of_source(named, reading, applied, models)

    @classmethod
    def from_scores(cls, scores: Scores, pairs: tuple[np.ndarray, np.ndarray] | None = None) -> Votes:
        """Convert scores to votes, one for each prompt and pair of LLMs.

        If two scores differ by more than 1e-6, the higher one wins. Otherwise the vote is a tie if their mean is at
        least 0.5, and both bad if not. A pair with a missing score (NaN) gives no vote. Categories are those of the
        prompts.

        Args:
            scores: the scores.
            pairs: `(n_pairs,)` indices into `models` for each side; by default all pairs, with the LLM that comes first
                in `models` on side a.

        Raises:
            ScoresError: there is only one LLM, or no prompt has the scores of both LLMs of a pair.

        Warns:
            P2LWarning: a score is outside [0, 1], so that 0.5 has no meaning and all equal scores are ties.
        """
        return cls._of_scores(scores, stacklevel=3, pairs=pairs)

    @cached_property
    def n_duplicates(self) -> int:
        """Number of votes that repeat an earlier one: same prompt, same two LLMs (on either side), same outcome."""
        n = len(self.models)
        low, high = np.minimum(self.a, self.b), np.maximum(self.a, self.b)
        outcome = np.where((self.a > self.b) & (self.winner < Winner.TIE), 1 - self.winner, self.winner)
        met = (self.prompt.astype(np.int64) * n + low) * n + high
        return len(self) - len(np.unique(met * len(Winner) + outcome))

    def subset(self, prompts: np.ndarray | Sequence[int]) -> Votes:
        """The votes on some of the prompts, which keep their order and are renumbered; `models` does not change.

        Args:
            prompts: `(n_prompts,)` booleans, or indices into `prompts`.

        Raises:
            VotesError: an index or the length of the mask is wrong, or no vote is left.
        """
        keep = self._mask(prompts)
        rows, number = keep[self.prompt], np.cumsum(keep) - 1
        if not rows.any():
            raise VotesError("there is no vote on these prompts")
        return Votes(
            [prompt for prompt, kept in zip(self.prompts, keep, strict=True) if kept],
            self.models,
            number[self.prompt[rows]],
            self.a[rows],
            self.b[rows],
            self.winner[rows],
            self.weight[rows],
            {name: labels[rows] for name, labels in self.categories.items()},
            self.findings,
        )

    def split(self, fraction: float, seed: int) -> tuple[Votes, Votes]:
        """Split by prompt at random into `(rest, part)`; all votes on a prompt are on the same side.

        Args:
            fraction: share of the prompts in `part`, rounded to whole prompts.
            seed: seed of the draw; the same votes in the same order are always split in the same way.

        Raises:
            VotesError: the fraction is not strictly between 0 and 1, or a side would be empty.
        """
        part = self.part(fraction, seed)
        return self.subset(~part), self.subset(part)

    def part(self, fraction: float, seed: int) -> np.ndarray:
        """`(n_prompts,)` booleans: the prompts that `split` would draw."""
        if not 0.0 < fraction < 1.0:
            raise VotesError(f"the fraction of prompts is {fraction}; it must be between 0 and 1")
        n = len(self.prompts)
        size = round(fraction * n)
        if not 0 < size < n:
            raise VotesError(
                f"a share of {fraction:g} of {n:,} prompts is {size:,} prompts, so one side would have none; "
                "choose another fraction, or gather votes on more prompts"
            )
        part = np.zeros(n, dtype=bool)
        part[np.random.default_rng(seed).permutation(n)[:size]] = True
        return part

    def _mask(self, prompts: np.ndarray | Sequence[int]) -> np.ndarray:
        chosen, n = np.asarray(prompts), len(self.prompts)
        if chosen.dtype == bool:
            if chosen.shape != (n,):
                raise VotesError(f"the mask of prompts has the shape {chosen.shape}; there are {n:,} prompts")
            return chosen
        if chosen.size and (chosen.dtype.kind not in "iu" or chosen.min() < 0 or chosen.max() >= n):
            raise VotesError(f"prompts are chosen by a mask, or by integers from 0 to {n - 1}")
        mask = np.zeros(n, dtype=bool)
        mask[chosen.astype(np.intp)] = True
        return mask

    @classmethod
    def _of_source(cls, source: Source, reading: Reading, applied: Applied, models: Sequence[str] | None) -> Votes:
        source = require_columns(source, reading, applied.columns)
        codes = VoteCodes(reading=reading, place=source.place, columns=applied.columns)
        categories = Categories()
        for chunk in source.chunks:
            categories.add(chunk, codes.add(chunk))
        read = codes.encoded()
        known = tuple(sorted(read.names)) if models is None else tuple(models)
        unknown = "which is not one of the model's LLMs (--model names the model; in training, --votes names the LLMs)"
        require_known(read.names, known, "the votes file", unknown)
        place_of = {name: place for place, name in enumerate(known)}
        place = np.array([place_of[name] for name in read.names], dtype=np.int64)
        if read.near:
            warnings.warn(warning_of(read.near, "votes"), P2LWarning, stacklevel=3)
        return cls(
            read.prompts,
            known,
            read.prompt,
            place[read.a],
            place[read.b],
            read.winner,
            read.weight,
            categories.arrays(read.keep),
            Findings(read.skipped, applied.columns, read.winners, applied.renamed, read.near, read.trimmed),
        )

    @classmethod
    def _of_scores(cls, scores: Scores, stacklevel: int, pairs: tuple[np.ndarray, np.ndarray] | None = None) -> Votes:
        if len(scores.models) < 2:
            raise ScoresError(f"the scores are of one LLM only ({', '.join(scores.models)}); a vote is between two")
        outside = OutsideScores.of(scores.scores, scores.models)
        if outside is not None:
            named = scores.outside if scores.outside is not None and scores.outside.done is None else outside
            warnings.warn(
                f"{named}, so there is no threshold below which both answers are bad: equal scores are ties; {REMEDY}",
                P2LWarning,
                stacklevel=stacklevel,
            )
        row, a, b, winner = compared(scores.scores, pairs, usable=None if outside is not None else _USABLE)
        if not len(row):
            raise ScoresError("no prompt has the scores of two LLMs that are compared")
        index = PromptIndex()
        number = np.array([index.number(prompt) for prompt in scores.prompts])
        votes = cls(
            index.prompts,
            scores.models,
            number[row],
            a,
            b,
            winner,
            np.ones(len(row)),
            {name: labels[row] for name, labels in scores.categories.items()},
            scores.findings,
        )
        return votes.subset(np.unique(votes.prompt))  # drops prompts without a vote


def shared_prompts(train: Votes | Scores, held_out: Votes | Scores) -> int:
    """Number of held-out prompts that also occur in the training data, i.e. with exactly the same user turns."""
    known = {turns_of(prompt) for prompt in train.prompts}
    return sum(turns_of(prompt) in known for prompt in held_out.prompts)


def warn_if_shared(train: Votes | Scores, held_out: Votes | Scores, name: str) -> int:
    """Return `shared_prompts`, with a `P2LWarning` if there are any; `name` is the name of the held-out data."""
    shared = shared_prompts(train, held_out)
    if shared:
        warnings.warn(
            f"{shared:,} of the {len(held_out.prompts):,} prompts of {name} are in the training votes; figures on "
            "them say nothing about new prompts",
            P2LWarning,
            stacklevel=2,
        )
    return shared
