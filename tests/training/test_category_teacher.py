"""The categories of the votes as a teacher: their averaged leaderboards, kept from the prompts that they measure."""

from __future__ import annotations

import numpy as np
import pytest
from fine_tuning import LLMS, run, write_base, write_jsonl

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.evaluation import Estimate
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.training import category_teacher
from p2l_sdk.training.category_teacher import category_lessons
from p2l_sdk.training.choice import CategoryGain, Choice
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.listener import Listener
from p2l_sdk.training.plan import Plan
from p2l_sdk.training.run import train
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Votes

WORDS = {"code": "write a python function that", "verse": "compose a tender sonnet about"}
BEST = {"code": "coder", "verse": "poet"}


def rows(n_prompts=120, sure=0.75, seed=0, labels=WORDS):
    """One vote a prompt; the LLM of the category wins it with probability `sure`."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(n_prompts):
        category = list(WORDS)[i % 2]
        best = BEST[category]
        other = random.choice([llm for llm in LLMS if llm != best])
        sides = [best, other] if random.random() < 0.5 else [other, best]
        wins = random.random() < sure
        winner = "model_a" if (sides[0] == best) is wins else "model_b"
        topic = " ".join(random.choice(["rain", "lists", "trees", "primes", "ships", "doors"], 3))
        found.append(
            {
                "prompt": f"{WORDS[category]} {topic} {i}",
                "model_a": str(sides[0]),
                "model_b": str(sides[1]),
                "winner": winner,
                "topic": category if category in labels else "",
            }
        )
    return found


def wins_of(taught: Votes, prompts: np.ndarray, a: int, b: int) -> float:
    """The share of a's wins over b that is taught on these prompts, under `bt`."""
    on = np.isin(taught.prompt, prompts)
    won = on & (taught.a == a) & (taught.b == b) & (taught.winner == Winner.A)
    lost = on & (taught.a == a) & (taught.b == b) & (taught.winner == Winner.B)
    return float(taught.weight[won].sum() / (taught.weight[won].sum() + taught.weight[lost].sum()))


def test_each_prompt_is_taught_the_leaderboard_of_its_category(monkeypatch):
    monkeypatch.setattr(category_teacher, "_OTHERS", 0.0)
    votes = Votes.from_rows(rows())
    taught = category_lessons(votes, "topic", Feedback.BT, 3.0)
    assert taught.prompts is votes.prompts
    assert taught.models == votes.models
    assert taught.weight.sum() == pytest.approx(3.0 * votes.weight.sum())
    for i, category in enumerate(WORDS):
        members = np.arange(i, 120, 2)
        board = fit_leaderboard(votes.subset(members), "bt", intervals=None)
        expected = board.win_probability(LLMS[0], LLMS[1])
        assert wins_of(taught, members, 0, 1) == pytest.approx(expected, abs=1e-6)
        assert board.best == BEST[category]


def test_a_small_category_is_near_the_averaged_leaderboard(monkeypatch):
    found = rows()
    few = found[:116] + [{**row, "topic": "rare"} for row in found[116:]]
    votes = Votes.from_rows(few)
    board = fit_leaderboard(votes, "bt", intervals=None)
    taught = category_lessons(votes, "topic", Feedback.BT, 1.0)
    overall = board.win_probability(LLMS[0], LLMS[1])
    rare, code = (wins_of(taught, np.array([i]), 0, 1) for i in (119, 0))
    monkeypatch.setattr(category_teacher, "_OTHERS", 0.0)
    alone = wins_of(category_lessons(votes, "topic", Feedback.BT, 1.0), np.array([119]), 0, 1)
    assert abs(rare - overall) < 0.1 * abs(alone - overall)
    assert code - overall > 0.02


def test_what_is_taught_rests_on_the_own_group_alone():
    votes = Votes.from_rows(rows())
    groups = np.arange(120) % 3
    taught = category_lessons(votes, "topic", Feedback.BT, 3.0, groups)
    turned = rows()
    for i, row in enumerate(turned):
        if groups[i] == 0:
            row["winner"] = "model_a" if row["winner"] == "model_b" else "model_b"
    other = category_lessons(Votes.from_rows(turned), "topic", Feedback.BT, 3.0, groups)
    same = groups[taught.prompt] != 0
    np.testing.assert_array_equal(taught.weight[same], other.weight[same])
    assert not np.allclose(taught.weight[~same], other.weight[~same])


def test_prompts_without_a_label_are_taught_nothing():
    found = rows()
    for row in found[:6]:
        row["topic"] = ""
    taught = category_lessons(Votes.from_rows(found), "topic", Feedback.BT, 3.0)
    assert set(taught.prompt.tolist()) == set(range(6, 120))


@pytest.mark.parametrize(
    ("column", "labels", "message"),
    [
        ("subject", WORDS, r"no column of categories 'subject'; known: topic"),
        ("topic", {"code": 1}, "the column 'topic' has 1 category on 60 prompts; to teach"),
    ],
)
def test_columns_that_cannot_teach(column, labels, message, tmp_path):
    file = write_jsonl(tmp_path / "votes.jsonl", rows(labels=labels))
    with pytest.raises(VotesError, match=message):
        train(TrainingConfig(votes=file, output=tmp_path / "out", by=column))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{"feedback": "gaussian", "base": "a/b"}, {"base": "arena"}])
def test_settings_without_effect_are_refused(settings):
    with pytest.raises(P2LError, match="by: of no effect"):
        Plan.of(TrainingConfig(votes="v", output="o", by="topic", **settings), resume=False)


def log_loss(p2l: P2L, sure=0.75) -> float:
    """The expected log-loss of votes on new prompts, by the probabilities that they are drawn from."""
    found = rows(n_prompts=100, seed=100)
    losses = []
    for row, board in zip(found, p2l.leaderboards([row["prompt"] for row in found]), strict=True):
        best = BEST[row["topic"]]
        chances = np.array([board.win_probability(best, llm) for llm in LLMS if llm != best])
        losses.append(-(sure * np.log(chances) + (1.0 - sure) * np.log1p(-chances)).mean())
    return float(np.mean(losses))


@pytest.mark.long
def test_a_static_model_knows_new_prompts_better_and_needs_no_label(tmp_path):
    file = write_jsonl(tmp_path / "votes.jsonl", rows(n_prompts=400))
    losses = {}
    for name, settings in {
        "alone": {},
        "by": {"by": "topic"},
        "lessons": {"by": "topic", "teacher_weight": 3.0},
    }.items():
        losses[name] = log_loss(train(TrainingConfig(votes=file, output=tmp_path / name, **settings)))
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert entropy < losses["by"] < losses["lessons"] < losses["alone"]
    assert "by topic, teacher_weight 3" in (tmp_path / "lessons" / "README.md").read_text()


class Chosen(Listener):
    """Keeps what cross-validation chose."""

    choice: Choice | None = None

    def cross_validated(self, choice):
        self.choice = choice


def trained(tmp_path, name: str, found, **settings) -> tuple[np.ndarray, Choice | None]:
    """The coefficients of a static model on new prompts, and what was chosen."""
    file, listener = write_jsonl(tmp_path / f"{name}.jsonl", found), Chosen()
    p2l = train(TrainingConfig(votes=file, output=tmp_path / name, **settings), listener=listener)
    return p2l.coefficients([f"{text} doors" for text in WORDS.values()]).coefs, listener.choice


@pytest.mark.long
def test_categories_that_tell_which_llm_is_better_teach_and_the_choice_says_so(tmp_path):
    found = rows(n_prompts=400)
    _, choice = trained(tmp_path, "offered", found, by="topic", epochs=10.0)
    assert choice.categories.used
    taught = choice.categories.without + choice.categories.difference.value
    assert f"{taught:.4f} nats per vote with them" in choice.words[0]
    assert choice.words[0].endswith("they are used")
    assert choice.words[0] in (tmp_path / "offered" / "README.md").read_text()


@pytest.mark.thorough
def test_categories_that_have_nothing_to_do_with_the_llms_do_no_harm(tmp_path):
    random = np.random.default_rng(5)
    found = [{**row, "topic": str(random.choice(["red", "blue", "green"]))} for row in rows(n_prompts=400)]
    plain, alone = trained(tmp_path, "plain", found, epochs=10.0)
    _, choice = trained(tmp_path, "offered", found, by="topic", epochs=10.0)
    told, forced = trained(tmp_path, "told", found, by="topic", epochs=10.0, teacher_weight=3.0)
    assert alone.categories is None
    assert forced.categories is None
    assert choice.verdict.model.value < alone.verdict.model.value + 0.002
    losses = {name: log_loss(P2L.from_pretrained(tmp_path / name)) for name in ("plain", "offered", "told")}
    assert losses["offered"] < losses["plain"] + 0.01
    assert losses["offered"] < losses["told"]
    assert np.abs(told - plain).max() > 0.05


@pytest.mark.parametrize(("difference", "used"), [(-0.02, True), (0.009, True), (0.011, False)])
def test_categories_are_used_unless_clearly_worse(difference, used):
    gain = CategoryGain(without=1.0, difference=Estimate(difference, 0.01, 400))
    assert gain.used is used
    assert f"{1.0 + difference:.4f} nats per vote with them, 1.0000 without" in gain.words
    assert ("worse: they are not used" in gain.words) is not used
    assert CategoryGain(without=1.0, difference=Estimate(difference, 0.01, 400), spare=0.02).used


@pytest.mark.long
def test_a_text_model_is_taught_too(tmp_path):
    base = write_base(tmp_path / "base", "bert")
    file = write_jsonl(tmp_path / "votes.jsonl", rows(n_prompts=60))
    run(file, tmp_path / "out", base=base, epochs=1.0, by="topic", validation=0.2)
    assert "by: topic" in (tmp_path / "out" / "README.md").read_text()
    assert isinstance(P2L.from_pretrained(tmp_path / "out").leaderboard("write a sonnet").best, str)
