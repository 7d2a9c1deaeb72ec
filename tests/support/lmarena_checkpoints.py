"""Checkpoints in lmarena's layout: the tiny published ones with their true outputs, and copies of them with changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import shared
from researcher import answer
from safetensors.torch import load_file, save_file

from p2l_sdk import P2L

CHECKPOINTS = ["tiny-qwen2-bt", "tiny-qwen2-grk", "tiny-llama-rk"]
BT, GRK, RK = CHECKPOINTS
SHORT = ["short_hi", "short_question"]


def truth(checkpoint: str) -> dict[str, dict]:
    """Results of the training collator by prompt id, for the prompts that it accepts: prompt, coefs, eta, token ids."""
    prompts = {p["id"]: p["prompt"] for p in json.loads(shared("oracle/prompts.json").read_text())}
    found = {}
    for row in json.loads(shared(f"oracle/outputs/{checkpoint}.json").read_text())["rows"]:
        output = row.get("collator_f32", {})
        if "coefs" in output:
            turns, ids = prompts[row["id"]], row["collator_input_ids"]
            found[row["id"]] = {
                "prompt": turns if isinstance(turns, str) else [{"role": "user", "content": t} for t in turns],
                "ids": row["endpoint_input_ids"] if isinstance(ids, str) else ids,
                "empty": not "".join(turns).strip(),
                **output,
            }
    assert len(found) >= 35
    return found


def scored(checkpoint: str) -> tuple[list, np.ndarray, np.ndarray | None]:
    """Prompts that are not empty, with their coefs and eta, longest last."""
    rows = sorted((row for row in truth(checkpoint).values() if not row["empty"]), key=lambda row: len(row["ids"]))
    assert len(rows) == 32
    eta = None if rows[0]["eta"] is None else np.array([row["eta"] for row in rows])
    return [row["prompt"] for row in rows], np.array([row["coefs"] for row in rows]), eta


def n_short(checkpoint: str) -> int:
    """How many of them are short enough to share a batch."""
    return sum(len(row["ids"]) < 1000 for row in truth(checkpoint).values() if not row["empty"])


def assert_same(p2l: P2L, prompts: list, coefs: np.ndarray, eta: np.ndarray | None) -> None:
    found = p2l.coefficients(prompts)
    np.testing.assert_allclose(found.coefs, coefs, atol=1e-5)
    assert (found.eta is None) == (eta is None)
    if found.eta is not None:
        np.testing.assert_allclose(found.eta[:, 0], eta, atol=1e-5)


RESEARCHER = """
import json, sys
sys.modules["p2l_sdk"] = None
import torch
from transformers import AutoModel, AutoTokenizer, pipeline

def coefs(results):
    models = pipe.model.spec.models
    rows = [sorted(result["leaderboard"], key=lambda row: models.index(row["model"])) for result in results]
    return [[row["coef"] for row in board] for board in rows]

answers = {}
for folder, (prompts, n_short) in json.load(open(sys.argv[1])).items():
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        single = [model(**model.prepare([prompt], tokenizer)).coefs[0].tolist() for prompt in prompts]
        batched = model(**model.prepare(prompts[:n_short], tokenizer)).coefs.tolist()
    pipe = pipeline("prompt-to-leaderboard", folder, trust_remote_code=True)
    results = pipe(prompts)
    answers[folder] = {
        "AutoModel": single,
        "AutoModel, batched": batched,
        "pipeline": coefs(pipe(prompt) for prompt in prompts[:n_short]),
        "pipeline, batched": coefs(results),
        "eta": [result["eta"] for result in results],
    }
print(json.dumps(answers))
"""


def researcher(requests: dict[str, list], home: Path) -> dict[str, dict[str, list]]:
    """What transformers alone answers, by folder: requests are (prompts, how many of them may share a batch)."""
    (home / "requests.json").write_text(json.dumps(requests))
    return answer(RESEARCHER, home, home / "requests.json")


def changed_checkpoint(
    folder: Path,
    name: str = BT,
    tensors: dict[str, torch.Tensor | None] | None = None,
    training: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """Copy a published checkpoint to a new folder, with other tensors and other values in its two config files; None
    removes one."""
    shutil.copytree(shared(f"oracle/ckpt/{name}"), folder)
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    state = {**load_file(folder / "model.safetensors"), **(tensors or {})}
    save_file({k: v for k, v in state.items() if v is not None}, folder / "model.safetensors", {"format": "pt"})
    for file, changes in (("training_config.json", training), ("config.json", config)):
        values = {**json.loads((folder / file).read_text()), **(changes or {})}
        (folder / file).write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    return folder


def linear(n_out: int, n_in: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"weight": torch.randn(n_out, n_in, generator=generator), "bias": torch.randn(n_out, generator=generator)}


def layer(name: str, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"head.{name}.{key}": value for key, value in values.items()}


WITHOUT_HEAD = {"head.head.weight": None, "head.head.bias": None}
