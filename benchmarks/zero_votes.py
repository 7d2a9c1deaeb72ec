"""What are leaderboards by kind of prompt worth, without a vote?

Of routing9 (14 tasks) and mmlu_pro (14 subjects), nothing is used but each LLM's average score on each task or subject,
and which prompts are of it. Compared on the validation split with what true votes give:

    averaged      the averaged leaderboard of the training votes (BT log-loss: of its Bradley-Terry fit)
    kinds         `p2l build`: the averages by kind, and prompts of known kind
    votes         a static model trained on the votes of all pairs (`p2l train`)
    told          the kind's averages, for a reader who is told the kind

    python benchmarks/zero_votes.py [--data ../shared/data] [--seed N] [--json]
"""

from __future__ import annotations

from threads import parse

# isort: split
import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, print_json

from p2l_sdk import P2L, Scores, Votes, fit_leaderboard
from p2l_sdk.evaluation import evaluate_scores, evaluate_votes
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.kinds import KindPrompts, KindRatings, build_model
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.mpg.results import Results
from p2l_sdk.training.static import StaticRecipe, train_static, write_static
from p2l_sdk.training.token_table import table_of

SETS = {"routing9": "task", "mmlu_pro": "category"}
METRICS = ("bt_log_loss", "cross_entropy", "routed_score")


class Given:
    """A scorer whose coefficients are given by prompt."""

    def __init__(self, spec: ModelSpec, boards: dict[str, tuple[np.ndarray, float]]) -> None:
        self.spec, self._boards = spec, boards

    def score(self, prompts: list[str]) -> Coefficients:
        """The coefficients of these prompts."""
        coefs, eta = zip(*(self._boards[prompt] for prompt in prompts), strict=True)
        return Coefficients(np.stack(coefs), np.array(eta)[:, None], None)


def measured(p2l: P2L, held_out: Scores) -> dict[str, tuple[float, float]]:
    """Each metric with its standard error over the prompts."""
    found = evaluate_votes(p2l, Votes.from_scores(held_out)) | evaluate_scores(p2l, held_out)
    return {name: (found[name].value, found[name].standard_error or 0.0) for name in METRICS}


def routed(p2l: P2L, held_out: Scores) -> np.ndarray:
    """`(n_prompts,)` score of the LLM with the highest coefficient."""
    best = p2l.coefficients(held_out.prompts).coefs.argmax(1)
    return held_out.scores[np.arange(len(best)), best]


def study(folder: Path, column: str, seed: int) -> dict[str, Any]:
    """The figures of one data set."""
    train = Scores.read(folder / "scores_train.parquet")
    held_out = Scores.read(folder / "scores_val.parquet", train.models)
    spec = ModelSpec(models=train.models, feedback=Feedback.GRK)
    votes = Votes.from_scores(train)
    ratings = KindRatings.of_results(Results.of_scores(train, column))
    kind = dict(zip(held_out.prompts, held_out.categories[column], strict=True))
    board = fit_leaderboard(votes, Feedback.GRK, intervals=None)
    plain = fit_leaderboard(votes, Feedback.BT, intervals=None)
    assert ratings.eta is not None
    by_kind = {k: (ratings.coefs[:, i], ratings.eta[i]) for i, k in enumerate(ratings.kinds)}
    predictors = {
        "averaged": P2L(Given(spec, dict.fromkeys(held_out.prompts, (board.coefs, board.eta)))),
        "told": P2L(Given(spec, {prompt: by_kind[kind[prompt]] for prompt in held_out.prompts})),
    }
    with tempfile.TemporaryDirectory() as place:
        rows = {"prompt": train.prompts, "category": list(train.categories[column])}
        built = build_model(ratings, KindPrompts.read(rows, ratings.kinds), Path(place) / "kinds", seed=seed)
        table = table_of(STATIC_MODEL)
        recipe = StaticRecipe(seed=seed).for_prompts(len(train.prompts))
        (Path(place) / "votes").mkdir()
        write_static(train_static(votes, table, recipe), table.tokenizer, Path(place) / "votes")
        for name in ("kinds", "votes"):
            predictors[name] = P2L.from_pretrained(Path(place) / name)
    figures = {name: measured(predictors[name], held_out) for name in ("averaged", "kinds", "votes", "told")}
    fit = P2L(Given(ModelSpec(models=train.models, feedback=Feedback.GRK), dict.fromkeys(kind, (plain.coefs, 0.0))))
    figures["averaged"]["bt_log_loss"] = measured(fit, held_out)["bt_log_loss"]
    gain = {}
    for name in METRICS[:2]:
        averaged, kinds, with_votes = (figures[x][name][0] for x in ("averaged", "kinds", "votes"))
        gain[name] = (averaged - kinds) / (averaged - with_votes)
    best = {name: routed(p2l, held_out) for name, p2l in predictors.items()}
    less = {x: best["kinds"] - best[x] for x in ("votes", "averaged")}
    differences = {x: [float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d)))] for x, d in less.items()}
    off = [k.error for k in built.kinds]
    return {
        "n": len(held_out.prompts),
        "figures": figures,
        "gain": gain,
        "routed_minus": differences,
        "reproduced": {"error": float(np.mean(off)), "departure": float(np.mean([k.departure for k in built.kinds]))},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parse(parser)
    results = {name: study(args.data / name, column, args.seed) for name, column in SETS.items()}
    if args.json:
        print_json(machine=machine(f"{args.threads} threads"), seed=args.seed, results=results)
        return
    print("| data | predictor | BT log-loss | cross-entropy | routed score |\n|---|---|---|---|---|")
    for data, result in results.items():
        for name, values in result["figures"].items():
            cells = " | ".join(f"{value:.4f} ({error:.4f})" for value, error in values.values())
            print(f"| {data} (n = {result['n']}) | {name} | {cells} |")
    for data, result in results.items():
        gains = ", ".join(f"{name} {share:.0%}" for name, share in result["gain"].items())
        less = ", ".join(f"{x} {d:+.4f} ({e:.4f})" for x, (d, e) in result["routed_minus"].items())
        back = result["reproduced"]
        print(f"\n{data}: of the gain of true votes: {gains}. Routed score of kinds, minus that of: {less}.")
        print(f"The kinds' leaderboards come back within {back['error']:.0f} of {back['departure']:.0f} points.")


if __name__ == "__main__":
    main()
