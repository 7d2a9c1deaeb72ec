"""Models on the Hub: the real client, in separate processes, against the local Hub."""

from __future__ import annotations

import functools
import json
import re
import shutil
import textwrap

import numpy as np
import pytest
from conftest import MODELS, ROOT
from hub_client import (
    GUEST,
    LOAD,
    OWNER,
    PROMPTS,
    PUSH,
    assert_cache_is_whole,
    environment,
    expected,
    load,
    p2l_command,
    push_as_owner,
)
from huggingface_hub import ModelCard
from thorough import thorough

from p2l_sdk import P2L
from p2l_sdk.evaluation import evaluate_votes
from p2l_sdk.hub.cards import join_card, model_index, split_card
from p2l_sdk.votes.votes import Votes

pytestmark = pytest.mark.long

# what a user of transformers alone does
RESEARCH = """
import torch
from transformers import AutoModel, AutoTokenizer
model = AutoModel.from_pretrained(repo, trust_remote_code=True).eval()
tokenizer = AutoTokenizer.from_pretrained(repo, trust_remote_code=True)
with torch.inference_mode():
    result = model(**model.prepare(prompts, tokenizer)).coefs.tolist()
"""


@pytest.fixture(scope="module")
def push(processes):
    """push(folder, repo, **options) -> the commit, pushed by the owner of org."""
    return functools.partial(push_as_owner, processes["pusher"])


@pytest.fixture(scope="module")
def loader(processes):
    return processes["loader"]


# --- push, and load elsewhere --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [("quantized", {}), *thorough(("llama", {}), ("bert", {})), ("qwen2", {"max_shard_bytes": 20_000})],
    ids=["static", "decoder", "encoder", "sharded"],
)
def test_a_pushed_model_loads_by_its_id_with_and_without_p2l_sdk(kind, options, hub, processes, push, loader, saved):
    repo, folder = f"org/whole-{kind}", saved(kind)
    push(folder, repo, **options)
    files = hub.repo(repo).files()
    assert hub.repo(repo).messages == ["initial commit", "P2L model of 4 LLMs"]  # everything in one commit
    assert {"config.json", "tokenizer.json", "README.md", "modeling_p2l.py", "leaderboard.png"} <= files.keys()
    assert ("model.safetensors" in files) == (not options)
    assert ("model.safetensors.index.json" in files) == bool(options)
    np.testing.assert_allclose(load(loader, repo), expected(folder), atol=1e-6)
    theirs = processes["researcher"](RESEARCH, repo=repo, prompts=PROMPTS)
    np.testing.assert_allclose(theirs, expected(folder, device="cpu"), atol=1e-5)
    assert not [request for request in hub.asked("/(cdn|upload)/") if request.token]  # tokens go only to the Hub


def test_a_pull_request(hub, push, loader, saved):
    push(saved("quantized"), "org/proposed")
    before = hub.repo("org/proposed").files()
    commit = push(saved("static"), "org/proposed", token=GUEST, create_pr=True, commit_message="Not quantized")
    assert commit["pr_revision"] == "refs/pr/1"
    assert commit["pr_url"] == f"{hub.url}/org/proposed/discussions/1"
    assert hub.repo("org/proposed").files() == before
    assert hub.repo("org/proposed").messages[-1] == "Not quantized"
    np.testing.assert_allclose(load(loader, "org/proposed", revision="refs/pr/1"), expected(saved("static")), atol=1e-6)
    np.testing.assert_allclose(load(loader, "org/proposed"), expected(saved("quantized")), atol=1e-6)


def test_a_private_revision(hub, processes, push, loader, saved):
    push(saved("quantized"), "org/secret", private=True, revision="v2")
    assert hub.repo("org/secret").private
    assert list(hub.repo("org/secret").files()) == [".gitattributes"]  # nothing on the main branch
    np.testing.assert_allclose(
        load(loader, "org/secret", revision="v2", token=OWNER), expected(saved("quantized")), atol=1e-6
    )
    request = {"repo": "org/secret", "prompts": PROMPTS}
    for token in (GUEST, None):
        options = {"revision": "v2", "token": token, "cache_dir": "elsewhere"}
        assert "no such repository on the Hub, or it is private" in loader.refused(LOAD, **request, options=options)
    refusal = loader.refused(LOAD, **request, options={"token": OWNER})
    assert "the Hub repository 'org/secret' is no P2L model: it has no config.json" in refusal  # this is main


def test_a_push_that_was_to_be_private_is_not_made_public(hub, processes, push, saved):
    push(saved("quantized"), "org/open")
    n = len(hub.repo("org/open").messages)
    options = {"token": OWNER, "private": True}
    refusal = processes["pusher"].refused(PUSH, folder=saved("quantized"), repo="org/open", options=options)
    assert "'org/open' exists and is public; make it private in its settings" in refusal
    assert len(hub.repo("org/open").messages) == n


def test_edits_and_costs_are_pushed_and_nothing_of_the_model_before_stays(hub, processes, push, loader, saved):
    push(saved("qwen2"), "org/edited", max_shard_bytes=20_000)
    hub.add("org/edited", {"notes.txt": b"of the owner"})
    hub.requests.clear()
    code = """
from p2l_sdk import P2L
p2l = P2L.from_pretrained(folder, costs={"beta-13b": 0.5}).remove_model("alpha-7b")
result = p2l.push_to_hub("org/edited", token=token).oid
"""
    oid = processes["pusher"](code, folder=saved("quantized"), token=OWNER)
    files = hub.repo("org/edited").files()
    assert [name for name in files if "safetensors" in name] == ["model.safetensors"]
    assert files["notes.txt"] == b"of the owner"
    assert hub.repo("org/edited").refs["main"] == oid
    assert len(hub.asked("POST .*/commit/")) == 1
    np.testing.assert_allclose(load(loader, "org/edited"), expected(saved("quantized"))[:, 1:], atol=1e-6)
    config = json.loads(files["config.json"])
    assert (config["models"], config["costs"]) == (list(MODELS[1:]), {"beta-13b": 0.5})
    assert split_card(files["README.md"].decode())[0]["model_list"] == list(MODELS[1:])


# --- the handler of Inference Endpoints ----------------------------------------------------------------------------


def test_the_handler_is_pushed_and_answers(hub, push, loader, saved):
    push(saved("quantized"), "org/endpoint")
    files = hub.repo("org/endpoint").files()
    assert files["handler.py"] == (ROOT / "hub_cards" / "handler.py").read_bytes()
    assert b"p2l-sdk[torch]" in files["requirements.txt"]
    answer = loader(  # as in an endpoint: the repository in a folder, its handler.py as a module
        "import sys\nfrom huggingface_hub import snapshot_download\nfolder = snapshot_download('org/endpoint')\n"
        "sys.path.insert(0, folder)\nfrom handler import EndpointHandler\nsys.path.remove(folder)\n"
        "handle = EndpointHandler(folder)\n"
        "result = [handle({'inputs': prompts[0]}), handle({'inputs': prompts, 'parameters': {'task': 'route'}})]",
        prompts=PROMPTS,
    )
    p2l = P2L.from_pretrained(saved("quantized"))
    board, routes = answer
    assert [row["model"] for row in board["leaderboard"]] == p2l.leaderboard(PROMPTS[0]).ranking
    assert [route["model"] for route in routes] == [route.model for route in p2l.route_many(PROMPTS)]
    push(saved("quantized"), "org/no-endpoint", handler=False)
    assert not {"handler.py", "requirements.txt"} & hub.repo("org/no-endpoint").files().keys()


# --- the card ------------------------------------------------------------------------------------------------------


def test_the_card_is_complete_valid_and_its_snippet_runs(hub, push, loader, saved, tmp_path):
    folder = shutil.copytree(saved("quantized"), tmp_path / "model")
    index = model_index("tiny", {"votes_val.jsonl": {"bt_log_loss": 0.5, "pair_accuracy": 0.75}})
    text = '\n# Tiny\n\nOf us.\n\n```python\nfrom p2l_sdk import P2L\n\np2l = P2L.from_pretrained("here")\n'
    text += 'print(p2l.leaderboard("write a poem"))\n```\n'
    (folder / "README.md").write_text(join_card({"license": "mit", "tags": ["mine"], "model-index": index}, text))
    push(folder, "org/carded")
    card = hub.repo("org/carded").files()["README.md"].decode()
    data = ModelCard(card).data
    assert (data.license, data.pipeline_tag, data.library_name) == ("mit", "text-classification", "transformers")
    assert data.tags == ["mine", "p2l", "llm-routing", "prompt-to-leaderboard"]
    assert {(r.metric_type, r.metric_value, r.dataset_name) for r in data.eval_results} == {
        ("bt_log_loss", 0.5, "votes_val.jsonl"),
        ("pair_accuracy", 0.75, "votes_val.jsonl"),
    }
    assert data["model_list"] == list(MODELS)
    assert all(isinstance(example["text"], str) for example in data["widget"])
    assert "](leaderboard.png)" in card
    snippet = card.split("```python\n")[1].split("```")[0]
    assert 'P2L.from_pretrained("org/carded")' in snippet
    out = loader("import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n"
                 "    exec(snippet, {})\nresult = out.getvalue()", snippet=snippet)  # fmt: skip
    assert all(name in out for name in MODELS)


def test_a_card_with_broken_metadata_is_refused_before_anything_is_uploaded(hub, processes, saved, tmp_path):
    folder = shutil.copytree(saved("quantized"), tmp_path / "model")
    request = {"folder": folder, "repo": "org/broken", "options": {"token": OWNER}}
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n# X\n")
    assert "the metadata on top of README.md is no YAML: " in processes["pusher"].refused(PUSH, **request)
    assert ("models", "org/broken") not in hub.repos
    (folder / "README.md").write_text("---\nlicense: 3\n---\n# X\n")
    assert 'Invalid metadata in README.md. - "license" must be a str' in processes["pusher"].refused(PUSH, **request)
    assert list(hub.repo("org/broken").files()) == [".gitattributes"]


# --- what is downloaded --------------------------------------------------------------------------------------------


def test_only_what_is_needed_is_fetched(hub, repository, loader):
    name, coefs = repository
    unneeded = {"pytorch_model.bin": b"a pickle", "model.onnx": b"x", "runs/model.safetensors": b"x", "code.py": b"x"}
    hub.add(name, unneeded)
    hub.requests.clear()
    np.testing.assert_allclose(load(loader, name), coefs, atol=1e-6)
    fetched = {request.path.split("/", 5)[-1] for request in hub.asked(f"HEAD /{name}/resolve")}
    assert fetched == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    assert len(hub.asked("GET /cdn/")) == 1


def test_no_weights_are_fetched_of_what_is_no_p2l_model(hub, loader):
    hub.add("org/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x" * 100})
    hub.requests.clear()
    refusal = loader.refused(LOAD, repo="org/bert", prompts=PROMPTS, options={})
    assert refusal.startswith(
        "ModelFormatError: the Hub repository 'org/bert' is no P2L model: its model_type is 'bert'"
    )
    assert not hub.asked("model.safetensors")
    assert not hub.asked("/cdn/")


# --- errors and their remedies -------------------------------------------------------------------------------------


def test_each_refusal_names_its_remedy(hub, repository, loader, tmp_path):
    name, _ = repository
    hub.add("org/gated", hub.repo(name).files()).gated = True
    hub.add("org/hidden", hub.repo(name).files()).private = True
    cases = [
        ("org/no-such", {}, "'org/no-such' is no folder here, and there is no such repository on the Hub, or it is "
         "private; check the name, and if it is private log in (hf auth login) or pass token=..."),
        ("org/hidden", {"token": GUEST}, "there is no such repository on the Hub, or it is private"),
        ("org/gated", {"token": GUEST}, "the Hub repository 'org/gated' is gated: ask for access on its page "
         f"{hub.url}/org/gated, then log in with the same account (hf auth login) or pass its token=..."),
        ("org/gated", {}, "the Hub repository 'org/gated' is gated"),
        (name, {"revision": "v9"}, f"the Hub repository '{name}' has no revision 'v9'; name a branch, tag or commit"),
        (name, {"local_files_only": True}, f"the Hub repository '{name}' is not in the cache and the Hub was not asked "
         "(local_files_only is set); fetch it once while online, without local_files_only, or with: hf download "
         f"{name}"),
        (name, {"token": "hf_old"}, "the Hub does not accept your token: log in (hf auth login) or pass token=..."),
        ("org/x..y", {}, "the Hub repository 'org/x..y' could not be fetched"),
    ]  # fmt: skip
    for repo, options, message in cases:
        options = {"cache_dir": str(tmp_path / "cache"), **options}
        refusal = loader.refused(LOAD, repo=repo, prompts=PROMPTS, options=options)
        assert refusal.startswith("HubError: ")
        assert message in refusal
        assert loader("result = list(naps)") == []  # waiting would not help with any of these
    assert_cache_is_whole(tmp_path)


def test_offline_a_model_loads_from_the_cache_or_says_that_it_cannot(hub, repository, loader, tmp_path):
    name, coefs = repository
    cache = {"cache_dir": str(tmp_path / "cache")}
    load(loader, name, **cache)
    hub.requests.clear()
    np.testing.assert_allclose(load(loader, name, local_files_only=True, **cache), coefs, atol=1e-6)
    offline = "from huggingface_hub import constants\nconstants.HF_HUB_OFFLINE = True\ntry:\n"
    offline += textwrap.indent(LOAD, "    ") + "finally:\n    constants.HF_HUB_OFFLINE = False\n"
    request = {"repo": name, "prompts": PROMPTS}
    np.testing.assert_allclose(loader(offline, **request, options=cache), coefs, atol=1e-6)
    refusal = loader.refused(offline, **request, options={"cache_dir": str(tmp_path / "other")})
    assert "is not in the cache and the Hub was not asked (HF_HUB_OFFLINE is set)" in refusal
    next((tmp_path / "cache").rglob("snapshots/*/tokenizer.json")).unlink()
    refusal = loader.refused(LOAD, **request, options={"local_files_only": True, **cache})
    assert "is not in the cache, or only in part, and the Hub was not asked" in refusal
    assert not hub.requests
    np.testing.assert_allclose(load(loader, name, **cache), coefs, atol=1e-6)  # online, the rest is fetched


def test_a_hub_that_is_not_there(hub, repository, tmp_path):
    name, _ = repository
    env = environment(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    result = p2l_command("leaderboard", "sum", "--model", name, env=env)
    assert result.returncode == 2
    assert (
        f"p2l: the Hub (http://127.0.0.1:9) cannot be reached, and the Hub repository '{name}' is not in"
        in result.stderr
    )
    assert "check the connection, or the address in HF_ENDPOINT" in result.stderr


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_pushes_models_and_votes(hub, tmp_path):
    env = environment(hub, tmp_path / "home", HF_TOKEN=OWNER)
    result = p2l_command("push", "default", "org/command", "--private", "--revision", "v1", "--json", env=env)
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert (answer["repo_id"], answer["revision"], answer["pull_request"]) == ("org/command", "v1", None)
    assert answer["oid"] == hub.repo("org/command").refs["v1"]
    assert hub.repo("org/command").private
    for revision, status in (("v1", 0), ("v9", 2)):
        asked = ("leaderboard", "hello", "--model", "org/command", "--revision", revision, "--json")
        result = p2l_command(*asked, env=env)
        assert (result.returncode, "has no revision 'v9'" in result.stderr) == (status, status == 2), result.stderr
    result = p2l_command("push", "nowhere", "org/command", env=env)
    assert (result.returncode, result.stdout) == (2, "")
    assert "there is no folder 'nowhere'" in result.stderr


def test_a_training_that_cannot_push_keeps_its_model_and_says_how_to_push_it(hub, processes, push, tmp_path):
    hub.create("other/taken")
    for name in ("votes", "held"):
        kinds = (("write a poem", "model_a"), ("sum", "model_b"), ("of", "tie"))
        votes = [{"prompt": f"{p} {name} {i}", "model_a": "a", "model_b": "b", "winner": w}
                 for i in range(20) for p, w in kinds]  # fmt: skip
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    model = tmp_path / "mine"
    settings = {"votes": tmp_path / "votes.jsonl", "eval_votes": tmp_path / "held.jsonl", "feedback": "rk"}
    settings |= {"output": model, "epochs": 0.1, "push_to_hub": "other/taken"}
    code = "import os\nfrom p2l_sdk.training.config import TrainingConfig\nfrom p2l_sdk.training.run import train\n"
    code += "os.environ['HF_TOKEN'] = token\ntrain(TrainingConfig(**settings))"
    refusal = processes["pusher"].refused(code, settings=settings, token=OWNER)
    assert "your token may not write to the Hub repository 'other/taken'" in refusal
    assert f"The model is trained and safe in {str(model)!r}: p2l push {model} other/taken" in refusal
    push(model, "org/mine")
    card, _ = split_card(hub.repo("org/mine").files()["README.md"].decode())
    assert card["model_list"] == ["a", "b"]
    measured = {r.metric_type: r.metric_value for r in ModelCard(join_card(card, "x")).data.eval_results}
    metrics = evaluate_votes(P2L.from_pretrained(model), Votes.read(tmp_path / "held.jsonl"))
    assert measured == pytest.approx({name: estimate.value for name, estimate in metrics.items()}, abs=1e-6)


def test_the_how_to_does_what_it_says(hub, processes):
    page = (ROOT / "docs" / "hub.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```py\n(.*?)^```\n", page, re.DOTALL | re.MULTILINE))
    run = "import contextlib, io, os\nos.environ['HF_TOKEN'] = token\nout = io.StringIO()\n"
    run += "with contextlib.redirect_stdout(out):\n    exec(code, {})\nresult = out.getvalue()"
    address, best, n_votes = processes["pusher"](run.replace("code,", "text,"), text=code, token=OWNER).splitlines()
    assert address == f"{hub.url}/org/my-model/commit/{hub.repo('org/my-model').refs['main']}"
    assert best in P2L.from_pretrained().models
    assert n_votes == "1"
    assert hub.repo("org/my-votes", "datasets").private
