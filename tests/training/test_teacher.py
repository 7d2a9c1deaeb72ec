"""A teacher: what it says is taught as votes with fractional weights, to static and text models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fine_tuning import LLMS, run, vote_rows, write_base, write_jsonl

from p2l_sdk import P2L
from p2l_sdk.errors import ModelFormatError, P2LError, UnknownModelError
from p2l_sdk.evaluation import evaluate
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.modeling.spec_p2l import ModelSpec, Pooling
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.run import train
from p2l_sdk.training.task import Task
from p2l_sdk.training.teacher import _llms_of, lessons
from p2l_sdk.votes.votes import Votes


class Known:
    """A scorer whose coefficients are a function of the number of words."""

    def __init__(self, models=LLMS, feedback="grk", scale=1.0):
        self.spec = ModelSpec(models=models, feedback=Feedback(feedback), pooling=Pooling.POOLER, max_prompt_tokens=9)
        self._scale = scale

    def score(self, prompts):
        words = np.array([len(str(prompt).split()) for prompt in prompts], dtype=float)[:, None]
        coefs = self._scale * words * np.arange(len(self.spec.models)) / 7.0 - 1.0
        eta = np.full((len(prompts), 1), -0.3) if self.spec.feedback.has_eta else None
        return Coefficients(coefs, eta, None)


def votes(feedback="grk", n_prompts=30, votes_per_pair=2, seed=0):
    return Votes.from_rows(vote_rows(feedback, n_prompts, votes_per_pair, seed))


@pytest.mark.parametrize("feedback", ["grk", "rk", "bt"])
def test_lessons_are_the_outcome_probabilities_on_every_pair(feedback):
    data, p2l = votes(), P2L(Known(feedback=feedback))
    taught = lessons(p2l, data, Feedback(feedback), weight=3.0)
    assert taught.prompts is data.prompts
    assert taught.models == data.models
    assert taught.weight.sum() == pytest.approx(3.0 * data.weight.sum())
    by_prompt = np.bincount(taught.prompt, taught.weight)
    assert by_prompt == pytest.approx(np.full(len(data.prompts), by_prompt.mean()))  # every prompt has the same share
    one = by_prompt.mean() / 3  # of three pairs
    boards = p2l.leaderboards(data.prompts)
    found = np.zeros((len(data.prompts), 3, 3, len(Winner)))
    np.add.at(found, (taught.prompt, taught.a, taught.b, taught.winner), taught.weight / one)
    for row, board in zip(found, boards, strict=True):
        for a, b in ((0, 1), (0, 2), (1, 2)):
            outcomes = board.outcomes(LLMS[a], LLMS[b])
            expected = [outcomes.get(name, 0.0) for name in ("a", "b", "tie", "both_bad")]
            assert row[a, b] == pytest.approx(expected, abs=1e-9)


def test_several_teach_their_mean():
    data, known = votes(), [P2L(Known(scale=1.0)), P2L(Known(scale=-2.0))]
    columns = [lessons(x, data, Feedback.GRK, weight=1.0).weight for x in (known[0], known[1], known)]
    assert columns[2] == pytest.approx((columns[0] + columns[1]) / 2)


def test_names_as_people_write_them_and_an_order_of_its_own():
    rows = [{**row, "model_a": f"maker/{row['model_a']}", "model_b": row["model_b"].upper()} for row in vote_rows("bt")]
    rows = [{**row, "model_b": f"maker/{row['model_b'].lower()}"} for row in rows]
    data = Votes.from_rows(rows)
    own = P2L(Known(models=("nobody", *LLMS[::-1]), feedback="bt"))
    taught = lessons(own, data, Feedback.BT, weight=1.0)
    board = own.leaderboard(data.prompts[0])
    chance = board.win_probability("coder", "sage")
    rows = (taught.prompt == 0) & (taught.a == 0) & (taught.b == 2)
    wins = taught.weight[rows & (taught.winner == Winner.A)].sum() / taught.weight[rows].sum()
    assert data.models == ("maker/coder", "maker/poet", "maker/sage")
    assert wins == pytest.approx(chance)


def test_of_very_many_pairs_some_are_drawn_for_each_prompt():
    data = votes(n_prompts=300)
    taught = lessons(P2L(Known()), data, Feedback.GRK, weight=1.0, pairs=2)
    pairs = set(zip(taught.prompt, taught.a, taught.b, strict=True))
    assert len(pairs) == 2 * len(data.prompts)
    shares = np.bincount([3 * a + b for _, a, b in pairs], minlength=9)[[1, 2, 5]] / len(pairs)
    assert shares == pytest.approx(np.full(3, 1 / 3), abs=0.06)
    assert taught.weight.sum() == pytest.approx(data.weight.sum())


def test_who_cannot_teach():
    with pytest.raises(UnknownModelError, match=r"the teacher P2L\(.*\) cannot teach these votes: a vote names 'sage'"):
        lessons(P2L(Known(models=("coder", "poet"))), votes(), Feedback.GRK, 3.0)
    with pytest.raises(P2LError, match="which has no probability of tie and both bad, so it cannot teach grk; choose"):
        lessons(P2L(Known(feedback="bt")), votes(), Feedback.GRK, 3.0)


def test_both_sides_of_the_split_and_the_averaged_leaderboard_rest_on_votes():
    data = votes()
    taught = lessons(P2L(Known()), data, Feedback.GRK, weight=3.0)
    plain, task = (Task.of_votes(data, Feedback.GRK, 0.3, 0, lessons=x) for x in (None, taught))
    np.testing.assert_array_equal(task.averaged.coefs, plain.averaged.coefs)
    assert len(task.validation.feedback) == len(plain.validation.feedback)
    assert task.train.prompts == plain.train.prompts
    both = task.train.feedback.of(task.train.feedback.prompts)
    weight = both["weights"].sum() - plain.train.feedback.of(plain.train.feedback.prompts)["weights"].sum()
    expected = 3.0 * data.weight.sum() * len(plain.train.prompts) / len(data.prompts)
    assert float(weight) == pytest.approx(expected, rel=1e-5)
    assert task.digest() != plain.digest()


def write_votes(path, **options):
    return write_jsonl(path, vote_rows("grk", **options))


def loss(p2l: P2L, held_out) -> float:
    return evaluate(p2l, Votes.read(held_out)).metrics["cross_entropy"].value


@pytest.mark.long
def test_a_static_student_learns_more_from_votes_and_a_teacher(tmp_path):
    few = write_votes(tmp_path / "few.jsonl", n_prompts=60, votes_per_pair=1)
    many = write_votes(tmp_path / "many.jsonl", n_prompts=60, votes_per_pair=60)
    held_out = write_votes(tmp_path / "held_out.jsonl", n_prompts=90, votes_per_pair=40, seed=5)
    teacher = train(TrainingConfig(votes=many, output=tmp_path / "teacher"))
    alone = train(TrainingConfig(votes=few, output=tmp_path / "alone"))
    taught = train(TrainingConfig(votes=few, output=tmp_path / "taught", teacher=tmp_path / "teacher"))
    assert loss(teacher, held_out) < loss(taught, held_out) < loss(alone, held_out) - 0.01
    card = (tmp_path / "taught" / "README.md").read_text()
    assert "teacher teacher, teacher_weight 3.0" in card
    assert "180 votes on 60 prompts" in card  # the lessons are no votes


@pytest.mark.thorough
def test_a_text_model_learns_from_a_teacher(tmp_path):
    few = write_votes(tmp_path / "few.jsonl", n_prompts=60, votes_per_pair=1)
    many = write_votes(tmp_path / "many.jsonl", n_prompts=60, votes_per_pair=60)
    held_out = write_votes(tmp_path / "held_out.jsonl", n_prompts=90, votes_per_pair=40, seed=5)
    train(TrainingConfig(votes=many, output=tmp_path / "teacher"))
    settings = {
        "base": str(write_base(tmp_path / "base", "llama")), "method": "full", "validation": 0.2, "epochs": 4,
        "learning_rate": 3e-3, "head_learning_rate": 1e-2, "checkpoints": 2,
    }  # fmt: skip
    alone = run(few, tmp_path / "alone", **settings)
    taught = run(few, tmp_path / "taught", **settings, teacher=[str(tmp_path / "teacher")] * 2, teacher_weight=10)
    assert loss(taught, held_out) < loss(alone, held_out)
    card = (tmp_path / "taught" / "README.md").read_text()
    assert "teacher: teacher,teacher\nteacher_weight: 10" in card
    assert str(tmp_path) not in card
    assert taught.verdict.averaged == alone.verdict.averaged  # held-out votes are votes, whoever teaches


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher_weight": 2}, "teacher_weight: of no effect without a teacher"),
        ({"teacher": "x", "base": "a/b", "feedback": "gaussian"}, "teacher: of no effect on the scores of feedback"),
        ({"teacher": "x", "base": "arena"}, "teacher: of no effect where votes refine a model of kinds"),
    ],
)
def test_a_teacher_without_effect_is_refused(settings, message, tmp_path):
    with pytest.raises(P2LError) as caught:
        train(TrainingConfig(votes="none.jsonl", output=tmp_path / "out", **settings))
    assert message in str(caught.value)


def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    votes_file = write_votes(tmp_path / "votes.jsonl")
    for settings in ({}, {"base": str(write_base(tmp_path / "base", "llama"))}):
        with pytest.raises(UnknownModelError, match=r"the teacher P2L\(embedded routing9.* cannot teach these votes"):
            train(TrainingConfig(votes=votes_file, output=tmp_path / "out", teacher="routing9", **settings))
        assert sorted(path.name for path in tmp_path.iterdir()) in (["votes.jsonl"], ["base", "votes.jsonl"])
    with pytest.raises(ModelFormatError, match="there is no folder 'no-such'"):
        train(TrainingConfig(votes=votes_file, output=tmp_path / "out", teacher="no-such"))


@pytest.mark.parametrize("teacher", ["", [], "a,,b", 3, ["a", 4]])
def test_no_names_of_teachers(teacher):
    with pytest.raises(P2LError, match="it must be a model"):
        TrainingConfig(votes="v", output="o", teacher=teacher)


@pytest.mark.parametrize("teacher", ["a, b/c", ["a", "b/c"], ("a", Path("b/c"))])
def test_one_or_several_names(teacher):
    config = TrainingConfig(votes="v", output="o", teacher=teacher)
    assert config.teachers == ("a", "b/c")
    assert TrainingConfig.from_dict(config.to_dict()) == config


def test_the_llms_of_a_pair_follow_from_its_number():
    for m in (2, 3, 17, 200):
        a, b = np.triu_indices(m, 1)
        np.testing.assert_array_equal(_llms_of(np.arange(len(a)), m), (a, b))
    m = 60_000  # 1.8 thousand million pairs, whose list would be 29 GB
    n = m * (m - 1) // 2
    a, b = _llms_of(np.array([0, m - 2, m - 1, n - 1]), m)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 1), (0, m - 1), (1, 2), (m - 2, m - 1)]
