"""The code saved with the weights: whole, and loaded by the oldest version of transformers that is promised."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import save_adapter, save_base
from conftest import ROOT, build_model, transformers_tokenizer
from packaging.version import Version
from researcher import answer
from transformers.dynamic_module_utils import get_relative_imports

from p2l_sdk import P2L
from p2l_sdk.modeling.spec_p2l import AUTO_MAP, CUSTOM_PIPELINES

ENTRIES = sorted({name.split(".")[0] for name in [*AUTO_MAP.values(), *(p["impl"] for p in CUSTOM_PIPELINES.values())]})
KINDS = ("static", "quantized", "llama", "qwen2", "bert")
PROMPTS = ["sum", "prove that the square root of two is irrational in code", "write a poem about python"]
# the python of an environment with that version; .ci/run makes one
OLDEST = os.environ.get("P2L_OLDEST_TRANSFORMERS")
FLOOR = re.search(r'"transformers>=([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))

LOAD = """
import json, sys
request = json.loads(sys.argv[1])
if not request["sdk"]:
    sys.modules["p2l_sdk"] = None
import torch, transformers
from transformers import AutoModel, AutoTokenizer, pipeline

def load(folder):
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    with torch.inference_mode():
        out = model(**model.prepare(request["prompts"], tokenizer))
    dtype = str(model.head.coefs.weight.dtype)
    return {"coefs": out.coefs.tolist(), "eta": out.eta.tolist(), "code": type(model).__module__, "head": dtype}

def ask(folder):
    pipes = [pipeline(task, folder, trust_remote_code=True) for task in request["tasks"]]
    native, widget = (pipe(request["prompts"], top_k=None) for pipe in pipes)
    boards = [{row["model"]: row["coef"] for row in result["leaderboard"]} for result in native]
    return {"boards": boards, "labels": [[row["label"] for row in rows] for rows in widget]}

answers = {"version": transformers.__version__}
for folder in request["folders"]:
    answers[folder] = {"remote": load(folder), "pipelines": ask(folder)}
if request["sdk"]:  # last, because it registers the classes of p2l_sdk
    from p2l_sdk import P2L
    for folder in request["folders"]:
        p2l = P2L.from_pretrained(folder, device="cpu")
        answers[folder] |= {"P2L": p2l.coefficients(request["prompts"]).coefs.tolist(), "own": load(folder)}
print(json.dumps(answers))
"""


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_file_names_every_other_file(entry):
    """Old versions of transformers copy to their cache what the entry file names, and no more."""
    files = {path.stem for path in (ROOT / "modeling").glob("*_p2l.py")}
    assert set(get_relative_imports(ROOT / "modeling" / f"{entry}.py")) == files - {entry}


@pytest.fixture(scope="module")
def folders(saved, tmp_path_factory) -> dict[str, Path]:
    """Folders by kind: whole models, one with a backbone in 16 bits, and an adapter."""
    place = tmp_path_factory.mktemp("folders")
    base = save_base(place / "base")
    adapter = save_adapter(place / "adapter", base, str(base))
    P2L.from_pretrained(adapter).save_pretrained(place / "copied")
    half = build_model("llama")
    half.backbone.to(torch.bfloat16)
    half.save_pretrained(place / "half")
    transformers_tokenizer().save_pretrained(place / "half")
    return {**{kind: saved(kind) for kind in KINDS}, "adapter": place / "copied", "half": place / "half"}


@pytest.mark.skipif(OLDEST is None, reason="P2L_OLDEST_TRANSFORMERS names no python with the oldest transformers")
@pytest.mark.parametrize("sdk", [False, True], ids=["transformers alone", "with p2l_sdk"])
def test_the_oldest_version_of_transformers_loads_what_this_one_saves(sdk, folders, tmp_path):
    request = {"sdk": sdk, "folders": list(map(str, folders.values())), "prompts": PROMPTS}
    request |= {"tasks": list(CUSTOM_PIPELINES)}
    answers = answer(LOAD, tmp_path, json.dumps(request), python=OLDEST or "")
    assert FLOOR is not None
    assert Version(answers["version"]) == Version(FLOOR[1])
    for kind, folder in folders.items():
        p2l, found = P2L.from_pretrained(folder, device="cpu"), answers[str(folder)]
        expected = p2l.coefficients(PROMPTS)
        same = {"rtol": 0, "atol": 0.05 if kind == "half" else 2e-5, "err_msg": kind}
        assert found["remote"]["code"].startswith("transformers_modules.")
        for way in ("remote", "own")[: 1 + sdk]:
            np.testing.assert_allclose(found[way]["coefs"], expected.coefs, **same)
            np.testing.assert_allclose(found[way]["eta"], expected.eta, **same)
            assert found[way]["head"] == "torch.float32"
        boards = [[board[name] for name in p2l.models] for board in found["pipelines"]["boards"]]
        np.testing.assert_allclose(boards, expected.coefs, **same)
        assert found["pipelines"]["labels"] == [board.ranking for board in p2l.leaderboards(PROMPTS)]
        if sdk:
            assert found["own"]["code"].startswith("p2l_sdk.")
            np.testing.assert_allclose(found["P2L"], expected.coefs, **same)
