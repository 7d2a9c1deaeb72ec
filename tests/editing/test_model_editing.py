"""LLMs added, removed and renamed: the fit against its definitions, the edited models, and the folders they save."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from command_line import ok, p2l, refused
from conftest import COSTS, MODELS, WORDS, build_model, transformers_tokenizer
from researcher import RESEARCHER

from p2l_sdk import P2L
from p2l_sdk.editing.own_votes import OwnVotes
from p2l_sdk.editing.row import RowPrior, RowVotes, _fit, fit_row
from p2l_sdk.errors import CostError, ModelFormatError, P2LError, P2LWarning, UnknownModelError, VotesError
from p2l_sdk.hub.tensors import replace_tensors
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, log_probabilities, vote_targets
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.votes.votes import Scores, Votes

pytestmark = pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")  # tiny tests have few votes

NEW = "epsilon-1t"
NAMES = {Winner.A: "model_a", Winner.B: "model_b", Winner.TIE: "tie", Winner.BOTH_BAD: "tie (bothbad)"}


def prompts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 6)) for _ in range(n)]


def simulated(model: P2L, row: np.ndarray, texts: list[str], each: int, seed: int = 0) -> list[dict]:
    """Votes drawn from the model itself between an LLM with this row and random known LLMs, `each` per prompt."""
    rng = np.random.default_rng(seed)
    feedback, scored = model.spec.feedback, model.coefficients(texts)
    features = model._scorer.features(texts).astype(np.float64)
    new = features @ row[:-1] + row[-1]
    rows = []
    for i, text in enumerate(texts):
        for opponent in rng.integers(0, len(model.models), each):
            eta, gamma = (None if x is None else np.float64(x[i, 0]) for x in (scored.eta, scored.gamma))
            log_probs = log_probabilities(feedback, new[i], np.float64(scored.coefs[i, opponent]), eta, gamma)
            outcome = rng.choice(feedback.outcomes, p=np.exp(log_probs) / np.exp(log_probs).sum())
            sides = (NEW, model.models[opponent])
            if rng.random() < 0.5:
                sides, outcome = sides[::-1], {0: 1, 1: 0}.get(int(outcome), outcome)
            rows.append({"prompt": text, "model_a": sides[0], "model_b": sides[1], "winner": NAMES[Winner(outcome)]})
    return rows


def true_row(model: P2L, seed: int = 1) -> np.ndarray:
    rows = model._scorer.rows.astype(np.float64)
    return rows.mean(0) + np.random.default_rng(seed).normal(size=rows.shape[1])


def problem(feedback: Feedback, n_prompts: int = 12, width: int = 4, seed: int = 0, weight: float = 1.0):
    """Rows of three LLMs, features, and random votes on a fourth."""
    rng = np.random.default_rng(seed)
    rows, features = 0.5 * rng.normal(size=(3, width + 1)), rng.normal(size=(n_prompts, width))
    prompt = np.concatenate([np.arange(n_prompts), rng.integers(0, n_prompts, 2 * n_prompts)])
    winner = rng.integers(0, 4, len(prompt))
    winner[0] = Winner.A  # at least one vote counts in every feedback model
    votes = RowVotes(
        feedback=feedback,
        prompt=prompt,
        shift=rng.normal(size=n_prompts) if feedback.has_gamma else np.zeros(n_prompts),
        opponent=rng.normal(size=len(prompt)),
        log_s=rng.normal(size=n_prompts)[prompt],
        targets=weight * vote_targets(feedback)[winner],
    )
    return rows, features, votes


# --- the fit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feedback", list(Feedback))
def test_derivatives_are_those_of_the_loss(feedback):
    _, features, votes = problem(feedback)
    theta, h = features @ np.ones(4), 1e-5
    _, slope, curvature = votes.loss(theta)
    for i, unit in enumerate(np.eye(len(theta)) * h):
        (up, slope_up, _), (down, slope_down, _) = votes.loss(theta + unit), votes.loss(theta - unit)
        assert slope[i] == pytest.approx((up - down) / (2 * h), abs=1e-7)
        # with a ground, the curvature of ties can be negative; the fit then uses 0
        assert curvature[i] == pytest.approx(max((slope_up[i] - slope_down[i]) / (2 * h), 0.0), abs=1e-6)


@pytest.mark.parametrize("feedback", list(Feedback))
@pytest.mark.parametrize("n_prompts", [3, 40])  # fewer and more prompts than unknowns
def test_the_row_is_the_optimum_of_likelihood_and_prior(feedback, n_prompts):
    rows, features, votes = problem(feedback, n_prompts)
    fit = fit_row(rows, features, votes)
    mean = rows.mean(0)
    # the row's prior as one normal distribution
    centred, centre = np.hstack([features, np.ones((n_prompts, 1))]), features.mean(0)
    unit = fit.deviation / np.sqrt(np.square(features - centre).sum(1).mean())
    deviation = unit * np.hstack([np.eye(4), -centre[:, None]])
    level = np.zeros(5)
    level[-1] = max(1.0, (rows @ np.append(centre, 1)).std())
    covariance = (rows - mean).T @ (rows - mean) / 2 + np.outer(level, level) + deviation.T @ deviation
    precision = np.linalg.inv(covariance)

    def objective(row):
        return votes.loss(centred @ row)[0] + 0.5 * (row - mean) @ precision @ (row - mean)

    best = objective(fit.row)
    for direction in np.random.default_rng(0).normal(size=(50, 5)):
        for step in (1e-3, 0.1):
            assert objective(fit.row + step * direction) > best
    # with independent votes the covariance is the inverse of the objective's curvature (Laplace)
    curvature = centred.T @ (centred * votes.loss(centred @ fit.row)[2][:, None]) + precision
    laplace = np.linalg.inv(curvature)
    values = np.linalg.eigvalsh(fit.covariance - laplace)
    assert values.min() > -1e-9  # overdispersion can only increase it
    assert np.linalg.eigvalsh(covariance - fit.covariance).min() > -1e-9  # but never beyond the prior
    errors = np.sqrt(np.einsum("pi,ij,pj->p", centred, fit.covariance, centred))
    np.testing.assert_allclose(fit.standard_errors(features), errors, atol=1e-9)


def test_the_held_out_loss_is_that_of_fits_without_the_prompt():
    rows, features, votes = problem(Feedback.GRK, 30)
    prior = RowPrior.of(rows, features, 0.5, similar=True)
    fit, total = _fit(prior, 0.5, features, votes), 0.0
    for i in range(30):
        targets = votes.targets * (votes.prompt != i)[:, None]
        rest = RowVotes(votes.feedback, votes.prompt, votes.shift, votes.opponent, votes.log_s, targets)
        theta = prior.offset(features) + prior.design(features) @ _fit(prior, 0.5, features, rest).y
        only = RowVotes(votes.feedback, votes.prompt, votes.shift, votes.opponent, votes.log_s, votes.targets - targets)
        total += only.loss(theta)[0]
    assert fit.held_out_loss == pytest.approx(total / votes.targets.sum(), rel=0.01)
    assert fit.held_out_loss > votes.loss(features @ fit.row[:-1] + fit.row[-1])[0] / votes.targets.sum()


@pytest.mark.parametrize("similar", [True, False])
def test_votes_of_no_weight_leave_the_prior(similar):
    rows, features, votes = problem(Feedback.GRK, weight=1e-9)
    fit = fit_row(rows, features, votes, similar=similar)
    np.testing.assert_allclose(fit.row, rows.mean(0), atol=1e-6)
    assert fit.deviation == 0.5
    level = max(1.0, (rows[:, :-1] @ features.mean(0) + rows[:, -1]).std())
    theta = features @ rows[:, :-1].T + rows[:, -1]
    variance = level**2 + 0.25 * np.square(features - features.mean(0)).sum(1) / (
        np.square(features - features.mean(0)).sum(1).mean()
    )
    if similar:
        variance += theta.var(1, ddof=1)
    np.testing.assert_allclose(fit.standard_errors(features), np.sqrt(variance), rtol=1e-6)


def test_votes_that_repeat_themselves_do_not_count_as_independent():
    rows, features, votes = problem(Feedback.BT, 60)
    keep = np.arange(60)  # one vote on each prompt
    single = RowVotes(
        votes.feedback, votes.prompt[keep], votes.shift, votes.opponent[keep], votes.log_s[keep],
        vote_targets(Feedback.BT)[np.random.default_rng(0).integers(0, 2, 60)],
    )  # fmt: skip
    eight = RowVotes(
        votes.feedback, np.tile(single.prompt, 8), votes.shift, np.tile(single.opponent, 8),
        np.tile(single.log_s, 8), np.tile(single.targets, (8, 1)),
    )  # fmt: skip
    prior = RowPrior.of(rows, features, 0.25, similar=True)
    once, again = (_fit(prior, 0.25, features, v).standard_errors(features).mean() for v in (single, eight))
    assert again > 0.8 * once  # with independent votes it would be about half


def test_one_prompt_moves_level_and_span_only():
    rows, _, votes = problem(Feedback.BT, 1)
    features = np.ones((1, 4))
    fit = fit_row(rows, features, votes)
    assert fit.prior.scale == 0.0
    assert np.isfinite(fit.row).all()


# --- the models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feedback", list(Feedback))
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
        (lambda m: m.add_model(NEW, "votes.doc"), VotesError, "of no known kind"),
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


# --- the folders -------------------------------------------------------------------------------------------------


def edited(base: P2L) -> P2L:
    votes = Votes.from_rows(simulated(base, true_row(base), prompts(30), 10))
    return base.add_model(NEW, votes, cost=0.001).remove_model(MODELS[2]).rename_model(MODELS[0], "zeta")


def test_an_edited_model_is_a_whole_folder_for_everyone(saved, tmp_path):
    texts, folders, models = prompts(5), [], []
    for i, (kind, feedback) in enumerate([("quantized", "ba"), ("llama", "bt"), ("bert", "rk")]):
        model = edited(P2L.from_pretrained(saved(kind, feedback, head_hidden_size=8)))
        folder = tmp_path / f"m{i}"
        model.save_pretrained(folder)
        loaded = P2L.from_pretrained(folder)
        assert loaded.models == model.models == ("zeta", MODELS[1], MODELS[3], NEW)
        assert loaded.costs == model.costs
        np.testing.assert_allclose(loaded.coefficients(texts).coefs, model.coefficients(texts).coefs, atol=1e-6)
        again = tmp_path / f"again{i}"
        loaded.remove_model(NEW).save_pretrained(again)  # edits on edits
        assert P2L.from_pretrained(again).models == ("zeta", MODELS[1], MODELS[3])
        folders.append(folder)
        models.append(model)
    result = subprocess.run(
        [sys.executable, "-c", RESEARCHER, json.dumps(texts), *map(str, folders)],
        capture_output=True, text=True, cwd=tmp_path, env={"HF_HOME": str(tmp_path), "PATH": "", "HF_HUB_OFFLINE": "1"},
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    for model, theirs in zip(models, json.loads(result.stdout.splitlines()[-1]), strict=True):
        np.testing.assert_allclose(model.coefficients(texts).coefs, theirs["coefs"], atol=1e-5)


def test_half_precision_weights_stay_so(tmp_path):
    import torch
    from safetensors.torch import load_file

    model = build_model("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    transformers_tokenizer().save_pretrained(tmp_path / "half")
    new = edited(P2L.from_pretrained(tmp_path / "half"))
    new.save_pretrained(tmp_path / "edited")
    weights = load_file(tmp_path / "edited" / "model.safetensors")
    assert weights["head.coefs.weight"].dtype == torch.bfloat16
    rounded = torch.from_numpy(new._scorer.rows).to(torch.bfloat16).float().numpy()  # the file keeps its dtype
    np.testing.assert_array_equal(weights["head.coefs.bias"].float().numpy(), rounded[:, -1])
    again = P2L.from_pretrained(tmp_path / "edited")
    np.testing.assert_array_equal(again._scorer.rows, rounded)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_are_replaced_as_torch_would_write_them(dtype, tmp_path):
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    torch.manual_seed(0)
    kept = {"codes": torch.randint(-9, 9, (3, 5), dtype=torch.int8), "other": torch.randn(7).to(torch.bfloat16)}
    source, target, values = tmp_path / "a.safetensors", tmp_path / "b.safetensors", torch.randn(5, 3)
    save_file({**kept, "head": torch.zeros(2, 3, dtype=getattr(torch, dtype))}, source, metadata={"format": "pt"})
    replace_tensors(source, target, {"head": values.numpy(), "absent": values.numpy()})
    with safe_open(target, "pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert set(file.keys()) == {"codes", "other", "head"}
        assert torch.equal(file.get_tensor("head"), values.to(getattr(torch, dtype)))
        for name, tensor in kept.items():
            assert torch.equal(file.get_tensor(name), tensor)
    with pytest.raises(ModelFormatError, match="tensor 'codes' is of type I8; only F64"):
        replace_tensors(source, target, {"codes": values.numpy()})


def test_the_card_says_that_the_model_was_edited(saved, tmp_path, default):
    new = default.remove_model(default.models[0]).rename_model(default.models[1], "gemma")
    new.save_pretrained(tmp_path / "edited")
    card = (tmp_path / "edited" / "README.md").read_text()
    assert card.startswith("---\n")
    edits = [f"> - {default.models[1]} renamed gemma", f"> - {default.models[0]} removed"]
    banner = "> **Edited after training.** What follows describes the model before these edits, newest first:\n>\n"
    known = f"> - LLMs now: {', '.join(new.models)}\n"
    assert f"{banner}{known}{edits[0]}\n{edits[1]}\n\n# " in card
    P2L.from_pretrained(tmp_path / "edited").remove_model("gemma").save_pretrained(tmp_path / "again")
    again = (tmp_path / "again" / "README.md").read_text()
    left = known.replace("gemma, ", "")
    assert again == card.replace(known, f"{left}> - gemma removed\n")  # one banner for all edits
    measured = "model-index:\n- name: x\n  results:\n  - metrics:\n    - type: ece\n      value: 0.1\ntags:\n"
    (tmp_path / "again" / "README.md").write_text(again.replace("tags:\n", measured, 1))
    P2L.from_pretrained(tmp_path / "again").save_pretrained(tmp_path / "copy")
    assert measured in (tmp_path / "copy" / "README.md").read_text()
    P2L.from_pretrained(tmp_path / "copy").rename_model(default.models[2], "x").save_pretrained(tmp_path / "renamed")
    head = (tmp_path / "renamed" / "README.md").read_text().split("---\n")[1]
    assert head == card.split("---\n")[1]  # without the results, which are of the model before
    plain = P2L.from_pretrained(saved("static")).remove_model(MODELS[0])
    plain.save_pretrained(tmp_path / "plain")
    assert not (tmp_path / "plain" / "README.md").exists()


def test_a_folder_without_the_rows_is_refused(saved, tmp_path):
    import shutil

    shutil.copytree(saved("static"), tmp_path / "source")
    model = P2L.from_pretrained(tmp_path / "source").remove_model(MODELS[0])
    (tmp_path / "source" / "model.safetensors").unlink()
    with pytest.raises(ModelFormatError, match=r"holds no tensors head\.coefs\.weight and head\.coefs\.bias"):
        model.save_pretrained(tmp_path / "target")
    assert not (tmp_path / "target").exists()


# --- the command line --------------------------------------------------------------------------------------------


def test_the_commands(saved, tmp_path):
    source = saved("static", head_hidden_size=8)
    base = P2L.from_pretrained(source)
    rows = simulated(base, true_row(base), prompts(200), 4)
    votes, few = tmp_path / "votes.jsonl", tmp_path / "few.jsonl"
    votes.write_text("".join(json.dumps(row) + "\n" for row in rows))
    few.write_text(json.dumps(rows[0]) + "\n")
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    shown = ok("add-model", NEW, "--votes", votes, "--cost", 0.001, "--model", source, "--output", one)
    assert "epsilon-1t: 800 votes on" in shown
    assert f"wrote {one}: 5 LLMs" in shown
    expected = base.add_model(NEW, Votes.read(votes))
    np.testing.assert_allclose(P2L.from_pretrained(one)._scorer.rows, expected._scorer.rows, atol=1e-6)
    result = json.loads(ok("remove-model", MODELS[0], "--model", one, "--output", two, "--json"))
    assert result == {"output": str(two), "models": [*MODELS[1:], NEW], "removed": MODELS[0]}
    assert "renamed zeta" in ok("rename-model", NEW, "zeta", "--model", two, "--output", three)
    assert P2L.from_pretrained(three).costs["zeta"] == 0.001
    assert "exists already" in refused("rename-model", NEW, "zeta", "--model", two, "--output", three)
    assert "Missing option '--output'" in refused("remove-model", NEW)
    assert "nothing to learn" in refused("add-model", "x", "--model", one, "--output", tmp_path / "none")
    warned = p2l("add-model", NEW, "--votes", few, "--model", source, "--output", tmp_path / "four", "--json")
    assert warned.returncode == 0
    assert json.loads(warned.stdout)["added"]["n_votes"] == 1
    assert f"p2l: {NEW} has no cost, which routing within a budget needs (--cost USD)" in warned.stderr.decode()
    assert warned.stderr.decode().startswith("p2l: warning: too few votes for 'epsilon-1t' (1 vote on 1 prompt): its")
