"""What a listener is told of a run, and what the terminal shows of it. Training itself prints nothing."""

from __future__ import annotations

import warnings

import pytest
from fine_tuning import run, vote_rows, write_jsonl

from p2l_sdk.cli.training_progress import Terminal
from p2l_sdk.errors import P2LError, P2LWarning
from p2l_sdk.training import inputs, static, task
from p2l_sdk.training import run as training_run
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.listener import Listener
from p2l_sdk.training.score_summary import ScoreSummary
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.summary import VoteSummary

SHORT = {"epochs": 2, "batch_size": 8, "checkpoints": 2}


class Recorder(Listener):
    """Remembers what it was told: (name of the method, arguments)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple]] = []

    def __getattribute__(self, name):
        if name != "told" and hasattr(Listener, name) and not name.startswith("_"):
            return lambda *arguments: self.told.append((name, arguments))
        return super().__getattribute__(name)

    def of(self, name: str) -> list:
        return [arguments[0] if len(arguments) == 1 else arguments for of, arguments in self.told if of == name]

    @property
    def names(self) -> list[str]:
        """The methods in the order of the calls, repeated calls once."""
        names = [name for name, _ in self.told]
        return [name for i, name in enumerate(names) if i == 0 or names[i - 1] != name]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("votes")
    rows = {"votes": vote_rows("grk", 40, 3), "eval_votes": vote_rows("grk", 9, 3, seed=7)}
    return {name: str(write_jsonl(folder / f"{name}.jsonl", rows[name])) for name in rows}


@pytest.mark.long
def test_a_listener_is_told_of_a_fine_tuning_in_order(files, base, tmp_path, capfd):
    listener, backbone = Recorder(), str(base("llama"))
    capfd.readouterr()  # what making the backbone showed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P2LWarning)  # the few held-out prompts may be in the training data
        run(
            files["votes"], tmp_path / "m", eval_votes=files["eval_votes"], base=backbone, method="head",
            calibrate=True, resume=True, listener=listener, **SHORT,
        )  # fmt: skip
    assert capfd.readouterr() == ("", "")
    names = listener.names
    assert names[:5] == ["data_read", "nothing_to_resume", "progress", "validation_baseline", "step"]
    assert names[-5:] == ["trained", "calibrated", "verdict", "measured", "close"]
    ((name, summary),) = listener.of("data_read")
    assert name == files["votes"]
    assert isinstance(summary, VoteSummary)
    assert listener.of("nothing_to_resume") == [tmp_path / "m.checkpoints"]
    assert {doing for doing, _, _ in listener.of("progress")} == {"reading prompts"}
    assert listener.of("progress")[-1][1] == listener.of("progress")[-1][2]
    steps = listener.of("step")
    assert sorted({step.done for step in steps}) == list(range(steps[0].total + 1))
    assert steps[0].loss is None
    assert steps[-1].loss > 0
    assert steps[0].noun == "votes"
    (kept,) = listener.of("trained")
    validations = listener.of("validated")
    assert len(validations) == 2
    assert kept == min(validations, key=lambda validation: validation.loss)
    assert next(iter(listener.of("measured")[0])).startswith("eval_votes.jsonl (")


def test_a_listener_is_told_of_a_static_training(files, tmp_path, capfd):
    listener = Recorder()
    run(files["votes"], tmp_path / "m", base="static", precision="auto", epochs=4, listener=listener)
    assert capfd.readouterr() == ("", "")
    assert listener.names == ["data_read", "progress", "cross_validated", "verdict", "measured", "close"]
    progress = listener.of("progress")
    assert [(doing, done) for doing, done, _ in progress] == [("training", done) for done in range(progress[0][2] + 1)]


@pytest.mark.parametrize("shown", [True, False])
def test_bars_of_other_libraries_are_off_during_a_run_alone(shown, files, tmp_path):
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled
    from transformers.utils import logging

    class Watcher(Listener):
        off: list[bool] = []  # noqa: RUF012

        def data_read(self, *_):
            self.off.append(are_progress_bars_disabled())

        def measured(self, *_):  # what is left is the push
            self.off.append(are_progress_bars_disabled())

    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    try:
        config = TrainingConfig(votes=files["votes"], output=str(tmp_path / "m"), epochs=1)
        training_run.train(config, listener=Watcher())
        assert Watcher.off == [True, True]
        assert logging.is_progress_bar_enabled() is shown
        assert are_progress_bars_disabled() is not shown
    finally:
        logging.enable_progress_bar()


def test_what_is_no_configuration_is_refused(files):
    with pytest.raises(P2LError, match=r"train takes a TrainingConfig; TrainingConfig\.from_yaml reads one"):
        training_run.train(files["votes"])


def test_a_listener_is_told_of_scores(base, tmp_path):
    rows = [{"prompt": f"prompt {i}", "x": float(i % 2), "y": float(i % 3 == 0)} for i in range(20)]
    scores, listener = write_jsonl(tmp_path / "scores.jsonl", rows), Recorder()
    run(
        scores, tmp_path / "m", base=str(base("llama")), feedback="bernoulli", method="head", validation=0.0,
        listener=listener, **SHORT,
    )  # fmt: skip
    ((_, summary),) = listener.of("data_read")
    assert isinstance(summary, ScoreSummary)
    assert listener.of("step")[0].noun == "scores"
    assert listener.of("trained") == [None]  # nothing was held out for validation


def test_a_listener_is_told_the_end_of_a_run_that_fails(files, tmp_path):
    listener = Recorder()
    with pytest.raises(P2LError, match="no/such-base"):
        run(files["votes"], tmp_path / "m", base="no/such-base", listener=listener)
    assert listener.names == ["data_read", "close"]


@pytest.mark.parametrize("base_name", ["static", "llama"])
def test_the_terminal_gets_its_cursor_back_from_any_bar(base_name, files, base, tmp_path, monkeypatch):
    """Also from the bars of reading prompts (a head on a text backbone) and of training a static model."""
    bars, shown = [], Terminal.progress

    def stop(self, doing, done, total):
        shown(self, doing, done, total)
        bars.append(self._bar)
        raise KeyboardInterrupt

    monkeypatch.setattr(Terminal, "progress", stop)
    settings = {"base": "static", "precision": "auto"}
    if base_name != "static":
        settings = {"base": str(base(base_name)), "method": "head"}
    with pytest.raises(KeyboardInterrupt):
        run(files["votes"], tmp_path / "m", listener=Terminal(), **settings)
    assert len(bars) == 1
    assert not bars[0].live.is_started


def test_the_terminal_shows_what_was_calibrated_and_kept(capsys):
    from p2l_sdk.training.listener import Step, Validation

    terminal = Terminal()
    terminal.validation_baseline(1.25)
    for done in range(3):
        terminal.step(Step(done=done, total=4, items=12.5, noun="votes", loss=1.5 if done else None))
    terminal.validated(Validation(epoch=0.5, loss=1.125, bt_log_loss=0.5))
    terminal.validated(Validation(epoch=1.0, loss=1.0))
    terminal.trained(Validation(epoch=1.0, loss=1.0))
    terminal.calibrated(0.8)
    terminal.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line for line in err.splitlines() if line] == [
        "validation, averaged leaderboard: 1.2500",
        "epoch 0.50: validation loss 1.1250, BT log-loss 0.5000",
        "epoch 1.00: validation loss 1.0000",
        "kept: epoch 1.00, validation loss 1.0000",
        "calibrated: 80% of the departure from the averaged leaderboard is kept",
    ]


# --- no work is done twice ------------------------------------------------------------------------------------------


@pytest.fixture
def fitted(monkeypatch) -> list[int]:
    """The number of votes of each averaged leaderboard that is fitted."""
    from p2l_sdk.evaluation import averaged
    from p2l_sdk.votes import summary

    numbers: list[int] = []

    def fit(*arguments, **options):
        board = fit_leaderboard(*arguments, **options)
        numbers.append(board.n_votes)
        return board

    for module in (inputs, static, task, summary, averaged):
        monkeypatch.setattr(module, "fit_leaderboard", fit)
    return numbers


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "validation", "fits"),
    [
        ("static", None, 1),
        ("llama", 0.0, 1),
        ("llama", 0.2, 2),  # the training side of the split has another one
    ],
)
def test_one_averaged_leaderboard_per_table_of_votes(kind, validation, fits, files, base, tmp_path, fitted):
    """Shared by the summary, the training, and the baseline of the held-out votes."""
    settings = {"base": "static", "precision": "auto"}
    if kind != "static":
        settings = {"base": str(base(kind)), "method": "head", "validation": validation, **SHORT}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P2LWarning)
        run(files["votes"], tmp_path / "m", eval_votes=files["eval_votes"], **settings)
    assert len(fitted) == fits
    assert max(fitted) == fitted[0]


def test_what_the_votes_leave_open_is_warned_of_once(tmp_path):
    """Of a static model: nothing is held out, so one fit sees all votes."""
    rows = vote_rows("bt", 12, 4)
    alone = [{"prompt": f"python {i}", "model_a": "x", "model_b": "y", "winner": "model_a"} for i in range(3)]
    votes = write_jsonl(tmp_path / "votes.jsonl", rows + alone)
    config = TrainingConfig(votes=votes, output=tmp_path / "m", feedback="bt", epochs=1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training_run.train(config)
    told = [str(warning.message) for warning in caught if issubclass(warning.category, P2LWarning)]
    assert len(told) == 1
    assert "What the votes leave open is set by a small ridge" in told[0]
