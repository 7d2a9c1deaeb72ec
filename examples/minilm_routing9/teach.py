"""Votes of routing9 with what three teachers say of the same prompts: what hub_cards/minilm-l6-routing9 learned from.

The teachers are cross-fitted: what they say of a prompt comes from teachers that have not seen its votes (five folds).
Otherwise they would repeat the noise of the votes that they have learned, and the student would take it for knowledge.

1. A recogniser of the benchmark that a prompt is from, linear on frozen states (benchmark.py).
2. all-MiniLM-L6-v2, all weights fine-tuned on the votes and on the benchmark's name (finetuned.py).
3. all-mpnet-base-v2, likewise.

Only training prompts are read. Five minutes on an H200; on two CPU cores a night.

    python examples/minilm_routing9/teach.py --data ../shared/data/routing9 --minilm MINILM --mpnet MPNET \
        --output taught.parquet
    p2l train --config examples/minilm_routing9/train.yaml
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from benchmark import recognised, states
from finetuned import Lessons, finetuned

from p2l_sdk import P2L, fit_leaderboard
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.training.teacher import lessons, with_lessons
from p2l_sdk.votes.votes import Votes

_FOLDS = 5
_MINILM_RATE, _MPNET_RATE = 1e-4, 5e-5


class Known:
    """A scorer of prompts whose leaderboards are known.

    Args:
        models: the LLMs.
        prompts: the prompts.
        boards: `(n_prompts, n_models + 1)` coefficients and eta.
    """

    quick = False

    def __init__(self, models: Sequence[str], prompts: Sequence[str], boards: np.ndarray) -> None:
        self.spec = ModelSpec(models=tuple(models), feedback=Feedback.GRK)
        self._boards = dict(zip(prompts, boards.astype(np.float32), strict=True))

    def score(self, prompts: Sequence[str]) -> Coefficients:
        """Coefficients of the prompts."""
        rows = np.array([self._boards[prompt] for prompt in prompts])
        return Coefficients(rows[:, :-1], rows[:, -1:], None)


def shares(votes: Votes) -> Lessons:
    """The votes as shares of outcomes by prompt and pair, without benchmarks."""
    a, b = np.triu_indices(len(votes.models), 1)
    pair = np.zeros((len(votes.models), len(votes.models)), dtype=int)
    pair[a, b] = np.arange(len(a))
    swapped = votes.a > votes.b
    low, high = np.minimum(votes.a, votes.b), np.maximum(votes.a, votes.b)
    mirrored = np.array([Winner.B, Winner.A, Winner.TIE, Winner.BOTH_BAD])
    outcome = np.where(swapped, mirrored[votes.winner], votes.winner)
    count = np.zeros((len(votes.prompts), len(a), len(Winner)), dtype=np.float32)
    np.add.at(count, (votes.prompt, pair[low, high], outcome), votes.weight)
    count /= np.maximum(count.sum(-1, keepdims=True), 1e-12)
    return Lessons(torch.as_tensor(a), torch.as_tensor(b), torch.from_numpy(count), torch.zeros(len(count)))


def board(votes: Votes, prompts: np.ndarray) -> np.ndarray:
    """`(n_models + 1,)` the averaged leaderboard of these prompts: coefficients and eta."""
    fitted = fit_leaderboard(votes.subset(prompts), Feedback.GRK, intervals=None)
    return np.array([*fitted.coefs, fitted.eta])


def taught(votes: Votes, benchmarks: Sequence[str], minilm: str, mpnet: str) -> np.ndarray:
    """`(n_prompts, n_models + 1)` the mean of the three teachers, none of which has seen the prompt's votes."""
    prompts = [str(prompt) for prompt in votes.prompts]
    names, kind = np.unique(benchmarks, return_inverse=True)
    known = shares(votes)
    known.kind = torch.from_numpy(kind)
    x = np.hstack([states(encoder, prompts) for encoder in (minilm, mpnet)])
    fold = np.random.default_rng(7).permutation(len(prompts)) % _FOLDS
    out = np.zeros((len(prompts), len(votes.models) + 1))
    for number in range(_FOLDS):
        train, new = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        boards = np.array([board(votes, train[kind[train] == k]) for k in range(len(names))])
        averaged = board(votes, train)
        said = [recognised(x, train, kind, boards)]
        said += [
            finetuned(encoder, prompts, train, known, averaged, rate)
            for encoder, rate in ((minilm, _MINILM_RATE), (mpnet, _MPNET_RATE))
        ]
        out[new] = np.mean(said, axis=0)[new]
    return out


def write(votes: Votes, path: str) -> None:
    """Write weighted votes as a file that `p2l train` reads."""
    names, outcomes = np.array(votes.models), np.array(["model_a", "model_b", "tie", "tie (bothbad)"])
    assert list(Winner) == [0, 1, 2, 3]
    columns = {
        "prompt": np.array(votes.prompts, dtype=object)[votes.prompt],
        "model_a": names[votes.a],
        "model_b": names[votes.b],
        "winner": outcomes[votes.winner],
        "weight": votes.weight,
    }
    pd.DataFrame(columns).to_parquet(path)


def main() -> None:
    """Read the votes, ask the teachers, and write both into one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with votes_train.parquet and scores_train.parquet")
    parser.add_argument("--minilm", default="sentence-transformers/all-MiniLM-L6-v2", help="folder or Hub id")
    parser.add_argument("--mpnet", default="sentence-transformers/all-mpnet-base-v2", help="folder or Hub id")
    parser.add_argument("--weight", type=float, default=8.0, help="of the teachers, relative to the votes")
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    votes = Votes.read(f"{options.data}/votes_train.parquet")
    task = pd.read_parquet(f"{options.data}/scores_train.parquet", columns=["prompt", "task"])
    named = dict(zip(task["prompt"], task["task"], strict=True))
    prompts = [str(prompt) for prompt in votes.prompts]
    boards = taught(votes, [named[prompt] for prompt in prompts], options.minilm, options.mpnet)
    teacher = P2L(Known(votes.models, prompts, boards))
    write(with_lessons(votes, lessons([teacher], votes, Feedback.GRK, options.weight)), options.output)


if __name__ == "__main__":
    main()
