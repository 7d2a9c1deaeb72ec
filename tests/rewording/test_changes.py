"""Changes that measure: what they must keep, and where they do not fit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2l_sdk.rewording import changes, copies
from p2l_sdk.rewording.changes import CHANGES
from p2l_sdk.rewording.copies import changed_copies
from p2l_sdk.rewording.prose import is_english, is_question, kept_parts, on_prose

CODE = "What does this function print?\n\n```python\ndef Total(Values):\n    return sum(Values)\n```"
CHOICE = "Which of the following is a large planet?\nA. Jupiter and Saturn\nB. The Moon of Earth\nAnswer:"
FORMULA = 'Find the value of $X_{Total}$ where Xavier said "Nothing Matters Here" on https://Example.org/Page.'
TWO = "The old house stood on a hill.\nNobody lived there.\nIts door was open.\n\nWho lives in the house?"
PROMPTS = [
    CODE,
    CHOICE,
    FORMULA,
    TWO,
    "write a function to find the depth of a dictionary",
    "Wer ist der König?",
    "你好",
    "7",
]
prompts = st.one_of(st.sampled_from(PROMPTS), st.text(min_size=1).filter(str.strip))


def change(name, prompt, seed=0):
    return CHANGES[name](prompt, random.Random(seed))


@given(prompts, st.sampled_from(sorted(CHANGES)), st.integers(0, 9))
def test_a_change_is_none_or_another_prompt_and_the_seed_decides_it(prompt, name, seed):
    new = change(name, prompt, seed)
    assert new is None or (new.strip() and new != prompt)
    assert new == change(name, prompt, seed)


@pytest.mark.parametrize("prompt", [CODE, CHOICE, FORMULA])
@pytest.mark.parametrize("name", CHANGES)
def test_code_options_formulas_quotations_and_addresses_stay(prompt, name):
    parts = kept_parts(prompt)
    assert parts
    for seed in range(20):
        new = change(name, prompt, seed)
        assert new is None or all(part in new for part in parts), new


@given(prompts, st.integers(0, 9))
def test_case_and_white_space_change_nothing_else(prompt, seed):
    new = change("case", prompt, seed)
    assert new is None or new.lower() == prompt.lower()
    spaced = change("white_space", prompt, seed)
    assert spaced is None or spaced.split() == prompt.split()


@given(st.sampled_from(PROMPTS), st.sampled_from(["politeness", "instruction", "paraphrase"]), st.integers(0, 9))
def test_added_words_leave_an_english_prompt_whole_and_other_prompts_alone(prompt, name, seed):
    new = change(name, prompt, seed)
    assert (new is not None) == is_english(prompt)
    assert new is None or prompt.strip() in new


def test_typos_are_few_and_of_small_letters():
    text = "Some people walk along narrow streets every morning while others remain inside their little houses. " * 5
    new = change("typos", text)
    wrong = [(a, b) for a, b in zip(text.split(), new.split(), strict=True) if a != b]
    assert 3 <= len(wrong) <= 8
    assert all(len(a) >= 5 and a[0] == b[0] and abs(len(a) - len(b)) <= 1 for a, b in wrong)
    assert change("typos", "Is it far to Rome?") is None


def test_the_request_changes_places_unless_it_points_at_the_rest():
    story, question = TWO.rsplit("\n\n", 1)
    assert change("order", TWO) == f"{question}\n\n{story}"
    assert change("order", f"{question}\n\n{story}") == TWO
    assert change("order", f"Summarise the following story.\n\n{story}") is None
    assert change("order", "Who lives here?") is None


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Sing a song.", {"Sing a song"}),
        ("sing a song", {"sing a song."}),
        ("who sang it", {"who sang it?"}),
        ("Who sang it?", {"Who sang it", "Who sang it??"}),
        ("What is 3 + 4", {None}),  # a mark behind a number could belong to it
        (CODE, {None}),
        (CHOICE, {None}),
    ],
)
def test_punctuation_at_the_end(prompt, expected):
    assert {change("punctuation", prompt, seed) for seed in range(20)} == expected


def test_synonyms_keep_capitals():
    assert change("synonyms", "Write a list. Which of the following is large?") == (
        "Compose a list. Which of these is big?"
    )


def test_questions_and_tasks():
    assert is_question("who is he")
    assert is_question("Tell me, is it so?")
    assert not is_question("Write a poem")


@given(prompts)
def test_prose_and_the_rest_are_the_whole_text(prompt):
    assert on_prose(prompt, lambda part: part) == prompt
    assert on_prose(prompt, lambda part: "") == "".join(kept_parts(prompt))


# --- copies to train on ----------------------------------------------------------------------------------------------


def test_no_wording_that_teaches_measures():
    measure = {*changes._POLITE, *changes._INSTRUCTIONS, *changes._QUESTIONS, *changes._TASKS}
    teach = {*copies._FRAMES, *copies._QUESTIONS, *copies._TASKS}
    bare = lambda frames: {frame.replace("{}", "").strip(" .:!").lower() for frame in frames}  # noqa: E731
    assert not bare(measure) & bare(teach)


def test_copies_are_of_each_prompt_by_itself_and_by_the_seed():
    found = changed_copies(PROMPTS, 6)
    assert [len(copy) for copy in found] == [len(PROMPTS)] * 6
    assert changed_copies(PROMPTS[1:2], 6) == [copy[1:2] for copy in found]
    assert changed_copies(PROMPTS, 6, seed=1) != found
    assert len({copy[4] for copy in found}) > 1
    assert all(part in copy[0] for copy in found for part in kept_parts(CODE))
    assert changed_copies(PROMPTS, 0) == []


@given(prompts, st.integers(0, 20))
def test_a_copy_is_a_prompt(prompt, seed):
    (copy,) = changed_copies([prompt], 1, seed)[0]
    assert isinstance(copy, str)
    assert copy.strip()


def test_of_a_conversation_the_last_turn_changes():
    chat = [
        {"role": "user", "content": "Write a poem about Rome"},
        {"role": "user", "content": "Write it again please."},
    ]
    found = [copy[0] for copy in changed_copies([chat], 8)]
    assert all(copy[0] == chat[0] and copy[1]["role"] == "user" for copy in found)
    assert any(copy[1] != chat[1] for copy in found)
