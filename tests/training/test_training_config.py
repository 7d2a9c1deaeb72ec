"""Settings of a training run: the same for Python, YAML and the command line; illegal ones are refused early."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from fine_tuning import vote_rows, write_jsonl

from p2l_sdk.cli import cli, run
from p2l_sdk.cli.train import train as command
from p2l_sdk.errors import P2LError
from p2l_sdk.training.config import Method, TrainingConfig

GIVEN = {"votes": "v.jsonl", "output": "out"}


def test_every_setting_is_an_option_of_the_command():
    options = {parameter.name for parameter in command.params}
    assert options - {"file", "resume", "quiet"} == {field.name for field in dataclasses.fields(TrainingConfig)}


@pytest.mark.parametrize("recipe", ["smollm2_routing9.yaml", "minilm_routing9/train.yaml"])
def test_the_recipes_in_examples_can_be_read(recipe):
    config = TrainingConfig.from_yaml(ROOT / "examples" / recipe)
    assert str(config.votes).endswith(".parquet")
    assert config.base


def test_yaml_with_overrides(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("votes: v.jsonl\noutput: out\nbase: some/base\nlearning_rate: 1e-3\nmethod: head\nchat: no\n")
    config = TrainingConfig.from_yaml(file, output="other", seed=3)
    assert (config.votes, config.output, config.base, config.seed) == ("v.jsonl", "other", "some/base", 3)
    assert (config.learning_rate, config.method, config.chat) == (1e-3, Method.HEAD, False)
    again = TrainingConfig.from_dict(config.to_dict())
    assert again == config
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("votes: v\noutput: o\nlearning_rat: 1", "yaml: 'learning_rat' is no setting; did you mean 'learning_rate'"),
        ("votes: v\noutput: o\nxyzzy: 1", "'xyzzy' is no setting; known: votes, output, base"),
        ("votes: v", "'output' is missing"),
        ("- votes", "holds no settings; it needs lines like 'votes: votes.jsonl'"),
        ("votes: [", "cannot be read as YAML"),
        ("votes: v\noutput: o\nlearning_rate: fast", "learning_rate is 'fast'; it must be a number from 0 to 1"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(P2LError) as caught:
        TrainingConfig.from_yaml(tmp_path / "run.yaml")
    assert message in str(caught.value)


def test_a_yaml_file_that_is_not_there():
    with pytest.raises(P2LError, match=r"no such file: 'no\.yaml'"):
        TrainingConfig.from_yaml("no.yaml")


@pytest.mark.parametrize(
    ("setting", "value", "rule"),
    [
        ("votes", "", "given"),
        ("validation", 1.0, "a number from 0 to 0.9"),
        ("validation", -0.1, "a number from 0 to 0.9"),
        ("epochs", 0, "a number above 0"),
        ("epochs", float("nan"), "a number from 0 to 10000"),
        ("batch_size", 0, "an integer > 0"),
        ("batch_size", 2.5, "an integer > 0"),
        ("micro_batch_size", True, "an integer > 0"),
        ("learning_rate", "fast", "a number from 0 to 1"),
        ("warmup", 1.5, "a number from 0 to 1"),
        ("max_grad_norm", 0.0, "a number from 1e-06 to 1e+06"),
        ("label_smoothing", 1.0, "a number from 0 to 0.9"),
        ("lora_rank", -1, "an integer > 0"),
        ("lora_dropout", 1.0, "a number from 0 to 0.95"),
        ("checkpoints", 0, "an integer > 0"),
        ("seed", -1, "an integer >= 0"),
    ],
)
def test_settings_out_of_range(setting, value, rule):
    with pytest.raises(P2LError) as caught:
        TrainingConfig(**{**GIVEN, setting: value})
    assert str(caught.value) == f"{setting} is {value!r}; it must be {rule}"


@pytest.mark.parametrize(
    ("setting", "value", "known"),
    [
        ("method", "dora", "lora, full, head"),
        ("precision", "fp16", "auto, bf16, fp32"),
        ("precision", None, "auto, bf16, fp32"),
        ("pooling", "max", "last, first, mean, pooler"),
    ],
)
def test_settings_of_an_unknown_name(setting, value, known):
    with pytest.raises(P2LError) as caught:
        TrainingConfig(**{**GIVEN, setting: value})
    assert str(caught.value) == f"unknown {setting} {value!r}; known: {known}"


def test_patience_needs_a_validation():
    with pytest.raises(P2LError, match="patience is 3; it must be null where validation is 0"):
        TrainingConfig(**GIVEN, patience=3, validation=0)


def test_the_home_folder_and_no_cls_token():
    config = TrainingConfig(votes="v.jsonl", output="~/out", cls_token="none")
    assert config.output == str(Path.home() / "out")
    assert config.cls_token is None


def test_options_turn_off_what_a_file_turns_on(tmp_path, monkeypatch):
    file, seen = tmp_path / "run.yaml", []
    file.write_text("votes: v.jsonl\noutput: out\nbase: some/base\ngradient_checkpointing: true\ncls_token: x\n")
    monkeypatch.setattr("p2l_sdk.training.run.train", lambda config, **_: seen.append(config))
    options = ["--no-gradient-checkpointing", "--cls-token", "none"]
    cli(["train", "--config", str(file), *options], prog_name="p2l", standalone_mode=False)
    assert (seen[0].gradient_checkpointing, seen[0].cls_token) == (False, None)


# --- refused before anything heavy is loaded ----------------------------------------------------------------------


def p2l_train(*arguments, tmp_path) -> tuple[str, float]:
    """The single line of an error, and the CPU seconds that it took."""
    code = (
        "import sys\nfrom p2l_sdk.cli import cli, run\n"
        "status = run(lambda: cli(prog_name='p2l', standalone_mode=False))\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules), 'a heavy import'\n"
        "sys.exit(status)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", code, "train", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
    return result.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.long
def test_bad_data_is_refused_before_torch_is_imported(tmp_path):
    write_jsonl(
        tmp_path / "bad.jsonl", [*vote_rows("grk", 3), {"prompt": "x", "model_a": "a", "model_b": "b", "winner": "c"}]
    )
    write_jsonl(tmp_path / "rk.jsonl", vote_rows("rk", 9))
    write_jsonl(tmp_path / "good.jsonl", vote_rows("grk", 9))
    (tmp_path / "costs.json").write_text('{"nobody": 1}')
    base = ("--base", "no/such-base", "--output", "out")
    error, seconds = p2l_train("--votes", "bad.jsonl", *base, tmp_path=tmp_path)
    assert "winner" in error
    assert "'c'" in error
    assert seconds < 3.0
    for arguments, message in (
        (("--votes", "none.jsonl", *base), "no such file: 'none.jsonl'"),
        (("--votes", "rk.jsonl", "--feedback", "grk", *base), "no vote is 'tie (bothbad)'"),
        (("--votes", "good.jsonl", "--costs", "costs.json", *base), "names 'nobody', which this model does not know"),
        (("--votes", "good.jsonl", "--eval-votes", "bad.jsonl", *base), "winner"),
    ):
        assert message in p2l_train(*arguments, tmp_path=tmp_path)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "out"], "--votes must be given, here or in --config YAML"),
        (["--votes", "v.jsonl", "--output", "out", "--feedback", "elo"], "unknown feedback model 'elo'; known: bt, "),
        (["--votes", "v.jsonl", "--output", "out", "--method", "x"], "No such option '--method'"),
        (["--votes", "v.jsonl", "--output", "out", "--static-from", "x", "--base", "y"], "static_from goes with base"),
        (["--votes", "v.jsonl", "--output", "out", "--lora-rank", "4"], "lora_rank: of no effect on a static model"),
        (["--votes", "v.jsonl", "--output", "out", "--lora"], "method: of no effect on a static model"),
        (["--votes", "v.jsonl", "--output", "out", "--resume"], "resume: of no effect on a static model"),
        (["--votes", "v.jsonl", "--output", "out", "--base", ".", "--base-revision", "v1"],
         "base_revision: of no effect on '.', a path of this machine"),
        (["--votes", "v.jsonl", "--output", "out", "--warmup", "0.2"],
         "warmup: of no effect on a static model"),
        (["--votes", "v.jsonl", "--output", "out", "--base", ".", "--head-only", "--learning-rate", "1e-2",
          "--gradient-checkpointing"], "gradient_checkpointing, learning_rate: of no effect where the method is head"),
        (["--votes", "v.jsonl", "--output", "out", "--base", ".", "--full", "--lora-rank", "4"],
         "lora_rank: of no effect where the method is full; leave it out, or choose another method"),
        (["--votes", "v.jsonl", "--output", "out", "--base", "a/b", "--base-name", "c/d", "--base-revision", "v1"],
         "base_revision cannot be that of 'a/b' and of 'c/d' at once"),
        (["--votes", "v.jsonl", "--output", "out", "--notes", "none.md"],
         "notes 'none.md' cannot be read: No such file"),
        (["--votes", "v.jsonl", "--output", "."], "'.' exists already; name a new or an empty folder"),
        (["--votes", "v.jsonl", "--output", "out", "--base", "no/such-base"], "'no/such-base' is not in the cache"),
        (["--votes", "v.jsonl", "--output", "out", "--feedback", "gaussian", "--base", "."],
         "feedback gaussian learns from scores"),
    ],
)  # fmt: skip
def test_the_command_refuses_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    write_jsonl(tmp_path / "v.jsonl", vote_rows("grk", 30))
    monkeypatch.chdir(tmp_path)
    assert run(lambda: cli(["train", "--quiet", *arguments], prog_name="p2l", standalone_mode=False)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_p2l_model_is_no_base(saved, tmp_path):
    from p2l_sdk.errors import ModelFormatError
    from p2l_sdk.training.run import train

    votes = write_jsonl(tmp_path / "v.jsonl", vote_rows("grk", 30))
    with pytest.raises(ModelFormatError, match="is a P2L model already; name the llama model that it was trained from"):
        train(TrainingConfig(votes=str(votes), output=str(tmp_path / "out"), base=str(saved("llama"))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_rank": 4}, "lora_rank: of no effect on a static model"),
        ({"base": "."}, "notes 'none.md' cannot be read"),  # legal settings: the first missing file is noticed
        ({"base": ".", "method": "full", "lora_rank": 4}, "lora_rank: of no effect where the method is full"),
        ({"base": ".", "method": "head", "learning_rate": 0.1}, "learning_rate: of no effect where the method is head"),
        ({"base": ".", "feedback": "gaussian", "label_smoothing": 0.1}, "label_smoothing: of no effect on the scores"),
        ({"base": ".", "base_revision": "v1"}, "base_revision: of no effect on '.', a path of this machine"),
        ({"base": "a/b", "base_name": "c/d", "base_revision": "v1"}, "base_revision cannot be that of 'a/b' and of"),
        ({"base": "a/b", "static_from": "x"}, "static_from goes with base 'static' alone"),
        ({"feedback": "gaussian"}, "feedback gaussian trains text backbones; a static model takes pairwise feedback"),
        ({"feedback": "elo"}, "unknown feedback model 'elo'"),
    ],
)
def test_settings_are_refused_before_any_file_is_read(settings, message, tmp_path, monkeypatch):
    from p2l_sdk.training.run import train

    monkeypatch.chdir(tmp_path)
    missing = {"votes": "none.jsonl", "notes": "none.md", "costs": "none.json", "eval_votes": "none.jsonl"}
    with pytest.raises(P2LError) as caught:
        train(TrainingConfig(**missing, **settings, output=tmp_path / "out"))
    assert message in str(caught.value)


def test_a_static_model_is_trained_by_one_process(tmp_path, monkeypatch):
    from p2l_sdk.training.run import train

    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(P2LError, match="a static model trains in seconds in one process; start it without accelerate"):
        train(TrainingConfig(votes="none.jsonl", output=tmp_path / "out"))
