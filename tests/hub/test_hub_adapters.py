"""Adapters and their bases on the Hub: the real client, in separate processes, against the local Hub."""

from __future__ import annotations

import json

import numpy as np
import pytest
from adapters import save_adapter, save_base
from fine_tuning import vote_rows, write_jsonl
from hub_client import LOAD, OWNER, PROMPTS, PUSH, expected, load, push_as_owner

from p2l_sdk import P2L
from p2l_sdk.errors import HubError
from p2l_sdk.hub.cards import split_card
from p2l_sdk.hub.publish import _adapter_base


@pytest.fixture(scope="module")
def loader(processes):
    return processes["loader"]


# trains and pushes as `p2l train` does, and returns the coefficients
TRAIN = """
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.run import train
result = train(TrainingConfig(**settings)).coefficients(prompts).coefs.tolist()
"""


@pytest.mark.long
def test_a_base_is_that_of_one_commit_from_the_training_to_the_loaded_adapter(hub, loader, tmp_path):
    name, base = "other/pinned", save_base(tmp_path / "base")
    hub.add(name, {file.name: file.read_bytes() for file in base.iterdir()})
    commit = hub.repo(name).refs["main"]
    hub.add(name, {"model.safetensors": b"of another day"})
    settings = {
        "votes": write_jsonl(tmp_path / "votes.jsonl", vote_rows("grk", 12)), "output": tmp_path / "mine", "base": name,
        "precision": "fp32", "epochs": 1, "base_revision": commit,
    }  # fmt: skip
    trained = loader(TRAIN, settings={key: str(value) for key, value in settings.items()}, prompts=PROMPTS)
    assert json.loads((tmp_path / "mine" / "adapter_config.json").read_text())["revision"] == commit
    np.testing.assert_allclose(trained, expected(tmp_path / "mine", base=str(base)), atol=1e-6)
    weights = {request.path.split("/resolve/")[1] for request in hub.asked(f"{name}/resolve/.*safetensors")}
    assert weights == {f"{commit}/model.safetensors"}


@pytest.mark.thorough
def test_an_adapter_is_pushed_as_one_and_loads_on_its_base(hub, processes, loader, tmp_path):
    base = save_base(tmp_path / "base")
    hub.add("other/base", {file.name: file.read_bytes() for file in base.iterdir()})
    commit = hub.repo("other/base").refs["main"]
    adapter = save_adapter(tmp_path / "adapter", base, "other/base", commit)
    hub.add("other/base", {"model.safetensors": b"of another day"})
    push_as_owner(processes["pusher"], adapter, "org/adapter")
    files = hub.repo("org/adapter").files()
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files.keys()
    assert "model.safetensors" not in files
    card, _ = split_card(files["README.md"].decode())
    assert (card["base_model"], card["base_model_relation"]) == ("other/base", "adapter")
    hub.requests.clear()
    np.testing.assert_allclose(load(loader, "org/adapter"), expected(adapter, base=str(base)), atol=1e-6)
    of_base = {request.path.split("/resolve/")[1] for request in hub.asked("other/base/resolve")}
    assert of_base == {f"{commit}/config.json", f"{commit}/model.safetensors"}  # that commit; no tokenizer, no pickle
    hub.requests.clear()
    load(loader, "org/adapter", local_files_only=True)
    assert not hub.requests
    researcher, text = processes["researcher"], files["README.md"].decode()
    assert "Model Card for Model ID" not in text  # PEFT's template, left by `save_adapter`
    snippet = text.partition("<!-- adapter -->")[2].partition("```python\n")[2].partition("```")[0]
    assert 'folder = snapshot_download("org/adapter")' in snippet
    found = researcher(f"{snippet}\nresult = best(prompts, top_k=None)", prompts=PROMPTS)
    board = P2L.from_pretrained(adapter, base=str(base)).leaderboard(PROMPTS[0])
    assert [row["label"] for row in found[0]] == board.ranking
    np.testing.assert_allclose([row["score"] for row in found[0]], np.sort(board.usable)[::-1], atol=1e-5)
    hub.add("other/base", {"model.safetensors": (base / "model.safetensors").read_bytes()})  # transformers takes main
    by_id = "AutoModel.from_pretrained('org/adapter', {}trust_remote_code=True)"
    by_id = f"from transformers import AutoConfig, AutoModel\n{by_id}"
    assert "Target modules" in researcher.refused(by_id.format(""))  # it must not load the base with a random head
    with_config = by_id.format("config=AutoConfig.from_pretrained('org/adapter'), ")
    assert "an adapter loads from a folder, not by its Hub id: fetch it with" in loader.refused(with_config)
    pickled = ("config.json", "pytorch_model.bin")
    hub.add(
        "other/pickled", {name: content for name, content in hub.repo("other/base").files().items() if name in pickled}
    )
    refusal = loader.refused(LOAD, repo="org/adapter", prompts=PROMPTS, options={"base": "other/pickled"})
    assert "the base 'other/pickled' has no safetensors weights, and pickled ones are refused" in refusal
    hub.repo("other/base").gated = True
    refusal = loader.refused(LOAD, repo="org/adapter", prompts=PROMPTS, options={"cache_dir": str(tmp_path / "new")})
    assert refusal.startswith("HubError")
    assert "is an adapter: the Hub repository 'other/base' is gated" in refusal


@pytest.mark.long
def test_an_adapter_on_a_folder_of_this_machine_is_not_pushed(hub, processes, tmp_path):
    base = save_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base, str(base))
    refusal = processes["pusher"].refused(PUSH, folder=adapter, repo="org/lost", options={"token": OWNER})
    assert (
        "a path of this machine, which nobody else has; name the base's Hub id when training (--base-name)" in refusal
    )
    assert ("models", "org/lost") not in hub.repos


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("org/name", True), ("org/name/file.gguf", True), ("here/base", False), ("base", False), ("./base", False),
        ("../base", False), ("~/base", False), ("/base/there", False), ("a/b/c", False), ("org/.name", False),
        ("org/", False), ("C:\\base", False),
    ],
)  # fmt: skip
def test_what_an_adapter_on_the_hub_may_name_as_its_base(name, legal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "base").mkdir(parents=True)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
    if legal:
        assert _adapter_base(tmp_path) == name
    else:
        with pytest.raises(HubError, match="a path of this machine, which nobody else has; name the base's Hub id"):
            _adapter_base(tmp_path)
