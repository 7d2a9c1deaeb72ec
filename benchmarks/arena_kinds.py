"""Do the Arena's leaderboards by category come back, from prompts that were not used to build the model?

The embedded model `arena` is built again five times, each time without a fifth of category_prompts (by a hash of the
prompt). Over the prompts kept out, the aggregate leaderboard of each category is compared with the published one: the
departures of the 100 best LLMs from the overall ratings, centred, in Elo points.

    python benchmarks/arena_kinds.py [--data ../shared/data] [--picture docs/images/arena_kinds.png] [--json]
"""

from __future__ import annotations

from threads import parse

# isort: split
import argparse
import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, print_json

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "examples" / "arena"))

import build as arena  # noqa: E402

from p2l_sdk import P2L, pictures  # noqa: E402
from p2l_sdk.kinds import KindPrompts, KindRatings, build_model  # noqa: E402
from p2l_sdk.leaderboards.aggregate import aggregate  # noqa: E402
from p2l_sdk.leaderboards.leaderboard import Coefficients  # noqa: E402
from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE  # noqa: E402

FOLDS, TOP = 5, 100
CATEGORIES = ("coding", "math", "creative_writing")
SOURCES = ("arena-hard-v2", "mt_bench", "vicuna_bench")  # of category_prompts
NONE = "no kind"


def fold_of(prompt: str) -> int:
    """The fold in which a prompt is kept out."""
    return int(hashlib.sha256(prompt.encode()).hexdigest()[:8], 16) % FOLDS


def kept_out(data: Path, ratings: KindRatings, unused: set[str]) -> dict[str, Coefficients]:
    """Coefficients of the prompts of each category, each by the model that was built without it."""
    rows = arena.known_prompts(data)
    parts: dict[str, list[Coefficients]] = {name: [] for name in (*CATEGORIES, NONE)}
    for fold in range(FOLDS):
        out = [row for row in rows if row["source"] in SOURCES and fold_of(row["prompt"]) == fold]
        hidden = {row["prompt"] for row in out}
        rest = [row for row in rows if row["prompt"] not in hidden]
        with tempfile.TemporaryDirectory() as place:
            build_model(ratings, KindPrompts.read(rest, ratings.kinds, unused), Path(place) / "model")
            p2l = P2L.from_pretrained(Path(place) / "model")
        for name, found in parts.items():
            own = [
                row["prompt"] for row in out if (name in row["categories"] if name != NONE else not row["categories"])
            ]
            if own:
                found.append(p2l.coefficients(own))
    return {name: Coefficients.concatenate(found) for name, found in parts.items()}


def compared(ratings: KindRatings, scored: Coefficients, category: str) -> dict[str, Any]:
    """Published and aggregated departures of the best LLMs, and how they agree."""
    overall = ratings.overall[:, 0]
    board = aggregate([scored], ratings.feedback, ratings.models, replicates=0)
    target = overall if category == NONE else ratings.coefs[:, ratings.kinds.index(category)]
    best = np.argsort(-overall)[:TOP]
    best = best[~np.isnan(target[best])]
    published, got = ((x - overall)[best] * ARENA_SCALE for x in (target, board.coefs))
    published, got = published - published.mean(), got - got.mean()
    return {
        "n_prompts": len(scored),
        "n_llms": len(best),
        "correlation": None if category == NONE else float(np.corrcoef(published, got)[0, 1]),
        "mean_error": float(np.abs(got - published).mean()),
        "largest_error": float(np.abs(got - published).max()),
        "mean_error_of_overall": float(np.abs(published).mean()),
        "published": published.round(2).tolist(),
        "aggregated": got.round(2).tolist(),
    }


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Aggregated against published departures, one picture per category."""
    pyplot = pictures.require_pyplot()
    figure, axes = pyplot.subplots(1, len(CATEGORIES), figsize=(10.5, 4.2), layout="constrained", sharey=True)
    reach = 1.05 * max(abs(x) for name in CATEGORIES for x in results[name]["published"])
    for ax, name in zip(axes, CATEGORIES, strict=True):
        pictures.axes_of_size(ax, 0, 0)
        result = results[name]
        ax.axline((0, 0), slope=1, color=pictures.GREY, linewidth=1)
        ax.scatter(result["published"], result["aggregated"], s=14, color=pictures.BLUE, alpha=0.7, linewidths=0)
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="published")
        ax.set_box_aspect(1)
        title = f"{name.replace('_', ' ')}: r = {result['correlation']:.2f}, error {result['mean_error']:.1f}"
        ax.set_title(title, loc="left", fontsize=pictures.NORMAL)
    axes[0].set_ylabel("aggregated over unseen prompts")
    figure.suptitle("Departure of 100 LLMs from their overall rating, Elo points", fontsize=pictures.NORMAL)
    pictures.save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--picture", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    args = parse(parser)
    ratings, unused = arena.ratings(args.data)
    scored = kept_out(args.data, ratings, unused)
    results = {name: compared(ratings, part, name) for name, part in scored.items()}
    if args.picture is not None:
        draw(results, args.picture)
    if args.json:
        print_json(machine=machine(f"{args.threads} threads"), results=results)
        return
    print("| category | prompts | correlation | mean error | largest | overall instead |\n|---|---|---|---|---|---|")
    for name, r in results.items():
        correlation = "" if r["correlation"] is None else f"{r['correlation']:.3f}"
        errors = f"{r['mean_error']:.1f} | {r['largest_error']:.1f} | {r['mean_error_of_overall']:.1f}"
        print(f"| {name} | {r['n_prompts']} | {correlation} | {errors} |")


if __name__ == "__main__":
    main()
