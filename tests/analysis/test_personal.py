"""Personal leaderboards: as much of a history as it tells, and bills that add up."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from command_line import p2l as p2l_command
from command_line import refused
from conftest import ROOT

from p2l_sdk import P2L
from p2l_sdk.analysis import personal
from p2l_sdk.analysis.personal import _drawn, _Moments, overall_of
from p2l_sdk.analysis.report import POINTS
from p2l_sdk.errors import P2LError, UnknownModelError
from p2l_sdk.leaderboards.leaderboard import Z_95

CHATS = ROOT / "examples" / "my_chats.json"
PROMPTS = [json.loads(line)["prompt"] for line in (ROOT / "examples" / "prompts.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def p2l():
    return P2L.from_pretrained("routing9")


@pytest.fixture(scope="module")
def mine(p2l):
    return personal(p2l, PROMPTS, per_month=2000)


def test_the_overall_leaderboard_is_that_of_an_unknown_prompt(p2l):
    unknown = p2l.leaderboard("qxz " * 40).coefs  # unfamiliar: damped to the averaged leaderboard
    assert np.argsort(-overall_of(p2l)).tolist() == np.argsort(-unknown).tolist()


def test_ratings_lie_between_overall_and_measured(mine):
    low, high = np.minimum(mine.overall, mine.measured), np.maximum(mine.overall, mine.measured)
    assert (mine.ratings >= low - 1e-9).all()
    assert (mine.ratings <= high + 1e-9).all()
    assert 0.0 < mine.kept < 1.0


def test_a_longer_history_keeps_more(p2l):
    kept = [personal(p2l, PROMPTS[:n]).kept for n in (1, 6, 24)]
    assert kept[0] == pytest.approx(0.5)
    assert kept[1] < kept[2]


def test_histories_like_everybody_elses_stay_overall():
    """Drawn ratings are closer to the truth than measured and overall ones, on average over people."""
    random, errors = np.random.default_rng(0), {"drawn": [], "measured": [], "overall": []}
    overall = random.normal(size=20)
    for person in range(300):
        spread = (0.0, 0.15, 0.6)[person % 3]
        truth = overall + spread * random.normal(size=20)
        coefs = truth + random.normal(size=(random.integers(2, 30), 20))
        moments = _Moments(20)
        moments.add(coefs)
        drawn = _drawn(moments, overall)[0]
        for name, guess in (("drawn", drawn), ("measured", coefs.mean(0)), ("overall", overall)):
            errors[name].append(float(np.square(guess - truth).mean()))
    assert np.mean(errors["drawn"]) < 0.9 * min(np.mean(errors["measured"]), np.mean(errors["overall"]))


def test_limits_cover_what_they_promise():
    random, inside = np.random.default_rng(1), []
    for _ in range(400):
        truth = 0.4 * random.normal(size=30)
        moments = _Moments(30)
        moments.add(truth + random.normal(size=(25, 30)))
        ratings, margins, _ = _drawn(moments, np.zeros(30))
        inside.append(np.abs(ratings - truth) <= margins)
    assert 0.92 <= np.mean(inside) <= 0.97


def test_the_bill_is_requests_times_costs(p2l, mine):
    first, *_, unlimited = mine.plans
    name = first.what.split()[1].rstrip(",")
    assert first.per_month == pytest.approx(2000 * p2l.costs[name])
    routed = next(plan for plan in mine.plans if "as good as" in plan.what)
    assert routed.score >= first.score
    assert routed.per_month <= first.per_month
    assert unlimited.score >= routed.score


def test_only_some_llms(p2l):
    some = personal(p2l, PROMPTS, models=["gemma", "codegemma-7b", "qwen2.5-7b-instruct"][1:])
    assert set(some.models) == {"codegemma-7b", "qwen2.5-7b-instruct"}
    assert some.ratings.sum() == pytest.approx(0.0, abs=1e-6)


def test_every_form_tells_the_same(mine):
    rows = mine.rows()
    assert mine.to_dict()["leaderboard"] == rows == mine.to_pandas().to_dict("records")
    assert rows[0]["model"] == mine.best
    assert mine.best in repr(mine)
    assert mine.best in mine._repr_html_()


@pytest.mark.parametrize("per_month", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_volumes_are_refused(p2l, per_month):
    with pytest.raises(P2LError, match="requests per month"):
        personal(p2l, PROMPTS, per_month=per_month)


def test_an_unknown_llm_is_named(p2l):
    with pytest.raises(UnknownModelError, match="zeta"):
        personal(p2l, PROMPTS, models=["zeta", "gemma-2-9b-it"])


def test_the_command(tmp_path):
    lines = tmp_path / "hers.txt"
    lines.write_text("\n".join(PROMPTS), encoding="utf-8")
    picture = tmp_path / "both.svg"
    options = ("--model", "routing9", "--per-month", "3000", "--output", picture, "--json")
    result = p2l_command("personal", CHATS, lines, *options)
    assert result.stderr.decode().splitlines() == [
        "p2l: my_chats.json: 12 conversations, read as JSON of conversations",
        "p2l: my_chats.json: 1 conversation without text of yours left out",
        "p2l: hers.txt: 24 conversations, read as text with a prompt on each line",
    ]
    people = json.loads(result.stdout)["people"]
    assert [person["name"] for person in people] == ["my_chats.json", "hers.txt"]
    assert people[0]["per_month"] == 3000
    assert "hers.txt" in picture.read_text(encoding="utf-8") or picture.stat().st_size > 10_000


def test_a_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "empty.json").write_text("[]", encoding="utf-8")
    assert "no conversation with a user turn" in refused("personal", tmp_path / "empty.json")


def test_a_long_history_is_reduced_as_it_comes_with_the_same_numbers():
    p2l = P2L.from_pretrained("arena")
    prompts = [f"{prompt} {i}" for i in range(25) for prompt in PROMPTS]
    found = personal(p2l, prompts, per_month=1000)
    coefs = p2l.coefficients(prompts).coefs.astype(np.float64)
    centred = coefs - coefs.mean(1, keepdims=True)
    np.testing.assert_allclose(found.measured, POINTS * centred.mean(0), rtol=0, atol=1e-9)
    noise = centred.var(0, ddof=1) / len(prompts)
    kept = (found.ratings - found.overall) / (found.measured - found.overall)
    np.testing.assert_allclose(found.margins, POINTS * Z_95 * np.sqrt(kept * noise), rtol=0, atol=1e-9)
    router = p2l.router(models=[name for name in p2l.models if name in p2l.costs])
    frontier = router.frontier(coefs, np.linspace(router.prices.min(), router.prices.max(), 200))
    assert found.plans[-1].score == pytest.approx(frontier.router_scores.max(), rel=0, abs=1e-9)
    k = int(np.flatnonzero(frontier.router_scores >= found.plans[0].score - 1e-12)[0])
    assert found.plans[-2].per_month == pytest.approx(1000 * frontier.router_costs[k], rel=0, abs=1e-9)


@pytest.mark.long
def test_a_long_history_takes_little_memory():
    p2l = P2L.from_pretrained("arena")
    peaks = []
    for n in (6, 12, 36):  # the first is warming up
        tracemalloc.start()
        personal(p2l, [f"{prompt} {i}" for i in range(n) for prompt in PROMPTS])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    each = (peaks[2] - peaks[1]) / (24 * len(PROMPTS))
    assert each < 3000  # bytes; of 282 LLMs, two thirds have no price, and nothing of them is kept
