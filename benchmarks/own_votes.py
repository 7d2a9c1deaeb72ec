"""Own votes on top of public knowledge: how many does it take, and is it ever worse than without?

The LLMs are the 15 of mmlu_pro. Public knowledge is a model of kinds built from the LLMs' averages on half of the
subjects (drawn anew in each round), as a table of ratings would give them. Own votes are drawn from the training split:
a random prompt and pair for each, the higher score wins. Compared on the validation split, by round:

    refined           `P2L.refine`: the model of kinds, refined with the votes (`p2l train --base`)
    averaged          the averaged leaderboard of the same votes
    votes alone       a static model trained on the same votes (`p2l train`)
    base              the model of kinds alone

All in the feedback model `grk`, the default; "refined bt" and "averaged bt" ignore ties. Each figure has two standard
errors, over the rounds and over the validation prompts; differences to "refined" are paired by both.

    python benchmarks/own_votes.py [--data ../shared/data/mmlu_pro] [--votes 30 100 300 1000] [--rounds N] [--json]
"""

from __future__ import annotations

from threads import parse

# isort: split
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, print_json, rounds_and_json

from p2l_sdk import P2L, Scores, Votes, fit_leaderboard
from p2l_sdk.errors import P2LWarning
from p2l_sdk.hub.folders import DEFAULT_MODEL
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probabilities, vote_targets
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.training.static import StaticRecipe, train_static, write_static
from p2l_sdk.training.token_table import table_of

METRICS = ("bt_log_loss", "cross_entropy", "routed_score")
_PSEUDO = 5  # answers at the overall average, added to those of a subject


class SubjectsGiven:
    """A model of kinds that is told the subject of a prompt: a stand-in for one that recognises it."""

    variance = None

    def __init__(self, spec: ModelSpec, rows: np.ndarray, kinds: dict[str, np.ndarray], eta: float | None = None):
        self.spec, self.rows, self._kinds, self._eta = spec, rows, kinds, eta

    def features(self, prompts: list[str]) -> np.ndarray:
        """The kinds of the prompts, one of them at most."""
        return np.array([self._kinds[prompt] for prompt in prompts])

    def score_features(self, features: np.ndarray) -> Coefficients:
        """The last layer."""
        coefs = features @ self.rows[:, :-1].T + self.rows[:, -1]
        return Coefficients(coefs, None if self._eta is None else np.full((len(coefs), 1), self._eta), None)

    def score(self, prompts: list[str]) -> Coefficients:
        """Coefficients of the prompts."""
        return self.score_features(self.features(prompts))

    def with_rows(self, spec: ModelSpec, rows: np.ndarray, variance: np.ndarray | None = None) -> SubjectsGiven:
        """The same kinds with other rows."""
        return SubjectsGiven(spec, rows, self._kinds, self._eta)

    def with_feedback(self, feedback: Feedback, eta: float | None) -> SubjectsGiven:
        """The same rows with another feedback model."""
        return SubjectsGiven(self.spec.replace(feedback=feedback), self.rows, self._kinds, eta)


def subjects_of(scores: Scores) -> np.ndarray:
    """The subject of each prompt."""
    return np.asarray(scores.categories["category"])


def kinds_model(train: Scores, validation: Scores, rated: list[str]) -> P2L:
    """A model of kinds from the averages on the rated subjects, in logits."""
    subject, values = subjects_of(train), train.scores
    mean = values[np.isin(subject, rated)].mean(0)
    overall = np.log(mean / (1 - mean))
    rows = np.zeros((len(train.models), len(rated) + 1))
    rows[:, -1] = overall
    for k, name in enumerate(rated):
        own = values[subject == name]
        share = (own.sum(0) + _PSEUDO * mean) / (len(own) + _PSEUDO)
        rows[:, k] = np.log(share / (1 - share)) - overall
    pairs = [*zip(train.prompts, subject, strict=True), *zip(validation.prompts, subjects_of(validation), strict=True)]
    kinds = {str(prompt): np.array([float(name == s) for name in rated]) for prompt, s in pairs}
    return P2L(SubjectsGiven(ModelSpec(models=train.models, feedback=Feedback.BT), rows, kinds))


def own_votes(scores: Scores, n: int, random: np.random.Generator) -> Votes:
    """Votes on random prompts and pairs."""
    n_models = len(scores.models)
    row, a = random.integers(0, len(scores.prompts), n), random.integers(0, n_models, n)
    b = (a + random.integers(1, n_models, n)) % n_models
    winner = outcomes(scores.scores[row, a], scores.scores[row, b])
    names = np.array(["model_a", "model_b", "tie", "tie (bothbad)"])
    columns = zip(row, a, b, winner, strict=True)
    return Votes.from_rows(
        {"prompt": scores.prompts[i], "model_a": scores.models[x], "model_b": scores.models[y], "winner": names[w]}
        for i, x, y, w in columns
    )


def outcomes(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The `Winner` codes of compared scores."""
    return np.where(left > right, 0, np.where(right > left, 1, np.where(left >= 0.5, 2, 3)))


def measured(models: tuple[str, ...], scored: Coefficients, feedback: Feedback, held_out: Scores) -> np.ndarray:
    """`(n_prompts, 4)`: loss of the decisive votes and their number, cross-entropy, routed score. An LLM that the
    predictor does not know is average."""
    place = [models.index(name) if name in models else -1 for name in held_out.models]
    coefs = np.where(np.array(place) >= 0, scored.coefs[:, place], scored.coefs.mean(1, keepdims=True))
    a, b = np.triu_indices(len(place), 1)
    winner = outcomes(held_out.scores[:, a], held_out.scores[:, b])
    away = np.where(winner == 0, 1.0, -1.0) * (coefs[:, a] - coefs[:, b])
    decisive = winner < 2
    law = log_probabilities(feedback, coefs[:, a], coefs[:, b], None if scored.eta is None else scored.eta + 0 * away)
    targets = vote_targets(feedback)[winner]
    entropy = -(targets * law).sum((1, 2)) / len(a)
    routed = held_out.scores[np.arange(len(coefs)), coefs.argmax(1)]
    lost = (np.logaddexp(0.0, -away) * decisive).sum(1)
    return np.stack([lost, decisive.sum(1), entropy if feedback is Feedback.GRK else np.nan * entropy, routed], 1)


def votes_alone(votes: Votes, seed: int) -> P2L | None:
    """A static model trained on the votes; None if they have no "both bad", which grk needs."""
    if not (votes.winner == 3).any():
        return None
    table, recipe = table_of(DEFAULT_MODEL), StaticRecipe(feedback=Feedback.GRK, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        write_static(train_static(votes, table, recipe.for_prompts(len(votes.prompts))), table.tokenizer, Path(folder))
        return P2L.from_pretrained(folder)


def one_round(train: Scores, held_out: Scores, n: int, seed: int) -> dict[str, np.ndarray]:
    """What each predictor makes of the validation prompts."""
    random = np.random.default_rng(seed)
    rated = sorted(random.permutation(np.unique(subjects_of(train)))[: len(np.unique(subjects_of(train))) // 2])
    base, votes = kinds_model(train, held_out, rated), own_votes(train, n, random)
    prompts, found = held_out.prompts, {}

    def add(name: str, p2l: P2L) -> None:
        found[name] = measured(p2l.models, p2l.coefficients(prompts), p2l.spec.feedback, held_out)

    add("refined", base.refine(votes, feedback="grk"))
    add("refined bt", base.refine(votes, feedback="bt"))
    for name, feedback in (("averaged", Feedback.GRK), ("averaged bt", Feedback.BT)):
        board = fit_leaderboard(votes, feedback, intervals=None)
        eta = None if board.eta is None else np.full((len(prompts), 1), board.eta)
        scored = Coefficients(np.tile(board.coefs, (len(prompts), 1)), eta, None)
        found[name] = measured(board.models, scored, feedback, held_out)
    alone = votes_alone(votes, seed)
    if alone is not None:
        add("votes alone", alone)
    add("base", base)
    return found


def figures(rounds: np.ndarray) -> dict[str, list[float]]:
    """Mean, standard error over the rounds, and over the prompts, of `(n_rounds, n_prompts, 4)` results (or of their
    differences, with the numbers of decisive votes in the second column)."""
    decisive = rounds[..., 1]
    each = {
        "bt_log_loss": rounds[..., 0] / decisive.mean(1, keepdims=True),
        "cross_entropy": rounds[..., 2],
        "routed_score": rounds[..., 3],
    }
    n, m = decisive.shape
    return {
        name: [
            float(x.mean()),
            float(x.mean(1).std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan"),
            float(x.mean(0).std(ddof=1) / np.sqrt(m)),
        ]
        for name, x in each.items()
    }


def study(train: Scores, held_out: Scores, sizes: list[int], n_rounds: int) -> list[dict[str, Any]]:
    """A row for each number of votes and predictor."""
    rows = []
    for n in sizes:
        found: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
        for seed in range(n_rounds):
            for name, result in one_round(train, held_out, n, seed).items():
                found[name][seed] = result
        for name, results in found.items():
            own = "refined bt" if name == "averaged bt" else "refined"
            paired = np.stack([found[own][seed] - result for seed, result in results.items()])
            paired[..., 1] = np.stack([result[:, 1] for result in results.values()])
            less = figures(paired) if name not in ("refined", "refined bt") else None
            values = figures(np.stack(list(results.values())))
            rows.append(
                {"votes": n, "predictor": name, "rounds": len(results), "values": values, "refined_minus": less}
            )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """A Markdown table: value, and how much refined is less (standard errors over rounds; over prompts)."""
    print("| votes | predictor | BT log-loss | refined - it | cross-entropy | refined - it | routed | refined - it |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        cells = []
        for metric in METRICS:
            for part in (row["values"], row["refined_minus"]):
                known = part is not None and np.isfinite(part[metric][0])
                value, by_round, by_prompt = part[metric] if known else (0.0, 0.0, 0.0)
                sign = "+" if part is row["refined_minus"] else ""
                cells.append(f"{value:{sign}.4f} ({by_round:.4f}; {by_prompt:.4f})" if known else "")
        print(f"| {row['votes']:,} | {row['predictor']} | {' | '.join(cells)} |")


def main() -> None:
    parser = rounds_and_json(__doc__ or "", 10)
    parser.add_argument("--data", default="../shared/data/mmlu_pro", help="folder of scores_train and scores_val")
    parser.add_argument("--votes", type=int, nargs="+", default=[30, 100, 300, 1000])
    args = parse(parser)
    folder = Path(args.data)
    train = Scores.read(folder / "scores_train.parquet")
    held_out = Scores.read(folder / "scores_val.parquet", train.models)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P2LWarning)  # few votes leave much open
        rows = study(train, held_out, args.votes, args.rounds)
    if args.json:
        print_json(machine=machine(f"{args.threads} threads"), rounds=args.rounds, results=rows)
    else:
        show(rows)


if __name__ == "__main__":
    main()
