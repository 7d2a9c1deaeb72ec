"""Winners as people write them: what is certain is read by the whole column, everything else is asked for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2l_sdk.errors import P2LError, VotesError
from p2l_sdk.modeling.feedback_p2l import Winner
from p2l_sdk.tables.winners import likely, outcomes_of_numbers, side_or_tie
from p2l_sdk.votes.counts import VoteCounts
from p2l_sdk.votes.votes import Votes

A, B, TIE, BAD = Winner
PLAIN = ("model_a", "model_b", "tie", "both_bad")
STYLES = {
    "letters": ("A", "B", "Tie", "Both bad"),
    "sides": ("left", "RIGHT", "draw", "bothbad"),
    "models": ("Model A", "model-b", "TIE", "tie (both bad)"),
    "numbered": ("model_1", "model_2", "tied", "Both_Bad"),
    "short": ("model1", "Model2", "equal", "BOTH BAD"),
    "sentences": ("A is better", "Right is slightly better", "both good", "both are bad"),
    "answers": ("Answer A", "response b", "same", "equally bad"),
    "judge": ("[[A]]", "[[B]]", "tie (inconsistent)", "tie (bothbad)"),
    "1 and 2": ("1", "2", "tie", "both_bad"),
    "1.0 and 2.0": (1.0, 2, "tie", "both_bad"),
    "score": ("1", "0", "0.5", "both_bad"),
    "scores": (1.0, 0, 0.5, "bothbad"),
    "decimal commas": ("1", "0,0", "0,5", "bothbad"),
    "spelled scores": ("1.0", "0.00", "0.50", "bothbad"),
}
SIDES = [("gpt", "claude"), ("claude", "gpt"), ("gpt", "llama"), ("llama", "claude")]


def table(words, rows=range(12)):
    sides = [SIDES[i % len(SIDES)] for i in rows]
    return {
        "prompt": [f"prompt {i}" for i in rows],
        "model_a": [a for a, _ in sides],
        "model_b": [b for _, b in sides],
        "winner": [words[i % 4] if i % 3 else words[i % 2] for i in rows],
    }


def refused(columns, **options):
    with pytest.raises(VotesError) as caught:
        Votes.read(columns, **options)
    return str(caught.value)


@pytest.mark.parametrize("style", STYLES)
def test_every_certain_style_gives_the_same_votes(style):
    expected, votes = Votes.read(table(PLAIN)), Votes.read(table(STYLES[style]))
    assert votes.winner.tolist() == expected.winner.tolist()
    assert votes.models == expected.models
    counted = VoteCounts.of({name: table(STYLES[style])[name] for name in ("model_a", "model_b", "winner")})
    assert counted.number.tolist() == VoteCounts.of(expected).number.tolist()


def test_the_name_of_an_llm_is_the_winner():
    rows = table(PLAIN)
    named = {**rows, "winner": [row[{"model_a": 0, "model_b": 1}[w]].upper() if w in ("model_a", "model_b") else w
                                for row, w in zip(zip(rows["model_a"], rows["model_b"], strict=True), rows["winner"],
                                                  strict=True)]}  # fmt: skip
    assert Votes.read(named).winner.tolist() == Votes.read(rows).winner.tolist()
    named["winner"][0] = next(name for name in ("gpt", "claude", "llama") if name not in SIDES[0])
    assert "row 1: winner is 'llama', which is neither of the vote's two LLMs" in refused(named)


def test_an_outcome_is_not_left_out_with_faulty_rows():
    """However rare: what is probably an outcome has to be mapped; what is not is a fault of its row."""
    rows = table(PLAIN, range(100))
    rows["winner"][5], rows["winner"][7] = "neither", "see sheet 2"
    assert "say what 'neither', 'see sheet 2' mean: --winner 'neither=?'" in refused(rows, skip_invalid=True)
    votes = Votes.read(rows, skip_invalid=True, winners={"neither": "tie"})
    assert len(votes) == 99
    assert votes.winner[5] == TIE
    assert "row 6: winner is 'neither'" in refused(rows)


def test_an_llm_called_a_is_no_side_where_names_are_written():
    sides = [("A", "B"), ("B", "A"), ("C", "A"), ("B", "C")]
    rows = {"prompt": list("abcd"), "model_a": [a for a, _ in sides], "model_b": [b for _, b in sides]}
    votes = Votes.read({**rows, "winner": ["A", "A", "C", "B"]})
    assert votes.winner.tolist() == [A, B, A, A]  # C proves that these are names
    assert Votes.read(
        {**rows, "winner": ["Left", "B", "Left", "B"]},
    ).winner.tolist() == [A, B, A, B]
    assert "spellings of winner" in refused({**rows, "winner": ["A", "A", "B", "B"]})


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("1", "0", "tie", "both_bad"), "--winner '1=?' --winner '0=?'"),
        (("1", "2", "0", "both_bad"), "--winner '2=?' --winner '1=?' --winner '0=?'"),
        ((True, False, "tie", "both_bad"), "--winner 'True=?' --winner 'False=?'"),
        (("1", "-1", "0", "both_bad"), "--winner '-1=?' --winner '1=?' --winner 0=tie"),
        (("Modell links", "Modell rechts", "tie", "bothbad"), "--winner 'Modell links=?'"),
        (("A>>B", "B>A", "A=B", "neither"), "'A>>B=model_a'"),
    ],
)
def test_what_is_not_certain_is_asked_for_whatever_is_skipped(words, options):
    for skip in (False, True):
        message = refused(table(words), skip_invalid=skip)
        assert all(option in message for option in options.split(" --")), message
        assert f"{words[0]!r} " in message
        assert "say what" in message
    given = dict(zip(words, PLAIN, strict=True))
    assert Votes.read(table(words), winners=given).winner.tolist() == Votes.read(table(PLAIN)).winner.tolist()


@given(st.sets(st.sampled_from(["0", "0.5", "1", "2", "3", "-1", "true", "false"]), min_size=1))
def test_numbers_mean_something_only_where_they_mean_one_thing(numbers):
    found = outcomes_of_numbers(numbers)
    certain = numbers == {"1", "2"} or ("0.5" in numbers and numbers <= {"0", "0.5", "1"})
    assert bool(found) is certain
    assert numbers <= found.keys() or not certain


def test_a_side_is_one_word_and_nothing_else():
    for text in (
        "not A",
        "A or B",
        "a bit",
        "1",
        "2",
        "neither",
        "none",
        "both",
        "",
        "?",
        "A>B",
        "option",
        "B A",
        "model 3",
    ):
        assert side_or_tie(text) is None, text
    nouns, sides = ("model", "Assistant ", "response_", "[["), ("a", "A", "b", "left", "Right", "first")
    for noun, side in itertools.product(nouns, sides):
        assert side_or_tie(f"{noun}{' ' if noun.isalpha() else ''}{side}") in (A, B)
    assert likely("A<B", []) == "model_b"
    assert likely("no preference", []) == "tie"


def test_a_spelling_may_be_left_out_and_mappings_are_checked():
    rows = table(("model_a", "model_b", "n/a", "tie"))
    votes = Votes.read(rows, winners={"N/A": "skip"})
    n = rows["winner"].count("n/a")
    assert len(votes) == 12 - n
    assert votes.findings.skipped.n == n
    assert votes.findings.skipped.reasons == {"winner is …, which is to be skipped": n}
    with pytest.raises(P2LError, match=r"the winner 'x' is mapped to 'model_c'; legal values: model_a.* and skip"):
        Votes.read(rows, winners={"x": "model_c"})
    with pytest.raises(P2LError, match="winners is 'A=model_a'; it must be a mapping"):
        Votes.read(rows, winners="A=model_a")
    assert Votes.read(table(PLAIN), winners={"model_a": "model_b", "model_b": "model_a"}).winner.tolist() == [
        {A: B, B: A}.get(w, w) for w in Votes.read(table(PLAIN)).winner.tolist()
    ]


def test_a_winner_that_is_the_name_of_a_column_is_that_side():
    rows = table(("Modell links", "Modell rechts", "tie", "both_bad"))
    named = {"Frage": rows["prompt"], "Modell links": rows["model_a"], "Modell rechts": rows["model_b"],
             "Urteil": rows["winner"]}  # fmt: skip
    columns = {"prompt": "Frage", "model_a": "Modell links", "model_b": "Modell rechts", "winner": "Urteil"}
    assert Votes.read(named, columns=columns).winner.tolist() == Votes.read(table(PLAIN)).winner.tolist()
    message = refused(named)
    options = " ".join(f"--column {ours}={name}" if " " not in name else f"--column '{ours}={name}'"
                       for ours, name in columns.items())  # fmt: skip
    assert f"if that is right, add: {options} (in" in message


@pytest.mark.parametrize("names", [("model-A", "model-B", "model-C"), ("Model A", "Model B", "Model C")])
def test_llms_that_are_called_nearly_as_the_sides_take_no_word_away(names):
    plain = table(PLAIN)
    new = dict(zip(sorted({*plain["model_a"], *plain["model_b"]}), names, strict=True))
    rows = {**plain, **{side: [new[name] for name in plain[side]] for side in ("model_a", "model_b")}}
    assert Votes.read(rows).winner.tolist() == Votes.read(plain).winner.tolist()
    assert "say what 'model_a', 'model_b' mean" in refused({**rows, **{
        side: [name.lower().replace("-", "_").replace(" ", "_") for name in rows[side]]
        for side in ("model_a", "model_b")
    }})  # fmt: skip
