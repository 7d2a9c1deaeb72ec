"""The embedded model `arena`: what it knows and recognises, and that it is a model like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, shared
from hub_client import OWNER, PROMPTS, load
from researcher import without_p2l_sdk

from p2l_sdk import P2L
from p2l_sdk.editing.rated import KindsRecord
from p2l_sdk.hub.folders import EMBEDDED, STATIC_MODEL, read_tensors, whole_folder
from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE

FOLDER = EMBEDDED["arena"]
CASES = [json.loads(line) for line in (Path(__file__).parent / "arena_cases.jsonl").read_text("utf-8").splitlines()]
LEFT_OUT = {"hard_6", "hard_english_6", "expert", "industry_mathematical"}  # see the card
LEFT_OUT |= {"industry_software_and_it_services", "industry_writing_and_literature_and_language"}
MISTAKEN = {"Which suitcase size is best for a five day city trip?": "0.4 of math, by its numbers"}
RECOGNISED = 0.3
TEXTS = [
    "hi",
    "Write a function that sorts a list",
    "Schreibe ein Gedicht über das Meer",
    "日本語で話して",
    "word " * 900,
]


# --- what it knows ---------------------------------------------------------------------------------------------------


def test_it_is_the_default_and_knows_the_llms_of_today(default):
    assert repr(default) == f"P2L(embedded arena: {len(default.models)} LLMs, feedback bt)"
    assert len(default.models) >= 200
    assert len(default.costs) >= 100
    assert len(default.spec.kinds) == 17
    assert not LEFT_OUT & set(default.spec.kinds)
    for name in ("gpt-4o-mini", "claude-3-5-haiku", "llama-3.1-8b"):
        assert default.leaderboard("hi").win_probability(name, "gpt-4-0613") > 0
    route = default.route(
        "Write a sorting function", 0.0005, models=["gpt-4o-mini", "claude-3-5-haiku", "llama-3.1-8b"]
    )
    assert route.expected_cost <= 0.0005
    assert route.left_out == ()


def test_within_a_budget_llms_of_unknown_cost_are_left_out_and_named(default):
    route = default.route("hello", 0.0005)
    assert route.left_out == tuple(name for name in default.models if name not in default.costs)
    assert not {*route.ranking, *route.mixture} & {*route.left_out}
    assert default.route("hello").left_out == ()


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_what_is_recognised(case, default, request):
    if case["prompt"] in MISTAKEN:
        request.applymarker(pytest.mark.xfail(reason=MISTAKEN[case["prompt"]], strict=True))
    kinds = default.leaderboard(case["prompt"]).kinds
    assert {*case["expected"], *case["forbidden"]} <= {*kinds, *LEFT_OUT}
    missed = {kind: kinds[kind] for kind in {*case["expected"]} - LEFT_OUT if kinds[kind] < RECOGNISED}
    wrong = {kind: kinds[kind] for kind in {*case["forbidden"]} - LEFT_OUT if kinds[kind] >= RECOGNISED}
    assert (missed, wrong) == ({}, {})


def test_without_a_kind_it_gives_the_published_overall_ratings(default):
    pq = pytest.importorskip("pyarrow.parquet")
    rows = pq.read_table(shared("data/arena_leaderboard/leaderboard.parquet")).to_pylist()
    column = "model_name" if "model_name" in rows[0] else "model"
    published = {row[column]: row["rating"] for row in rows if row["category"] == "full"}
    assert set(published) == set(default.models)
    expected = np.array([published[name] for name in default.models])
    none = KindsRecord.read(FOLDER, default.spec.kinds).geometry.none  # what is seen in prompts of no kind
    got = default._scorer.rows @ np.append(none, 1.0) * ARENA_SCALE
    np.testing.assert_allclose(got - got.mean(), expected - expected.mean(), atol=0.1)
    assert (none < 0.1).all()


def test_a_kind_changes_the_leaderboard_and_its_intervals(default):
    none, code = default.leaderboard("hi"), default.leaderboard("Write a Python function that sorts a list of tuples")
    assert code.kinds["coding"] > 0.8
    assert np.abs((code.coefs - none.coefs) - (code.coefs - none.coefs).mean()).mean() * ARENA_SCALE > 5.0
    for board in (none, code):
        assert board.intervals.shape == (len(default.models), 2)
        assert (np.diff(board.intervals, axis=1) > 0).all()
        np.testing.assert_allclose(board.intervals.mean(1), board.coefs, atol=1e-6)


# --- a model like any other -----------------------------------------------------------------------------------------


def test_numpy_and_torch_agree(default):
    slow = P2L.from_pretrained("arena", device="cpu")
    fast, torch = default.coefficients(TEXTS), slow.coefficients(TEXTS)
    assert type(slow._scorer) is not type(default._scorer)
    np.testing.assert_allclose(fast.coefs, torch.coefs, atol=1e-4)
    np.testing.assert_allclose(fast.kinds.shares, torch.kinds.shares, atol=1e-4)
    np.testing.assert_allclose(fast.kinds.errors, torch.kinds.errors, atol=1e-4)
    assert fast.kinds.names == torch.kinds.names == default.spec.kinds


@pytest.mark.thorough
def test_a_saved_copy_is_a_whole_model_for_everyone(default, tmp_path):
    default.save_pretrained(tmp_path / "copy")
    names = {file.name for file in (tmp_path / "copy").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "kinds.json", "README.md"} <= names
    assert "head.safetensors" not in names
    copy = P2L.from_pretrained(tmp_path / "copy")
    assert (copy.spec, copy.costs) == (default.spec, default.costs)
    for got, expected in zip(copy.leaderboards(TEXTS), default.leaderboards(TEXTS), strict=True):
        assert got.to_dict() == expected.to_dict()
    theirs = without_p2l_sdk(tmp_path, TEXTS, [tmp_path / "copy"])[0]
    np.testing.assert_allclose(default.coefficients(TEXTS).coefs, theirs["coefs"], atol=1e-4)


def test_edits_keep_kinds_and_their_uncertainty(default, tmp_path):
    name, other = default.models[3], default.models[7]
    edited = default.add_model("mine", ratings={"coding": (1400, 1390, 1410), "full": 1350}, cost=0.0001)
    edited = edited.remove_model(name).rename_model(other, "renamed")
    edited.save_pretrained(tmp_path / "edited")
    again = P2L.from_pretrained(tmp_path / "edited")
    assert again.models == edited.models
    assert ("mine" in again.models, "renamed" in again.models, name in again.models) == (True, True, False)
    assert again.spec.kinds == default.spec.kinds
    assert again._scorer.variance.shape == (len(default.models), len(default.spec.kinds) + 1)
    np.testing.assert_array_equal(again._scorer.variance, edited._scorer.variance)
    kept = [i for i, model in enumerate(default.models) if model != name]
    np.testing.assert_array_equal(again._scorer.variance[:-1], default._scorer.variance[kept])
    for board, expected in zip(again.leaderboards(TEXTS), edited.leaderboards(TEXTS), strict=True):
        np.testing.assert_allclose(board.coefs, expected.coefs, atol=1e-6)
        np.testing.assert_allclose(board.intervals, expected.intervals, atol=1e-6)
        assert board.kinds == expected.kinds
    once_more = again.add_model("yours", ratings={"math": 1300})  # the record is still there
    assert once_more.leaderboard("hi").intervals.shape == (len(default.models) + 1, 2)
    assert "mine added from ratings in coding, full" in (tmp_path / "edited" / "README.md").read_text()


def test_ratings_of_a_known_llm_place_another_beside_it(default):
    """By the published ratings; what is stored is rounded to half a point."""
    pq = pytest.importorskip("pyarrow.parquet")
    rows = pq.read_table(shared("data/arena_leaderboard/leaderboard.parquet")).to_pylist()
    column = "model_name" if "model_name" in rows[0] else "model"
    name, known = "gpt-4o-mini-2024-07-18", {*default.spec.kinds, "full"}
    readable = {"if": "instruction_following", "long_user": "longer_query"}  # as examples/arena/build.py renames them
    rows = [{**row, "category": readable.get(row["category"], row["category"])} for row in rows]
    given = {
        row["category"]: (row["rating"], row["rating_q025"], row["rating_q975"])
        for row in rows
        if row[column] == name and row["category"] in known
    }
    twin = default.add_model("twin", ratings=given)
    at = twin.models.index(name)
    difference = (twin._scorer.rows[-1] - twin._scorer.rows[at]) * ARENA_SCALE
    np.testing.assert_allclose(difference, 0.0, atol=0.5)


@pytest.mark.long
def test_it_is_pushed_and_loaded_like_any_other(default, hub, processes):
    code = "from p2l_sdk import P2L\nresult = vars(P2L.from_pretrained('arena').push_to_hub(repo, token=token))"
    processes["pusher"](code, repo="org/arena", token=OWNER)
    files = hub.repo("org/arena").files()
    assert {"config.json", "model.safetensors", "tokenizer.json", "kinds.json", "modeling_p2l.py"} <= files.keys()
    assert "head.safetensors" not in files
    np.testing.assert_allclose(load(processes["loader"], "org/arena"), default.coefficients(PROMPTS).coefs, atol=1e-6)


def test_its_token_table_is_that_of_routing9():
    from p2l_sdk.training.token_table import table_of

    one, other = table_of(FOLDER), table_of(STATIC_MODEL)
    np.testing.assert_array_equal(one.vectors, other.vectors)
    assert one.tokenizer.to_str() == other.tokenizer.to_str()


# --- the folder ------------------------------------------------------------------------------------------------------


def test_it_is_small_and_holds_no_code():
    files = list(FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < 6e6
    assert {file.suffix for file in files} == {".json", ".safetensors", ".md"}


def test_the_whole_folder_is_gone_afterwards():
    with whole_folder(FOLDER) as whole:
        assert read_tensors(whole).keys() == read_tensors(FOLDER).keys()
        for name, tensor in read_tensors(FOLDER).items():
            np.testing.assert_array_equal(tensor, read_tensors(whole)[name])
        assert (whole / "tokenizer.json").read_bytes() == (STATIC_MODEL / "tokenizer.json").read_bytes()
    assert not whole.exists()
    with whole_folder(STATIC_MODEL) as whole:
        assert whole == STATIC_MODEL
    assert STATIC_MODEL.is_dir()


def test_the_card_names_its_sources_and_the_notice_too(default):
    card = (FOLDER / "README.md").read_text("utf-8")
    for text in (
        "without votes",
        "2025-12-11",
        "without style control",
        "MMLU-Pro",
        "RouteLLM",
        "MT-bench",
        "LLMRouter",
    ):
        assert text in card, text
    for kind in default.spec.kinds:
        assert f"\n| {kind} |" in card
    for name in default.models:
        assert f"\n- {name}\n" in card
    notice = (ROOT / "NOTICE").read_text("utf-8")
    assert "arena" in notice.lower()
