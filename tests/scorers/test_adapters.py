"""Adapters: unmerged, loaded, merged and saved forms are the same model; errors if adapter and base do not match."""

from __future__ import annotations

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, backbone_config, transformers_tokenizer
from fine_tuning import LLMS, prompts, vote_rows, write_jsonl
from researcher import answer, without_p2l_sdk
from safetensors.torch import load_file, save_file

from p2l_sdk import P2L
from p2l_sdk.cli import cli, run
from p2l_sdk.errors import HubError, ModelFormatError, P2LError, P2LWarning
from p2l_sdk.evaluation import evaluate, evaluate_votes
from p2l_sdk.hub.access import HubTarget
from p2l_sdk.hub.cards import split_card
from p2l_sdk.hub.publish import push_model
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.card import fingerprint
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.finetune import fine_tune, save
from p2l_sdk.training.run import train
from p2l_sdk.training.task import Task
from p2l_sdk.votes.votes import Votes

PROMPTS = [prompt for _, prompt in prompts(12, seed=9)]
WEIGHTS = "adapter_model.safetensors"


def p2l(*arguments) -> int:
    """The exit status of a p2l command, run in this process."""
    return run(lambda: cli([str(argument) for argument in arguments], prog_name="p2l", standalone_mode=False))


def assert_equal(left: P2L, right: P2L, atol: float = 1e-5) -> None:
    ours, theirs = left.coefficients(PROMPTS), right.coefficients(PROMPTS)
    np.testing.assert_allclose(ours.coefs, theirs.coefs, atol=atol)
    np.testing.assert_allclose(ours.eta, theirs.eta, atol=atol)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_jsonl(folder / "votes.jsonl", vote_rows("grk", 60, 20))
    write_jsonl(folder / "held_out.jsonl", vote_rows("grk", 30, 20, seed=4))
    write_jsonl(folder / "scores.jsonl", [{"prompt": p, **dict.fromkeys(LLMS, 0.5), "poet": 0.7} for p in PROMPTS])
    (folder / "costs.json").write_text(json.dumps({"coder": 0.002, "poet": 0.0005}))
    (folder / "notes.md").write_text("\n## More\n\nCosts $5.\n")
    return folder


@pytest.fixture(scope="module")
def adapter(data, base, tmp_path_factory) -> Path:
    """An adapter as written by `train`."""
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    config = TrainingConfig(
        votes=str(data / "votes.jsonl"), output=str(folder), base=str(base("llama")), epochs=4, learning_rate=5e-3,
        head_learning_rate=1e-2, precision="fp32", eval_votes=str(data / "held_out.jsonl"), seed=3,
        eval_scores=str(data / "scores.jsonl"), costs=str(data / "costs.json"), cost_note="Of an afternoon.",
        notes=str(data / "notes.md"), license="apache-2.0", title="Mine",
    )  # fmt: skip
    with pytest.warns(P2LWarning, match=r"2 of the 30 prompts of held_out.jsonl are in the training votes"):
        assert train(config).models == LLMS
    return folder


@pytest.fixture
def broken(adapter, tmp_path) -> Path:
    """A copy of the adapter that a test can damage."""
    return shutil.copytree(adapter, tmp_path / "broken")


# --- one model ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_unmerged_loaded_and_merged_adapters_are_one_model(data, base, tmp_path):
    config = TrainingConfig(
        votes=str(data / "votes.jsonl"), output=str(tmp_path / "adapter"), base=str(base("bert")), epochs=3,
        learning_rate=5e-3, head_learning_rate=1e-2, precision="fp32", head_hidden_size=8, head_dropout=0.1,
    )  # fmt: skip
    task = Task.of_votes(Votes.read(config.votes), Feedback.GRK, 0.1, 0)
    result = fine_tune(config, task, {})
    (tmp_path / "adapter").mkdir()
    peft = result.model.eval()
    with torch.inference_mode():
        inputs = peft.get_base_model().prepare(PROMPTS, result.tokenizer)
        unmerged = peft(**inputs)
        with peft.disable_adapter():
            bare = peft(**inputs)
    assert (unmerged.hidden_state - bare.hidden_state).abs().max() > 0.01  # the LoRA has an effect
    save(result, tmp_path / "adapter", config)
    loaded = P2L.from_pretrained(tmp_path / "adapter")
    scored = loaded.coefficients(PROMPTS)
    np.testing.assert_allclose(scored.coefs, unmerged.coefs.numpy(), atol=1e-5)
    np.testing.assert_allclose(scored.eta, unmerged.eta.numpy(), atol=1e-5)


@pytest.mark.thorough
def test_an_adapter_and_what_it_is_merged_to_are_the_same_model_without_p2l_sdk(adapter, tmp_path):
    loaded = P2L.from_pretrained(adapter)
    assert p2l("merge", adapter, tmp_path / "merged", "--revision", "main") == 0
    merged = P2L.from_pretrained(tmp_path / "merged")
    assert_equal(merged, loaded)
    assert merged.costs == loaded.costs == {"coder": 0.002, "poet": 0.0005}
    assert not list((tmp_path / "merged").glob("adapter_[cm]*"))
    results = without_p2l_sdk(tmp_path, PROMPTS, [adapter, tmp_path / "merged"])
    for theirs in results:
        np.testing.assert_allclose(loaded.coefficients(PROMPTS).coefs, theirs["coefs"], atol=1e-5)
    with pytest.raises(P2LError, match="this model is no adapter, so there is nothing to merge"):
        merged.merge(tmp_path / "again")
    with pytest.raises(ModelFormatError, match="is a whole model, no adapter: it takes no base"):
        P2L.from_pretrained(tmp_path / "merged", base="x")


# the card's snippet; what a loaded adapter saves; the error without peft
ALONE = """
import contextlib, io, json, sys
sys.modules["p2l_sdk"] = None
from transformers import AutoModel, pipeline
prompts, mine, snippet = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec(snippet, {})
boards = pipeline("prompt-to-leaderboard", mine, trust_remote_code=True)
boards.save_pretrained("again")
again = pipeline("prompt-to-leaderboard", "again", trust_remote_code=True)
assert boards(prompts) == again(prompts)
half = AutoModel.from_pretrained(mine, trust_remote_code=True, dtype="bfloat16")
dtypes = [str(next(part.parameters()).dtype) for part in (half.backbone, half.head)]
refused = []
def attempt(**options):
    try: AutoModel.from_pretrained(mine, trust_remote_code=True, **options)
    except (ImportError, ValueError) as error: refused.append(str(error))
attempt(device_map="cpu")
sys.modules["peft"] = None
attempt()
AutoModel.from_pretrained("again", trust_remote_code=True)
best = [board["leaderboard"][0]["model"] for board in boards(prompts)]
print(json.dumps([printed.getvalue(), best, dtypes, refused]))
"""


@pytest.mark.thorough
def test_with_transformers_and_peft_alone(adapter, tmp_path):
    (tmp_path / "mine").symlink_to(adapter)
    card = (adapter / "README.md").read_text(encoding="utf-8")
    snippet = card.partition("<!-- adapter -->")[2].partition("```python\n")[2].partition("```")[0]
    assert 'folder = "mine"' in snippet
    assert {file.name for file in adapter.glob("*.py")} == {file.name for file in (ROOT / "modeling").glob("*_p2l.py")}
    printed, best, dtypes, refused = answer(ALONE, tmp_path, json.dumps(PROMPTS), "mine", snippet)
    p2l = P2L.from_pretrained(adapter)
    assert best == [board.best for board in p2l.leaderboards(PROMPTS)]
    assert printed.startswith(
        f"[{{'label': '{p2l.leaderboard('Prove that the square root of two is irrational').best}'"
    )
    assert dtypes == ["torch.bfloat16", "torch.float32"]
    assert refused == [
        "an adapter takes no device_map; write the whole model first: p2l merge",
        "an adapter needs peft, which is not installed: pip install peft",
    ]


@pytest.mark.long
def test_a_merged_model_has_a_card_and_its_pictures(adapter, tmp_path):
    P2L.from_pretrained(adapter).merge(tmp_path / "merged")
    data, text = split_card((tmp_path / "merged" / "README.md").read_text(encoding="utf-8"))
    assert (data["library_name"], data["license"]) == ("transformers", "apache-2.0")
    assert data["tags"] == ["p2l", "llm-routing", "prompt-to-leaderboard"]
    assert "# Mine (merged)\n" in text
    assert "The adapter was merged into its base: all weights are in this folder." in text
    assert "An adapter" not in text
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (tmp_path / "merged" / picture).is_file()


def test_a_copy_of_an_adapter_is_an_adapter(adapter, base, tmp_path):
    loaded = P2L.from_pretrained(adapter)
    loaded.save_pretrained(tmp_path / "copy")
    assert_equal(P2L.from_pretrained(tmp_path / "copy", base=base("llama")), loaded, atol=0)
    size = sum(file.stat().st_size for file in (tmp_path / "copy").glob("*.safetensors"))
    assert size < (base("llama") / "model.safetensors").stat().st_size


# --- what does not fit together ------------------------------------------------------------------------------------


def refused(folder: Path, match: str, **options) -> None:
    with pytest.raises(ModelFormatError, match=match):
        P2L.from_pretrained(folder, **options)


def test_an_adapter_without_its_base(broken, capsys):
    saved = json.loads((broken / "adapter_config.json").read_text())
    saved["base_model_name_or_path"] = "no/such-base"
    (broken / "adapter_config.json").write_text(json.dumps(saved))
    with pytest.raises(
        HubError, match=r"broken' is an adapter: .*'no/such-base' is not in the cache.* Name a base that"
    ):
        P2L.from_pretrained(broken)
    assert p2l("leaderboard", "hello", "--model", broken) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "with base=... (--base)" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"adapter_config.json' cannot be read as JSON: Expecting"),
        ("{}", r"adapter_config.json' is damaged: base_model_name_or_path is None"),
        ("[]", r"adapter_config.json' is no JSON object"),
        ('{"base_model_name_or_path": null}', r"base_model_name_or_path is None; it must name a base"),
    ],
)
def test_a_damaged_config_of_an_adapter_is_named(text, message, broken):
    (broken / "adapter_config.json").write_text(text)
    refused(broken, message)
    with pytest.raises(ModelFormatError, match=message):
        push_model(broken, HubTarget(repo_id="org/mine"))


def test_an_adapter_on_another_base(adapter, base, tmp_path):
    refused(adapter, "was trained on another base: model_type 'llama', not 'bert'", base=str(base("bert")))
    from transformers import AutoModel

    config = backbone_config("llama")[0]
    config.num_hidden_layers = 3
    AutoModel.from_config(config).save_pretrained(tmp_path / "deeper")
    transformers_tokenizer().save_pretrained(tmp_path / "deeper")
    refused(adapter, "was trained on another base: num_hidden_layers 2, not 3", base=tmp_path / "deeper")


def test_tensors_that_are_missing_left_over_or_damaged(broken):
    whole = load_file(broken / WEIGHTS)
    lora = next(name for name in whole if "lora_B" in name)

    def written(weights: dict[str, torch.Tensor]) -> Path:
        save_file(weights, broken / WEIGHTS, metadata={"format": "pt"})
        return broken

    missing = written({name: value for name, value in whole.items() if name != lora})
    with pytest.warns(UserWarning, match="missing adapter keys"):
        refused(missing, rf"does not fit its base; missing tensors: \['{lora}'\], left over: \[\]")
    extra = "base_model.model.backbone.extra.lora_A.weight"
    refused(written({**whole, extra: torch.ones(1)}), rf"missing tensors: \[\], left over: \['{extra}'\]")
    refused(written({**whole, lora: whole[lora][:, :2].contiguous()}), "(?s)is no whole adapter: .*size mismatch")
    refused(written({**whole, lora: torch.full_like(whole[lora], torch.nan)}), "adapter .*broken' is damaged: NaN")
    head = "base_model.model.head.coefs.bias"
    refused(written({**whole, head: torch.full_like(whole[head], torch.inf)}), "'head.coefs.bias' holds NaN or inf")
    (broken / WEIGHTS).write_bytes((broken / WEIGHTS).read_bytes()[:500])
    refused(broken, "is no whole adapter")
    (broken / WEIGHTS).unlink()
    refused(broken, "is no whole adapter")


# --- the card -----------------------------------------------------------------------------------------------------


def test_the_card_says_what_was_done(adapter, data, base):
    card = (adapter / "README.md").read_text(encoding="utf-8")
    _, metadata, text = card.split("---\n", 2)
    metadata = yaml.safe_load(metadata)
    results = metadata.pop("model-index")[0]["results"]
    assert {result["dataset"]["name"] for result in results} == {"held_out.jsonl", "scores.jsonl"}
    assert metadata == {
        "license": "apache-2.0",
        "library_name": "transformers",
        "tags": ["p2l", "llm-routing", "prompt-to-leaderboard", "peft", "lora"],
    }
    assert "# Mine\n" in text
    assert "Feedback `grk`, 3 LLMs:\n\n- coder\n- poet\n- sage\n" in text
    assert 'P2L.from_pretrained("mine")' in text
    assert "lora on llama.\n\n<!-- adapter -->\nAn adapter: a LoRA and the heads." in text
    n_votes = len((data / "votes.jsonl").read_text().splitlines())
    assert f"{n_votes:,} votes on 60 prompts (`votes.jsonl`, sha256 `{fingerprint(data / 'votes.jsonl')}`)" in text
    assert "Outcomes: model_a " in text
    settings = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert settings["seed"] == 3
    assert settings["learning_rate"] == 5e-3
    assert settings["votes"] == "votes.jsonl"
    assert settings["base"] == "llama"
    assert "Resolved: epochs 4, learning_rate 0.005, batch_size 16, precision fp32, head_learning_rate " in text
    assert "seed 3, lora_rank 16, lora_alpha 32.0, " in text
    assert "processes 1, steps 16." in text
    reading = "the chat template over the user turns, the last 1,024 tokens at most, CLS token `[CLS]`, pooling last"
    assert f"\nOf a prompt it reads: {reading}.\n" in text
    for package in ("p2l-sdk", "torch", "transformers", "peft", "accelerate", "numpy"):
        assert f"{package} {version(package)}" in text
    assert "Of an afternoon." in text
    assert text.endswith("## More\n\nCosts $5.\n\n") or text.endswith("## More\n\nCosts $5.\n")
    assert "$" not in text.replace("Costs $5.", "")  # every field of the template is filled
    assert "None" not in text
    for path in (adapter.parent, data, base("llama").parent, Path.home()):
        assert str(path) not in card


def test_the_metrics_of_the_card_are_those_of_the_model(adapter, data):
    card = (adapter / "README.md").read_text(encoding="utf-8")
    model = P2L.from_pretrained(adapter)
    held_out = Votes.read(data / "held_out.jsonl", model.models)
    report = evaluate(model, held_out, baseline_votes=Votes.read(data / "votes.jsonl"))
    assert "cross_entropy" in report.metrics
    for name, estimate in report.metrics.items():
        interval = ""
        if estimate.standard_error is not None:
            low, high = (estimate.value + z * estimate.standard_error for z in (-1.96, 1.96))
            interval = f"{low:.4f} to {high:.4f} "
        row = f"| {name} | {estimate.value:.4f} | {interval}| {report.baseline.metrics[name].value:.4f} | "
        assert row in card
        assert f"| {estimate.n:,} |" in card.partition(row)[2].partition("\n")[0]
    sha = fingerprint(data / "held_out.jsonl")
    assert f"On held_out.jsonl (2 of its 30 prompts are in the training data; sha256 `{sha}`):" in card
    assert "| best_single_model | poet | | | | |" in card
    history = json.loads((adapter / "training_history.json").read_text())
    lowest = min(entry["eval_loss"] for entry in history if "eval_loss" in entry)
    assert f"Lowest validation loss {lowest:.4f} (kept), averaged leaderboard " in card
    rest, validation = Votes.read(data / "votes.jsonl").split(0.1, 3)
    assert evaluate_votes(model, validation)["cross_entropy"].value == pytest.approx(lowest, abs=1e-5)
    baseline = float(card.partition("averaged leaderboard ")[2].split()[0].rstrip("."))
    assert baseline == pytest.approx(marginal_loss(rest, validation), abs=1e-4)
    assert lowest < baseline


def marginal_loss(train: Votes, held_out: Votes) -> float:
    """The loss of the averaged leaderboard of some votes on other votes."""
    from p2l_sdk.modeling.feedback_p2l import log_probabilities, vote_log_likelihood
    from p2l_sdk.votes.averaged import fit_leaderboard

    board = fit_leaderboard(train, "grk", intervals=None)
    eta = np.array(board.eta)
    log_probs = log_probabilities(Feedback.GRK, board.coefs[held_out.a], board.coefs[held_out.b], eta)
    likelihood, _ = vote_log_likelihood(Feedback.GRK, log_probs, held_out.winner)
    return float(-(likelihood * held_out.weight).sum() / held_out.weight.sum())


def test_the_learning_curve_is_a_picture(adapter):
    assert (adapter / "learning_curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.long
def test_an_adapter_holds_its_base_by_name(data, base, tmp_path):
    config = TrainingConfig(
        votes=str(data / "votes.jsonl"), output=str(tmp_path / "out"), base=str(base("llama")), epochs=0.3,
        base_name="some-org/some-model/file.gguf", precision="bf16", validation=0.0,
    )  # fmt: skip
    assert train(config) is not None
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["base_model_name_or_path"] == (
        "some-org/some-model/file.gguf"
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "some-org/some-model"
    assert "No prompts were held out for validation" in card
    assert str(base("llama")) not in card
    for name, value in load_file(tmp_path / "out" / WEIGHTS).items():
        assert value.dtype == (torch.float32 if ".head." in name else torch.bfloat16), name
    assert P2L.from_pretrained(tmp_path / "out", base=str(base("llama"))).models == LLMS


def test_the_base_stands_in_one_place(adapter, base):
    """Its path is what finds a local base; it must not travel in the configuration that everyone reads."""
    holders = [file.name for file in adapter.iterdir() if str(base("llama")).encode() in file.read_bytes()]
    assert holders == ["adapter_config.json"]


@pytest.mark.long
def test_a_relative_base_is_found_from_any_directory(data, base, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "base").symlink_to(base("llama"))
    monkeypatch.chdir(tmp_path)
    settings = {"base": "base", "epochs": 0.1, "precision": "fp32", "validation": 0.0}
    train(TrainingConfig(votes=str(data / "votes.jsonl"), output="mine", **settings))
    named = json.loads((tmp_path / "mine" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(tmp_path / "base")
    holders = [file.name for file in (tmp_path / "mine").iterdir() if str(tmp_path).encode() in file.read_bytes()]
    assert holders == ["adapter_config.json"]
    monkeypatch.chdir("there")
    assert P2L.from_pretrained("../mine").models == LLMS


@pytest.mark.long
def test_what_is_said_of_a_run(data, base, tmp_path, capsys):
    given = ("--votes", data / "votes.jsonl", "--base", base("llama"), "--output", tmp_path / "mine")
    options = ("--epochs", 0.5, "--eval-votes", data / "held_out.jsonl", "--precision", "fp32")
    assert p2l("train", *given, *options) == 0
    shown = capsys.readouterr()
    assert re.search(
        r"^held_out.jsonl: cross-entropy \d\.\d{3}, averaged leaderboard \d\.\d{3}", shown.out, re.MULTILINE
    )
    said = shown.err
    assert said.index("validation, averaged leaderboard: ") < said.index("epoch ") < said.index("kept: epoch ")
    losses = re.findall(r"^epoch ([\d.]+): validation loss ([\d.]+)", said, re.MULTILINE)
    best = min(losses, key=lambda pair: float(pair[1]))
    assert f"kept: epoch {best[0]}, validation loss {best[1]}\n" in said


@pytest.mark.long
def test_an_interrupted_run_says_how_to_go_on(data, base, tmp_path, monkeypatch, capsys):
    from p2l_sdk.training import finetune

    def stop(*_, **__):
        raise KeyboardInterrupt

    given = ("train", "--quiet", "--votes", data / "votes.jsonl", "--base", base("llama"), "--precision", "fp32")
    with monkeypatch.context() as patch:
        patch.setattr(finetune.P2LTrainer, "train", stop)
        assert p2l(*given, "--output", tmp_path / "early") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "p2l: interrupted"  # there is no checkpoint to resume from
    monkeypatch.setattr(finetune, "rescale", stop)
    assert p2l(*given, "--epochs", 0.5, "--output", tmp_path / "late") == 130
    folder = str(tmp_path / "late.checkpoints")
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"p2l: interrupted; checkpoints are in {folder!r}; go on with --resume"


def test_an_interrupted_run_gives_the_cursor_back(data, base, tmp_path, monkeypatch):
    from p2l_sdk.cli.training_progress import Terminal

    bars = []

    def stop(self, *_, **__):
        bars.append(self._bar)
        raise KeyboardInterrupt

    monkeypatch.setattr(Terminal, "validated", stop)
    given = ("--votes", data / "votes.jsonl", "--base", base("llama"), "--output", tmp_path / "mine", "--head-only")
    assert p2l("train", *given) == 130
    assert not bars[0].live.is_started


def test_the_device_is_an_option_of_every_loaded_model(adapter, capsys):
    assert p2l("evaluate", "--votes", "held_out.jsonl", "--model", adapter, "--device", "nowhere") == 2
    assert "device 'nowhere' cannot be used" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_named_before_weights_are_read(adapter, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(adapter, folder)
    (folder / "adapter_model.safetensors").write_bytes(b"")
    for device in ("nowhere", "meta", "cuda:77"):
        with pytest.raises(P2LError, match=f"device '{device}' cannot be used"):
            P2L.from_pretrained(folder, device=device)
