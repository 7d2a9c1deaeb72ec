"""`build_model` on a static and on a text base, and `p2l build`, from files to a model that answers."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from command_line import ok, p2l, refused
from conftest import MODELS
from kinds_world import Truth, kinds_of, of_kind, prompts, quick, write  # noqa: F401
from mpg_results import refusal
from researcher import without_p2l_sdk
from thorough import thorough

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.kinds import KindPrompts, KindRatings, build_model
from p2l_sdk.kinds import build as module
from p2l_sdk.kinds.card import BuildCard

TEXTS = ["sort an array in a loop", "bake an onion soup", "the lawyer signed a contract", "a rainy monday"]


@pytest.fixture(scope="module")
def ratings():
    return KindRatings.read(Truth(kinds_of("disjoint")).rows(half=8.0), "elo")


@pytest.fixture(scope="module")
def rows():
    return prompts("disjoint", 25)


# --- build_model ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
class TestBuild:
    def test_what_is_told_of_a_build(self, ratings, rows, tmp_path):
        told = []
        built = build_model(
            ratings, rows, tmp_path / "m", card=BuildCard(title="Mine", license="mit", notes="Be kind."),
            costs={"llm-0": 0.1}, progress=lambda *said: told.append(said),
        )  # fmt: skip
        prompts_read = [256, (1 + module.COPIES) * len(rows)]  # with the changed copies, in batches
        assert told == [*(("prompts", n) for n in prompts_read), *(("networks", i) for i in range(1, 6))]
        assert built.n_prompts == len(rows)
        assert built.none < 1.0
        for kind in built.kinds:
            assert kind.n_prompts == 25
            assert kind.recognised > 0.8 > 0.2 > kind.elsewhere
            assert kind.departure == pytest.approx(np.abs(Truth(kinds_of("disjoint")).departures[kind.name]).mean())
            assert kind.error < 0.2 * kind.departure
            assert kind.correlation > 0.95
        loaded = P2L.from_pretrained(tmp_path / "m")
        assert loaded.spec == built.spec
        assert loaded.costs == {"llm-0": 0.1}
        card = (tmp_path / "m" / "README.md").read_text()
        assert card.startswith("---\nlicense: mit\n")
        for text in ("# Mine", "Be kind.", "| code | 25 |", f"within {built.none:.1f} points", "- llm-7"):
            assert text in card

    @pytest.mark.long
    def test_the_same_seed_gives_the_same_model(self, ratings, rows, tmp_path):
        for name, seed in (("one", 0), ("same", 0), ("other", 1)):
            build_model(ratings, rows, tmp_path / name, seed=seed)
        one, same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "same", "other"))
        assert one == same != other

    @pytest.mark.long
    def test_elo_and_logits_give_the_same_model(self, ratings, rows, tmp_path):
        from p2l_sdk.modeling.leaderboard_p2l import ARENA_SCALE

        numbers = ("rating", "lower", "upper")
        table = [
            {k: v / ARENA_SCALE if k in numbers else v for k, v in row.items()}
            for row in Truth(kinds_of("disjoint")).rows(half=8.0)
        ]
        build_model(ratings, rows, tmp_path / "elo")
        build_model(KindRatings.read(table, "logit"), rows, tmp_path / "logit")
        elo, logit = (P2L.from_pretrained(tmp_path / name).coefficients(TEXTS).coefs for name in ("elo", "logit"))
        np.testing.assert_allclose(elo, logit, atol=1e-6)

    @pytest.mark.long
    def test_a_prompt_that_is_left_open_teaches_no_kind(self, ratings, rows, tmp_path):
        """Prompts of nothing that may all be of code: the overall leaderboard is not made of them."""
        code = [{**row, "category": None} for row in rows if "code" in row["category"]]
        shares = {}
        for name, unsure in (("open", "code"), ("not", None)):
            held = [{**row, "unsure": unsure} for row in code[8:]]
            build_model(ratings, [*rows[:8], *held, *rows[25:]], tmp_path / name)
            boards = P2L.from_pretrained(tmp_path / name).leaderboards([row["prompt"] for row in held])
            shares[name] = np.mean([board.kinds["code"] for board in boards])
        assert shares["open"] > 0.8
        assert shares["not"] < 0.5

    def test_an_output_that_exists_is_left_alone(self, ratings, rows, tmp_path):
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "mine.txt").write_text("mine")
        assert "exists already; name a new or an empty folder" in refusal(build_model, ratings, rows, tmp_path / "m")
        assert [file.name for file in tmp_path.rglob("*")] == ["m", "mine.txt"]

    def test_a_failure_leaves_nothing(self, ratings, rows, tmp_path):
        def broken(_):
            raise P2LError("no card")

        assert refusal(build_model, ratings, rows, tmp_path / "m", card=broken) == "no card"
        assert list(tmp_path.iterdir()) == []

    def test_what_does_not_fit_is_refused(self, ratings, rows, saved, tmp_path):
        other = KindPrompts.read([{"prompt": "x", "category": "code"}], ["code"])
        assert "read the prompts with kinds=ratings.kinds" in refusal(build_model, ratings, other, tmp_path / "m")
        assert "the cost of 'llm-0'" in refusal(build_model, ratings, rows, tmp_path / "m", costs={"llm-0": -1})
        assert "there is no folder" in refusal(build_model, ratings, rows, tmp_path / "m", base="no/such/folder")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.long
    @pytest.mark.parametrize("kind", ["quantized", *thorough("llama", "bert")])
    def test_another_base(self, kind, ratings, saved, tmp_path):
        """A folder that AutoModel loads in a process without p2l_sdk, with the same coefficients and kinds."""
        kinds = {
            "write python code": "code",
            "prove that": ["food"],
            "a poem about two": "law",
            "the sum of a list": None,
        }
        rows = [{"prompt": prompt, "category": kind} for prompt, kind in kinds.items()]
        built = build_model(ratings, rows * 2, tmp_path / "m", base=saved(kind), device="cpu")
        assert built.n_prompts == 4
        p2l, texts = P2L.from_pretrained(tmp_path / "m"), [row["prompt"] for row in rows]
        assert set(p2l.models).isdisjoint(MODELS)
        assert p2l.spec.kinds == ratings.kinds
        boards = p2l.leaderboards(texts)
        assert all(board.intervals is not None and set(board.kinds) == set(ratings.kinds) for board in boards)
        theirs = without_p2l_sdk(tmp_path, texts, [tmp_path / "m"])[0]
        np.testing.assert_allclose([board.coefs for board in boards], theirs["coefs"], atol=1e-5)
        more = p2l.add_model("new", ratings={"code": 1000, "overall": 1010})
        more.save_pretrained(tmp_path / "more")
        again = P2L.from_pretrained(tmp_path / "more")
        np.testing.assert_allclose(again.coefficients(texts).coefs, more.coefficients(texts).coefs, atol=1e-5)
        np.testing.assert_allclose(again._scorer.variance, more._scorer.variance, atol=1e-6)

    def test_scores_make_a_grounded_model(self, rows, tmp_path):
        from p2l_sdk.mpg import Results

        shares = {"a": (0.9, 0.4, 0.6), "b": (0.5, 0.7, 0.6), "c": (0.4, 0.3, 0.8)}
        table = [
            {"model": model, "benchmark": kind, "score": share, "n": 1000}
            for model, values in shares.items()
            for kind, share in zip(kinds_of("disjoint"), values, strict=True)
        ]
        build_model(KindRatings.of_results(Results.read(table)), rows, tmp_path / "m")
        p2l = P2L.from_pretrained(tmp_path / "m")
        assert p2l.spec.feedback == "grk"
        for kind, best in (("code", "a"), ("food", "b"), ("law", "c")):
            assert p2l.aggregate(of_kind(rows, kind)).best == best
        assert p2l.leaderboard(TEXTS[0]).rows()[0]["usable"] > 0.5

    @pytest.mark.long
    def test_a_large_kind_is_checked_on_some_of_its_prompts(self, ratings, rows, tmp_path, monkeypatch):
        whole = build_model(ratings, rows, tmp_path / "whole").kinds
        monkeypatch.setattr(module, "_CHECKED", 9)
        some = build_model(ratings, rows, tmp_path / "some").kinds
        assert [kind.n_prompts for kind in some] == [kind.n_prompts for kind in whole]
        for one, other in zip(some, whole, strict=True):
            assert one.error == pytest.approx(other.error, abs=3.0)
            assert one.error != other.error


# --- p2l build -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("build")
    write(folder / "ratings.jsonl", Truth(kinds_of("disjoint")).rows(half=8.0))
    write(folder / "prompts.jsonl", rows)
    shares = [
        {"model": f"m{i}", **{k: 10 * i + 5 * j + 20 for j, k in enumerate(kinds_of("disjoint"))}} for i in range(3)
    ]
    write(folder / "scores.jsonl", shares)
    return folder


@pytest.mark.long
def test_the_command(files, tmp_path):
    common = ("--ratings", files / "ratings.jsonl", "--scale", "elo", "--prompts", files / "prompts.jsonl")
    said = json.loads(
        ok("build", *common, "--output", tmp_path / "one", "--title", "My own", "--license", "mit", "--json")
    )
    assert said["output"] == str(tmp_path / "one")
    assert (len(said["models"]), said["feedback"], said["n_prompts"]) == (8, "bt", 100)
    assert [kind["name"] for kind in said["kinds"]] == ["code", "food", "law"]
    card = (tmp_path / "one" / "README.md").read_text()
    assert "# My own" in card
    assert "`ratings.jsonl`" in card
    board = json.loads(ok("leaderboard", TEXTS[0], "--model", tmp_path / "one", "--json"))
    assert max(board["kinds"], key=board["kinds"].get) == "code"
    assert "recognised: code 100 %" in ok("leaderboard", TEXTS[0], "--model", tmp_path / "one")
    listed = ok("leaderboard", TEXTS[0], "--model", tmp_path / "one", "--kinds")
    assert "Kinds of prompt" in listed
    assert "█" in listed


@pytest.mark.long
def test_the_command_on_scores_in_per_cent(files, tmp_path):
    costs = write(tmp_path / "costs.json", [{"m0": 0.1}])
    common = (
        "--scores",
        files / "scores.jsonl",
        "--percent",
        "--prompts",
        files / "prompts.jsonl",
        "--kinds",
        "code,law",
    )
    result = p2l("build", *common, "--output", tmp_path / "two", "--costs", costs, "--seed", 3)
    assert result.stderr.decode().count("without a number of questions: taken as of 100 questions each") == 1
    text = result.stdout.decode()
    assert "3 LLMs, 2 kinds, 100 prompts (grk)" in text
    assert f"wrote {tmp_path / 'two'}" in text
    assert all(name in text for name in ("recognised", "elsewhere", "departure", "error", "correlation"))
    again = P2L.from_pretrained(tmp_path / "two")
    assert (again.spec.kinds, again.costs) == (("code", "law"), {"m0": 0.1})


@pytest.mark.thorough
def test_the_command_refuses(files, tmp_path):
    ratings, prompts = ("--ratings", files / "ratings.jsonl"), ("--prompts", files / "prompts.jsonl")
    output = ("--output", tmp_path / "m")
    scaled = (*ratings, "--scale", "elo", *prompts)
    bad = write(tmp_path / "bad.jsonl", [{"prompt": "x", "category": "golf"}])
    one = write(tmp_path / "one.jsonl", [{"prompt": "x", "category": "code"}])
    cases = [
        ((*ratings, *prompts, *output), "the ratings have no scale"),
        ((*ratings, "--scale", "yards", *prompts, *output), "unknown scale 'yards'"),
        ((*prompts, *output), "give --ratings or --scores, and not both"),
        ((*scaled, "--scores", files / "scores.jsonl", *output), "give --ratings or --scores, and not both"),
        ((*scaled, "--percent", *output), "--percent is for --scores"),
        (("--scores", files / "scores.jsonl", "--scale", "elo", *prompts, *output), "--scale is for --ratings"),
        (("--scores", files / "scores.jsonl", *prompts, *output), "in [0, 1]"),
        ((*scaled, "--kinds", "cod", *output), "the kind 'cod' is in no rating; did you mean 'code'"),
        ((*scaled, "--overall", "al", *output), "no rating is of the category 'al'"),
        ((*scaled, "--costs", "none.json", *output), "none.json"),
        ((*scaled, "--base", "no/such/folder", *output), "there is no folder"),
        ((*ratings, "--scale", "elo", "--prompts", bad, *output), "bad.jsonl': line 1 is of the category 'golf'"),
        ((*ratings, "--scale", "elo", "--prompts", one, *output), "one.jsonl': no prompt is of the kind 'food'"),
        ((*ratings, "--scale", "elo", "--prompts", "none.jsonl", *output), "no such file"),
        (("--ratings", "none.csv", "--scale", "elo", *prompts, *output), "no such file"),
        ((*scaled, "--output", files), "exists already; name a new or an empty folder"),
        ((*scaled, "--seed", "-1", *output), "-1 is not in the range"),
        (scaled, "Missing option '--output'"),
    ]
    for arguments, message in cases:
        assert message in refused("build", *arguments), arguments
    assert sorted(os.listdir(tmp_path)) == ["bad.jsonl", "one.jsonl"]


def test_kinds_of_a_model_that_knows_none():
    said = ok("leaderboard", "hello", "--model", "routing9", "--kinds")
    assert "this model recognises no kinds of prompt; one built by p2l build does" in said
