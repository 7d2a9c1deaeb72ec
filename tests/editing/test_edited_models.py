"""LLMs added, removed and renamed."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from conftest import COSTS, MODELS
from edited_models import NEW, prompts, simulated, true_row
from thorough import thorough

from p2l_sdk import P2L
from p2l_sdk.editing.own_votes import OwnVotes
from p2l_sdk.errors import CostError, ModelFormatError, P2LError, P2LWarning, UnknownModelError, VotesError
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.votes.votes import Scores, Votes

pytestmark = pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")  # tiny tests have few votes


@pytest.mark.long
@pytest.mark.parametrize("feedback", [Feedback.GRK, *thorough(*(f for f in Feedback if f is not Feedback.GRK))])
def test_the_coefficients_of_the_truth_are_recovered(feedback, saved):
    base = P2L.from_pretrained(saved("static", feedback, head_hidden_size=8))
    row, held_out = true_row(base), prompts(200, seed=9)
    votes = Votes.from_rows(simulated(base, row, prompts(1500), 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = base.add_model(NEW, votes)
    added = model.additions[NEW]
    truth = base._scorer.features(held_out).astype(np.float64) @ row[:-1] + row[-1]
    error = model.coefficients(held_out).coefs[:, -1] - truth
    standard = added.standard_errors(held_out)
    assert np.sqrt(np.square(error).mean()) < 0.35
    assert 0.3 < np.sqrt(np.square(error / standard).mean()) < 1.7  # errors are as large as claimed
    assert np.square(error).mean() < 0.1 * truth.var()


@pytest.mark.parametrize("kind", ["static", "quantized", "llama", "bert"])
@pytest.mark.parametrize("head", [{}, {"head_hidden_size": 8, "head_norm": True}])
def test_rows_and_features_make_the_coefficients(kind, head, saved):
    base = P2L.from_pretrained(saved(kind, "ba", **head), device="cpu" if kind == "bert" else None)
    texts, scorer = prompts(40), base._scorer
    features, rows, scored = scorer.features(texts), scorer.rows, base.coefficients(texts)
    np.testing.assert_allclose(features @ rows[:, :-1].T + rows[:, -1], scored.coefs, atol=2e-5)
    again = scorer.score_features(features)
    for key in ("coefs", "eta", "gamma"):
        np.testing.assert_allclose(getattr(again, key), getattr(scored, key), atol=2e-5)


@pytest.mark.parametrize("kind", ["static", "llama"])
def test_all_else_stays_as_it_was(kind, saved):
    base = P2L.from_pretrained(saved(kind))
    texts = prompts(20)
    before = base.coefficients(texts)
    model = base.add_model(NEW, Votes.from_rows(simulated(base, true_row(base), texts, 20)), cost=0.002)
    after = model.coefficients(texts)
    np.testing.assert_allclose(after.coefs[:, :-1], before.coefs, atol=1e-6)
    np.testing.assert_allclose(after.eta, before.eta, atol=1e-6)
    assert model.models == (*MODELS, NEW)
    assert model.costs == {**COSTS, NEW: 0.002}
    assert base.models == MODELS
    assert base.costs == COSTS
    assert not base.additions
    np.testing.assert_array_equal(base.coefficients(texts).coefs, before.coefs)
    assert NEW in model.route(texts[0]).leaderboard.models


def test_the_numpy_scorer_and_torch_add_the_same_llm(saved):
    folder, texts = saved("quantized", "grk", head_hidden_size=8), prompts(60)
    fast, slow = P2L.from_pretrained(folder), P2L.from_pretrained(folder, device="cpu")
    votes = Votes.from_rows(simulated(fast, true_row(fast), texts, 5))
    a, b = (p2l.add_model(NEW, votes) for p2l in (fast, slow))
    assert type(a._scorer) is not type(b._scorer)
    np.testing.assert_allclose(a.coefficients(texts).coefs, b.coefficients(texts).coefs, atol=1e-4)
    errors = [p2l.additions[NEW].standard_errors(texts) for p2l in (a, b)]
    np.testing.assert_allclose(*errors, atol=1e-4)


def test_votes_count_from_either_side_and_others_are_ignored(saved):
    base = P2L.from_pretrained(saved("static"))
    rows = simulated(base, true_row(base), prompts(30), 4)
    swapped = {"model_a": "model_b", "model_b": "model_a"}
    turned = [
        {**r, "model_a": r["model_b"], "model_b": r["model_a"], "winner": swapped.get(r["winner"], r["winner"])}
        for r in rows
    ]
    others = [{"prompt": "sum", "model_a": "stranger", "model_b": MODELS[0], "winner": "tie"}] * 7
    one, other = (base.add_model(NEW, Votes.from_rows(r)) for r in (rows, turned + others))
    np.testing.assert_allclose(one._scorer.rows, other._scorer.rows, atol=1e-6)
    assert (one.additions[NEW].n_ignored, other.additions[NEW].n_ignored) == (0, 7)
    assert other.additions[NEW].n_votes == 120
    weighted = [{**r, "weight": 2.0} for r in rows]
    twice = base.add_model(NEW, Votes.from_rows(rows + rows))
    heavy = base.add_model(NEW, Votes.from_rows(weighted))
    np.testing.assert_allclose(heavy._scorer.rows, twice._scorer.rows, atol=1e-6)


def test_scores_are_votes(saved, tmp_path):
    base = P2L.from_pretrained(saved("static"))
    rng = np.random.default_rng(0)
    rows = []
    for text in prompts(40):
        rows.append({"prompt": text, "task": 1, NEW: rng.integers(3) / 2, MODELS[1]: rng.integers(3) / 2, MODELS[3]: 1})
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(row, default=float) + "\n" for row in rows))
    votes = []
    for r in rows:
        for opponent in (MODELS[1], MODELS[3]):
            gap, mean = r[NEW] - r[opponent], (r[NEW] + r[opponent]) / 2
            winner = "model_a" if gap > 0 else "model_b" if gap < 0 else "tie" if mean >= 0.5 else "both_bad"
            votes.append({"prompt": r["prompt"], "model_a": NEW, "model_b": opponent, "winner": winner})
    scores = Scores.read(path, [NEW, MODELS[1], MODELS[3]])
    table = Votes.from_rows(votes)
    expected = base.add_model(NEW, table)
    for model in (base.add_model(NEW, scores=path), base.add_model(NEW, scores=scores)):
        np.testing.assert_allclose(model._scorer.rows, expected._scorer.rows, atol=1e-6)
        assert model.additions[NEW].n_votes == 80
    both = base.add_model(NEW, table, scores)
    assert (both.additions[NEW].n_votes, both.additions[NEW].n_prompts) == (160, expected.additions[NEW].n_prompts)


def test_only_the_pairs_of_the_new_llm_are_made_of_scores(monkeypatch):
    """They are those among the votes of all pairs that name it."""
    rng = np.random.default_rng(0)
    table = rng.integers(3, size=(30, 5)) / 2.0
    table[rng.random(table.shape) < 0.2] = np.nan
    scores = Scores(prompts(30), (MODELS[2], NEW, "stranger", *MODELS[:2]), table)
    spec = ModelSpec(models=MODELS, feedback="grk")
    names, columns = (NEW, MODELS[2], *MODELS[:2]), [1, 0, 3, 4]
    of_all = Votes.from_scores(Scores(scores.prompts, names, table[:, columns]))
    expected = OwnVotes.joined([OwnVotes.of_votes(NEW, of_all, spec)])
    found = OwnVotes.joined([OwnVotes.of_scores(NEW, scores, spec)])
    assert found.prompts == expected.prompts
    for name in ("prompt", "opponent", "winner", "weight"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    made = []
    monkeypatch.setattr(OwnVotes, "of_votes", lambda name, votes, spec: made.append(votes) or expected)
    OwnVotes.of_scores(NEW, scores, spec)
    assert set(made[0].a) == {0}  # no other pairs were made


def test_a_prompt_of_votes_and_of_scores_is_one():
    """By its user turns, as everywhere."""
    spec = ModelSpec(models=MODELS, feedback="grk")
    talk = [{"role": "user", "content": "sum the list"}, {"role": "assistant", "content": "6"}]
    scores = Scores([talk, "poem"], (NEW, MODELS[1]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    own = OwnVotes.joined([OwnVotes.of_votes(NEW, vote(), spec), OwnVotes.of_scores(NEW, scores, spec)])
    assert own.prompts == ["sum the list", "poem"]
    assert own.prompt.tolist() == [0, 0, 1]


@pytest.mark.parametrize("feedback", ["grk", "ba"])
def test_a_leaderboard_foretells_the_level_of_coefficients(feedback, saved):
    """Of the raw ones, also where a ground is taken off them."""
    base, text = P2L.from_pretrained(saved("static", feedback)), "sum the list"
    board = base.leaderboard(text)
    prior = Leaderboard(models=(*MODELS, NEW), coefs=np.append(board.coefs, board.coefs[1]), feedback=Feedback.BT)
    faint = Votes.from_rows([{"prompt": text, "model_a": NEW, "model_b": MODELS[0], "winner": "tie", "weight": 1e-6}])
    assert feedback == "grk" or abs(board.gamma) > 0.1
    coefs = base.add_model(NEW, faint, prior=prior).leaderboard(text).coefs
    assert coefs[-1] == pytest.approx(coefs[1], abs=1e-4)


def test_few_votes_warn_and_more_votes_are_more_certain(saved):
    base = P2L.from_pretrained(saved("static", head_hidden_size=8))
    rows = simulated(base, true_row(base), prompts(400), 3)
    message = r"too few votes for 'epsilon-1t' \(3 votes on 1 prompt\): its coefficient is known to ± \d\.\d\d logits"
    with pytest.warns(P2LWarning, match=message):
        few = base.add_model(NEW, Votes.from_rows(rows[:3]))
    assert few.additions[NEW].standard_error > 0.5 * few.additions[NEW].spread
    errors = [base.add_model(NEW, Votes.from_rows(rows[:n])).additions[NEW].standard_error for n in (90, 300, 1200)]
    assert errors == sorted(errors, reverse=True)
    added = base.add_model(NEW, Votes.from_rows(rows)).additions[NEW]
    assert added.covariance.shape == (9, 9)
    assert json.loads(json.dumps(added.to_dict()))["prior"] == "similar"
    assert added.n_prompts == len({row["prompt"] for row in rows})


def test_llms_that_go_and_are_renamed(saved):
    base, texts = P2L.from_pretrained(saved("static")), prompts(10)
    coefs = base.coefficients(texts).coefs
    less = base.remove_model(MODELS[1])
    assert less.models == (MODELS[0], *MODELS[2:])
    np.testing.assert_allclose(less.coefficients(texts).coefs, np.delete(coefs, 1, 1), atol=1e-6)
    assert set(less.costs) == set(less.models)
    other = less.rename_model(MODELS[2], "zeta")
    assert other.models == (MODELS[0], "zeta", MODELS[3])
    assert other.costs["zeta"] == COSTS[MODELS[2]]
    np.testing.assert_array_equal(other.coefficients(texts).coefs, less.coefficients(texts).coefs)
    assert base.rename_model(MODELS[0], MODELS[0]).models == MODELS
    added = base.add_model(NEW, Votes.from_rows(simulated(base, true_row(base), texts, 30)))
    again = added.rename_model(NEW, "eta-2t")
    assert again.additions["eta-2t"].n_votes == 300
    assert not again.remove_model("eta-2t").additions
    np.testing.assert_allclose(again.remove_model("eta-2t").coefficients(texts).coefs, coefs, atol=1e-6)


def vote(a: str = NEW, b: str = MODELS[0], winner: str = "model_a", **more) -> Votes:
    return Votes.from_rows([{"prompt": "sum the list", "model_a": a, "model_b": b, "winner": winner, **more}])


def all_but_two(model: P2L) -> P2L:
    return model.remove_model(MODELS[0]).remove_model(MODELS[1])


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda m: m.add_model(MODELS[1], vote()), P2LError, "'beta-13b' is among the LLMs already; remove or rename"),
        (lambda m: m.add_model(" ", vote()), ModelFormatError, "LLM names, none of them empty"),
        (lambda m: m.add_model(NEW), VotesError, "nothing to learn 'epsilon-1t' from; give votes, scores or both"),
        (lambda m: m.add_model("x", vote()), VotesError, "no vote names 'x'; the votes name alpha-7b, epsilon-1t"),
        (
            lambda m: m.add_model(NEW, vote(b="alpha-8b")),
            UnknownModelError,
            "a vote on 'epsilon-1t' names 'alpha-8b', which this model does not know; did you mean 'alpha-7b'",
        ),
        (
            lambda m: m.add_model(NEW, vote(winner="tie")),
            VotesError,
            "no vote on 'epsilon-1t' counts: .* say nothing in bt",
        ),
        (lambda m: m.add_model(NEW, vote(weight=0)), VotesError, "no vote on 'epsilon-1t' counts: all weights are 0"),
        (lambda m: m.add_model(NEW, vote(), prior="best"), P2LError, "unknown prior 'best'; known: similar, mean"),
        (lambda m: m.add_model(NEW, vote(), cost=-1), CostError, "the cost of 'epsilon-1t' is -1"),
        (
            lambda m: m.add_model(NEW, scores=Scores(["sum"], (NEW, "x"), np.ones((1, 2)))),
            VotesError,
            "the scores need a column 'epsilon-1t' and one of a known LLM: alpha",
        ),
        (lambda m: m.add_model(NEW, "votes.doc"), VotesError, "no such file: 'votes.doc'.*; known: "),
        (lambda m: m.remove_model("alpha"), UnknownModelError, "remove_model names 'alpha'.* did you mean 'alpha-7b'"),
        (
            lambda m: all_but_two(m).remove_model(MODELS[2]),
            P2LError,
            "'gamma-70b' cannot be removed: a leaderboard needs two LLMs, and there are 2",
        ),
        (lambda m: m.rename_model("alpha", "x"), UnknownModelError, "rename_model names 'alpha'"),
        (lambda m: m.rename_model(MODELS[0], MODELS[1]), P2LError, "cannot be renamed 'beta-13b': that is another LLM"),
        (lambda m: m.rename_model(MODELS[0], ""), ModelFormatError, "none of them empty"),
    ],
)
def test_what_cannot_be_done_is_said(edit, error, message, saved):
    with pytest.raises(error, match=message):
        edit(P2L.from_pretrained(saved("static", "bt")))


def test_a_model_whose_weights_are_elsewhere_cannot_be_edited(saved):
    class Elsewhere:
        spec = P2L.from_pretrained(saved("static")).spec

        def score(self, texts):
            raise NotImplementedError

    for edit in (lambda m: m.add_model(NEW, vote()), lambda m: m.remove_model(MODELS[0])):
        with pytest.raises(P2LError, match="only a model whose weights are here can be edited; load it from a folder"):
            edit(P2L(Elsewhere()))
