"""Folders and cards of models whose LLMs were edited, and the commands that edit them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import ok, p2l, refused
from conftest import MODELS, build_model, transformers_tokenizer
from edited_models import NEW, prompts, simulated, true_row
from researcher import without_p2l_sdk

from p2l_sdk import P2L
from p2l_sdk.errors import ModelFormatError
from p2l_sdk.hub.tensors import replace_tensors
from p2l_sdk.votes.votes import Votes

pytestmark = pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")  # tiny tests have few votes


def edited(base: P2L) -> P2L:
    votes = Votes.from_rows(simulated(base, true_row(base), prompts(30), 10))
    return base.add_model(NEW, votes, cost=0.001).remove_model(MODELS[2]).rename_model(MODELS[0], "zeta")


@pytest.mark.thorough
def test_an_edited_model_is_a_whole_folder_for_everyone(saved, tmp_path):
    texts, folders, models = prompts(5), [], []
    for i, (kind, feedback) in enumerate([("quantized", "ba"), ("llama", "bt"), ("bert", "rk")]):
        model = edited(P2L.from_pretrained(saved(kind, feedback, head_hidden_size=8)))
        folder = tmp_path / f"m{i}"
        model.save_pretrained(folder)
        loaded = P2L.from_pretrained(folder)
        assert loaded.models == model.models == ("zeta", MODELS[1], MODELS[3], NEW)
        assert loaded.costs == model.costs
        np.testing.assert_allclose(loaded.coefficients(texts).coefs, model.coefficients(texts).coefs, atol=1e-6)
        again = tmp_path / f"again{i}"
        loaded.remove_model(NEW).save_pretrained(again)  # edits on edits
        assert P2L.from_pretrained(again).models == ("zeta", MODELS[1], MODELS[3])
        folders.append(folder)
        models.append(model)
    results = without_p2l_sdk(tmp_path, texts, folders)
    for model, theirs in zip(models, results, strict=True):
        np.testing.assert_allclose(model.coefficients(texts).coefs, theirs["coefs"], atol=1e-5)


def test_half_precision_weights_stay_so(tmp_path):
    import torch
    from safetensors.torch import load_file

    model = build_model("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    transformers_tokenizer().save_pretrained(tmp_path / "half")
    new = edited(P2L.from_pretrained(tmp_path / "half"))
    new.save_pretrained(tmp_path / "edited")
    weights = load_file(tmp_path / "edited" / "model.safetensors")
    assert weights["head.coefs.weight"].dtype == torch.bfloat16
    rounded = torch.from_numpy(new._scorer.rows).to(torch.bfloat16).float().numpy()  # the file keeps its dtype
    np.testing.assert_array_equal(weights["head.coefs.bias"].float().numpy(), rounded[:, -1])
    again = P2L.from_pretrained(tmp_path / "edited")
    np.testing.assert_array_equal(again._scorer.rows, rounded)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_are_replaced_as_torch_would_write_them(dtype, tmp_path):
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    torch.manual_seed(0)
    kept = {"codes": torch.randint(-9, 9, (3, 5), dtype=torch.int8), "other": torch.randn(7).to(torch.bfloat16)}
    source, target, values = tmp_path / "a.safetensors", tmp_path / "b.safetensors", torch.randn(5, 3)
    save_file({**kept, "head": torch.zeros(2, 3, dtype=getattr(torch, dtype))}, source, metadata={"format": "pt"})
    replace_tensors(source, target, {"head": values.numpy(), "absent": values.numpy()})
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == {"codes", "other", "head"}
        assert torch.equal(file.get_tensor("head"), values.to(getattr(torch, dtype)))
        for name, tensor in kept.items():
            assert torch.equal(file.get_tensor(name), tensor)
    with pytest.raises(ModelFormatError, match="tensor 'codes' is of type I8; only F64"):
        replace_tensors(source, target, {"codes": values.numpy()})


def test_the_card_says_that_the_model_was_edited(saved, tmp_path, default):
    new = default.remove_model(default.models[0]).rename_model(default.models[1], "gemma")
    new.save_pretrained(tmp_path / "edited")
    card = (tmp_path / "edited" / "README.md").read_text()
    assert card.startswith("---\n")
    edits = [f"> - {default.models[1]} renamed gemma", f"> - {default.models[0]} removed"]
    banner = "> **Edited after training.** What follows describes the model before these edits, newest first:\n>\n"
    known = f"> - LLMs now: {', '.join(new.models)}\n"
    assert f"{banner}{known}{edits[0]}\n{edits[1]}\n\n# " in card
    P2L.from_pretrained(tmp_path / "edited").remove_model("gemma").save_pretrained(tmp_path / "again")
    again = (tmp_path / "again" / "README.md").read_text()
    left = known.replace("gemma, ", "")
    assert again == card.replace(known, f"{left}> - gemma removed\n")  # one banner for all edits
    measured = "model-index:\n- name: x\n  results:\n  - metrics:\n    - type: ece\n      value: 0.1\ntags:\n"
    (tmp_path / "again" / "README.md").write_text(again.replace("tags:\n", measured, 1))
    P2L.from_pretrained(tmp_path / "again").save_pretrained(tmp_path / "copy")
    assert measured in (tmp_path / "copy" / "README.md").read_text()
    P2L.from_pretrained(tmp_path / "copy").rename_model(default.models[2], "x").save_pretrained(tmp_path / "renamed")
    head = (tmp_path / "renamed" / "README.md").read_text().split("---\n")[1]
    assert head == card.split("---\n")[1]  # without the results, which are of the model before
    plain = P2L.from_pretrained(saved("static")).remove_model(MODELS[0])
    plain.save_pretrained(tmp_path / "plain")
    assert not (tmp_path / "plain" / "README.md").exists()


def test_a_folder_without_the_rows_is_refused(saved, tmp_path):
    import shutil

    shutil.copytree(saved("static"), tmp_path / "source")
    model = P2L.from_pretrained(tmp_path / "source").remove_model(MODELS[0])
    (tmp_path / "source" / "model.safetensors").unlink()
    with pytest.raises(ModelFormatError, match=r"holds no tensors head\.coefs\.weight and head\.coefs\.bias"):
        model.save_pretrained(tmp_path / "target")
    assert not (tmp_path / "target").exists()


# --- the command line --------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_commands(saved, tmp_path):
    source = saved("static", head_hidden_size=8)
    base = P2L.from_pretrained(source)
    rows = simulated(base, true_row(base), prompts(200), 4)
    votes, few = tmp_path / "votes.jsonl", tmp_path / "few.jsonl"
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    few.write_text(json.dumps(rows[0]) + "\n")
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    shown = ok("add-model", NEW, "--votes", votes, "--cost", 0.001, "--model", source, "--output", one)
    assert "epsilon-1t: 800 votes on" in shown
    assert f"wrote {one}: 5 LLMs" in shown
    expected = base.add_model(NEW, Votes.read(votes))
    np.testing.assert_allclose(P2L.from_pretrained(one)._scorer.rows, expected._scorer.rows, atol=1e-6)
    result = json.loads(ok("remove-model", MODELS[0], "--model", one, "--output", two, "--json"))
    assert result == {"output": str(two), "models": [*MODELS[1:], NEW], "removed": MODELS[0]}
    assert "renamed zeta" in ok("rename-model", NEW, "zeta", "--model", two, "--output", three)
    assert P2L.from_pretrained(three).costs["zeta"] == 0.001
    assert "exists already" in refused("rename-model", NEW, "zeta", "--model", two, "--output", three)
    assert "Missing option '--output'" in refused("remove-model", NEW)
    assert "nothing to learn" in refused("add-model", "x", "--model", one, "--output", tmp_path / "none")
    warned = p2l("add-model", NEW, "--votes", few, "--model", source, "--output", tmp_path / "four", "--json")
    assert warned.returncode == 0
    assert json.loads(warned.stdout)["added"]["n_votes"] == 1
    assert f"p2l: {NEW} has no cost, which routing within a budget needs (--cost USD)" in warned.stderr.decode()
    assert warned.stderr.decode().startswith("p2l: warning: too few votes for 'epsilon-1t' (1 vote on 1 prompt): its")
