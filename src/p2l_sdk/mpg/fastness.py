"""Fastness: how fast and how cheap an LLM is, from measurements, or from prices and mean token counts.

    usd_per_query            mean cost of an answer
    queries_per_second       answers per elapsed second; where the elapsed time is unknown, callers / mean seconds
    seconds                  mean time to the complete answer
    seconds_to_first_token   mean time to the first token
    tokens_per_second        output tokens over seconds, both summed over the answers

Measured numbers have 95 % intervals from a bootstrap over the queries; computed ones have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.errors import ResultsError
from p2l_sdk.mpg.results import Results
from p2l_sdk.routing.costs import response_cost
from p2l_sdk.routing.route import usd
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

MEASURES = ("usd_per_query", "queries_per_second", "seconds", "seconds_to_first_token", "tokens_per_second")
_BATCH = 2_000_000  # bootstrap numbers held in memory at once


@dataclass(frozen=True)
class Measure:
    """A number with its 95 % limits (None if there is no interval) and its number of queries (0 if it was computed, not
    measured)."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True, eq=False)
class Run:
    """The measurements of one LLM: one number per answered query, NaN where not measured.

    Attributes:
        seconds: `(n,)` from when the query was due to the end of the answer.
        seconds_to_first_token: `(n,)` or None.
        output_tokens: `(n,)` or None.
        usd: `(n,)` cost or None.
        elapsed: seconds from the first query to the last answer; None if unknown.
        callers: number of concurrent queries; used only without `elapsed`.
    """

    seconds: np.ndarray | None = None
    seconds_to_first_token: np.ndarray | None = None
    output_tokens: np.ndarray | None = None
    usd: np.ndarray | None = None
    elapsed: float | None = None
    callers: float = 1.0


class Fastness(Tabular, Mapping[str, float]):
    """How fast and how cheap LLMs are. As a mapping it is LLM -> USD per query, so it can be passed as `costs=`.

    Attributes:
        measures: measure -> LLM -> `Measure`; LLMs for which it is unknown are absent.
        note: one sentence on where the numbers come from.
    """

    def __init__(self, measures: Mapping[str, Mapping[str, Measure]], note: str = "") -> None:
        for name, table in measures.items():
            if name not in MEASURES:
                raise ResultsError(f"unknown measure {name!r}; known: {', '.join(MEASURES)}")
            for model, measure in table.items():
                if not 0.0 <= measure.value < np.inf:
                    raise ResultsError(f"{name} of {model!r} is {measure.value}; it must be a finite number >= 0")
        self.measures = {name: dict(measures[name]) for name in MEASURES if measures.get(name)}
        self.note = note

    @classmethod
    def of_prices(
        cls,
        prices: Mapping[str, tuple[float, float]],
        *,
        input_tokens: float | Mapping[str, float],
        output_tokens: float | Mapping[str, float],
    ) -> Fastness:
        """USD per query from list prices.

        Args:
            prices: LLM -> (input price, output price), USD per million tokens.
            input_tokens, output_tokens: mean per query, one number for all LLMs or one for each.

        Raises:
            ResultsError: a price or a count is not a finite number >= 0, or an LLM has no count.
        """
        table = {}
        for model, price in prices.items():
            counts = [_count_of(model, counts) for counts in (input_tokens, output_tokens)]
            if len(price) != 2 or not all(np.isfinite(x) and x >= 0 for x in (*price, *counts)):
                raise ResultsError(f"{model!r}: prices {price!r} and token counts {counts!r} must be numbers >= 0")
            table[model] = Measure(response_cost(*price, *counts))
        note = "cost from list prices and mean token counts, nothing measured"
        if not isinstance(input_tokens, Mapping) and not isinstance(output_tokens, Mapping):
            note = (
                f"cost from list prices of {input_tokens:g} input and {output_tokens:g} output tokens, nothing measured"
            )
        return cls({"usd_per_query": table}, note)

    @classmethod
    def measured(cls, runs: Mapping[str, Run], *, replicates: int = 1000, seed: int = 0) -> Fastness:
        """All measures that the runs determine, with bootstrap intervals over the queries."""
        rng = np.random.default_rng(seed)
        measures: dict[str, dict[str, Measure]] = {name: {} for name in MEASURES}
        for model, run in runs.items():
            for name, measure in _of_run(run, replicates, rng).items():
                measures[name][model] = measure
        return cls(measures, "measured; 95 % intervals over the queries")

    @classmethod
    def of_results(
        cls,
        results: Results,
        *,
        prices: Mapping[str, tuple[float, float]] | None = None,
        tokens: tuple[float, float] | None = None,
        replicates: int = 1000,
        seed: int = 0,
    ) -> Fastness:
        """From the seconds, tokens and costs in per-question results.

        Args:
            results: per-question results with measurements.
            prices: LLM -> (input price, output price), USD per million tokens. Where tokens were counted, the cost is
                computed from them and replaces any cost in the results.
            tokens: mean (input, output) tokens of a query, for LLMs with a price but neither token counts nor costs.
            replicates, seed: of the bootstrap.
        """
        columns = {
            "seconds": "seconds",
            "first_token_seconds": "seconds_to_first_token",
            "output_tokens": "output_tokens",
            "cost": "usd",
        }
        prices = {model: price for model, price in (prices or {}).items() if model in results.models}
        runs: dict[str, dict[str, Any]] = {}
        for name, column in columns.items():
            for model, values in results.samples.get(name, {}).items():
                runs.setdefault(model, {})[column] = values
        counted = _costs(results, prices)
        for model, costs in counted.items():
            runs[model]["usd"] = costs
        found = cls.measured({model: Run(**arrays) for model, arrays in runs.items()}, replicates=replicates, seed=seed)
        if counted:
            found.note += "; cost from list prices and the counted tokens"
        others = {model: price for model, price in prices.items() if model not in found}
        if tokens is None or not others:
            return found
        computed = cls.of_prices(others, input_tokens=tokens[0], output_tokens=tokens[1])
        if not found.measures:
            return computed
        costs_of = {**found.measures.get("usd_per_query", {}), **computed.measures["usd_per_query"]}
        whom = "" if len(costs_of) == len(others) else f" of {', '.join(others)}"
        note = f"cost{whom} from list prices of {tokens[0]:g} input and {tokens[1]:g} output tokens, not measured"
        return cls({**found.measures, "usd_per_query": costs_of}, f"{found.note}; {note}")

    def __getitem__(self, model: str) -> float:
        return self.measures.get("usd_per_query", {})[model].value

    def __iter__(self) -> Iterator[str]:
        return iter(self.measures.get("usd_per_query", {}))

    def __len__(self) -> int:
        return len(self.measures.get("usd_per_query", {}))

    def values_of(self, measure: str) -> dict[str, float]:
        """LLM -> number. Raises `ResultsError` if the measure is known for no LLM."""
        if measure not in self.measures:
            has = ", ".join(self.measures) or "nothing"
            raise ResultsError(f"{measure!r} is not known; known are: {has}; ask for one of them (--measure)")
        return {model: found.value for model, found in self.measures[measure].items()}

    def first_measure(self, models: Sequence[str]) -> str:
        """The measure known for most of these LLMs; on a tie, the first in `MEASURES`.

        Raises:
            ResultsError: nothing is known about any LLM.
        """
        if not self.measures:
            raise ResultsError("the Fastness has no measure of any LLM")
        return max(self.measures, key=lambda name: len(self.measures[name].keys() & set(models)))

    @property
    def caption(self) -> str:
        """A one-line description."""
        n = len({model for table in self.measures.values() for model in table})
        return f"Fastness of {n} LLM{'' if n == 1 else 's'} ({self.note})"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each LLM and measure: model, measure, value, low, high, n."""
        return [
            {"model": model, "measure": name, **found.to_dict()}
            for name, table in self.measures.items()
            for model, found in table.items()
        ]

    def plot(self, ax: matplotlib.axes.Axes | None = None, *, measure: str | None = None) -> matplotlib.axes.Axes:
        """Draw a measure of the LLMs.

        Args:
            ax: where to draw; a new figure if not given.
            measure: which one; that of most LLMs if not given.

        Raises:
            ResultsError: it is not known.
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        name = measure or self.first_measure(list({model for table in self.measures.values() for model in table}))
        self.values_of(name)
        rows = [row for row in self.rows() if row["measure"] == name]
        return pictures.draw_bars(rows, "model", "value", meaning=name.replace("_", " "), title=self.caption, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: note, and measure -> LLM -> value, low, high, n."""
        tables = {name: {m: x.to_dict() for m, x in table.items()} for name, table in self.measures.items()}
        return {"note": self.note, **tables}

    def __repr__(self) -> str:
        models = list(dict.fromkeys(model for table in self.measures.values() for model in table))
        lines = [self.caption]
        width = max(map(len, models), default=0)
        for model in models:
            tables = {name: table for name, table in self.measures.items() if model in table}
            cells = [f"{name} {measure_text(name, table[model])}" for name, table in tables.items()]
            lines.append(f"{model.ljust(width)}  {', '.join(cells)}")
        return "\n".join(lines)


def measure_text(measure: str, found: Measure) -> str:
    """The number as text, with its interval if there is one."""
    text = f"{'$' if measure == 'usd_per_query' else ''}{_digits(found.value)}"
    if found.low is None or found.high is None:
        return text
    return f"{text} ({_digits(found.low)} to {_digits(found.high)})"


def _digits(x: float) -> str:
    """Three significant digits without an exponent: 0.000002, not 2e-06."""
    return usd(float(f"{x:.3g}")).removeprefix("$")


def _count_of(model: str, counts: float | Mapping[str, float]) -> float:
    if not isinstance(counts, Mapping):
        return float(counts)
    if model not in counts:
        raise ResultsError(f"there is no token count of {model!r}; give one for every LLM with a price")
    return float(counts[model])


def _costs(results: Results, prices: Mapping[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """LLM -> `(n,)` USD of each query, NaN without a token count; only LLMs with a price and counted tokens."""
    found = {}
    for model, price in prices.items():
        counts = [results.samples.get(name, {}).get(model) for name in ("input_tokens", "output_tokens")]
        if counts[0] is not None and counts[1] is not None:
            costs = np.array([response_cost(*price, *pair) for pair in zip(counts[0], counts[1], strict=True)])
            if not np.isnan(costs).all():
                found[model] = costs
    return found


def _of_run(run: Run, replicates: int, rng: np.random.Generator) -> dict[str, Measure]:
    found = {}
    for name in ("seconds", "seconds_to_first_token", "usd"):
        values = getattr(run, name)
        if values is not None and len(values := values[~np.isnan(values)]):
            found[name] = _ratio(values, np.ones(len(values)), replicates, rng)
    if "usd" in found:
        found["usd_per_query"] = found.pop("usd")
    if run.seconds is not None and "seconds" in found:
        mean = found["seconds"]
        # the relative uncertainty of the rate is taken to be that of the mean duration, also for n / elapsed
        rate = run.callers / mean.value if run.elapsed is None else mean.n / run.elapsed
        if mean.low is not None and mean.high is not None and mean.low > 0:
            found["queries_per_second"] = Measure(
                rate, rate * mean.value / mean.high, rate * mean.value / mean.low, mean.n
            )
        if run.output_tokens is not None:
            both = ~np.isnan(run.output_tokens) & ~np.isnan(run.seconds)
            if both.any() and run.seconds[both].sum() > 0:
                found["tokens_per_second"] = _ratio(run.output_tokens[both], run.seconds[both], replicates, rng)
    return found


def _ratio(top: np.ndarray, bottom: np.ndarray, replicates: int, rng: np.random.Generator) -> Measure:
    """Ratio of the sums, with its bootstrap interval over the queries."""
    n, ratios = len(top), []
    size = max(1, _BATCH // n)
    for start in range(0, replicates, size):
        picks = rng.integers(0, n, (min(size, replicates - start), n))
        ratios.append(top[picks].sum(1) / bottom[picks].sum(1))
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return Measure(float(top.sum() / bottom.sum()), float(low), float(high), n)
