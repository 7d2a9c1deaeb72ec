"""Hostile sizes: thousands of LLMs, votes on few pairs of them, counts and seeds beyond what memory holds."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Case, command

from p2l_sdk import Router, fit_leaderboard
from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.leaderboards.likelihood import PairLikelihood
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.leaderboard_p2l import ranks
from p2l_sdk.routing.mixture import optimal_mixture
from p2l_sdk.votes.connected import undetermined
from p2l_sdk.votes.counts import VoteCounts

TOO_MANY = "LLMs would take .* GB of memory; at most .* LLMs can be compared at once: (name those|leave out those)"


def _names(m: int) -> tuple[str, ...]:
    return tuple(f"llm{i:06d}" for i in range(m))


def _scored(n: int, m: int) -> Coefficients:
    rng = np.random.default_rng(0)
    coefs = rng.normal(size=(n, m)) + np.linspace(-2, 2, m)
    return Coefficients(coefs, np.full((n, 1), -0.5), np.zeros((n, 1)))


def _aggregate(n: int, m: int, feedback: str = "bt") -> Leaderboard:
    statistics = PairStatistics(Feedback(feedback), m)
    statistics.add(_scored(n, m))
    return statistics.solve(_names(m), replicates=20)


def _votes(m: int, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    a = np.concatenate([np.arange(m), rng.integers(0, m, n)])  # a ring, and chance
    b = (a + np.where(np.arange(len(a)) < m, 1, rng.integers(1, m, len(a)))) % m
    names = np.array(_names(m))
    wins = rng.random(len(a)) < 1.0 / (1.0 + np.exp(4.0 * (b - a) / m))
    return {"model_a": names[a], "model_b": names[b], "winner": np.where(wins, "model_a", "model_b")}


def _fitted(m: int, n: int, feedback: str = "bt", **options: Any) -> Leaderboard:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_leaderboard(_votes(m, n), feedback, **options)


def _in_order(board: Leaderboard) -> bool:
    finite = np.isfinite(board.coefs).all() and (board.intervals is None or np.isfinite(board.intervals).all())
    return bool(finite and np.corrcoef(board.coefs, np.arange(len(board.coefs)))[0, 1] > 0.5)


def _case(name: str, run: Callable[[], Any], right: Callable[[Any], bool], *, quick: bool = True) -> Case:
    return Case(name, lambda _: run(), right=right, quick=quick)


def _refused(name: str, says: str, run: Callable[[], Any]) -> Case:
    return Case(name, lambda _: run(), says=says)


def _file(place: Path, m: int) -> str:
    """A table of votes, each LLM against the next."""
    lines = (f"prompt {i % 997},m{i},m{(i + 1) % m},{('model_a', 'model_b', 'tie')[i % 3]}\n" for i in range(m))
    path = place / "votes.csv"
    path.write_text("prompt,model_a,model_b,winner\n" + "".join(lines))
    return str(path)


READERS: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("fit-file", TOO_MANY, fit_leaderboard),
    ("train", TOO_MANY, lambda votes: command("train", "--votes", votes, "--output", f"{votes}-model")),
    (
        "refine",
        TOO_MANY,
        lambda votes: command("train", "--base", "routing9", "--votes", votes, "--output", f"{votes}-model"),
    ),
    (
        "evaluate",
        "which is not one of the model's LLMs",
        lambda v: command("evaluate", "--votes", v, "--model", "routing9"),
    ),
)


def _sizes() -> list[Case]:
    cases = []
    for feedback in Feedback:
        for m in (10_000, 20_001, 100_000, 10**7):
            cases.append(_refused(f"sums-{feedback}-{m}", TOO_MANY, lambda m=m, f=feedback: PairStatistics(f, m)))
            cases.append(_refused(f"solver-{feedback}-{m}", TOO_MANY, lambda m=m, f=feedback: PairLikelihood(f, m)))
        cases.append(_case(f"aggregate-{feedback}-2", lambda f=feedback: _aggregate(5, 2, f), _in_order))
        cases.append(_case(f"aggregate-{feedback}-200", lambda f=feedback: _aggregate(2, 200, f), _in_order))
        slow = {"bt": 1000, "grk": 800}.get(feedback, 600)
        cases.append(
            _case(
                f"aggregate-{feedback}-{slow}", lambda f=feedback, m=slow: _aggregate(50, m, f), _in_order, quick=False
            )
        )
        cases.append(_case(f"fit-{feedback}-600", lambda f=feedback: _fitted(600, 6000, f), _in_order, quick=False))
    cases += [
        _case("aggregate-bt-300x1000", lambda: _aggregate(300, 1000), _in_order, quick=False),
        _case("fit-1000", lambda: _fitted(1000, 20_000), _in_order, quick=False),
        _case(
            "fit-1000-bootstrap",
            lambda: _fitted(1000, 20_000, intervals="bootstrap", replicates=2),
            _in_order,
            quick=False,
        ),
        _case("fit-1200-alone", lambda: _fitted(1200, 20_000, intervals=None), _in_order, quick=False),
    ]
    for m in (8_000, 20_001, 50_000):
        cases.append(_refused(f"fit-{m}", TOO_MANY, lambda m=m: _fitted(m, 10)))
    for m in (20_001, 200_000):
        for name, says, read in READERS:
            cases.append(
                Case(f"{name}-of-{m}", lambda place, m=m, r=read: r(_file(place, m)), says=says, quick=m < 100_000)
            )
    return cases


def _counts() -> list[Case]:
    cases = []
    for m in (500, 3_000, 30_000):
        cases += [
            _case(
                f"count-{m}", lambda m=m: VoteCounts.of(_votes(m, 10)), lambda c: c.number.sum() == len(c.models) + 10
            ),
            _case(f"ring-{m}", lambda m=m: _connected(m, ring=True), lambda text: text is None),
            _case(
                f"chain-{m}",
                lambda m=m: _connected(m, ring=False),
                lambda text: "groups whose members never lost" in text,
            ),
            _case(f"islands-{m}", lambda m=m: _islands(m), lambda text: "groups that are never compared" in text),
            _case(
                f"ranks-{m}", lambda m=m: ranks(np.arange(m, dtype=np.float64)), lambda r: r[0] == len(r) and r[-1] == 1
            ),
            _case(f"mixture-{m}", lambda m=m: _mixture(m), lambda p: abs(p.sum() - 1) < 1e-12 and (p > 0).sum() <= 2),
        ]
    for m in (300, 2_000):
        cases.append(
            _case(
                f"route-{m}", lambda m=m: _routed(m), lambda r: r.model.startswith("llm") and 0 < r.expected_score < 1
            )
        )
    return cases


def _connected(m: int, *, ring: bool) -> str | None:
    names = list(_names(m))
    after = names[1:] + names[:1]
    table = {
        "model_a": names[: m - (not ring)],
        "model_b": after[: m - (not ring)],
        "winner": ["model_a"] * (m - (not ring)),
    }
    return undetermined(VoteCounts.of(table), Feedback.BT)


def _islands(m: int) -> str | None:
    names = list(_names(m))
    table = {"model_a": names[::2], "model_b": names[1::2], "winner": ["tie"] * (m // 2)}
    return undetermined(VoteCounts.of(table), Feedback.BT_TIE)


def _mixture(m: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    costs = rng.random(m)
    return optimal_mixture(rng.random(m), costs, float(np.median(costs)))


def _routed(m: int) -> Any:
    costs = dict(zip(_names(m), np.linspace(1, 2, m).tolist(), strict=True))
    board = _scored(1, m).leaderboards(_names(m), Feedback.BT)[0]
    return Router(_names(m), "bt", costs).route(board, 1.5, seed=0)


def _options() -> list[Case]:
    cases = []
    for name, arguments in {
        "aggregate-seed": ["aggregate", "{file}", "--seed", "9" * 50],
        "route-seed": ["route", "x", "--seed", "9" * 5000],
        "top": ["leaderboard", "x", "--top", "9" * 100],
        "cost-digits": ["route", "x", "--cost", "9" * 400],
        "cost-power": ["route", "x", "--cost", "1e99999"],
        "plan-n": ["plan", "{file}", "-n", "1" * 60],
        "sizes": ["evaluate", "{file}", "--sizes", "1" * 50],
        "port": ["serve", "--port", "1" * 70],
        "workers": ["serve", "--workers", "9" * 45],
    }.items():
        cases.append(
            Case(f"option-{name}", lambda folder, a=arguments: _command(folder, a), says=r"--|No such option|-n")
        )
    cases.append(Case("option-whole", lambda _: command("route", "x", "--seed", "1.5"), says="no whole number"))
    for value in (True, 2.5, "7", None, 1, -(2**80)):
        cases.append(_refused(f"n-models-{value}", "n_models is", lambda v=value: PairStatistics(Feedback.BT, v)))
        if value != 1:
            cases.append(
                _refused(f"sample-{value}", "sample is", lambda v=value: PairStatistics(Feedback.BT, 3, sample=v))
            )
    return cases


def _command(folder: Path, arguments: list[str]) -> str:
    (folder / "p.txt").write_text("What is 2 + 2?", encoding="utf-8")
    return command(*(argument.format(file=folder / "p.txt") for argument in arguments))


CASES = [*_sizes(), *_counts(), *_options()]
