"""Names that are probably one LLM, and names that are not."""

from __future__ import annotations

import warnings

import pytest

from p2l_sdk.errors import P2LError, P2LWarning
from p2l_sdk.tables.near_names import near_names
from p2l_sdk.votes.averaged import fit_leaderboard
from p2l_sdk.votes.votes import Scores, Votes

ROWS = [("gpt-4o-mini", "llama-3-8b", "model_a")] * 6 + [("llama-3-8b", "gpt-4o-mini", "model_a")] * 3
ODD = [*ROWS, ("GPT-4o-mini", "llama-3-8b", "tie")]


def rows(triples):
    return [{"prompt": f"p{i}", "model_a": a, "model_b": b, "winner": w} for i, (a, b, w) in enumerate(triples)]


@pytest.mark.parametrize(
    ("rare", "common"),
    [
        ("GPT-4o-mini", "gpt-4o-mini"),
        ("gpt4o-mini", "gpt-4o-mini"),
        ("gpt-4o-mini ", "gpt-4o-mini"),
        ("gpt 4o_mini", "gpt-4o-mini"),
        ("claude-3-5-sonnet", "claude-3.5-sonnet"),
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt\u20114o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o", "gpt-4o-20240806"),
    ],
)
def test_near_names_are_found_in_both_directions(rare, common):
    (found,) = near_names({common: 1000, rare: 3, "another": 40})
    assert (found.rare, found.common, found.n_rare, found.n_common) == (rare, common, 3, 1000)


@pytest.mark.parametrize(
    "names",
    [
        ("gpt-3.5", "gpt-35"), ("llama-3-1", "llama-31"), ("command-r", "command-r+"), ("o1", "o1-mini"),
        ("gpt-4", "gpt-4-turbo"), ("qwen-7b", "qwen-72b"), ("claude-3-opus", "claude-3-sonnet"), ("a/x", "b/x"),
    ],
)  # fmt: skip
def test_variants_are_no_near_names(names):
    assert near_names({names[0]: 1000, names[1]: 1}) == ()


def test_dated_releases_are_near_only_if_one_is_rare():
    assert near_names({"gpt-4-0314": 500, "gpt-4-0613": 400}) == ()
    assert [pair.rare for pair in near_names({"gpt-4-0314": 500, "gpt-4-0613": 20})] == ["gpt-4-0613"]
    assert near_names({"GPT-4": 500, "gpt-4": 400})[0].rare == "gpt-4"  # letter case: however many there are


def test_votes_and_scores_warn_and_renames_join(tmp_path):
    with pytest.warns(P2LWarning, match=r"\(votes of each\): 'GPT-4o-mini' \(1\) beside 'gpt-4o-mini' \(9\)\. .*"
                      r"--rename GPT-4o-mini=gpt-4o-mini"):  # fmt: skip
        votes = Votes.read(rows(ODD))
    assert votes.findings.near[0].rare == "GPT-4o-mini"
    with pytest.warns(P2LWarning, match="'GPT-4o-mini' \\(1\\) beside"):
        fit_leaderboard(rows(ODD))
    (tmp_path / "names.yaml").write_text("GPT-4o-mini: gpt-4o-mini\n")
    (tmp_path / "names.json").write_text('{"GPT-4o-mini": "gpt-4o-mini"}')
    (tmp_path / "names.csv").write_text("old,new\nGPT-4o-mini,gpt-4o-mini\n")
    expected = Votes.read(rows([*ROWS, ("gpt-4o-mini", "llama-3-8b", "tie")]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rename in (
            {"GPT-4o-mini": "gpt-4o-mini"},
            *(tmp_path / f"names.{kind}" for kind in ("yaml", "json", "csv")),
        ):
            joined = Votes.read(rows(ODD), rename=rename)
            assert joined.models == expected.models
            assert joined.a.tolist() == expected.a.tolist()
            assert joined.findings.renamed == {"GPT-4o-mini": "gpt-4o-mini"}
        wide = [{"prompt": "x", "GPT-4": 1.0, "b": 0.0}]
        assert Scores.read(wide, rename={"GPT-4": "gpt-4"}).models == ("b", "gpt-4")
        long = [{"prompt": p, "model": m, "score": 1.0} for p, m in (("x", "GPT-4"), ("y", "gpt-4"), ("x", "b"))]
        assert Scores.read(long, rename={"GPT-4": "gpt-4"}, allow_missing=True).models == ("b", "gpt-4")
    with pytest.warns(P2LWarning, match="scores of each"):
        Scores.read([{"prompt": "x", "GPT-4": 1.0, "gpt-4": 0.0}])
    with pytest.raises(P2LError, match="the columns 'GPT-4' and 'gpt-4' become one LLM"):
        Scores.read([{"prompt": "x", "GPT-4": 1.0, "gpt-4": 0.0}], rename={"GPT-4": "gpt-4"})


def test_two_sides_that_become_one_llm():
    both = rows([*ROWS, ("GPT-4o-mini", "gpt-4o-mini", "tie")])
    rename = {"GPT-4o-mini": "gpt-4o-mini"}
    with pytest.raises(P2LError, match="row 10: 'gpt-4o-mini' is compared with itself after renaming"):
        Votes.read(both, rename=rename)
    votes = Votes.read(both, rename=rename, skip_invalid=True)
    assert len(votes) == 9
    assert votes.findings.skipped.reasons == {"… is compared with itself after renaming": 1}


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"a": "b", "b": "c"}, "rename: 'a' becomes 'b', which is renamed too; name the last name for both"),
        ({"a": ""}, "rename: 'a' to '' names no LLM"),
        (["a"], "rename is .* it must be a mapping"),
        ("nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_renames_are_checked_first(rename, message):
    with pytest.raises(P2LError, match=message):
        Votes.read("nothing.csv", rename=rename)
