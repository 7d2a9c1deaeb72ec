"""Votes of routing9 with what two teachers say on the same prompts: what hub_cards/minilm-l6-routing9 was trained on.

The first teacher recognises which of the fourteen benchmarks a prompt is from, and mixes their averaged leaderboards.
It reads the middle and the last layer of two frozen encoders: the middle ones know more of the form of a text, and form
tells the benchmark. The second is a fine-tuned LLM (examples/smollm2_routing9.yaml). Only training prompts are read.

    python examples/minilm_routing9/teach.py --data ../shared/data/routing9 --encoders MINILM MPNET \
        --smollm2 smollm2-135m-routing9 --smollm2-base SmolLM2-135M-Instruct.Q4_1.gguf --output taught.parquet
    p2l train --config examples/minilm_routing9/train.yaml
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from p2l_sdk import P2L, fit_leaderboard
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.modeling.loading_p2l import load_backbone, load_tokenizer
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.training.teacher import lessons, with_lessons
from p2l_sdk.votes.votes import Votes

_TOKENS = 384  # of a prompt that the encoders read, the last ones
_RIDGE = 1000.0  # on standardised states; chosen on a held-out seventh of the training prompts


@torch.inference_mode()
def states(encoder: str, prompts: Sequence[str], batch: int = 32) -> np.ndarray:
    """`(n_prompts, 2 width)` mean states of the middle and the last layer."""
    tokenizer = load_tokenizer(encoder, truncation_side="left")
    model = load_backbone(encoder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    parts = []
    for start in tqdm(range(0, len(order), batch), Path(encoder).name):
        texts = [prompts[i] for i in order[start : start + batch]]
        inputs = tokenizer(texts, truncation=True, max_length=_TOKENS, padding=True, return_tensors="pt")
        mask = inputs["attention_mask"][..., None]
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        layers = (hidden[len(hidden) // 2], hidden[-1])
        parts.append(torch.cat([(layer.float() * mask).sum(1) / mask.sum(1) for layer in layers], dim=1))
    return torch.cat(parts).numpy()[np.argsort(order)]


class BenchmarkTeacher:
    """A scorer: the averaged leaderboards of the benchmarks, weighted by how likely a prompt is from each.

    Args:
        encoders: folders or Hub ids of the encoders.
        votes: the votes of the training prompts.
        benchmarks: the benchmark of each prompt.
    """

    quick = False

    def __init__(self, encoders: Sequence[str], votes: Votes, benchmarks: Sequence[str]) -> None:
        self.spec = ModelSpec(models=votes.models, feedback=Feedback.GRK)
        self._encoders = encoders
        names, kind = np.unique(benchmarks, return_inverse=True)
        boards = [
            fit_leaderboard(votes.subset(np.flatnonzero(kind == k)), Feedback.GRK, intervals=None)
            for k in range(len(names))
        ]
        self._boards = np.array([[*board.coefs, board.eta] for board in boards])
        self._known: dict[str, np.ndarray] = {}
        x = self._read([str(prompt) for prompt in votes.prompts])
        self._centre, self._scale = x.mean(0), x.std(0)
        self._fit((x - self._centre) / self._scale, kind, len(names))

    def score(self, prompts: Sequence[str]) -> Coefficients:
        """Coefficients of the prompts."""
        x = (self._read(prompts) - self._centre) / self._scale
        shares = torch.softmax(torch.from_numpy(x @ self._weight + self._bias), dim=1).numpy()
        out = (shares @ self._boards).astype(np.float32)
        return Coefficients(out[:, :-1], out[:, -1:], None)

    def _read(self, prompts: Sequence[str]) -> np.ndarray:
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._known]
        if new:
            rows = np.hstack([states(encoder, new) for encoder in self._encoders]).astype(np.float64)
            self._known |= dict(zip(new, rows, strict=True))
        return np.array([self._known[prompt] for prompt in prompts])

    def _fit(self, x: np.ndarray, kind: np.ndarray, n_kinds: int) -> None:
        inputs, target = torch.from_numpy(x), torch.from_numpy(kind)
        weight = torch.zeros(x.shape[1], n_kinds, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros(n_kinds, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = torch.nn.functional.cross_entropy(inputs @ weight + bias, target, reduction="sum")
            value = value + _RIDGE / 2 * weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        self._weight, self._bias = weight.detach().numpy(), bias.detach().numpy()


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
    parser.add_argument("--encoders", nargs="+", required=True, help="all-MiniLM-L6-v2 and all-mpnet-base-v2")
    parser.add_argument("--smollm2", help="folder of the model of examples/smollm2_routing9.yaml")
    parser.add_argument("--smollm2-base", help="its base, if that is not on the Hub")
    parser.add_argument("--weight", type=float, default=3.0, help="of the teachers, relative to the votes")
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    votes = Votes.read(f"{options.data}/votes_train.parquet")
    task = pd.read_parquet(f"{options.data}/scores_train.parquet", columns=["prompt", "task"])
    named = dict(zip(task["prompt"], task["task"], strict=True))
    teachers = [P2L(BenchmarkTeacher(options.encoders, votes, [named[str(prompt)] for prompt in votes.prompts]))]
    if options.smollm2:
        teachers.append(P2L(load_scorer(Path(options.smollm2), "cpu", options.smollm2_base)))
    taught = lessons(teachers, votes, Feedback.GRK, options.weight)
    write(with_lessons(votes, taught), options.output)


if __name__ == "__main__":
    main()
