"""Own votes on top of public knowledge: how many does it take, and is it ever worse than without?

The LLMs are the 15 of mmlu_pro. Public knowledge is a model of kinds built from the LLMs' averages on half of the
subjects (drawn anew in each round), as a table of ratings would give them. Own votes are drawn from the training split:
a random prompt and pair for each, the higher score wins. Compared on the validation split, by round:

    refined           `P2L.refine`: the model of kinds, refined with the votes (`p2l train --base`)
    averaged          the averaged leaderboard of the same votes
    votes alone       a static model trained on the same votes (`p2l train`)
    base              the model of kinds alone

All in the feedback model `grk`, the default. Each figure has two standard
errors, over the rounds and over the validation prompts; differences to "refined" are paired by both.

    python benchmarks/own_votes.py [--data ../shared/data/mmlu_pro] [--votes 30 100 300 1000] [--rounds N] [--json]
"""

from __future__ import annotations

from threads import parse

# isort: split
import functools
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, print_json, rounds_and_json

from p2l_sdk import P2L, Scores, Votes, fit_leaderboard
from p2l_sdk.errors import P2LWarning
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.kinds import KindPrompts, KindRatings, build_model
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probabilities, vote_targets
from p2l_sdk.mpg.results import Results
from p2l_sdk.training.static import StaticRecipe, train_static, write_static
from p2l_sdk.training.token_table import table_of

METRICS = ("bt_log_loss", "cross_entropy", "routed_score")
_PROMPTS = 2000  # of which the recogniser learns


def subjects_of(scores: Scores) -> np.ndarray:
    """The subject of each prompt."""
    return np.asarray(scores.categories["category"])


@functools.cache
def kinds_model(data: Path, seed: int) -> P2L:
    """A model built from the LLMs' averages on half of the subjects and some training prompts; those of the other
    subjects are of no kind."""
    train = Scores.read(data / "scores_train.parquet")
    subject, random = subjects_of(train), np.random.default_rng(seed)
    rated = sorted(random.permutation(np.unique(subject))[: len(np.unique(subject)) // 2])
    ratings = KindRatings.of_results(Results.of_scores(train, "category"), kinds=rated)
    chosen = random.permutation(len(train.prompts))[:_PROMPTS]
    rows = [
        {"prompt": train.prompts[i], "category": subject[i] if subject[i] in rated else None} for i in sorted(chosen)
    ]
    folder = Path(tempfile.mkdtemp()) / "model"
    build_model(ratings, KindPrompts.read(rows, ratings.kinds), folder)
    return P2L.from_pretrained(folder)


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
    table, recipe = table_of(STATIC_MODEL), StaticRecipe(feedback=Feedback.GRK, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        write_static(train_static(votes, table, recipe.for_prompts(len(votes.prompts))), table.tokenizer, Path(folder))
        return P2L.from_pretrained(folder)


def one_round(data: Path, train: Scores, held_out: Scores, n: int, seed: int) -> dict[str, np.ndarray]:
    """What each predictor makes of the validation prompts."""
    base, votes = kinds_model(data, seed), own_votes(train, n, np.random.default_rng([seed, n]))
    prompts, found = held_out.prompts, {}

    def add(name: str, p2l: P2L) -> None:
        found[name] = measured(p2l.models, p2l.coefficients(prompts), p2l.spec.feedback, held_out)

    add("refined", base.refine(votes))
    board = fit_leaderboard(votes, Feedback.GRK, intervals=None)
    scored = Coefficients(np.tile(board.coefs, (len(prompts), 1)), np.full((len(prompts), 1), board.eta), None)
    found["averaged"] = measured(board.models, scored, Feedback.GRK, held_out)
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


def study(data: Path, train: Scores, held_out: Scores, sizes: list[int], n_rounds: int) -> list[dict[str, Any]]:
    """A row for each number of votes and predictor."""
    rows = []
    for n in sizes:
        found: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
        for seed in range(n_rounds):
            for name, result in one_round(data, train, held_out, n, seed).items():
                found[name][seed] = result
        for name, results in found.items():
            paired = np.stack([found["refined"][seed] - result for seed, result in results.items()])
            paired[..., 1] = np.stack([result[:, 1] for result in results.values()])
            less = figures(paired) if name != "refined" else None
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
        rows = study(folder, train, held_out, args.votes, args.rounds)
    if args.json:
        print_json(machine=machine(f"{args.threads} threads"), rounds=args.rounds, results=rows)
    else:
        show(rows)


if __name__ == "__main__":
    main()
