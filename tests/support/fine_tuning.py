"""Shared by the tests of fine-tuning: tiny bases, votes from known distributions, short runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from conftest import backbone_config, transformers_tokenizer

from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, eta_of_threshold, log_probabilities

LLMS = ("coder", "poet", "sage")
WORDS = {  # kinds of prompts and their words
    "code": ["python", "code", "sum", "list"],
    "poem": ["write", "poem", "about", "a"],
    "proof": ["prove", "square", "root", "two"],
}
THETA = {"code": (1.4, -0.4, -0.9), "poem": (-0.8, 1.2, -0.2), "proof": (0.3, -0.6, 0.9)}
LOG_S = {"code": -0.6, "poem": 0.4, "proof": 0.9}  # log(t - 1) of the tie threshold t
GAMMA = 0.5  # for `ba`
TIES = 0.2  # share of ties in votes for feedback models without a tie probability
PAIRS = ((0, 1), (0, 2), (1, 2))


def prompts(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """(kind, prompt) pairs of two to seven words, cycling through the kinds."""
    rng = np.random.default_rng(seed)
    kinds = [list(WORDS)[i % len(WORDS)] for i in range(n)]
    return [(kind, " ".join(rng.choice(WORDS[kind], rng.integers(2, 8)))) for kind in kinds]


def law(feedback: Feedback, kind: str) -> np.ndarray:
    """Probabilities of votes on a kind of prompt, `(3 pairs, 4 winners)`; with ties also for `bt` and `bt_tie`."""
    theta = np.array(THETA[kind])
    a, b = np.array(PAIRS).T
    eta = np.array(float(eta_of_threshold(feedback, LOG_S[kind]))) if feedback.has_eta else None
    gamma = np.array(GAMMA) if feedback.has_gamma else None
    chances = np.zeros((len(PAIRS), len(Winner)))
    chances[:, list(feedback.outcomes)] = np.exp(log_probabilities(feedback, theta[a], theta[b], eta, gamma))
    if not feedback.has_eta:
        chances *= 1.0 - TIES
        chances[:, Winner.TIE] = TIES
    return chances


def vote_rows(feedback: str = "grk", n_prompts: int = 60, votes_per_pair: int = 10, seed: int = 0) -> list[dict]:
    """Votes drawn from `law`; identical votes on a prompt become one row, weighted by their number."""
    rng = np.random.default_rng([seed, 1])
    names = ("model_a", "model_b", "tie", "tie (bothbad)")
    rows = []
    for kind, prompt in prompts(n_prompts, seed):
        for (a, b), chances in zip(PAIRS, law(Feedback(feedback), kind), strict=True):
            for winner, count in enumerate(rng.multinomial(votes_per_pair, chances)):
                if count:
                    rows.append(
                        {"prompt": prompt, "model_a": LLMS[a], "model_b": LLMS[b], "winner": names[winner],
                         "weight": float(count)}
                    )  # fmt: skip
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_base(folder: Path, kind: str) -> Path:
    """Save a tiny random backbone (llama or bert) as it would come from the Hub."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(0)
    AutoModel.from_config(backbone_config(kind)[0]).save_pretrained(folder)
    transformers_tokenizer().save_pretrained(folder)
    return folder


def run(votes: Path, output: Path, *, resume: bool = False, listener=None, **settings):
    """The model loaded after a short run in this process, in float32."""
    from p2l_sdk.training.config import TrainingConfig
    from p2l_sdk.training.run import train

    config = TrainingConfig(votes=str(votes), output=str(output), **{"precision": "fp32", **settings})
    return train(config, resume=resume, listener=listener)


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of the weights in a folder."""
    from safetensors.numpy import load_file

    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def assert_same_weights(left: Path, right: Path, atol: float) -> None:
    ours, theirs = tensors(left), tensors(right)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=atol, rtol=0, err_msg=name)
