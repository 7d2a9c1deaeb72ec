"""The points of a scaling study: what is trained, on which votes, and the file that keeps what came out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import P2LError, ResultsError
from p2l_sdk.mpg.measure.journal import Journal, Layout
from p2l_sdk.outputs.faults import real_path
from p2l_sdk.votes.votes import Votes

POINTS = "points.jsonl"
_MOST = 2**53  # of a whole number


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        base: what is trained: "static", a static model's folder, or a text backbone.
        width: of the hidden layer of the head; None for a text backbone, which has none.
        n_prompts: number of prompts to learn from.
        per_prompt: most votes on a prompt; None for all.
        seed: of the draw, and of the training.
    """

    base: str
    width: int | None
    n_prompts: int
    per_prompt: int | None
    seed: int


@dataclass(frozen=True)
class Point(Cell):
    """What came out of one training.

    Attributes:
        n_votes: number of votes that it learned from.
        parameters: number of weights of a static model's head, or of a text backbone.
        loss: on the held-out votes, in nats per vote.
        averaged_loss: that of the averaged leaderboard of the same votes.
    """

    n_votes: int
    parameters: int
    loss: float
    averaged_loss: float

    @property
    def cell(self) -> Cell:
        """The training that it came out of."""
        return _of(Cell, asdict(self))


def _of(kind: Any, row: Mapping[str, Any]) -> Any:
    return kind(**{name: row[name] for name in kind.__dataclass_fields__})


def _is_sound(row: Mapping[str, Any]) -> bool:
    """Whether each value of a point is of its kind: one of 3.0 prompts would pass for one of 3."""
    least = {"n_prompts": 1, "seed": 0, "n_votes": 1, "parameters": 0}
    optional = [row[name] for name in ("width", "per_prompt") if row[name] is not None]
    whole = all(_is_count(row[name], n) for name, n in least.items()) and all(_is_count(n, 1) for n in optional)
    numbers = all(type(row[name]) in (int, float) for name in ("loss", "averaged_loss"))
    return whole and numbers and isinstance(row["base"], str)


def _is_count(value: Any, least: int) -> bool:
    return type(value) is int and least <= value <= _MOST


_LAYOUT = Layout(
    what="point of a scaling study",
    many="points of a scaling study",
    first="base",
    columns=frozenset(Point.__dataclass_fields__),
    key=lambda row: _of(Cell, row),
    sound=_is_sound,
)


class PointsFile:
    """The finished points of a study, a line each in the file points.jsonl of a folder; a context manager.

    Args:
        folder: is made if it is not there.
        settings: what all points have in common; a folder with points of other settings is refused.

    Raises:
        P2LError: the folder cannot be made, holds points of other settings, or another process writes to it.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]) -> None:
        path = real_path(folder) / POINTS
        try:
            self._journal = Journal(path, _LAYOUT, lambda _: settings)
        except OSError as error:
            raise P2LError(f"{str(folder)!r} cannot hold the points: {error.strerror or error}") from None
        except ResultsError as error:
            raise P2LError(f"{error}".replace("name another file", "name another folder (--output)")) from None
        self._settings = dict(settings)

    def __enter__(self) -> PointsFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self._journal.__exit__(*error)

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._journal.last

    def __getitem__(self, cell: Cell) -> Point:
        return Point(**{name: self._journal.last[cell][name] for name in Point.__dataclass_fields__})

    def add(self, point: Point) -> None:
        """Keep a point; it survives the process."""
        self._journal.write({**asdict(point), "run": self._settings})


def grid(
    bases: Mapping[str, Sequence[int | None]],
    sizes: Sequence[int],
    per_prompt: Sequence[int | None],
    seeds: int,
) -> list[Cell]:
    """All trainings, those on the same votes one after the other, one seed after the other.

    Args:
        bases: each with its widths.
        sizes: numbers of prompts.
        per_prompt: votes a prompt.
        seeds: how many seeds.
    """
    votes = itertools.product(range(seeds), sizes, per_prompt)
    models = [(base, width) for base, widths in bases.items() for width in widths]
    return [Cell(base, width, n, k, seed) for seed, n, k in votes for base, width in models]


def draw(votes: Votes, n_prompts: int, per_prompt: int | None, seed: int) -> tuple[Votes, np.ndarray]:
    """Random prompts with random votes on them, and the places of the prompts among all.

    Draws of another size or seed are independent; fewer votes a prompt are a part of more.
    """
    random = np.random.default_rng([n_prompts, seed])
    chosen = np.sort(random.choice(len(votes.prompts), n_prompts, replace=False))
    part = votes.subset(chosen)
    if per_prompt is None:
        return part, chosen
    order = random.permutation(len(part))
    order = order[np.argsort(part.prompt[order], kind="stable")]
    prompt = part.prompt[order]
    rows = np.sort(order[np.arange(len(prompt)) - np.searchsorted(prompt, prompt) < per_prompt])
    columns = {name: getattr(part, name)[rows] for name in ("prompt", "a", "b", "winner", "weight")}
    return replace(part, **columns, categories={}), chosen


def fingerprint(votes: Votes) -> str:
    """A short sha256 of votes, to recognise them by."""
    sha = hashlib.sha256(repr(votes.models).encode())
    for prompt in votes.prompts:
        sha.update(repr(prompt).encode("utf-8", "surrogatepass"))
    for column in (votes.prompt, votes.a, votes.b, votes.winner, votes.weight):
        sha.update(np.asarray(column, dtype=np.float64).tobytes())
    return sha.hexdigest()[:16]
