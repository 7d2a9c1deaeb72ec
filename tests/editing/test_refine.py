"""Own votes on top of what is known from elsewhere."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from conftest import MODELS
from edited_models import prompts as texts_of
from kinds_stand_in import KINDS, LLMS, Kinds, drawn, prompts, rows_of, scorer_of, threshold
from thorough import thorough

from p2l_sdk import P2L, fit_leaderboard
from p2l_sdk.editing.refine import refine_rows
from p2l_sdk.errors import ModelFormatError, P2LError, P2LWarning, UnknownModelError, VotesError
from p2l_sdk.modeling.feedback_p2l import Feedback, log_probabilities
from p2l_sdk.votes.votes import Votes

pytestmark = pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")  # few votes

OTHERS = [feedback for feedback in Feedback if feedback not in (Feedback.BT, Feedback.GRK)]
HELD_OUT = prompts(400, seed=99)


def votes(*rows):
    return Votes.from_rows(dict(zip(("prompt", "model_a", "model_b", "winner"), row, strict=True)) for row in rows)


def differences(scorer, names=LLMS):
    """Coefficients on held-out prompts, minus their mean over the LLMs."""
    coefs = scorer.score(HELD_OUT).coefs[:, [scorer.spec.models.index(name) for name in names]]
    return coefs - coefs.mean(1, keepdims=True)


def error(scorer, truth):
    return float(np.sqrt(np.square(differences(scorer) - differences(truth)).mean()))


def averaged_error(some, feedback, truth):
    board = fit_leaderboard(some, feedback, intervals=None)
    coefs = board.coefs[[board.models.index(name) for name in LLMS]]
    return float(np.sqrt(np.square(coefs - coefs.mean() - differences(truth)).mean()))


@pytest.mark.long
@pytest.mark.parametrize("feedback", [Feedback.BT, Feedback.GRK, *thorough(*OTHERS)])
@pytest.mark.parametrize("n", [100, 1500])
def test_better_than_the_base_and_the_averaged_leaderboard(feedback, n, rng):
    """The truth is the base at half its scale, with departures of 0.3 logits."""
    base = rows_of(rng)
    truth = scorer_of(0.5 * base + 0.3 * rng.normal(size=base.shape), feedback)
    some = drawn(truth, prompts(3 * n), n)
    refined, learned = refine_rows(scorer_of(base, feedback), some)
    assert error(refined, truth) < 0.75 * error(scorer_of(base, feedback), truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P2LWarning)
        assert error(refined, truth) < 0.75 * averaged_error(some, feedback, truth)
    assert learned.feedback is feedback is refined.spec.feedback
    loss = learned.held_out_loss
    assert loss["refined"] < min(loss["base"], loss["averaged"])
    if n == 1500:
        assert (learned.choice.level_scale + learned.choice.kinds_scale) / 2 in (0.25, 0.375, 0.5, 0.625, 0.75)
        assert (
            0.5
            < np.sqrt(np.square((differences(refined) - differences(truth)) / learned.standard_errors(HELD_OUT)).mean())
            < 1.5
        )


@pytest.mark.long
def test_kinds_of_no_use_are_given_up(rng):
    base, truth = rows_of(rng), rows_of(rng, weights=0.0)
    truth[:, -1] = base[:, -1]
    some = drawn(scorer_of(truth), prompts(3000), 2000)
    refined, learned = refine_rows(scorer_of(base), some)
    assert learned.choice.kinds_scale == 0.0
    assert error(refined, scorer_of(truth)) < 1.3 * averaged_error(some, "bt", scorer_of(truth))


def test_a_good_base_is_kept(rng):
    base = scorer_of(rows_of(rng))
    some = drawn(base, prompts(60), 40)
    refined, learned = refine_rows(base, some)
    assert learned.choice.kinds_scale >= 0.5
    assert error(refined, base) < 0.45 < averaged_error(some, "bt", base)


@pytest.mark.long
def test_variances_of_the_base_say_what_may_move(rng):
    rows, variances = rows_of(rng), np.zeros((len(LLMS), len(KINDS) + 1))
    variances[0, 0] = 9.0  # of the first LLM's row, the weight of the first kind is not known
    truth = rows.copy()
    truth[0, 0] += 3.0
    some = drawn(scorer_of(truth), prompts(600), 600)
    refined, _ = refine_rows(scorer_of(rows, variances=variances), some)
    assert refined.variance.shape == variances.shape
    assert 0 < refined.variance[0, 0] < 3.0  # known much better than before
    blind, _ = refine_rows(scorer_of(rows), some)
    assert error(refined, scorer_of(truth)) < 0.8 * error(blind, scorer_of(truth))


def test_llms_without_votes_stay_and_the_mean_level_too(rng):
    base = scorer_of(rows_of(rng))
    some = drawn(scorer_of(rows_of(rng)), prompts(200), 300, models=LLMS[:3])
    refined, learned = refine_rows(base, some)
    assert learned.models == LLMS[:3]
    np.testing.assert_array_equal(refined.rows[3:], base.rows[3:])
    before, after = (x.score(some.prompts).coefs[:, :3].mean() for x in (base, refined))
    assert after == pytest.approx(before, abs=0.02)


@pytest.mark.long
def test_how_usable_answers_are_is_learned_for_all_llms_alike(rng):
    rows = rows_of(rng)
    harder = rows - np.append(np.zeros(len(KINDS)), 2.0)
    some = drawn(scorer_of(harder, Feedback.GRK), prompts(600), 800, models=LLMS[:4])
    refined, _ = refine_rows(scorer_of(rows, Feedback.GRK), some)
    moved = refined.score(HELD_OUT).coefs - scorer_of(rows, Feedback.GRK).score(HELD_OUT).coefs
    np.testing.assert_allclose(moved[:, 4:].mean(), -2.0, atol=0.3)
    np.testing.assert_allclose(moved[:, 4], moved[:, 5], atol=1e-5)
    assert abs(moved[:, :4].mean() - moved[:, 4:].mean()) < 0.2


@pytest.mark.long
@pytest.mark.parametrize("feedback", [Feedback.RK, Feedback.GRK])
def test_a_base_without_ties_learns_those_of_the_votes(feedback, rng):
    rows = rows_of(rng)
    truth = scorer_of(rows, feedback)
    refined, learned = refine_rows(scorer_of(rows), drawn(truth, prompts(2500), 2500), feedback)
    assert refined.spec.feedback is learned.feedback is feedback
    assert threshold(refined) == pytest.approx(threshold(truth), abs=0.2)
    a, b = refined.score(HELD_OUT), truth.score(HELD_OUT)
    laws = [log_probabilities(feedback, x.coefs[:, 0], x.coefs[:, 1], x.eta[:, 0]) for x in (a, b)]
    assert np.abs(np.exp(laws[0]) - np.exp(laws[1])).mean() < 0.05
    kept, _ = refine_rows(scorer_of(rows), drawn(truth, prompts(300), 300))
    assert kept.spec.feedback is Feedback.BT


@pytest.mark.long
def test_llms_that_the_base_does_not_know_are_added(rng):
    rows = rows_of(rng)
    truth = scorer_of(rows)
    base = scorer_of(rows[:-1], models=LLMS[:-1])
    some = drawn(truth, prompts(2000), 1500)
    refined, learned = refine_rows(base, some)
    assert refined.spec.models == LLMS
    assert learned.added == LLMS[-1:]
    assert error(refined, truth) < 0.4
    with pytest.warns(
        P2LWarning, match=r"too few votes for 'llm-5', which the model did not know: .* ± \d\.\d\d logits"
    ):
        refine_rows(base, votes(("0 code", "llm-0", "llm-5", "model_a")))


ODD = {
    "one vote": [("0 code", "llm-0", "llm-1", "model_a")],
    "one prompt": [("0 code", a, b, w) for a, b, w in (("llm-0", "llm-1", "model_a"), ("llm-2", "llm-1", "tie"))] * 4,
    "a hundred times the same": [("0 code", "llm-0", "llm-1", "model_a")] * 100 + [("1", "llm-2", "llm-1", "model_b")],
    "only wins": [(f"{i} poem", "llm-0", f"llm-{1 + i % 5}", "model_a") for i in range(60)],
    "only ties": [(f"{i} poem", "llm-0", "llm-1", "tie") for i in range(20)],
    "only both bad": [(f"{i} code", "llm-0", "llm-1", "tie (bothbad)") for i in range(20)],
    "two groups": [(f"{i} code", "llm-0", "llm-1", "model_a") for i in range(9)]
    + [(f"{i} poem", "llm-2", "llm-3", "model_b") for i in range(9)],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("feedback", [Feedback.BT, Feedback.GRK, *thorough(*OTHERS)])
def test_odd_votes_give_finite_sane_rows(name, feedback, rng):
    base = scorer_of(rows_of(rng), feedback)
    silent = feedback is Feedback.BT and name in ("only ties", "only both bad")  # which say nothing in bt
    refined, learned = refine_rows(base, votes(*ODD[name]), Feedback.GRK if silent else None)
    assert np.isfinite(refined.rows).all()
    assert np.abs(differences(refined) - differences(base)).max() < 6.0
    assert all(np.isfinite(value) for value in learned.held_out_loss.values())
    assert np.isfinite(learned.standard_errors(HELD_OUT)).all()
    json.dumps(learned.to_dict(), allow_nan=False)


def test_votes_that_say_nothing_are_refused(rng):
    ties = votes(("0 code", "llm-0", "llm-1", "tie"))
    with pytest.raises(VotesError, match="no vote counts: all weights are 0, or all are ties, which say nothing in bt"):
        refine_rows(scorer_of(rows_of(rng)), ties, "bt")
    with pytest.raises(VotesError, match=r"none of the LLMs in the votes \(x, y\) is known .* at least one of llm-0, "):
        refine_rows(scorer_of(rows_of(rng)), votes(("0 code", "x", "y", "model_a")))
    with pytest.raises(P2LError, match="feedback grk and cannot be refined to bt"):
        refine_rows(scorer_of(rows_of(rng), Feedback.GRK), ties, "bt")
    with pytest.raises(ModelFormatError, match="unknown feedback model 'elo'"):
        refine_rows(scorer_of(rows_of(rng)), ties, "elo")


@pytest.mark.long
def test_sides_weights_and_order_of_votes_do_not_matter(rng):
    truth = scorer_of(rows_of(rng), Feedback.GRK)
    base, some = scorer_of(rows_of(rng), Feedback.GRK), drawn(truth, prompts(80), 200)
    turned = Votes(
        some.prompts, some.models, some.prompt, some.b, some.a, np.array([1, 0, 2, 3])[some.winner], some.weight
    )
    twice = votes_twice(some)
    weighted = Votes(some.prompts, some.models, some.prompt, some.a, some.b, some.winner, 2 * some.weight)
    for one, other in ((some, turned), (twice, weighted)):
        rows = [refine_rows(base, x)[0].rows for x in (one, other)]
        np.testing.assert_allclose(*rows, atol=1e-3)


def votes_twice(some):
    columns = (np.concatenate([x, x]) for x in (some.prompt, some.a, some.b, some.winner, some.weight))
    return Votes(some.prompts, some.models, *columns)


@pytest.mark.thorough
def test_a_long_list_of_llms_is_refined(rng):
    names = tuple(f"m{i}" for i in range(25))
    rows = rows_of(rng, 25)
    truth = Kinds(rows + 0.3 * rng.normal(size=rows.shape), models=names)
    refined, _ = refine_rows(Kinds(rows, models=names), drawn(truth, prompts(500), 2000))
    assert len(refined.spec.models) == 25
    found, before = (np.square(part.rows - truth.rows)[:, -1].mean() for part in (refined, Kinds(rows, models=names)))
    assert found < 0.8 * before


# --- real models ------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "feedback", "expected"), [("static", "bt", "grk"), ("quantized", "ba", "ba"), ("llama", "bt", "bt")]
)
def test_a_refined_model_is_saved_and_loads_the_same(kind, feedback, expected, saved, tmp_path, rng):
    base, texts = P2L.from_pretrained(saved(kind, feedback), costs={MODELS[0]: 0.1}), texts_of(60)
    rows = [
        {"prompt": texts[i], "model_a": a, "model_b": b, "winner": w}
        for i in range(60)
        for a, b, w in [
            (*rng.choice([*MODELS, "new-1b"], 2, replace=False), ("model_a", "tie", "tie (bothbad)")[i % 3])
        ]
    ]
    refined = base.refine(Votes.from_rows(rows), feedback=expected)
    assert (refined.models, str(refined.spec.feedback)) == ((*MODELS, "new-1b"), expected)
    assert refined.refined.n_votes == (20 if expected == "bt" else 60)
    refined.save_pretrained(tmp_path / "new")
    again = P2L.from_pretrained(tmp_path / "new")
    for x, y in zip(vars(again.coefficients(texts)).values(), vars(refined.coefficients(texts)).values(), strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            np.testing.assert_allclose(x, y, atol=1e-5)
    assert base.refined is None
    assert refined.remove_model("new-1b").refined is refined.refined


def test_a_refined_model_answers_without_the_sdk(saved, tmp_path):
    """The remote code reads the converted head: the torch model agrees."""
    torch = pytest.importorskip("torch")
    from p2l_sdk.modeling.modeling_p2l import P2LModel

    base, texts = P2L.from_pretrained(saved("static", "bt")), texts_of(8)
    winners = ("model_a", "model_b", "tie", "tie (bothbad)")
    some = votes(*((text, *MODELS[:2], winners[i % 4]) for i, text in enumerate(texts)))
    refined = base.refine(some, feedback="grk")
    refined.save_pretrained(tmp_path / "new")
    model = P2LModel.from_pretrained(tmp_path / "new").eval()
    scorer = refined._scorer
    with torch.no_grad():
        state = torch.from_numpy(np.array([scorer._pool(ids) for ids in scorer._encode(texts)]))
        coefs, eta, _ = model.head(state)
    mine = refined.coefficients(texts)
    np.testing.assert_allclose(coefs.numpy(), mine.coefs, atol=1e-4)
    np.testing.assert_allclose(eta.numpy(), mine.eta, atol=1e-4)


def test_llms_in_votes_may_be_named_as_people_write_them():
    """`gpt-4o-mini` refines the row of gpt-4o-mini-2024-07-18 and is no new LLM."""
    p2l = P2L.from_pretrained("arena")
    rows = [
        ("Sum the list 1, 2", "gpt-4o-mini", "my-own-llm", "model_a"),
        ("Write a poem", "gpt-4o-mini", "llama3.1:8b", "model_b"),
    ]
    full = [
        [
            x.replace("gpt-4o-mini", "gpt-4o-mini-2024-07-18").replace("llama3.1:8b", "llama-3.1-8b-instruct")
            for x in row
        ]
        for row in rows
    ]
    short, long = p2l.refine(votes(*rows)), p2l.refine(votes(*full))
    assert short.models == long.models == (*p2l.models, "my-own-llm")
    np.testing.assert_allclose(
        short.coefficients(["What is 2 + 2?"]).coefs, long.coefficients(["What is 2 + 2?"]).coefs
    )
    assert short.refined.matched == {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "llama3.1:8b": "llama-3.1-8b-instruct"}
    assert long.refined.matched == {}


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        (("gpt-4o", "o3-mini"), "a vote names 'gpt-4o', which may be gpt-4o-2024-05-13 or gpt-4o-2024-08-06; name one"),
        (
            ("gpt-4o-mini", "GPT-4o-mini"),
            "'GPT-4o-mini' and 'gpt-4o-mini', and both are read as gpt-4o-mini-2024-07-18",
        ),
    ],
)
def test_names_in_votes_that_are_not_clear_are_refused(pair, text):
    with pytest.raises(UnknownModelError, match=text):
        P2L.from_pretrained("arena").refine(votes(("Write a poem", *pair, "model_a")))
