"""Which votes to gather next."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import ok, refused
from conftest import MODELS
from edited_models import prompts as texts_of
from kinds_stand_in import KINDS, LLMS, Kinds, drawn, prompts, rows_of, scorer_of

from p2l_sdk.editing.plan import Belief, plan_votes
from p2l_sdk.editing.refine import refine_rows
from p2l_sdk.errors import P2LError, UnknownModelError, VotesError
from p2l_sdk.hub.folders import EMBEDDED
from p2l_sdk.scorers.load import load_scorer
from p2l_sdk.votes.votes import Votes

pytestmark = pytest.mark.filterwarnings("ignore::p2l_sdk.errors.P2LWarning")  # few votes


def brute_force(belief, n, per_prompt):
    """The same choice with a new posterior from scratch for every candidate."""
    f, (m, width) = belief.features, belief.covariance.shape[:2]
    precision = np.linalg.inv(belief.covariance.reshape(m * width, -1))
    candidates = [(p, a, b) for p in range(len(f)) for a in range(m) for b in range(a + 1, m)]

    def of(p, a, b):
        x = np.zeros((m, width))
        x[a], x[b] = f[p], -f[p]
        return x.ravel()

    s, weight = np.linalg.inv(precision), {}
    for p, a, b in candidates:
        x = of(p, a, b)
        q = 1 / (1 + np.exp((belief.coefs[p, b] - belief.coefs[p, a]) / np.sqrt(1 + np.pi / 8 * x @ s @ x)))
        weight[p, a, b] = q * (1 - q)
    mean = sum(w * np.outer(of(*c), of(*c)) for c, w in weight.items()) / len(weight)
    asked, picks = {}, []
    for _ in range(n):
        now, best = np.trace(mean @ np.linalg.inv(precision)), (-1.0, None)
        for c in candidates:
            if c not in [pick[:3] for pick in picks] and asked.get(c[0], 0) < per_prompt:
                then = np.linalg.inv(precision + weight[c] * np.outer(of(*c), of(*c)))
                best = max(best, (0.5 * (now - np.trace(mean @ then)), c))
        picks.append((*best[1], best[0]))
        asked[best[1][0]] = asked.get(best[1][0], 0) + 1
        precision += weight[best[1]] * np.outer(of(*best[1]), of(*best[1]))
    return picks


def test_the_picks_are_those_of_brute_force(rng):
    belief = Belief.of(scorer_of(rows_of(rng)), prompts(12), LLMS[:4], None)
    belief = Belief(belief.features + 1e-3 * rng.normal(size=belief.features.shape), belief.coefs, belief.covariance)
    picks, expected = belief.picks(15, 3), brute_force(belief, 15, 3)
    assert [pick[:3] for pick in picks] == [pick[:3] for pick in expected]
    np.testing.assert_allclose([pick[3] for pick in picks], [pick[3] for pick in expected], rtol=1e-6)
    assert max(np.bincount([p for p, *_ in belief.picks(30, 3)])) == 3
    assert len({pick[:3] for pick in belief.picks(36, 3)}) == 36


def test_a_vote_known_in_advance_is_not_asked(rng):
    rows = 0.2 * rows_of(rng)
    rows[0, -1] += 9.0  # wins always
    plan = plan_votes(scorer_of(rows), prompts(50), LLMS, 60)
    assert all(LLMS[0] not in (q.model_a, q.model_b) for q in plan)


def test_what_votes_have_told_is_not_asked_again(rng):
    base, texts = scorer_of(rows_of(rng)), prompts(200)
    some = drawn(base, texts, 400, models=LLMS[:3])
    plan = plan_votes(base, texts, LLMS, 40, votes=some)
    new = [sum(name in LLMS[3:] for name in (q.model_a, q.model_b)) for q in plan]
    assert np.mean(new) > 1.3
    before = plan_votes(base, texts, LLMS, 40)
    assert plan[0].gain <= before[0].gain + 1e-6


def test_uncertain_kinds_are_asked_first(rng):
    rows, variance = 0.3 * rows_of(rng), np.full((len(LLMS), len(KINDS) + 1), 0.01)
    variance[:, 2] = 4.0
    plan = plan_votes(scorer_of(rows, variances=variance), prompts(300), LLMS, 10)
    assert np.mean([KINDS[2] in q.prompt.split() for q in plan]) >= 0.7  # of all prompts, 28 %


def test_an_llm_known_from_votes_alone_is_planned(rng):
    truth = scorer_of(rows_of(rng))
    base = scorer_of(truth.rows[:-1], models=LLMS[:-1])
    plan = plan_votes(base, prompts(100), LLMS, 30, votes=drawn(truth, prompts(60), 90))
    assert np.mean([LLMS[-1] in (q.model_a, q.model_b) for q in plan]) > 0.4


def test_what_cannot_be_planned_is_refused(rng):
    base = scorer_of(rows_of(rng))
    with pytest.raises(UnknownModelError, match="'x'"):
        plan_votes(base, prompts(3), ["llm-0", "x"], 5)
    with pytest.raises(VotesError, match="two or more LLMs, none of them twice; got llm-0, llm-0"):
        plan_votes(base, prompts(3), ["llm-0", "llm-0"], 5)
    with pytest.raises(VotesError, match="no prompts"):
        plan_votes(base, [], LLMS, 5)
    for wrong in ({"n": 0}, {"n": 3, "per_prompt": 0}):
        with pytest.raises(P2LError, match="is 0; a plan needs at least 1"):
            plan_votes(base, prompts(3), LLMS, **wrong)


def test_few_prompts_have_few_pairs(rng):
    assert len(plan_votes(scorer_of(rows_of(rng)), prompts(4), LLMS[:2], 100)) == 4
    assert len(plan_votes(scorer_of(rows_of(rng)), prompts(4), LLMS, 100, per_prompt=2)) == 8


def test_a_thousand_prompts_are_planned(rng):
    names = tuple(f"m{i}" for i in range(10))
    planned = plan_votes(Kinds(rows_of(rng, 10), models=names), prompts(1000), names, 500)
    assert len(planned) == 500


def regret(scorer, truth, texts):
    chosen, true = scorer.score(texts).coefs.argmax(1), truth.score(texts).coefs
    return float((true.max(1) - true[np.arange(len(true)), chosen]).mean())


def loss(scorer, truth, texts):
    """Cross-entropy of all pairs over that of the truth."""
    a, b = np.triu_indices(len(LLMS), 1)
    mine, true = (x.score(texts).coefs[:, a] - x.score(texts).coefs[:, b] for x in (scorer, truth))
    p = 1 / (1 + np.exp(-true))
    return float((np.logaddexp(0, -mine) * p + np.logaddexp(0, mine) * (1 - p) - np.logaddexp(0, -true) * p
                  - np.logaddexp(0, true) * (1 - p)).mean())  # fmt: skip


def answered(plan, truth, rng):
    coefs = truth.score([q.prompt for q in plan]).coefs
    rows = []
    for q, c in zip(plan, coefs, strict=True):
        p = 1 / (1 + np.exp(c[LLMS.index(q.model_b)] - c[LLMS.index(q.model_a)]))
        row = {"prompt": q.prompt, "model_a": q.model_a, "model_b": q.model_b}
        rows.append({**row, "winner": "model_a" if rng.random() < p else "model_b"})
    return rows


@pytest.mark.thorough
def test_planned_votes_need_fewer_than_random_ones():
    """60 planned votes, asked in three rounds, against 60 and 90 random ones: the truth departs from the base on one
    kind and on two LLMs more than elsewhere, which the base's variances know."""
    excess = {"planned": [], "random": [], "half as many again": []}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        variance = np.full((len(LLMS), len(KINDS) + 1), 0.02)
        variance[:, 1] = variance[:2] = 1.5
        base = rows_of(rng, levels=2.5)  # between most LLMs the winner is known
        truth = scorer_of(base + np.sqrt(variance) * rng.normal(size=base.shape))
        public, texts, held_out = scorer_of(base, variances=variance), prompts(400, seed), prompts(400, 50 + seed)
        rows, answers = [], np.random.default_rng(seed + 7)
        for _ in range(3):
            votes = Votes.from_rows(rows) if rows else None
            rows += answered(plan_votes(public, texts, LLMS, 20, votes=votes), truth, answers)
        for name, votes in (
            ("planned", Votes.from_rows(rows)),
            ("random", drawn(truth, texts, 60, seed)),
            ("half as many again", drawn(truth, texts, 90, seed)),
        ):
            excess[name].append(loss(refine_rows(public, votes)[0], truth, held_out))
    mean = {name: np.mean(values) for name, values in excess.items()}
    assert mean["planned"] < 0.8 * mean["half as many again"]
    assert mean["planned"] < 0.8 * mean["random"]


def test_the_command(saved, tmp_path):
    base = saved("static", "bt", head_hidden_size=8, kinds=("code", "poem", "proof"))
    file, names = tmp_path / "prompts.txt", ",".join(MODELS[:3])
    file.write_text("\n".join(texts_of(30)), encoding="utf-8")
    options = ("--prompts", file, "--models", names, "--model", base)
    out = ok("plan", *options, "-n", 7, "--output", tmp_path / "plan.jsonl")
    assert out.startswith(f"wrote {tmp_path / 'plan.jsonl'}: 7 votes on ")
    rows = [json.loads(line) for line in (tmp_path / "plan.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [list(row) for row in rows] == [["prompt", "model_a", "model_b", "gain"]] * 7
    (tmp_path / "votes.jsonl").write_text(
        "".join(json.dumps({**row, "winner": "model_a"}) + "\n" for row in rows), encoding="utf-8"
    )
    again = json.loads(ok("plan", *options, "-n", 5, "--votes", tmp_path / "votes.jsonl", "--json"))
    assert len(again["votes"]) == 5
    assert "exists already; name a new file" in refused("plan", *options, "--output", tmp_path / "plan.jsonl")
    assert "'nobody'" in refused("plan", "--prompts", file, "--models", "nobody,alpha-7b", "--model", base)


def test_llms_may_be_named_as_people_write_them():
    """The plan calls them as they were called, since `p2l collect --plan` asks the LLMs of a config by these names."""
    scorer = load_scorer(EMBEDDED["arena"])
    short = plan_votes(scorer, ["Sum 1, 2", "Write a poem"], ["gpt-4o-mini", "llama3.1:8b"], 2)
    long = plan_votes(scorer, ["Sum 1, 2", "Write a poem"], ["gpt-4o-mini-2024-07-18", "llama-3.1-8b-instruct"], 2)
    assert {(pick.model_a, pick.model_b) for pick in short} == {("gpt-4o-mini", "llama3.1:8b")}
    assert [(pick.prompt, pick.gain) for pick in short] == [(pick.prompt, pick.gain) for pick in long]
    with pytest.raises(VotesError, match="read as the same LLM"):
        plan_votes(scorer, ["Sum 1, 2"], ["gpt-4o-mini", "openai/gpt-4o-mini"], 1)
