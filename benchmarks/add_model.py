"""Adding an LLM without retraining, compared with the averaged leaderboard and with full retraining.

For each LLM of routing9: train the default static recipe on the training votes of all others, add the LLM from some of
its own training votes, and measure the BT log-loss of its decisive votes on the validation prompts. On the same votes:
(a) the averaged ("marginal") leaderboard of the others' training votes and the same votes on the LLM, under the model's
own feedback model and under bt; (b) the recipe trained on all training votes. The gap closed is (a - added) / (a - b).

    python benchmarks/add_model.py --data ../shared/data/routing9 [--draws 3] [--llms 9] [--write FILE.png]
"""

from __future__ import annotations

from threads import THREADS, parse

# isort: split
import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from p2l_sdk import P2L, Votes, fit_leaderboard
from p2l_sdk.errors import P2LWarning
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.training.static import StaticRecipe, train_static, write_static
from p2l_sdk.training.token_table import table_of

SIZES = (50, 200, 1000, 0)  # votes on the new LLM; 0 is all of them
METHODS = ("marginal", "marginal, bt", "added", "added, prior mean")
REPLICATES = 1000


def subset(votes: Votes, rows: np.ndarray) -> Votes:
    """Some of the votes, with unchanged lists of prompts and LLMs."""
    return Votes(
        votes.prompts, votes.models, *(x[rows] for x in (votes.prompt, votes.a, votes.b, votes.winner, votes.weight))
    )


def without(votes: Votes, llm: int) -> Votes:
    """The votes without those on one LLM, which is also removed from the list of LLMs."""
    rest = subset(votes, (votes.a != llm) & (votes.b != llm))
    place = np.arange(len(votes.models)) - (np.arange(len(votes.models)) > llm)
    models = tuple(name for i, name in enumerate(votes.models) if i != llm)
    return Votes(rest.prompts, models, rest.prompt, place[rest.a], place[rest.b], rest.winner, rest.weight)


def trained(votes: Votes) -> P2L:
    table = table_of(STATIC_MODEL)
    with tempfile.TemporaryDirectory() as folder:
        write_static(train_static(votes, table, StaticRecipe(steps=224, keep=0.9)), table.tokenizer, Path(folder))
        return P2L.from_pretrained(folder)


def losses(coefs: np.ndarray, votes: Votes) -> np.ndarray:
    """`(n_prompts,)` sums of the BT log-loss over each prompt's votes, which must be decisive."""
    margin = coefs[votes.prompt, votes.a] - coefs[votes.prompt, votes.b]
    loss = np.logaddexp(0.0, np.where(votes.winner == Winner.A, -margin, margin))
    return np.bincount(votes.prompt, loss, len(votes.prompts))


@dataclass
class Results:
    """Votes and sums of losses per prompt, each `(n_prompts,)`.

    Attributes:
        counts: LLM -> number of votes.
        full: LLM -> losses after full retraining.
        draws: (LLM, number of votes, method) -> losses of each draw.
        seconds: number of votes -> seconds of each `add_model`.
    """

    counts: dict[str, np.ndarray] = field(default_factory=dict)
    full: dict[str, np.ndarray] = field(default_factory=dict)
    draws: dict[tuple[str, int, str], list[np.ndarray]] = field(default_factory=dict)
    seconds: dict[int, list[float]] = field(default_factory=dict)

    def mean(self, sums: np.ndarray, llm: str, times: np.ndarray) -> float:
        """The mean log-loss of an LLM's votes, with each prompt counted `times` times."""
        return float(times @ sums / (times @ self.counts[llm]))

    def loss(self, llm: str, size: int, method: str, times: np.ndarray) -> float:
        """Mean loss of one LLM over the draws of a size and method."""
        return float(np.mean([self.mean(draw, llm, times) for draw in self.draws[llm, size, method]]))


def measure(train: Votes, val: Votes, n_llms: int, n_draws: int) -> Results:
    results, full = Results(), trained(train)
    full_coefs = full.coefficients(val.prompts).coefs.astype(np.float64)
    for llm, name in enumerate(train.models[:n_llms]):
        held = subset(val, ((val.a == llm) | (val.b == llm)) & np.isin(val.winner, (Winner.A, Winner.B)))
        results.counts[name] = np.bincount(held.prompt, minlength=len(val.prompts))
        results.full[name] = losses(full_coefs, held)
        others, base = (train.a != llm) & (train.b != llm), trained(without(train, llm))
        for size in SIZES:
            for draw in range(n_draws if size else 1):
                mine = np.flatnonzero(~others)
                if size:
                    mine = np.random.default_rng(draw).choice(mine, size, replace=False)
                seen = subset(train, np.concatenate([np.flatnonzero(others), mine]))
                for method, coefs in predictions(base, name, seen, subset(train, mine), val, results, size):
                    results.draws.setdefault((name, size, method), []).append(losses(coefs, held))
        print(f"{name}: done", flush=True)
    return results


def predictions(base: P2L, name: str, seen: Votes, mine: Votes, val: Votes, results: Results, size: int):
    """Yields each method with its coefficients `(n_prompts, n_models)` on the validation prompts."""
    for method, feedback in ((METHODS[0], base.spec.feedback), (METHODS[1], "bt")):
        board = fit_leaderboard(seen, feedback, intervals=None)
        yield method, np.tile(board.coefs, (len(val.prompts), 1))
    for method, prior in ((METHODS[2], "similar"), (METHODS[3], "mean")):
        start = time.perf_counter()
        p2l = base.add_model(name, mine, prior=prior)
        if prior == "similar":
            results.seconds.setdefault(size, []).append(time.perf_counter() - start)
        order = [p2l.models.index(model) for model in seen.models]
        yield method, p2l.coefficients(val.prompts).coefs[:, order].astype(np.float64)


def summary(results: Results, size: int, times: np.ndarray) -> dict[str, float]:
    """Mean losses over the LLMs, and the shares of the gaps that are closed."""
    mean = {m: float(np.mean([results.loss(name, size, m, times) for name in results.counts])) for m in METHODS}
    mean["full"] = float(np.mean([results.mean(results.full[name], name, times) for name in results.counts]))
    for method in METHODS[:2]:
        for added in METHODS[2:]:
            mean[f"{added} / {method}"] = (mean[method] - mean[added]) / (mean[method] - mean["full"])
    return mean


def report(results: Results) -> tuple[str, dict[int, tuple[dict[str, float], dict[str, float]]]]:
    """Markdown, and for each size the means with standard errors from a bootstrap over the validation prompts."""
    n = len(next(iter(results.counts.values())))
    random = np.random.default_rng(0)
    resampled = random.multinomial(n, np.full(n, 1 / n), REPLICATES).astype(np.float64)
    lines = [
        "| votes | (a) marginal | marginal, bt | added | (b) retrained | gap closed | of the gap to bt "
        "| with prior `mean` | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    table = {}
    for size in SIZES:
        mean = summary(results, size, np.ones(n))
        replicates = [summary(results, size, times) for times in resampled]
        error = {key: float(np.std([r[key] for r in replicates], ddof=1)) for key in mean}
        table[size] = mean, error
        shares = [f"{mean[key]:.0%} ± {error[key]:.0%}" for key in ("added / marginal", "added / marginal, bt")]
        cells = [f"{mean[m]:.4f}" for m in (*METHODS[:3], "full")]
        cells += [*shares, f"{mean['added, prior mean / marginal']:.0%}", f"{np.median(results.seconds[size]):.2f}"]
        lines.append(f"| {f'{size:,}' if size else 'all'} | {' | '.join(cells)} |")
    lines += ["", "| LLM | " + " | ".join(f"(a) {s:,} | added {s:,}" if s else "(a) all | added all" for s in SIZES)]
    lines[-1] += " | (b) | gap closed, 1,000 |"
    lines.append("|---" * (2 * len(SIZES) + 3) + "|")
    one = np.ones(n)
    for name in results.counts:
        values = [results.loss(name, size, m, one) for size in SIZES for m in (METHODS[0], METHODS[2])]
        b, (a, added) = results.mean(results.full[name], name, one), values[4:6]
        cells = " | ".join(f"{x:.3f}" for x in [*values, b])
        lines.append(f"| {name} | {cells} | {(a - added) / (a - b):.0%} |")
    return "\n".join(lines), table


def plot(table: dict[int, tuple[dict[str, float], dict[str, float]]], n_all: int, path: Path) -> None:
    from p2l_sdk import pictures

    ax = pictures.axes_of_size(None, 7.5, 4.2)
    x = [size or n_all for size in SIZES]
    for key, label, style, colour in (
        ("added / marginal", 'added, prior "similar" (the default)', "o-", pictures.BLUE),
        ("added, prior mean / marginal", 'added, prior "mean"', "s--", pictures.ORANGE),
    ):
        values, errors = ([part[key] * 100 for part in column] for column in zip(*table.values(), strict=True))
        ax.errorbar(x, values, errors, fmt=style, color=colour, capsize=3, label=label)
    beside = {"textcoords": "offset points", "color": pictures.INK, "fontsize": pictures.SMALL}
    for height, text in ((100, "model trained again with the new LLM"), (0, "averaged leaderboard, the same votes")):
        ax.axhline(height, color=pictures.GREY, lw=1)
        ax.annotate(text, (x[0], height), xytext=(0, 3), va="bottom", **beside)
    ax.set_xscale("log", base=10)
    ax.set_xticks(x, [f"{size:,}" if size else f"all ({n_all:,})" for size in SIZES])
    ax.minorticks_off()
    ax.set_ylim(-4, 112)
    ax.margins(x=0.08)
    ax.set_xlabel("votes on the new LLM (log scale)")
    ax.set_ylabel("share of the gap closed, %")
    title = "An LLM added from some votes: how far its predictions come from those of the\naveraged leaderboard"
    title += " (0) to those of a model trained again (100); bars: one standard error"
    ax.set_title(title, loc="left", fontsize=pictures.NORMAL)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.1), fontsize=pictures.SMALL)
    pictures.save(ax.figure, str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder routing9")
    parser.add_argument("--draws", type=int, default=3, help="random draws of the votes, with seeds 0, 1, ...")
    parser.add_argument("--llms", type=int, default=9, help="how many of the LLMs, in alphabetical order")
    parser.add_argument("--write", type=Path, help="PNG file")
    arguments = parse(parser)
    torch.set_num_threads(THREADS)
    warnings.simplefilter("ignore", P2LWarning)
    train = Votes.read(arguments.data / "votes_train.parquet")
    val = Votes.read(arguments.data / "votes_val.parquet", train.models)
    text, table = report(measure(train, val, arguments.llms, arguments.draws))
    print(text)
    if arguments.write:
        plot(table, int(((train.a == 0) | (train.b == 0)).sum()), arguments.write)


if __name__ == "__main__":
    main()
