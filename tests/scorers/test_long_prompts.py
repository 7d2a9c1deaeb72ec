"""A prompt of which the model reads only the end is named, once, with how many there are."""

from __future__ import annotations

import warnings

import pytest

from p2l_sdk import P2L
from p2l_sdk.cli import cli, run
from p2l_sdk.errors import P2LWarning

MOST = 512


@pytest.fixture(scope="module")
def p2l() -> P2L:
    return P2L.from_pretrained("routing9")


def words(n: int) -> str:
    return " ".join(["word"] * n)


def said(action) -> list[str]:
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        action()
    return [str(warning.message) for warning in met if issubclass(warning.category, P2LWarning)]


def test_one_prompt(p2l):
    cut = ["the prompt has more than 512 tokens: this model reads its last 512"]
    assert p2l.spec.max_prompt_tokens == MOST
    assert said(lambda: p2l.leaderboard(words(MOST))) == []
    for n in (MOST + 1, 40 * MOST):
        assert said(lambda n=n: p2l.leaderboard(words(n))) == cut
        assert said(lambda n=n: p2l.route(words(n))) == cut


def test_a_stream_says_it_once_with_the_number(p2l):
    prompts = [words(MOST + 1) if i % 100 == 0 else words(3) for i in range(600)]
    for action in (p2l.aggregate, p2l.coefficients, p2l.leaderboards):
        found = said(lambda action=action: action(prompts))
        assert found == ["6 of 600 prompts have more than 512 tokens: this model reads the last 512 of each"]


def test_a_text_model_says_it_too(tmp_path, p2l):
    torch = pytest.importorskip("torch")
    p2l.save_pretrained(tmp_path / "model")
    from p2l_sdk.hub.config import read_config
    from p2l_sdk.scorers.transformer import TransformerScorer

    scorer = TransformerScorer.load(tmp_path / "model", read_config(tmp_path / "model"))
    assert torch.isfinite(torch.from_numpy(scorer.score([words(MOST + 1)]).coefs)).all()
    assert scorer.encoder.n_cut == 1


def test_a_prompt_that_is_cut_is_tokenized_once(p2l):
    """What is counted is seen in the first pass: of a long word, too, and where only the end of a text is read."""
    from p2l_sdk.scorers.encoder import n_cut
    from p2l_sdk.scorers.many import for_many

    long = "字" * (MOST + 1)  # for the tokenizer, words of one character each; between two blanks, one word
    prompts = [words(MOST), words(MOST + 1), long, long[1:], "a " + long[1:], words(MOST) + " " * 40 * MOST, "short"]
    for scorer in (p2l._scorer, for_many(p2l._scorer)):
        encode, texts = scorer.encoder, list[str]()
        read = encode._read
        before = n_cut(scorer)
        encode._read = lambda given, characters, read=read, texts=texts: texts.extend(given) or read(given, characters)
        assert [len(row) for row in encode(prompts)] == [MOST] * 6 + [1]
        del encode._read
        assert n_cut(scorer) - before == 3
        assert len(texts) == len(prompts) + 1  # of the blanks at an end, more is read


def test_the_command_line_says_it_on_stderr(capsys):
    assert (
        run(lambda: cli(["route", words(MOST + 1), "--model", "routing9"], prog_name="p2l", standalone_mode=False)) == 0
    )
    assert (
        capsys.readouterr().err == "p2l: warning: the prompt has more than 512 tokens: this model reads its last 512\n"
    )
