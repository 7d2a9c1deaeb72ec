"""Can a mean of token vectors of an English vocabulary tell languages apart? Five folds, least squares.

    python examples/arena/check_languages.py prompts.jsonl

Prints, for each language, how many of its prompts are recognised, and how many of those called so are. Only prompts of
the style "chat" are counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
from labels import LANGUAGES
from safetensors.numpy import load_file

from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.scorers.static import read_tokenizer

NAMES = np.array(["english", *LANGUAGES])
TOKENS = 512
RIDGE = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path, help="rows of prompts.py (.jsonl)")
    rows = [json.loads(line) for line in parser.parse_args().prompts.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["style"] == "chat" and row["language"] in NAMES]
    truth = np.array([row["language"] for row in rows])
    called = predict([row["prompt"] for row in rows], truth)
    print("| language | prompts | recognised | right when recognised |\n|---|---|---|---|")
    for name in NAMES:
        of, as_ = truth == name, called == name
        print(f"| {name} | {of.sum()} | {(called[of] == name).mean():.0%} | {(truth[as_] == name).mean():.0%} |")
    print(f"| all | {len(rows)} | {(called == truth).mean():.1%} | |")


def predict(prompts: list[str], truth: np.ndarray) -> np.ndarray:
    """The language of each prompt by a model that has not seen its fold."""
    features = pooled(prompts)
    folds = np.array([int(hashlib.sha256(prompt.encode()).hexdigest()[8:16], 16) % 5 for prompt in prompts])
    called = np.empty(len(prompts), dtype=NAMES.dtype)
    targets = (truth[:, None] == NAMES).astype(float)
    for fold in range(5):
        seen = folds != fold
        mean, scale = features[seen].mean(0), features[seen].std(0) + 1e-6
        x = np.hstack([(features - mean) / scale, np.ones((len(prompts), 1))])
        penalty = RIDGE * np.eye(x.shape[1])
        penalty[-1, -1] = 0.0  # the constant is free
        weights = np.linalg.solve(x[seen].T @ x[seen] + penalty, x[seen].T @ targets[seen])
        called[~seen] = NAMES[(x[~seen] @ weights).argmax(1)]
    return called


def pooled(prompts: list[str]) -> np.ndarray:
    """The weighted mean of the vectors of each prompt's last tokens, of length one."""
    tensors = load_file(STATIC_MODEL / "model.safetensors")
    weight = np.exp(tensors["backbone.log_weight"])
    table = tensors["backbone.table"].astype(np.float32) * tensors["backbone.scale"].reshape(-1, 1)
    encoded = read_tokenizer(STATIC_MODEL).encode_batch(prompts, add_special_tokens=False)
    ids = [np.array(encoding.ids[-TOKENS:]) for encoding in encoded]
    means = np.array([weight[i] @ table[i] / weight[i].sum() for i in ids])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
