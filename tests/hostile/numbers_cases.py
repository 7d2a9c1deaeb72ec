"""Hostile numbers: costs, weights, opponents, budgets and seeds at the edges of what a double holds, and texts that are
almost numbers."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Case, command

from p2l_sdk import P2L, Router, fit_leaderboard
from p2l_sdk.leaderboards.aggregate import PairStatistics, aggregate
from p2l_sdk.leaderboards.leaderboard import Coefficients, Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.routing.allocation import JointFrontier
from p2l_sdk.routing.costs import load_costs
from p2l_sdk.routing.mixture import optimal_mixture
from p2l_sdk.routing.pacing import BudgetPacer

PROMPT = "Prove that the square root of two is irrational"
LLMS = ("a", "b", "c")
SCORES = np.array([[0.1, 0.5, 0.6], [0.2, 0.3, 0.9]])
COSTS = {"a": 1e-3, "b": 2e-3, "c": 4e-3}
HUGE = 10**400  # more than a float holds
ENDLESS = 10**5000  # more digits than Python writes
NO_NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "1_0",
    "٣",
    "\uff11\uff10",
    "0x10",
    "1e",
    "1e999",
    "1,5",
    "--1",
    "1 0",
    "½",
    "²",
    "",
    "1f",
    "1e5.5",
    "i",
]


@functools.cache
def model() -> P2L:
    return P2L.from_pretrained("routing9")


def _board(*coefs: float) -> Leaderboard:
    return Coefficients(np.array([coefs]), None, None).leaderboards(LLMS, Feedback.BT)[0]


def _finite(values: Any) -> bool:
    return bool(np.isfinite(np.asarray(values, dtype=np.float64)).all())


def _file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def _refused(name: str, says: str, run: Callable[[Path], Any]) -> Case:
    return Case(name, run, says=says)


def _right(name: str, right: Callable[[Any], bool], run: Callable[[Path], Any]) -> Case:
    return Case(name, run, right=right)


# --- texts that are almost numbers -----------------------------------------------------------------------------------


def _texts() -> list[Case]:
    cases = []
    for at, text in enumerate(NO_NUMBERS):
        cost_file = json.dumps(dict.fromkeys(("a",), text))
        cases += [
            _refused(f"text-cost-{at}", "(?i)budget|--cost", lambda _, t=text: command("route", PROMPT, f"--cost={t}")),
            _refused(
                f"text-library-{at}",
                "the budget is",
                lambda _, t=text: Router(LLMS, "bt", COSTS).route(_board(1, 2, 3), t),
            ),
            _refused(
                f"text-costs-json-{at}", "cost of 'a'", lambda f, c=cost_file: load_costs(_file(f, "c.json", c), LLMS)
            ),
            _refused(
                f"text-opponents-{at}",
                "weight",
                lambda _, t=text: Router(LLMS, "bt", COSTS, opponents={"a": t}),
            ),
        ]
    for at, text in enumerate(["1_0", "٣", "0x10", "1e", "½"]):
        table = f"model,cost\na,{text}\n"
        votes = f"model_a,model_b,winner,weight\na,b,model_a,{text}\n"
        cases += [
            _refused(f"text-costs-csv-{at}", "cost of 'a'", lambda f, t=table: load_costs(_file(f, "c.csv", t), LLMS)),
            _refused(f"text-votes-csv-{at}", "weight", lambda f, t=votes: fit_leaderboard(_file(f, "v.csv", t))),
            _refused(f"text-seed-{at}", "--seed", lambda _, t=text: command("route", PROMPT, f"--seed={t}")),
            _refused(
                f"text-budgets-{at}",
                "--budgets|list of USD",
                lambda f, t=text: command("frontier", _file(f, "p.txt", PROMPT), f"--budgets=0.1,{t}"),
            ),
            _refused(
                f"text-opponent-option-{at}",
                "opponents|weight",
                lambda _, t=text: command("route", PROMPT, f"--opponents=codegemma-7b={t}"),
            ),
            _refused(f"text-prompt-weight-{at}", "weights", lambda _, t=text: model().aggregate([PROMPT], weights=[t])),
        ]
    for text, number in {"1": 1.0, " 1.5 ": 1.5, "+2e-3": 2e-3, ".5": 0.5, "5.": 5.0, "-0": 0.0, "1E2": 100.0}.items():
        cases.append(
            _right(
                f"read-{number}-{len(text)}{text[0]}".replace(" ", ""), number.__eq__, lambda _, t=text: to_number(t)
            )
        )
    return cases


# --- opponents and routing -------------------------------------------------------------------------------------------


def _routed(costs: dict[str, Any], budget: Any, **options: Any) -> Any:
    return Router(LLMS, "bt", costs, **options).route(_board(0.0, 1.0, 2.0), budget, seed=0)


def _routes() -> list[Case]:
    fair = _board(0.0, 1.0, 2.0)
    expected = Router(LLMS, "bt", COSTS, opponents={"a": 1, "b": 1}).route(fair).expected_score
    cases = [
        _right(
            f"opponents-{weight:g}",
            lambda route: route.model == "c" and math.isclose(route.expected_score, expected),
            lambda _, w=weight: Router(LLMS, "bt", COSTS, opponents={"a": w, "b": w}).route(fair),
        )
        for weight in (1.7e308, 1e308, 1e300, 1e-300, 1e-308, 5e-324)
    ]
    for name, weight in {
        "0": 0,
        "minus": -1,
        "minus-0": -0.0,
        "huge": HUGE,
        "endless": ENDLESS,
        "bool": True,
        "none": None,
    }.items():
        cases.append(_refused(f"opponents-{name}", "opponents must be finite", lambda _, w=weight: _opposed(w)))
    for name, budget in {
        "huge": HUGE,
        "endless": ENDLESS,
        "bool": True,
        "bytes": b"1",
        "list": [1.0],
        "array": np.ones(2),
        "minus": -1.0,
        "nan": math.nan,
        "inf": math.inf,
        "tiny": 1e-320,
    }.items():
        cases.append(_refused(f"budget-{name}", "budget", lambda _, b=budget: _routed(COSTS, b)))
    for name, cost in {"huge": HUGE, "endless": ENDLESS, "bool": True, "inf": math.inf, "minus": -5e-324}.items():
        cases.append(_refused(f"cost-of-{name}", "cost of 'a'", lambda _, c=cost: _routed({**COSTS, "a": c}, 1.0)))
        entry = {"input_price": cost, "output_price": 1.0}
        cases.append(_refused(f"price-{name}", "'a'", lambda _, e=entry: load_costs({"a": e}, LLMS)))
    overflow = {"a": {"input_price": 1e308, "output_price": 1e308}}
    cases.append(_refused("price-overflow", "cost of 'a' is inf", lambda _: load_costs(overflow, LLMS)))
    for scale in (5e-324, 1e-310, 1e-300, 1e300, 4e304):
        costs = {"a": scale, "b": 2 * scale, "c": 4 * scale}
        array = np.array(list(costs.values()))
        cases += [
            _right(
                f"mixture-{scale:g}",
                lambda p: np.allclose(p, [0, 0.5, 0.5]),
                lambda _, a=array, s=scale: optimal_mixture(np.array([0.1, 0.5, 0.6]), a, 3 * s),
            ),
            _right(
                f"joint-{scale:g}",
                lambda a: a.choice.tolist() == [1, 2],
                lambda _, a=array, s=scale: JointFrontier(SCORES, a).at(3 * s),
            ),
            _right(
                f"pacer-{scale:g}",
                lambda picks: sorted(set(picks)) == [1, 2],
                lambda _, a=array, s=scale: _paced(a, 3 * s),
            ),
            _right(
                f"route-{scale:g}",
                lambda r: r.model in ("b", "c") and _finite(r.expected_score),
                lambda _, c=costs, s=scale: _routed(c, 3 * s),
            ),
        ]
    cases += [
        _right("free", lambda route: route.model == "c", lambda _: _routed(dict.fromkeys(LLMS, 0.0), 0.0)),
        _right("minus-zero", lambda route: route.model == "c", lambda _: _routed(dict.fromkeys(LLMS, -0.0), -0.0)),
        _right("budget-1e308", lambda route: route.model == "c", lambda _: _routed(COSTS, 1e308)),
        _right(
            "budget-numpy",
            lambda route: route.model == "a",
            lambda _: _routed(COSTS, np.float32(1.1e-3), policy="strict"),
        ),
        _right(
            "routed-coefs-1e300",
            lambda r: r.model == "c" and _finite(r.rating),
            lambda _: Router(LLMS, "bt", COSTS).route(_board(-1e300, 0, 1e300)),
        ),
        _right("one-cost-huge", lambda r: r.model == "b", lambda _: _routed({**COSTS, "c": 1.7e308}, 3e-3)),
        _right("one-cost-tiny", lambda r: r.model in ("b", "c"), lambda _: _routed({**COSTS, "a": 5e-324}, 3e-3)),
    ]
    return cases


def _opposed(weight: Any) -> Router:
    return Router(LLMS, "bt", COSTS, opponents={"a": weight})


def _paced(costs: np.ndarray, budget: float) -> list[int]:
    pacer, picks = BudgetPacer(costs, budget), []
    for _ in range(300):
        picks.append(pacer.choose(np.array([0.1, 0.5, 0.6])))
        pacer.record(float(costs[picks[-1]]))
    return picks


# --- weights of prompts and votes ------------------------------------------------------------------------------------


def _aggregated(weights: Any, coefs: Any = None, **options: Any) -> Leaderboard:
    rng = np.random.default_rng(0)
    batch = Coefficients(rng.normal(size=(8, 3)) if coefs is None else np.asarray(coefs, dtype=np.float64), None, None)
    return aggregate([batch], Feedback.BT, LLMS, weights=weights, replicates=50, **options)


def _votes(weights: Any) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 3, 60)
    b = (a + rng.integers(1, 3, 60)) % 3
    winners = np.array(["model_a", "model_b", "tie"])[rng.integers(0, 3, 60)]
    names = np.array(LLMS)
    return {"model_a": names[a], "model_b": names[b], "winner": winners, "weight": weights}


def _weights() -> list[Case]:
    cases = []
    for scale in (1.7e308, 1e308, 1e160, 1e-160, 1e-308, 5e-324):
        cases += [
            _right(
                f"prompts-{scale:g}",
                lambda b: _near(b, lambda: _aggregated([1.0] * 8)),
                lambda _, s=scale: _aggregated([s] * 8),
            ),
            _right(
                f"votes-{scale:g}",
                lambda b: _near(b, lambda: fit_leaderboard(_votes([1.0] * 60))),
                lambda _, s=scale: fit_leaderboard(_votes([s] * 60)),
            ),
        ]
        for feedback in ("grk", "rk"):
            cases.append(
                _right(
                    f"votes-{feedback}-{scale:g}",
                    lambda b: _finite(b.coefs) and np.ptp(b.intervals) < 100,
                    lambda _, s=scale, f=feedback: _quiet(_votes([s] * 60), f),
                )
            )
    for name, weight in {
        "nan": math.nan,
        "inf": math.inf,
        "minus": -1.0,
        "huge": HUGE,
        "endless": ENDLESS,
        "bool": True,
        "none": None,
    }.items():
        cases.append(_refused(f"prompts-{name}", "weights must be", lambda _, w=weight: _aggregated([1.0] * 7 + [w])))
    cases += [
        _refused("prompts-0", "all weights are 0", lambda _: _aggregated([0.0] * 8)),
        _refused("prompts-minus-0", "all weights are 0", lambda _: _aggregated([-0.0] * 8)),
        _refused("votes-0", "no vote counts", lambda _: fit_leaderboard(_votes([0.0] * 60))),
        _right("prompts-mixed", lambda b: _finite(b.coefs), lambda _: _aggregated([5e-324] * 4 + [1e300] * 4)),
        _refused("coefs-nan", "NaN", lambda _: _aggregated(None, [[math.nan, 0, 1]])),
        _right(
            "coefs-1e300",
            lambda b: b.best == "c" and _finite(b.coefs),
            lambda _: _aggregated(None, [[-1e300, 0, 1e300]] * 8),
        ),
        _right("merge-scales", _finite, lambda _: _merged()),
    ]
    for low in (1e-13, 1e-20, 1e-300):  # one LLM is tied to the others by next to nothing
        cases.append(
            _right(
                f"votes-far-{low:g}",
                lambda b: _finite(b.intervals) and np.ptp(b.intervals[2]) > 10,
                lambda _, w=low: _loose(w),
            )
        )
    for name, seed in {"minus": -1, "float": 1.5, "text": "1", "bool": True, "none": None}.items():
        cases += [
            _refused(f"aggregate-seed-{name}", "seed is", lambda _, s=seed: _aggregated(None, seed=s)),
            _refused(
                f"fit-seed-{name}",
                "seed is",
                lambda _, s=seed: fit_leaderboard(_votes([1.0] * 60), intervals="bootstrap", seed=s),
            ),
            _refused(
                f"replicates-{name}",
                "replicates",
                lambda _, s=seed: fit_leaderboard(_votes([1.0] * 60), intervals="bootstrap", replicates=s),
            ),
        ]
    for name, seed in {"huge": 2**200, "numpy": np.int64(3), "unsigned": np.uint8(3)}.items():
        cases.append(
            _right(f"seed-{name}", lambda b: _finite(b.intervals), lambda _, s=seed: _aggregated(None, seed=s))
        )
        cases.append(
            _right(
                f"route-seed-{name}",
                lambda r: r.model in LLMS,
                lambda _, s=seed: Router(LLMS, "bt", COSTS).route(_board(0, 1, 2), 3e-3, s),
            )
        )
    return cases


def _near(board: Leaderboard, of: Callable[[], Leaderboard]) -> bool:
    return np.allclose(board.coefs, of().coefs, atol=1e-9) and _finite(board.intervals)


def _quiet(votes: dict[str, Any], feedback: str) -> Leaderboard:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_leaderboard(votes, feedback)


def _loose(weight: float) -> Leaderboard:
    votes = _votes(None)
    votes["weight"] = [weight if "c" in pair else 1.0 for pair in zip(votes["model_a"], votes["model_b"], strict=True)]
    return _quiet(votes, "bt")


def _merged() -> np.ndarray:
    workers = [PairStatistics(Feedback.BT, 3, seed=i) for i in range(2)]
    for worker, scale in zip(workers, (1e-300, 1e300), strict=True):
        worker.add(Coefficients(np.random.default_rng(0).normal(size=(4, 3)), None, None), np.full(4, scale))
    workers[0].merge(workers[1])
    return workers[0].solve(LLMS).intervals


CASES = [*_texts(), *_routes(), *_weights()]
