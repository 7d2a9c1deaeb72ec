"""The training script: from a user's votes file to a folder that loads, with its card."""

from __future__ import annotations

import importlib.metadata
import json
import re
import warnings

import numpy as np
import pytest
from conftest import shared, word_tokenizer
from forks import python
from thorough import thorough

import p2l_sdk
from p2l_sdk import P2L
from p2l_sdk.errors import P2LError, P2LWarning, VotesError
from p2l_sdk.evaluation import evaluate_scores, evaluate_votes
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training import card as card_module
from p2l_sdk.training.checks import check_ground, warn_of_thin_ground
from p2l_sdk.training.static import StaticRecipe, quantized, train_static, write_static
from p2l_sdk.training.token_table import TokenTable, distil, table_of
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Scores, Votes

LLMS = ("coder", "poet", "mute")


def votes(n: int = 600, seed: int = 0) -> list[dict]:
    """Votes in which the coder wins on code, the poet on poems, and the mute LLM never."""
    rng = np.random.default_rng(seed)
    words = {"coder": ["python", "code", "sum", "list"], "poet": ["write", "poem", "about", "the"]}
    rows = []
    for _ in range(n):
        best = ("coder", "poet")[rng.integers(2)]
        a, b = rng.choice(3, 2, replace=False)
        strength = {best: 2.0, "mute": 0.0}
        gap = strength.get(LLMS[a], 1.0) - strength.get(LLMS[b], 1.0)
        winner = "model_a" if rng.random() < 1 / (1 + np.exp(-2 * gap)) else "model_b"
        if rng.random() < 0.2:
            winner = ("tie", "tie (bothbad)")[rng.integers(2)]
        prompt = " ".join(rng.choice(words[best], 5))
        rows.append({"prompt": prompt, "model_a": LLMS[a], "model_b": LLMS[b], "winner": winner})
    return rows


def token_table() -> TokenTable:
    tokenizer = word_tokenizer()
    vectors = np.random.default_rng(1).normal(size=(tokenizer.get_vocab_size(), 16)).astype(np.float32)
    return TokenTable(tokenizer, vectors)


RECIPE = StaticRecipe(
    feedback=Feedback.RK, hidden_size=16, steps=120, batch_size=32, learning_rate=5e-3, length_scale=0.0, seed=3,
    keep=0.9,
)  # fmt: skip


def trained(tmp_path, **changes) -> P2L:
    recipe = StaticRecipe(**{**RECIPE.__dict__, **changes})
    table = token_table()
    write_static(train_static(Votes.from_rows(votes()), table, recipe), table.tokenizer, tmp_path)
    return P2L.from_pretrained(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("feedback", [Feedback.GRK, *thorough(*(f for f in Feedback if f is not Feedback.GRK))])
def test_it_learns_who_is_good_at_what(feedback, tmp_path):
    p2l = trained(tmp_path, feedback=feedback)
    assert p2l.leaderboard("python code list").ranking == ["coder", "poet", "mute"]
    assert p2l.leaderboard("write about the poem").ranking == ["poet", "coder", "mute"]


def test_votes_that_cannot_be_learned_from_are_refused():
    one = [{**row, "prompt": "python"} for row in votes()]
    with pytest.raises(VotesError, match="all votes are on one prompt"):
        train_static(Votes.from_rows(one), token_table(), RECIPE)
    nobody_bad = [row for row in votes() if row["winner"] != "tie (bothbad)"]
    with pytest.raises(VotesError, match=r"grk cannot be fitted; use .* \(--feedback rk\)"):
        train_static(Votes.from_rows(nobody_bad), token_table(), StaticRecipe(feedback=Feedback.GRK))
    decisive = [row for row in votes() if row["winner"].startswith("model")]
    with pytest.raises(VotesError, match=r"grk cannot be fitted; use .* \(--feedback bt\)"):
        check_ground(Votes.from_rows(decisive), Feedback.GRK)
    with pytest.raises(P2LError, match="steps is 0"):
        StaticRecipe(steps=0)
    with pytest.raises(P2LError, match=r"keep is 1\.5; it must be a number from 0 to 1"):
        StaticRecipe(keep=1.5)


def test_votes_that_hardly_say_what_the_feedback_model_is_about_are_told():
    decisive = [row for row in votes() if row["winner"].startswith("model")] * 10
    with pytest.warns(P2LWarning, match=r"no vote is a tie, so rk learns .* \(--feedback bt\)"):
        warn_of_thin_ground(Votes.from_rows(decisive), Feedback.RK)
    one_bad = [*decisive[:499], {**decisive[0], "winner": "tie (bothbad)"}]
    with pytest.warns(P2LWarning, match=r"only 0\.2% of the votes are 'tie \(bothbad\)'.* \(--feedback bt\)"):
        warn_of_thin_ground(Votes.from_rows(one_bad), Feedback.GRK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for check in (check_ground, warn_of_thin_ground):
            check(Votes.from_rows(votes()), Feedback.GRK)
            check(Votes.from_rows(decisive), Feedback.BT)


@pytest.mark.long
def test_keeping_nothing_is_the_averaged_leaderboard(tmp_path):
    averaged = fit_leaderboard(Votes.from_rows(votes()), "rk")
    board = trained(tmp_path, keep=0.0).leaderboard("python code")
    np.testing.assert_allclose(board.coefs, averaged.coefs, atol=1e-4)
    assert board.eta == pytest.approx(averaged.eta, abs=1e-4)


@pytest.mark.long
def test_the_same_seed_gives_the_same_weights(tmp_path):
    first, second, other = (trained(tmp_path / str(i), seed=seed) for i, seed in enumerate((3, 3, 4)))
    prompts = ["python code", "write"]
    np.testing.assert_array_equal(first.coefficients(prompts).coefs, second.coefficients(prompts).coefs)
    assert (first.coefficients(prompts).coefs != other.coefficients(prompts).coefs).any()


def test_few_prompts_are_passed_over_more_often_but_not_without_end():
    recipe = StaticRecipe()
    assert recipe.for_prompts(4074, epochs=7).steps == 224  # as for the embedded default
    steps = {n: [how.steps for how in recipe.lengths(n)] for n in (2, 300, 1000, 2000, 100_000)}
    assert steps == {
        2: [6, 10, 20], 300: [18, 30, 60], 1000: [48, 80, 160], 2000: [96, 160, 320], 100_000: [320],
    }  # fmt: skip
    assert recipe.for_prompts(300) == recipe
    short = [recipe.for_prompts(300, epochs).lengths(300) for epochs in (0.1, 1, 3, 7)]
    assert [[(how.steps, how.warmup_steps) for how in hows] for hows in short] == [  # every number has an effect
        [(1, 1)], [(3, 1)], [(9, 1)], [(21, 2)],
    ]  # fmt: skip


def test_eight_bits_are_enough(tmp_path):
    import torch

    from p2l_sdk.modeling.configuration_p2l import P2LConfig
    from p2l_sdk.modeling.modeling_p2l import P2LModel
    from p2l_sdk.modeling.static_p2l import StaticConfig

    torch.manual_seed(0)
    backbone = StaticConfig(vocab_size=60, embedding_size=32)
    model = P2LModel(
        P2LConfig(backbone_config=backbone, models=["a", "b"], feedback="grk", pooling="pooler", chat=False)
    ).eval()
    model.backbone.table.data[7] = 0.0
    small = quantized(model)
    assert small.backbone.table.dtype == torch.int8
    largest = model.backbone.table.abs().amax(1, keepdim=True)
    back = small.backbone.table * small.backbone.scale[:, None]
    assert ((back - model.backbone.table).abs() <= largest / 253).all()


@pytest.mark.long
def test_the_command_runs_from_a_votes_file(tmp_path):
    for name, seed in (("train", 0), ("held", 1)):
        rows = votes(300, seed)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "costs.json").write_text('{"coder": 0.002, "mute": 0.0001}')
    command = ["-m", "p2l_sdk", "train", "--votes", "train.jsonl", "--eval-votes", "held.jsonl"]
    command += ["--costs", "costs.json", "--output", "mine", "--title", "Mine"]
    result = python(*command, cwd=tmp_path, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert re.search(
        r"^held.jsonl: cross-entropy \d\.\d{3}, averaged leaderboard \d\.\d{3}", result.stdout, re.MULTILINE
    )
    p2l = P2L.from_pretrained(tmp_path / "mine")
    assert p2l.models == tuple(sorted(LLMS))
    assert p2l.costs == {"coder": 0.002, "mute": 0.0001}
    card = (tmp_path / "mine" / "README.md").read_text()
    metrics = evaluate_votes(p2l, Votes.read(tmp_path / "held.jsonl", p2l.models))
    assert f"| bt_log_loss | {metrics['bt_log_loss'].value:.4f} |" in card
    assert "# Mine" in card
    assert "300 votes on" in card
    assert "On held.jsonl (" in card
    assert "license" not in card
    assert "$" not in card.replace("$0", "")  # every field of the template is filled
    again = python(*command, cwd=tmp_path, text=True)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".mine")]


@pytest.mark.long
def test_a_push_and_a_model_no_better_than_the_average_are_told(tmp_path, monkeypatch, capsys):
    from types import SimpleNamespace

    from fine_tuning import write_jsonl

    from p2l_sdk.cli.training_progress import Terminal
    from p2l_sdk.training.config import TrainingConfig
    from p2l_sdk.training.run import train

    commit = SimpleNamespace(pr_url="https://hub/org/mine/discussions/1")
    monkeypatch.setattr(P2L, "push_to_hub", lambda self, repo_id: commit)
    rows, winners = votes(200), ["model_a", "model_b", "tie", "tie (bothbad)"]
    held = [{**row, "winner": winners[i % 4], "prompt": f"{row['prompt']} {i}"} for i, row in enumerate(votes(200, 1))]
    files = {
        "votes": write_jsonl(tmp_path / "train.jsonl", rows),
        "eval_votes": write_jsonl(tmp_path / "h.jsonl", held),
    }
    train(TrainingConfig(**files, output=tmp_path / "mine", push_to_hub="org/mine"), listener=Terminal())
    shown = capsys.readouterr().out
    assert "pushed model of 3 LLMs: https://hub/org/mine/discussions/1" in shown
    assert re.search(r"^h.jsonl: cross-entropy .*: not better than the averaged leaderboard$", shown, re.MULTILINE)


@pytest.mark.long
def test_held_out_files_of_one_name_keep_their_own_counts(tmp_path):
    from fine_tuning import write_jsonl

    from p2l_sdk.training.card import fingerprint
    from p2l_sdk.training.config import TrainingConfig
    from p2l_sdk.training.run import train

    rows, held = votes(200), [{**row, "prompt": f"{row['prompt']} {i}"} for i, row in enumerate(votes(40, 1))]
    scores = [{"prompt": row["prompt"], "coder": 1.0, "poet": 0.5, "mute": 0.0} for row in rows[:1] + held[:9]]
    for kind in ("votes", "scores"):
        (tmp_path / kind).mkdir()
    given = {
        "votes": write_jsonl(tmp_path / "train.jsonl", rows),
        "eval_votes": write_jsonl(tmp_path / "votes" / "val.jsonl", held),
        "eval_scores": write_jsonl(tmp_path / "scores" / "val.jsonl", scores),
    }
    with pytest.warns(P2LWarning, match="1 of the 10 prompts of val.jsonl, scores are in the training votes"):
        train(TrainingConfig(**given, output=tmp_path / "mine", epochs=1))
    card = (tmp_path / "mine" / "README.md").read_text()
    for kind, counts in (("votes", "0 of its 40"), ("scores", "1 of its 10")):
        sha = fingerprint(given[f"eval_{kind}"])
        assert f"On val.jsonl, {kind} ({counts} prompts are in the training data; sha256 `{sha}`):" in card
        assert f"      name: val.jsonl, {kind}\n" in card


def test_a_token_table_of_a_sentence_encoder(saved, tmp_path):
    from conftest import backbone_config, transformers_tokenizer
    from transformers import AutoModel

    config, _ = backbone_config("bert")
    AutoModel.from_config(config).save_pretrained(tmp_path)
    transformers_tokenizer().save_pretrained(tmp_path)
    table = distil(tmp_path, width=8)
    assert table.vectors.shape == (config.vocab_size, 8)
    np.testing.assert_allclose(table.vectors.mean(0), 0, atol=1e-5)
    spread = table.vectors.var(0)
    assert (np.diff(spread) <= 1e-6).all()  # principal components, the largest first
    covariance = np.cov(table.vectors.T)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-5)


def test_the_table_of_a_saved_model(saved):
    table = table_of(STATIC_MODEL)
    assert table.vectors.shape == (30522, 256)
    assert np.abs(table.vectors).max() > 0
    with pytest.raises(ValueError, match="no static backbone"):
        table_of(saved("bert"))


# --- the embedded routing9 ----------------------------------------------------------------------------------------


def test_routing9_is_what_its_card_says(routing9):
    votes = Votes.read(shared("data/routing9/votes_val.parquet"), routing9.models)
    scores = Scores.read(shared("data/routing9/scores_val.parquet"), routing9.models)
    metrics = evaluate_votes(routing9, votes) | evaluate_scores(routing9, scores)
    card = (STATIC_MODEL / "README.md").read_text()
    for name in ("bt_log_loss", "cross_entropy", "pair_accuracy", "routed_score", "oracle_score"):
        low, high = metrics[name].interval
        assert f"| {name} | {metrics[name].value:.4f} | {low:.4f} to {high:.4f} |" in card
    assert metrics["bt_log_loss"].value <= 0.368
    assert metrics["cross_entropy"].value <= 0.963
    assert metrics["routed_score"].value >= 0.650


def test_routing9_fits_its_limit_and_holds_no_code():
    files = list(STATIC_MODEL.iterdir())
    assert sum(file.stat().st_size for file in files) < 16e6
    assert {file.suffix for file in files} == {".json", ".safetensors", ".md"}


def test_the_numpy_path_of_routing9_is_the_torch_path(routing9):
    slow = P2L.from_pretrained("routing9", device="cpu")
    prompts = [
        "hi",
        "Prove that the square root of two is irrational",
        "def f(x):\n    return x",
        "日本語",
        "word " * 900,
    ]
    for key in ("coefs", "eta"):
        fast = getattr(routing9.coefficients(prompts), key)
        np.testing.assert_allclose(fast, getattr(slow.coefficients(prompts), key), atol=1e-5)


def test_a_card_of_a_run_from_sources_names_the_version(monkeypatch):
    known = importlib.metadata.version

    def version(name):
        if name == "p2l-sdk":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert card_module._versions().startswith(f"p2l-sdk {p2l_sdk.__version__}, torch ")
