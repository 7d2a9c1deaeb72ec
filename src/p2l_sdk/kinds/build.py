"""Build a P2L model from leaderboards by kind of prompt and prompts of known kind."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from p2l_sdk.editing.rated import Geometry, KindsRecord, spreads
from p2l_sdk.errors import P2LError
from p2l_sdk.kinds.base import Base
from p2l_sdk.kinds.prompts import KindPrompts
from p2l_sdk.kinds.ratings import KindRatings
from p2l_sdk.kinds.recogniser import HIDDEN, Recogniser, train_recogniser
from p2l_sdk.leaderboards.aggregate import PairStatistics
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE
from p2l_sdk.modeling.spec_p2l import Activation, ModelSpec
from p2l_sdk.outputs.folders import require_new
from p2l_sdk.rewording.copies import changed_copies
from p2l_sdk.routing.costs import CostSource, load_costs
from p2l_sdk.scorers.familiarity import learned_familiarity
from p2l_sdk.tabular import Tabular

if TYPE_CHECKING:
    import matplotlib.axes

COPIES = 4  # changed copies of each prompt
_CHECKED = 300  # prompts per kind whose aggregate is compared with the kind's leaderboard
_LARGEST = 3.0  # standard deviations of an entry of the prompts' vectors, in units of the median one


@dataclass(frozen=True)
class BuiltKind:
    """How a kind came out. All of it is measured on prompts that the recogniser had not seen (five folds).

    Attributes:
        name: of the kind.
        n_prompts: prompts of the kind.
        recognised: mean share of the kind recognised in prompts of it, in [0, 1].
        elsewhere: mean share of it recognised in prompts that are not of it.
        departure: mean absolute departure of the LLMs' ratings in the kind from the overall ones, in Elo points.
        error: mean absolute difference between the ratings in the kind and those of the aggregate over its prompts.
        correlation: between these departures, published and aggregated, over the LLMs; None for fewer than three.
    """

    name: str
    n_prompts: int
    recognised: float
    elsewhere: float
    departure: float
    error: float
    correlation: float | None


@dataclass(frozen=True, eq=False)
class BuiltModel(Tabular):
    """A built model.

    Attributes:
        folder: where it was written.
        spec: its definition.
        kinds: how each kind came out.
        none: mean absolute difference, in Elo points, between the overall ratings and those of the aggregate over
            prompts of no known kind; None if there are none.
        n_prompts: number of prompts.
    """

    folder: Path
    spec: ModelSpec
    kinds: tuple[BuiltKind, ...]
    none: float | None
    n_prompts: int

    @property
    def caption(self) -> str:
        """A one-line description."""
        return f"A model of {len(self.spec.models)} LLMs, built from {len(self.kinds)} kinds of prompt"

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each kind, with what `BuiltKind` says of it."""
        return [asdict(kind) for kind in self.kinds]

    def plot(self, ax: matplotlib.axes.Axes | None = None) -> matplotlib.axes.Axes:
        """Draw how far the ratings in each kind are from the published ones.

        Args:
            ax: where to draw; a new figure if not given.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        from p2l_sdk import pictures

        return pictures.draw_bars(
            self.rows(), "name", "error", meaning="mean error of a rating, Elo points", title=self.caption, ax=ax
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "output": str(self.folder),
            "models": list(self.spec.models),
            "feedback": str(self.spec.feedback),
            "n_prompts": self.n_prompts,
            "kinds": self.rows(),
            "none": self.none,
        }


def build_model(
    ratings: KindRatings,
    prompts: KindPrompts | Any,
    output: str | Path,
    *,
    base: str | Path | None = None,
    costs: CostSource | None = None,
    copies: int = COPIES,
    seed: int = 0,
    card: Callable[[BuiltModel], str] | None = None,
    progress: Callable[[str, int], None] | None = None,
    device: str | None = None,
) -> BuiltModel:
    """Build a model whose leaderboards, aggregated over the prompts of a kind, are the leaderboard of that kind.

    Args:
        ratings: the leaderboards.
        prompts: prompts of known kind, or a table of them (see `KindPrompts.read`).
        output: the new folder; it is written completely or not at all.
        base: the text model, see `Base`; None for the embedded static one.
        costs: USD per response, see `load_costs`.
        copies: changed copies of each prompt that the recogniser learns from too, so that it does not mind how a
            question is put; each is read by the base once. 0 for none.
        seed: of the copies and the recogniser.
        card: writes the model's card.
        progress: called with a phase ("prompts", "networks") and how many of its steps are done.
        device: where torch runs, for a base that needs it.

    Raises:
        TableError: the prompts are invalid, or a kind has none.
        P2LError: the output exists, or the base cannot be built upon.
        CostError: a cost is invalid.
    """
    target = Path(output).expanduser()
    require_new(output)
    if not isinstance(prompts, KindPrompts):
        prompts = KindPrompts.read(prompts, ratings.kinds)
    if prompts.kinds != ratings.kinds:
        raise P2LError("ratings and prompts are of other kinds; read the prompts with kinds=ratings.kinds")
    usd = dict(load_costs(costs, ratings.models)) if costs is not None else {}
    below = Base(base, device)
    texts = [*prompts.prompts, *itertools.chain(*changed_copies(prompts.prompts, copies, seed))]
    vectors, *changed = np.split(below.pooled(texts, _phase(progress, "prompts")), 1 + copies)
    centre, scale = _standard(vectors)
    recogniser = train_recogniser(
        (vectors - centre) / scale,
        prompts.member,
        prompts.unsure,
        copies=(np.stack(changed) - centre) / scale if changed else None,
        seed=seed,
        progress=_phase(progress, "networks"),
    )
    layer = LastLayer.of(ratings, recogniser.left_out, prompts)
    known = learned_familiarity(vectors, np.zeros(len(ratings.kinds)), seed)
    spec = below.spec.replace(
        models=ratings.models,
        feedback=ratings.feedback,
        costs=usd,
        kinds=ratings.kinds,
        familiarity=0 if known is None else len(known["directions"]),
        head_norm=False,
        head_hidden_size=HIDDEN,
        head_activation=Activation.GELU,
        head_input_dropout=0.0,
        head_dropout=0.0,
    )
    built = _measured(target, spec, ratings, prompts, recogniser, layer)
    head = {**_recognising(recogniser, centre, scale), **layer.tensors()}
    head |= {f"head.familiarity.{name}": tensor for name, tensor in (known or {}).items()}

    def more(folder: Path) -> None:
        layer.record(ratings).write(folder)
        if card is not None:
            (folder / "README.md").write_text(card(built), encoding="utf-8")

    below.write(target, spec, {name: np.ascontiguousarray(x, dtype=np.float32) for name, x in head.items()}, more)
    return built


@dataclass(frozen=True, eq=False)
class LastLayer:
    """From shares of kinds to coefficients.

    Attributes:
        rows, variance: `(n_models, n_kinds + 1)` the LLMs' rows and their variances, the bias last.
        eta: `(n_kinds + 1,)` the row of the tie threshold; None if the feedback model has none.
        geometry, spread: see `editing.rated`.
    """

    rows: np.ndarray
    variance: np.ndarray
    eta: np.ndarray | None
    geometry: Geometry
    spread: np.ndarray

    @classmethod
    def of(cls, ratings: KindRatings, shares: np.ndarray, prompts: KindPrompts) -> LastLayer:
        """The layer for prompts in which these `(n_prompts, n_kinds)` shares were recognised."""
        sure = ~prompts.unsure.any(1) | prompts.member.any(1)
        geometry = Geometry.of(shares[sure], prompts.member[sure], prompts.weight[sure])
        departures = ratings.coefs - ratings.overall[:, :1]
        spread = spreads(departures, ratings.errors)
        rows, variance = geometry.rows(ratings.overall, departures, ratings.errors, spread)
        eta = None
        if ratings.eta is not None:
            known = np.zeros((1, len(spread)))
            whole = np.array([[ratings.eta[-1], 0.0]])
            eta = geometry.rows(whole, ratings.eta[None, :-1] - ratings.eta[-1], known, spread)[0][0]
        return cls(rows, variance, eta, geometry, spread)

    def __call__(self, shares: np.ndarray) -> Coefficients:
        """The coefficients of prompts with these `(n_prompts, n_kinds)` shares of kinds."""
        eta = None if self.eta is None else (shares @ self.eta[:-1] + self.eta[-1])[:, None]
        return Coefficients(shares @ self.rows[:, :-1].T + self.rows[:, -1], eta, None)

    def tensors(self) -> dict[str, np.ndarray]:
        """By their names in the model."""
        found = {"head.coefs.weight": self.rows[:, :-1], "head.coefs.bias": self.rows[:, -1]}
        found["head.variance"] = self.variance
        if self.eta is not None:
            found |= {"head.eta.weight": self.eta[None, :-1], "head.eta.bias": self.eta[-1:]}
        return found

    def record(self, ratings: KindRatings) -> KindsRecord:
        """What makes the row of another LLM from its ratings."""
        return KindsRecord(
            ratings.kinds, ratings.overall_name, ratings.scale, ratings.curves, self.spread, self.geometry
        )


def _phase(progress: Callable[[str, int], None] | None, name: str) -> Callable[[int], None] | None:
    """The progress of one phase."""
    return None if progress is None else functools.partial(progress, name)


def _standard(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of the vectors' entries: of about unit variance, and none far above the others."""
    spread = vectors.std(0)
    usual = max(float(np.median(spread)), 1e-6)
    return vectors.mean(0), np.maximum(usual, spread / _LARGEST)


def _recognising(recogniser: Recogniser, centre: np.ndarray, scale: np.ndarray) -> dict[str, np.ndarray]:
    """The layers up to the shares of kinds, for vectors that are not standardised."""
    hidden, bias, output, output_bias = recogniser.layers
    weight = hidden / scale[:, None]
    return {
        "head.hidden.weight": weight.T,
        "head.hidden.bias": bias - centre @ weight,
        "head.kinds.0.weight": output.T,
        "head.kinds.0.bias": output_bias,
    }


def _measured(
    folder: Path,
    spec: ModelSpec,
    ratings: KindRatings,
    prompts: KindPrompts,
    recogniser: Recogniser,
    layer: LastLayer,
) -> BuiltModel:
    shares, member = recogniser.left_out, prompts.member
    kinds = []
    for k, name in enumerate(ratings.kinds):
        own = member[:, k]
        published = ratings.coefs[:, k] - ratings.overall[:, 0]
        rated = ~np.isnan(published)
        got = _aggregated(layer, shares, own * prompts.weight, ratings) - ratings.overall[:, 0]
        published, got = published[rated], got[rated]
        if spec.feedback.floating:
            published, got = published - published.mean(), got - got.mean()
        alike = len(got) < 3 or min(np.ptp(got), np.ptp(published)) < 1e-9
        kinds.append(
            BuiltKind(
                name=name,
                n_prompts=int(own.sum()),
                recognised=float(shares[own, k].mean()),
                elsewhere=float(shares[~own & ~prompts.unsure[:, k], k].mean()) if (~own).any() else 0.0,
                departure=ARENA_SCALE * float(np.abs(published).mean()),
                error=ARENA_SCALE * float(np.abs(got - published).mean()),
                correlation=None if alike else float(np.corrcoef(got, published)[0, 1]),
            )
        )
    none, off = ~(member | prompts.unsure).any(1), None
    if none @ prompts.weight:
        away = _aggregated(layer, shares, none * prompts.weight, ratings) - ratings.overall[:, 0]
        off = ARENA_SCALE * float(np.abs(away - (away.mean() if spec.feedback.floating else 0.0)).mean())
    return BuiltModel(folder, spec, tuple(kinds), off, len(prompts.prompts))


def _aggregated(layer: LastLayer, shares: np.ndarray, weight: np.ndarray, ratings: KindRatings) -> np.ndarray:
    """`(n_models,)` coefficients of the aggregate leaderboard of the prompts with these shares and weights; of very
    many, those of some that are spread evenly."""
    rows = np.flatnonzero(weight)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _CHECKED)).round().astype(np.intp)]
    statistics = PairStatistics(ratings.feedback, len(ratings.models), sample=0)
    statistics.add(layer(shares[rows]), weight[rows])
    return statistics.solve(ratings.models, replicates=0).coefs
