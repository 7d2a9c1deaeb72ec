"""The scaling study: what is trained and measured, resuming, what comes out, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner
from fine_tuning import vote_rows, write_jsonl

from p2l_sdk import Votes
from p2l_sdk.analysis import Point, Scaling, scaling
from p2l_sdk.analysis.scaling_points import Cell, draw, grid
from p2l_sdk.analysis.scaling_training import Trainings
from p2l_sdk.cli import cli
from p2l_sdk.errors import ModelFormatError, P2LError, P2LWarning, VotesError
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.training.static import fit_static
from p2l_sdk.training.static_recipe import StaticRecipe
from p2l_sdk.training.static_study import StaticStudy
from p2l_sdk.training.token_table import table_of

SIZES = (12, 24, 48)


def rows(n: int = 70, seed: int = 0) -> list[dict]:
    """Votes on n prompts of three kinds; every prompt is another one."""
    found, number, last = [], 0, ""
    for row in vote_rows("grk", n, 4, seed):
        number, last = number + (row["prompt"] != last), row["prompt"]
        found.append({**row, "prompt": f"{row['prompt']} {number}"})
    return found


@pytest.fixture(scope="module")
def votes():
    return Votes.from_rows(rows(90))


@pytest.fixture(scope="module")
def study(votes, tmp_path_factory):
    return scaling(
        votes, output=tmp_path_factory.mktemp("study"), sizes=SIZES, widths=(4, 16), per_prompt=(2, None), seeds=2
    )


def lines(folder) -> list[str]:
    return (folder / "points.jsonl").read_text().splitlines()


# --- draws and trainings ---------------------------------------------------------------------------------------------


def test_draws_have_their_size_and_fewer_votes_are_a_part_of_more(votes):
    drawn = {k: draw(votes, 20, k, seed=1) for k in (1, 2, None)}
    for k, (part, places) in drawn.items():
        assert part.prompts == [votes.prompts[i] for i in places]
        assert len(part.prompts) == 20
        counts = np.bincount(part.prompt, minlength=20)
        whole = np.bincount(drawn[None][0].prompt, minlength=20)
        np.testing.assert_array_equal(counts, whole if k is None else np.minimum(whole, k))
    kept = [set(zip(p.prompt, p.a, p.b, p.winner, strict=True)) for p, _ in drawn.values()]
    assert kept[0] < kept[1] < kept[2]


def test_draws_differ_by_seed_and_size(votes):
    first, other, again = (set(draw(votes, 20, None, seed)[1]) for seed in (0, 1, 0))
    assert first == again != other
    assert not first <= set(draw(votes, 40, None, 0)[1])


def test_cells_on_the_same_votes_stand_together():
    cells = grid({"static": [4, 8], "text": [None]}, [10, 20], [None], 2)
    assert [(c.seed, c.n_prompts, c.base, c.width) for c in cells[:4]] == [
        (0, 10, "static", 4), (0, 10, "static", 8), (0, 10, "text", None), (0, 20, "static", 4),
    ]  # fmt: skip
    assert len(cells) == len(set(cells)) == 12


def test_the_fast_path_is_static_training(votes):
    """The loss is that of the model that `p2l train --epochs 4 --keep 0.7` makes of the same votes."""
    train, held_out = votes.split(0.3, 0)
    places = np.arange(0, len(train.prompts), 2)
    table = table_of(STATIC_MODEL)
    part = StaticStudy(train, held_out, table, Feedback.GRK).part(train.subset(places), places)
    recipe = StaticRecipe(keep=0.7, seed=3).for_prompts(len(places), 4)
    slow = fit_static(train.subset(places), table, recipe, held_out=held_out)
    assert part.loss(256, epochs=4, keep=0.7, seed=3) == pytest.approx(slow.verdict.model.value, abs=1e-5)
    assert part.averaged_loss == pytest.approx(slow.verdict.averaged.value, abs=1e-5)
    assert part.loss(256, epochs=4, keep=0.0, seed=3) == pytest.approx(part.averaged_loss, abs=1e-5)
    assert part.n_parameters(16) == 257 * 16 + 16 + 17 * 4  # 3 LLMs and eta


@pytest.mark.slow
def test_a_text_backbone_is_trained_and_measured(votes, base, tmp_path):
    train, held_out = votes.split(0.3, 0)
    found = scaling(
        train, held_out, output=tmp_path, sizes=SIZES, bases=(str(base("bert")),), seeds=1, epochs=1, keep=0.0
    )
    assert [point.width for point in found.points] == [None] * 3
    assert all(point.parameters > 1000 for point in found.points)
    for point in found.points:  # nothing is kept of what was learned
        assert point.loss == pytest.approx(point.averaged_loss, abs=1e-4)


# --- what comes out --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_curves_hold_the_means_of_their_points(study):
    assert len(study.points) == 3 * 2 * 2 * 2
    assert {(c.width, c.per_prompt) for c in study.curves} == {(4, 2), (4, None), (16, 2), (16, None)}
    curve = next(c for c in study.curves if (c.width, c.per_prompt) == (16, 2))
    mine = [p for p in study.points if (p.width, p.per_prompt, p.n_prompts) == (16, 2, 24)]
    assert curve.law.loss[1] == pytest.approx(np.mean([p.loss for p in mine]))
    assert curve.averaged[1] == pytest.approx(np.mean([p.averaged_loss for p in mine]))
    assert {p.n_votes for p in mine} == {48}


def test_every_form_tells_the_same(study):
    said = study.to_dict()
    json.dumps(said, allow_nan=False)
    assert said["points"] == study.rows()
    assert study.to_pandas().loss.tolist() == [point.loss for point in study.points]
    assert [x["law"]["exponent"] for x in said["curves"]] == [c.law.exponent.to_dict() for c in study.curves]
    for text in ("width 16, 2 votes a prompt", "3 sizes are too few to check a law"):
        assert text in repr(study)
        assert text in study._repr_html_()


def test_fewer_sizes_are_asked_for_the_largest():
    random = np.random.default_rng(0)
    losses = {n: 0.9 + 3 * n**-0.5 + 1e-4 * random.normal(size=3) for n in (100, 200, 400, 800, 1600)}
    cells = [(n, seed, loss) for n, values in losses.items() for seed, loss in enumerate(values)]
    points = [Point("static", 4, n, None, seed, 10 * n, 99, float(loss), 1.3) for n, seed, loss in cells]
    study = Scaling.of(points, n_pool=10_000, n_held_out=50, level=0.95)
    tried = study.best.backtest
    assert (tried.up_to, tried.n_prompts) == (400, 1600)
    assert tried.measured == pytest.approx(0.975, abs=1e-3)
    assert tried.forecast.value == pytest.approx(tried.measured, abs=5e-3)
    assert study.to_dict()["curves"][0]["backtest"]["forecast"]["low"] == tried.forecast.low
    assert study.check.startswith("check: a law through the sizes up to 400 says 0.97")


def test_the_picture_has_every_point(study):
    ax = study.plot()
    marks = [container.lines[0] for container in ax.containers]
    assert len(marks) == 4
    for mark, curve in zip(marks, study.curves, strict=True):
        np.testing.assert_allclose(mark.get_ydata(), curve.law.loss)
    assert ax.get_xscale() == "log"
    assert "480" in ax.get_title(loc="left")  # ten times 48


# --- going on --------------------------------------------------------------------------------------------------------


def test_a_larger_grid_trains_only_what_is_missing(votes, study, tmp_path, monkeypatch):
    trained, whole = [], Trainings.point
    monkeypatch.setattr(Trainings, "point", lambda self, cell: trained.append(cell) or whole(self, cell))
    told = []
    first = scaling(votes, output=tmp_path, sizes=SIZES, widths=(4,), seeds=1, progress=lambda *x: told.append(x))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    more = scaling(votes, output=tmp_path, sizes=(*SIZES, 60), widths=(4,), seeds=1)
    assert trained == [Cell("static", 4, n, None, 0) for n in (*SIZES, 60)]
    assert more.points[:3] == first.points
    again = [point for point in study.points if point.cell in trained]
    assert [p.loss for p in again] == [p.loss for p in first.points]  # whatever else was trained beside them


def test_a_changed_setting_is_refused_by_name(votes, tmp_path):
    scaling(votes, output=tmp_path, sizes=SIZES, widths=(4,), seeds=1)
    for name, value in {"keep": 0.5, "epochs": 2.0, "validation": 0.2, "feedback": "rk"}.items():
        with pytest.raises(P2LError, match=f"with {name} .*, not {value!r}; .*name another folder"):
            scaling(votes, output=tmp_path, sizes=SIZES, widths=(4,), seeds=1, **{name: value})
    with pytest.raises(P2LError, match="holds a run with votes '"):
        scaling(votes.subset(np.arange(80)), output=tmp_path, sizes=SIZES, widths=(4,), seeds=1)


@pytest.mark.thorough
def test_a_killed_study_goes_on_to_the_same_file(tmp_path):
    write_jsonl(tmp_path / "votes.jsonl", rows())
    command = ["analyze", "scaling", "--votes", str(tmp_path / "votes.jsonl"), "--sizes", "12,24,48"]
    command += ["--widths", "4,8,16", "--seeds", "1", "--output"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert CliRunner().invoke(cli, [*command, str(whole)], catch_exceptions=False).exit_code == 0
    process = subprocess.Popen([sys.executable, "-m", "p2l_sdk", *command, str(killed)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not ((killed / "points.jsonl").exists() and len(lines(killed)) >= 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 2 <= len(lines(killed)) < 9
    with (killed / "points.jsonl").open("a") as file:
        file.write('{"base": "static", "wid')  # killed in the middle of a line
    assert CliRunner().invoke(cli, [*command, str(killed)], catch_exceptions=False).exit_code == 0
    assert [json.loads(line) for line in lines(killed)] == [json.loads(line) for line in lines(whole)]
    assert (killed / "scaling.json").read_bytes() == (whole / "scaling.json").read_bytes()


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_and_prints(tmp_path):
    write_jsonl(tmp_path / "votes.jsonl", rows())
    write_jsonl(tmp_path / "eval.jsonl", rows(40, seed=9))
    command = ["analyze", "scaling", "--votes", str(tmp_path / "votes.jsonl"), "--sizes", "12,24,all", "--widths", "8"]
    command += ["--seeds", "1", "--eval-votes", str(tmp_path / "eval.jsonl"), "--output", str(tmp_path / "out")]
    text = CliRunner().invoke(cli, command, catch_exceptions=False).stdout
    assert "1 model on parts of 70 prompts, 1 draw of each size, measured on 40 others" in text
    assert "warning: width 8: 3 sizes are too few" in text
    assert (tmp_path / "out/scaling.png").read_bytes().startswith(b"\x89PNG")
    said = json.loads(CliRunner().invoke(cli, [*command, "--json"], catch_exceptions=False).stdout)
    assert said == json.loads((tmp_path / "out/scaling.json").read_text())
    assert [size["n_prompts"] for size in said["curves"][0]["sizes"]] == [12, 24, 70]


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"sizes": (10, 20, 500)}, "sizes holds 500, and there are 81 prompts to learn from beside those held out"),
        ({"sizes": (20,)}, "1 size of data say nothing about a law; study 3 or more"),
        ({"sizes": (20, 40, None), "seeds": 0}, "seeds is 0; it must be 1 or more"),
        ({"sizes": (20, 40, 0)}, "sizes holds 0; it takes whole numbers of 2 or more"),
        ({"sizes": ()}, "sizes is empty"),
        ({"widths": (0,)}, "widths holds 0"),
        ({"widths": ()}, "widths is empty"),
        ({"per_prompt": (0,)}, "per_prompt holds 0"),
        ({"level": 1.0}, "the level is 1.0"),
        ({"validation": 1.5}, "validation is 1.5"),
        ({"epochs": -1.0}, "epochs is -1.0"),
        ({"keep": -0.5}, "keep is -0.5"),
        ({"feedback": "best"}, "unknown feedback"),
        ({"bases": ("arena",)}, "base 'arena' is refined with votes, not trained"),
    ],
)
def test_bad_settings_are_refused_by_name(votes, tmp_path, settings, text):
    with pytest.raises(P2LError, match=text):
        scaling(votes, output=tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_an_unknown_base_is_refused_before_anything_is_trained(votes, tmp_path):
    with pytest.raises(ModelFormatError, match="there is no folder 'no-such-model', and it is no Hub id"):
        scaling(votes, output=tmp_path / "new", bases=("static", "no-such-model"))
    assert not (tmp_path / "new").exists()


def test_votes_that_cannot_be_studied_are_refused(votes, tmp_path):
    train, held_out = votes.split(0.3, 0)
    with pytest.raises(P2LError, match="validation has no effect where held-out votes are given"):
        scaling(train, held_out, output=tmp_path, validation=0.1)
    other = Votes.from_rows([{**row, "model_a": "new"} for row in rows(30) if row["model_b"] != "new"])
    with pytest.raises(P2LError, match="the held-out votes are on other LLMs"):
        scaling(train, other, output=tmp_path)
    usable = Votes.from_rows([row for row in rows() if row["winner"] != "tie (bothbad)"])
    with pytest.raises(VotesError, match=r"no vote is 'tie \(bothbad\)'"):
        scaling(usable, output=tmp_path, feedback="grk")
    with pytest.warns(P2LWarning, match="prompts of the held-out votes are in the training votes"):
        scaling(train, train, output=tmp_path, sizes=SIZES, widths=(4,), seeds=1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--sizes", "10,many,all"], "'many' is no whole number, and not 'all'"),
        (["--widths", "all"], "'all' is no width"),
        (["--eval-votes", "a", "--eval-scores", "b"], "--eval-votes and --eval-scores are both given"),
    ],
)
def test_bad_options_are_refused_by_name(tmp_path, options, text):
    file = write_jsonl(tmp_path / "votes.jsonl", rows(20))
    result = CliRunner().invoke(cli, ["analyze", "scaling", "--votes", str(file), "--output", "x", *options])
    assert text in (result.output + str(result.exception))


def test_a_file_without_votes_is_refused(tmp_path):
    (tmp_path / "votes.jsonl").write_text("")
    result = CliRunner().invoke(
        cli, ["analyze", "scaling", "--votes", str(tmp_path / "votes.jsonl"), "--output", str(tmp_path / "out")]
    )
    assert isinstance(result.exception, VotesError)
