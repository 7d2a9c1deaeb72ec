"""The results of bulk scoring are those of `P2L`, whatever the batches."""

from __future__ import annotations

import pickle

import numpy as np
import pandas
import pyarrow
import pytest
from bulk_prompts import PROMPTS

from p2l_sdk.bulk import BatchScorer, BatchStatistics, Settings, Totals, merged
from p2l_sdk.errors import BudgetError, P2LError
from p2l_sdk.scorers.many import for_many, word_by_word

N = 600


@pytest.fixture(scope="module")
def prompts():
    return [PROMPTS[i % len(PROMPTS)] + f" {i // len(PROMPTS)}" for i in range(N)]


def columns(scorer, prompts, size=N, **more):
    """All columns, scored in batches of so many."""
    parts = [
        scorer({"prompt": prompts[i : i + size], "row": list(range(i, min(i + size, len(prompts)))), **more})
        for i in range(0, len(prompts), size)
    ]
    return {name: [v for part in parts for v in part[name].to_pylist()] for name in parts[0].column_names}


def test_coefficients_are_those_of_the_model_to_the_bit_in_any_batches(routing9, prompts):
    expected = routing9.coefficients(prompts[:512])
    for size in (512, 256, 100, 1):
        n = 512 if size > 1 else 40
        found = columns(BatchScorer(Settings(model="routing9", coefficients=True)), prompts[:n], size)
        assert found["error"] == [None] * n
        for i, name in enumerate(routing9.models):
            assert (np.array(found[name], np.float32) == expected.coefs[:n, i]).all(), (size, name)
        assert (np.array(found["eta"], np.float32) == expected.eta[:n, 0]).all()


@pytest.mark.parametrize("model", ["arena", "routing9"])
def test_the_best_are_those_of_the_leaderboards(model, prompts):
    scorer = BatchScorer(Settings(model=model, top=4))
    boards = scorer.p2l.leaderboards(prompts[:256])
    found = columns(scorer, prompts[:256])
    assert found["best"] == [board.ranking[:4] for board in boards]
    assert found["best_coefs"] == [board.coefs[board.order][:4].tolist() for board in boards]


def test_equal_coefficients_keep_the_order_of_the_llms():
    from p2l_sdk.bulk.results import best_places

    coefs = np.random.default_rng(0).integers(0, 3, (200, 40)).astype(np.float32)
    assert (best_places(coefs, 5) == np.argsort(-coefs, axis=1, kind="stable")[:, :5]).all()


def test_a_budget_per_prompt_gives_the_routes_of_the_model(routing9, prompts):
    found = columns(BatchScorer(Settings(model="routing9", route="per-prompt", cost=0.0004, seed=3)), prompts, 100)
    boards = routing9.leaderboards(prompts[:512])
    for i, board in enumerate(boards[:80]):
        route = routing9.router().route(board, 0.0004, seed=3 + i)
        got = found["route"][i], found["route_cost"][i], found["route_score"][i]
        assert got == (route.model, pytest.approx(route.expected_cost), pytest.approx(route.expected_score))
    assert max(found["route_cost"]) <= 0.0004 * (1 + 1e-12)


def test_without_a_budget_it_is_the_best_llm_at_any_cost(routing9, prompts):
    found = columns(BatchScorer(Settings(model="routing9", route="joint")), prompts[:50])
    assert found["route"] == [routing9.router().route(board).model for board in routing9.leaderboards(prompts[:50])]


def test_totals_are_the_aggregate_however_they_are_merged(routing9, prompts):
    expected = routing9.aggregate(prompts)
    scorer = BatchScorer(Settings(model="routing9"))
    labels = ["even" if i % 2 == 0 else "odd" for i in range(N)]
    parts = []
    for start in range(0, N, 150):
        part = {"prompt": prompts[start : start + 150], "category": labels[start : start + 150]}
        parts.append(scorer.totals(scorer.score(part, start), f"part {start}"))
    left, right = Totals(scorer.p2l), Totals(scorer.p2l)
    for part in parts[:2]:
        left.merge(part)
    for part in parts[2:]:
        right.merge(part)
    left.merge(right)
    board = left.board()
    assert len(left) == left.n_sampled == board.n_prompts == N
    np.testing.assert_allclose(board.coefs, expected.coefs, atol=1e-9)
    np.testing.assert_allclose(np.diff(board.intervals), np.diff(expected.intervals), rtol=0.2)
    for name, at in (("even", 0), ("odd", 1)):
        np.testing.assert_allclose(left.boards()[name].coefs, routing9.aggregate(prompts[at::2]).coefs, atol=1e-9)


def test_prompts_that_come_again_count_again_and_a_doubled_batch_is_found(routing9, prompts):
    scorer, log = BatchStatistics(Settings(model="routing9")), prompts[:100]
    names = {
        "ids": [{"id": [f"{day}-{i}" for i in range(100)]} for day in "ab"],
        "rows": [{"row": pyarrow.array(range(start, start + 100))} for start in (0, 100)],
        "files": [{"file": [f"day-{day}.jsonl"] * 100, "row": np.arange(100)} for day in (1, 2)],
    }
    once = scorer({"prompt": log}).to_pylist()
    for named in names.values():
        batches = [scorer(pyarrow.table({"prompt": log, **more})).to_pylist()[0] for more in named]
        totals = merged(batches, routing9)
        assert len(totals) == 200
        assert merged(batches[::-1], routing9).to_bytes() == totals.to_bytes()
        np.testing.assert_allclose(totals.board().coefs, merged(once, routing9).board().coefs, atol=1e-9)
        of_prompts = [found.overall.statistics.solve(routing9.models) for found in (totals, merged(once, routing9))]
        twice, single = (np.diff(board.intervals).mean() for board in of_prompts)
        assert twice == pytest.approx(single / np.sqrt(2), rel=0.1)
        with pytest.raises(P2LError, match="two batches are equal in all columns: one came twice, or different rows"):
            merged([*batches, batches[0]], routing9)
    with pytest.raises(P2LError, match="keep a column in the batches that does, such as id or row"):
        merged(once * 2, routing9)


def test_the_same_batch_has_the_same_name_from_any_engine(prompts):
    scorer = BatchStatistics(Settings(model="routing9"))
    columns = {"prompt": prompts[:5], "id": [3, 1, 4, 1, 5], "category": ["a", "b", "a", None, "a"]}
    frame = pandas.DataFrame(columns)
    frame.loc[3, "category"] = np.nan  # as pandas reads an empty cell
    engines = columns, pyarrow.table(columns), frame.to_dict("list"), dict(reversed(columns.items()))
    found = [scorer(batch).to_pylist()[0] for batch in engines]
    assert len({row["key"] for row in found}) == 1
    assert len({row["statistics"] for row in found}) == 1
    assert merged(found[2:3], scorer.p2l).n_prompts == {"a": 3, "b": 1, None: 1}
    assert BatchScorer(scorer.settings)(frame.to_dict("list"))["category"].to_pylist() == columns["category"]


def test_totals_come_back_from_their_file(tmp_path, routing9, prompts):
    scorer = BatchScorer(Settings(model="routing9"))
    totals = scorer.totals(scorer.score({"prompt": prompts[:50], "category": ["a", None] * 25}), "0")
    totals.save(tmp_path / "totals")
    again = Totals.load(tmp_path / "totals", routing9)
    assert again.to_bytes() == totals.to_bytes()
    assert (again.board().coefs == totals.board().coefs).all()
    assert again.categories["a"].statistics.n_prompts == 25
    with pytest.raises(P2LError, match="another model"):
        Totals.of_bytes(totals.to_bytes(), BatchScorer(Settings()).p2l)
    with pytest.raises(P2LError, match="cannot be read as saved statistics"):
        Totals.of_bytes(totals.to_bytes()[:-100], routing9)


@pytest.mark.long
def test_many_llms_are_aggregated_from_a_sample_that_stands_for_all(prompts):
    from p2l_sdk.bulk.totals import sample_of

    labels = ["rare"] * 10 + ["some"] * 500 + ["most"] * 29_490
    taken = sample_of(labels, 282, "sample", 0)
    assert taken[:10].all()
    assert 20 <= taken[10:510].sum() <= 30
    assert 1400 < taken.sum() < 1600
    assert sample_of(labels, 9, "sample", 0).all()
    assert not sample_of(labels, 9, "none", 0).any()
    scorer = BatchScorer(Settings(model="arena", aggregate="sample"))
    many = [f"{prompt} {i}" for i in range(3) for prompt in prompts]
    totals = scorer.totals(scorer.score({"prompt": many}), "0")
    assert len(totals) == 1800
    assert totals.n_sampled == 1000
    assert totals.overall.statistics.weight == pytest.approx(1800)
    exact = scorer.p2l.aggregate(many)
    limits = totals.board().intervals
    outside = (exact.coefs < limits[:, 0]) | (exact.coefs > limits[:, 1])
    assert outside.mean() < 0.05


def test_faulty_rows_are_named_and_the_others_are_scored(routing9):
    batch = {"prompt": ["hello", "", None, 5, "a \ud800 b", "world"], "id": list("abcdef")}
    found = BatchScorer(Settings(model="routing9"))(batch)
    errors = found["error"].to_pylist()
    assert [error is None for error in errors] == [True, False, False, False, False, True]
    assert "empty" in errors[1]
    assert "surrogate" in errors[4]
    assert found["id"].to_pylist() == list("abcdef")
    best = [board.ranking[:5] for board in routing9.leaderboards(["hello", "world"])]
    assert found["best"].to_pylist() == [best[0], None, None, None, None, best[1]]


def test_a_scorer_can_be_pickled(prompts):
    scorer = BatchScorer(Settings(model="routing9", cost=0.0005, route="per-prompt"))
    batch = {"prompt": prompts[:5]}
    assert pickle.loads(pickle.dumps(scorer))(batch).equals(scorer(batch))


def test_settings_that_do_not_fit_are_refused():
    for wrong, told in (
        ({"route": "jiont"}, "joint"),
        ({"aggregate": "some"}, "aggregate"),
        ({"cost": 1.0, "total": 1.0}, "not both"),
        ({"route": "per-prompt", "total": 1.0}, "for all prompts"),
        ({"models": ("a",)}, "routed between"),
        ({"top": -1}, "top"),
    ):
        with pytest.raises(P2LError, match=told):
            Settings(**wrong)
    with pytest.raises(BudgetError, match="cheapest feasible budget"):
        BatchScorer(Settings(model="routing9", cost=1e-9, route="per-prompt"))({"prompt": ["a"]})
    with pytest.raises(P2LError, match="no column 'prompt'"):
        BatchScorer(Settings(model="routing9"))({"question": ["a"]})


@pytest.mark.long
def test_words_have_the_tokens_of_the_tokenizer(routing9):
    from hypothesis import given, settings, strategies

    encoder, fast = routing9._scorer._encode, for_many(routing9._scorer)._scorer._encode
    assert type(fast).__name__ == "WordEncoder"
    letters = strategies.characters(exclude_categories=("Cs",)) | strategies.sampled_from(
        "abz AZ09 .,'\"-_[]#\t\n\r\x0b\x1c\x7f\x85\xa0éÉñßΣς\u0130\u0131ﬁ漢字ひ한\u0301\u200b\u2028🙂👍ไทยกᚠ𝕳𝖊𝖑𝖑⭐①ნაш"
    )

    @settings(max_examples=300, deadline=None)
    @given(strategies.lists(strategies.text(letters, max_size=60).filter(str.strip), min_size=1, max_size=8))
    def same(texts):
        try:
            expected = encoder(texts)
        except P2LError as error:
            with pytest.raises(type(error)):
                fast(texts)
            return
        assert fast(texts) == expected

    same()
    for text in ("[SEP] [CLS] x", "word " * 2000, "ab" * 9000, "漢" * 2000, "a" * 99 + " " + "b" * 101, "x" * 20_000):
        assert fast([text]) == encoder([text])


def test_no_long_word_is_remembered(routing9):
    encoder, secret = word_by_word(routing9._scorer).encoder, "sk" + "0a" * 16
    assert encoder([f"my key {secret}"]) == routing9._scorer.encoder([f"my key {secret}"])
    assert set(encoder._known) == {"my", "key"}
    assert encoder([f"my key {secret}"]) == routing9._scorer.encoder([f"my key {secret}"])


def test_a_text_model_is_scored_in_batches(saved):
    scorer = BatchScorer(Settings(model=str(saved("llama")), coefficients=True, top=0))
    prompts = ["prove that two is irrational", "write a poem", "sum a list in python " * 5] * 4
    found = scorer({"prompt": prompts})
    expected = scorer.p2l.coefficients(prompts).coefs
    got = np.array([found[name].to_pylist() for name in scorer.p2l.models]).T
    np.testing.assert_allclose(got, expected, atol=1e-5)
