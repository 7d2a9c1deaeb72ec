"""The public interface: leaderboards, aggregation, routing, results, saving, errors."""

from __future__ import annotations

import copy
import json
import math
import pickle
import shutil

import numpy as np
import pandas
import pytest
from conftest import COSTS, MODELS

from p2l_sdk import P2L, P2LError
from p2l_sdk.errors import BudgetError, CostError, HubError, ModelFormatError, PromptError, UnknownModelError
from p2l_sdk.leaderboards.aggregate import aggregate
from p2l_sdk.leaderboards.leaderboard import Leaderboard
from p2l_sdk.modeling.feedback_p2l import Feedback

PROMPTS = ["write a poem", "sum list in python", "prove that two is irrational", "about code"]


@pytest.fixture
def p2l(saved) -> P2L:
    return P2L.from_pretrained(saved("quantized", head_hidden_size=8))


def board(**fields) -> Leaderboard:
    values = {"models": ("a", "b", "c"), "coefs": np.array([0.5, 2.0, -1.0]), "feedback": Feedback.GRK, "eta": 0.3}
    return Leaderboard(**{**values, **fields})


# --- results -----------------------------------------------------------------------------------------------------


def test_a_leaderboard_says_who_is_best():
    b = board()
    assert b.best == "b"
    assert b.ranking == ["b", "a", "c"]
    assert b.ranks.tolist() == [2, 1, 3]
    assert board(coefs=np.array([1.0, 1.0, 0.0])).ranks.tolist() == [1, 1, 3]
    np.testing.assert_allclose(b.ratings, 1000 + 400 / math.log(10) * b.coefs)
    assert b.win_probability("b", "a") == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert b.usable[1] == pytest.approx(1 / (1 + math.exp(-2)))


def test_all_outcomes_of_a_pair():
    outcomes = board().outcomes("a", "b")
    assert list(outcomes) == ["a", "b", "tie", "both_bad"]
    assert sum(outcomes.values()) == pytest.approx(1)
    assert outcomes["both_bad"] == pytest.approx(1 / (1 + math.exp(0.5) + math.exp(2)))
    assert list(board(feedback=Feedback.BT, eta=None).outcomes("a", "b")) == ["a", "b"]


def test_ratings_of_floating_models_are_centred():
    b = board(feedback=Feedback.BT, eta=None)
    assert b.ratings.mean() == pytest.approx(1000)
    assert b.usable is None
    shifted = board(feedback=Feedback.BT, eta=None, coefs=np.array([10.5, 12.0, 9.0]))
    np.testing.assert_allclose(shifted.ratings, b.ratings)


def test_a_leaderboard_reads_well():
    b = board(intervals=np.array([[0, 1], [1.5, 2.5], [-2, 0]]), n_prompts=1234)
    assert repr(b).splitlines() == [
        "Leaderboard of 3 LLMs on 1,234 prompts (grk)",
        "rank  LLM  rating  95 % interval  usable",
        "   1  b      1347   1261 to 1434     88%",
        "   2  a      1087   1000 to 1174     62%",
        "   3  c       826    653 to 1000     27%",
    ]
    html = board(models=("a<b>", "b", "c"))._repr_html_()
    assert "<td>a&lt;b&gt;</td>" in html
    assert html.count("<tr>") == 4


def test_a_leaderboard_as_data():
    plain = json.loads(json.dumps(board().to_dict()))
    assert plain["feedback"] == "grk"
    assert [row["model"] for row in plain["leaderboard"]] == ["b", "a", "c"]
    frame = board().to_pandas()
    assert list(frame.columns) == ["rank", "model", "coef", "rating", "usable"]
    assert frame["coef"].is_monotonic_decreasing


def test_a_leaderboard_is_asked_by_name():
    b = board(models=("gpt-4o-mini-2024-07-18", "llama-3.1-8b-instruct", "o1"))
    assert b["GPT 4o mini"] == b.rows()[1]
    assert [len(b), *b] == [3, *b.ranking]
    assert [name in b for name in ("o1", "llama-3.1-8b", "o1-mini", 0)] == [True, True, False, False]
    with pytest.raises(UnknownModelError, match="the question names 'o1-mini'"):
        b["o1-mini"]
    with pytest.raises(P2LError, match="by the names of LLMs, not by 0; ranking has them by rank"):
        b[0]


def test_everything_goes_through_pickle(p2l):
    again = pickle.loads(pickle.dumps(p2l))
    assert repr(again.leaderboard(PROMPTS[0])) == repr(p2l.leaderboard(PROMPTS[0]))
    assert (again.costs, dict(again.additions)) == (p2l.costs, {})
    for result in (
        p2l.route(PROMPTS[0], 0.001, seed=0), p2l.leaderboard(PROMPTS[0]), p2l.costs, p2l.router(), p2l.pacer(0.001),
        p2l.coefficients(PROMPTS), p2l.frontier(PROMPTS),
    ):  # fmt: skip
        assert repr(pickle.loads(pickle.dumps(result))) == repr(copy.deepcopy(result)) == repr(result)
        assert " object at 0x" not in repr(result)


def test_coefficients_as_data(p2l):
    found = p2l.coefficients(PROMPTS)
    frame = found.to_pandas(p2l.models)
    assert list(frame.columns) == list(p2l.models)
    np.testing.assert_array_equal(frame.to_numpy(), found.coefs)
    assert repr(found).startswith(f"Coefficients(coefs of 4 prompts x {len(p2l.models)} LLMs, in logits")


def test_a_picture(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    for b in (board(), board(intervals=np.array([[0, 1], [1.5, 2.5], [-2, 0]])), board(coefs=np.zeros(3))):
        ax = b.plot()
        assert [t.get_text() for t in ax.get_yticklabels()] == b.ranking[::-1]
        ax.figure.savefig(tmp_path / "board.png")
        assert (tmp_path / "board.png").stat().st_size > 5000


# --- P2L ---------------------------------------------------------------------------------------------------------


def test_one_many_and_arrays_agree(p2l):
    boards = p2l.leaderboards(PROMPTS)
    coefs = p2l.coefficients(PROMPTS).coefs
    for i, prompt in enumerate(PROMPTS):
        np.testing.assert_allclose(boards[i].coefs, coefs[i], atol=1e-6)
        np.testing.assert_allclose(p2l.leaderboard(prompt).coefs, coefs[i], atol=1e-6)
        assert boards[i].models == p2l.models == MODELS
    assert p2l.leaderboards([]) == []


def test_a_conversation_is_one_prompt(p2l):
    conversation = [{"role": "user", "content": "write a poem"}, {"role": "assistant", "content": "sum"}]
    np.testing.assert_array_equal(p2l.leaderboard(conversation).coefs, p2l.leaderboard("write a poem").coefs)


@pytest.mark.parametrize("feedback", list(Feedback))
def test_aggregate_is_the_aggregation_of_the_coefficients(feedback, saved):
    p2l = P2L.from_pretrained(saved("static", feedback))
    ours = p2l.aggregate(iter(PROMPTS))
    expected = aggregate([p2l.coefficients(PROMPTS)], feedback, p2l.models)
    np.testing.assert_allclose(ours.coefs, expected.coefs, atol=1e-6)
    np.testing.assert_allclose(ours.intervals, expected.intervals, atol=1e-6)
    assert ours.n_prompts == 4


def test_aggregate_streams_weights_and_progress(p2l):
    seen = []
    whole = p2l.aggregate(PROMPTS * 200, progress=seen.append)
    assert seen == [256, 512, 768, 800]
    np.testing.assert_allclose(whole.coefs, p2l.aggregate(PROMPTS).coefs, atol=1e-6)
    weighted = p2l.aggregate(PROMPTS, weights=[0, 3, 0, 0])
    np.testing.assert_allclose(weighted.coefs, p2l.leaderboard(PROMPTS[1]).coefs, atol=1e-4)
    with pytest.raises(P2LError, match="fewer weights than prompts"):
        p2l.aggregate(PROMPTS, weights=[1.0])
    with pytest.raises(P2LError, match="more weights than prompts"):
        p2l.aggregate(PROMPTS, weights=[1.0] * 5)
    with pytest.raises(PromptError, match="no prompts to aggregate"):
        p2l.aggregate([])
    with pytest.raises(PromptError, match="prompt 300: the prompt is empty"):
        p2l.aggregate(["write"] * 300 + [""])


def test_without_a_budget_the_best_llm_is_called(p2l):
    for prompt in PROMPTS:
        route = p2l.route(prompt)
        b = route.leaderboard
        assert route.model == b.best
        assert route.mixture == {b.best: 1.0}
        assert route.ranking == b.ranking
        assert route.expected_cost == COSTS[b.best]
        assert route.rating == pytest.approx(b.coefs.max(), abs=1e-6)
        assert route.budget is None


def test_a_budget_is_held_by_the_mixture(p2l):
    for prompt in PROMPTS:
        scores = []
        for budget in (0.0001, 0.00015, 0.0005, 0.002, 0.01):
            route = p2l.route(prompt, cost=budget, seed=0)
            assert route.expected_cost <= budget + 1e-15
            assert sum(route.mixture.values()) == pytest.approx(1)
            assert route.model in route.mixture
            assert route.ranking[0] == route.model
            assert all(COSTS[name] <= budget for name in route.ranking[1:])
            scores.append(route.expected_score)
        assert scores == sorted(scores)
        assert scores[-1] == pytest.approx(p2l.route(prompt).expected_score)


def test_the_draw_follows_the_mixture_and_the_seed(saved):
    p2l = P2L.from_pretrained(saved("static"), costs=dict(zip(MODELS, (0, 1, 2, 3), strict=True)))
    prompt, route = next(
        (p, r) for p in PROMPTS for r in [p2l.route(p, cost=1.4, seed=1)] if len(r.mixture) == 2
    )  # fmt: skip
    assert all(p2l.route(prompt, cost=1.4, seed=1).model == route.model for _ in range(5))
    drawn = [p2l.route(prompt, cost=1.4, seed=s).model for s in range(400)]
    for name, probability in route.mixture.items():
        assert drawn.count(name) / 400 == pytest.approx(probability, abs=0.1)


def test_candidates_opponents_and_costs(p2l):
    some = p2l.route(PROMPTS[0], models=["beta-13b", "alpha-7b"])
    assert set(some.ranking) == {"beta-13b", "alpha-7b"}
    against = p2l.route(PROMPTS[0], opponents={"gamma-70b": 2.0})
    b = against.leaderboard
    assert against.expected_score == pytest.approx(b.win_probability(b.best, "gamma-70b"), abs=1e-6)
    dear = p2l.route(PROMPTS[0], costs={b.best: 5.0})
    assert dear.expected_cost == 5.0
    assert p2l.route(PROMPTS[0]).expected_cost == COSTS[b.best]


def test_refusals(p2l, saved):
    with pytest.raises(BudgetError, match=r"cheapest feasible budget is \$0.0001") as caught:
        p2l.route("write", cost=0.00001)
    assert caught.value.cheapest == 0.0001
    for bad in (float("nan"), float("inf"), -1, "cheap"):
        with pytest.raises(BudgetError):
            p2l.route("write", cost=bad)
    with pytest.raises(UnknownModelError, match="did you mean 'alpha-7b'"):
        p2l.route("write", models=["alpha-7"])
    with pytest.raises(UnknownModelError, match="table of opponents names 'gpt-9'"):
        p2l.route("write", opponents={"gpt-9": 1})
    with pytest.raises(P2LError, match="weights of the opponents"):
        p2l.route("write", opponents={"alpha-7b": 0})
    with pytest.raises(P2LError, match="may be chosen is empty"):
        p2l.route("write", models=[])
    for cost in (float("nan"), -0.1, "free"):
        with pytest.raises(CostError, match="the cost of 'alpha-7b'"):
            p2l.route("write", costs={"alpha-7b": cost})
    with pytest.raises(CostError, match=r"for beta-13b, gamma-70b, delta-405b; .*on the command line --costs FILE"):
        P2L.from_pretrained(saved("static"), costs={"alpha-7b": 0.1}).route("write", cost=1, models=MODELS)
    with pytest.raises(PromptError, match="use leaderboards"):
        p2l.leaderboard(["one", "two"])
    with pytest.raises(PromptError, match="not one string"):
        p2l.aggregate("one prompt")
    with pytest.raises(PromptError, match="not one string"):
        p2l.leaderboards("one prompt")
    for table in ({"prompt": ["write"]}, pandas.DataFrame({"prompt": ["write"]})):
        with pytest.raises(PromptError, match=r"pass its column of prompts, table\['prompt'\]"):
            p2l.aggregate(table)
    for nothing in (None, 5):
        with pytest.raises(PromptError, match="this takes a list of prompts, not"):
            p2l.leaderboards(nothing)
    assert p2l.aggregate(pandas.Series(PROMPTS)).n_prompts == len(PROMPTS)
    assert p2l.route("write", "0.0005").budget == 0.0005
    with pytest.raises(P2LError, match=r"models must be a list of names, not 'alpha-7b'"):
        p2l.route("write", models="alpha-7b")
    with pytest.raises(P2LError, match="opponents must be a mapping"):
        p2l.route("write", opponents=["alpha-7b"])
    with pytest.raises(CostError, match="costs must be a mapping"):
        p2l.route("write", costs="costs.json")


# --- folders -----------------------------------------------------------------------------------------------------


def test_save_and_load(p2l, tmp_path):
    with pytest.raises(CostError, match="the cost of 'alpha-7b' is -1"):
        p2l.costs = {"alpha-7b": -1}
    p2l.costs = {**p2l.costs, "alpha-7b": 0.5}
    assert p2l.route(PROMPTS[0], models=["alpha-7b"]).expected_cost == 0.5
    p2l.save_pretrained(tmp_path / "new" / "model")
    again = P2L.from_pretrained(tmp_path / "new" / "model")
    np.testing.assert_array_equal(again.coefficients(PROMPTS).coefs, p2l.coefficients(PROMPTS).coefs)
    assert again.costs["alpha-7b"] == 0.5
    assert (tmp_path / "new" / "model" / "modeling_p2l.py").exists()
    with pytest.raises(P2LError, match="exists already"):
        p2l.save_pretrained(tmp_path / "new" / "model")
    assert [f.name for f in (tmp_path / "new").iterdir()] == ["model"]


def damaged(folder, target, change):
    shutil.copytree(folder, target)
    change(target)
    return target


def config_with(**fields):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **fields}))

    return change


def truncate(name: str, share: float):
    def change(folder):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return change


def poison(folder):
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["head.coefs.bias"][0] = np.nan
    save_file(weights, folder / "model.safetensors")


DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config is no JSON": (truncate("config.json", 0.5), "cannot be read as JSON"),
    "another model": (config_with(model_type="bert"), "model_type is 'bert'"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no whole P2L model|no model.safetensors"),
    "truncated weights": (truncate("model.safetensors", 0.7), "damaged|no whole"),
    "truncated header": (truncate("model.safetensors", 0.001), "damaged|no whole"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
    "truncated tokenizer": (truncate("tokenizer.json", 0.5), "tokenizer|no whole"),
    "one LLM more": (config_with(models=[*MODELS, "new"]), "do not belong together|no whole"),
    "an LLM twice": (config_with(models=[*MODELS[:3], MODELS[0]]), "names alpha-7b more than once"),
    "another feedback model": (config_with(feedback="bt"), "do not belong together"),
    "no backbone": (config_with(backbone_config=[1]), "config.json .*damaged|no whole"),
    "costs as a list": (config_with(costs=[1]), "config.json .*damaged|cost"),
    "NaN weights": (poison, "NaN or infinite"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_damaged_folder_is_refused(damage, device, saved, tmp_path):
    change, message = DAMAGE[damage]
    folder = damaged(saved("quantized"), tmp_path / "broken", change)
    with pytest.raises(ModelFormatError, match=message):
        P2L.from_pretrained(folder, device=device)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(ModelFormatError, match="there is no folder"):
        P2L.from_pretrained(tmp_path / "nothing")
    with pytest.raises(
        ModelFormatError, match=r"no Hub repository id .* none of the embedded models \(arena, routing9\)"
    ):
        P2L.from_pretrained("not an id")
    with pytest.raises(ModelFormatError, match="address of a server starts with http://"):
        P2L.from_pretrained("localhost:8000")
    with pytest.raises(ModelFormatError, match=r"no config\.json"):
        P2L.from_pretrained(tmp_path)
    with pytest.raises(HubError, match="'org/model' is not in the cache and the Hub was not asked"):
        P2L.from_pretrained("org/model")  # the tests run offline


def test_a_cached_hub_repository_loads_offline(saved, tmp_path, monkeypatch):
    """The real client, on a cache laid out as it lays it out itself."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repo, commit = tmp_path / "models--org--tiny", "0" * 40
    shutil.copytree(saved("quantized"), repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    expected = P2L.from_pretrained(saved("quantized")).coefficients(PROMPTS).coefs
    np.testing.assert_array_equal(P2L.from_pretrained("org/tiny").coefficients(PROMPTS).coefs, expected)
