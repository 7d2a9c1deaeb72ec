"""Scripts that a vocabulary cannot spell are read as question marks, not as the Chinese that else it cannot spell."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModel, AutoTokenizer

from p2l_sdk import P2L
from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.scorers.static import read_tokenizer
from p2l_sdk.training.unread_scripts import mark_unread


@pytest.fixture(scope="module")
def marked() -> Tokenizer:
    return read_tokenizer(STATIC_MODEL)


@pytest.fixture(scope="module")
def plain(marked) -> Tokenizer:
    """BERT's, as the table was distilled with it."""
    state = json.loads(marked.to_str())
    state["normalizer"] = state["normalizer"]["normalizers"][-1]
    return Tokenizer.from_str(json.dumps(state))


def tokens(tokenizer: Tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text, add_special_tokens=False).tokens


def test_the_embedded_table_has_the_tokenizer_that_distilling_gives_it(marked, plain):
    assert json.loads(mark_unread(plain).to_str()) == json.loads(marked.to_str())


FANCY = "".join(map(chr, range(0x1D573, 0x1D578)))
READ = {
    "สวัสดีครับ วันนี้": ["?", "?"],
    "გამარჯობა": ["?"],
    "வணக்கம், Chennai": ["?", ",", "chennai"],
    "😀": ["?"],
    "so good 👍🔥!": ["so", "good", "?", "!"],
    f"{FANCY} Ⓗⓔⓛⓛⓞ ⠓⠑": ["?", "?", "?"],
    "你好": ["[UNK]", "[UNK]"],  # where it tells something, it stays
    f"let {FANCY[0]} ∑ ① ➞ be": ["let", "[UNK]", "[UNK]", "[UNK]", "[UNK]", "be"],
    "♥ ★ नमस्ते": ["♥", "★", "न", "##म", "##स", "##त"],  # which are in the vocabulary
}


@pytest.mark.parametrize("text", READ)
def test_what_cannot_be_spelled_is_a_question_mark(marked, text):
    assert tokens(marked, text) == READ[text]


def test_all_else_is_read_as_before(marked, plain):
    for text in (
        "What is 17 * 23?",
        "naïve — “café” £5",
        "Привет, мир",
        "日本語のテスト",
        "안녕하세요",
        "שלום",
        "γεια",
        "مرحبا",
    ):
        assert tokens(marked, text) == tokens(plain, text)
    every = "".join(map(chr, range(0x80)))
    assert tokens(marked, every) == tokens(plain, every)


def test_other_tokenizers_stay_as_they_are():
    vocab = {"[UNK]": 0, "a": 1, "?": 2}
    bert = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer()
    found = mark_unread(bert)
    assert tokens(bert, "😀") == ["[UNK]"]
    assert tokens(found, "😀") == ["?"]
    assert mark_unread(found) is found
    silent = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    silent.normalizer = normalizers.BertNormalizer()
    for other in (silent, Tokenizer(models.WordPiece(vocab, unk_token="[UNK]")), Tokenizer(models.BPE())):
        assert mark_unread(other) is other


def test_a_script_that_a_vocabulary_spells_stays_in_it():
    letters = [*["[UNK]", "?", "😀"], *"สวัสดีไทย", *(f"##{letter}" for letter in "สวัสดีไทย")]
    thai = Tokenizer(
        models.WordPiece({letter: i for i, letter in enumerate(dict.fromkeys(letters))}, unk_token="[UNK]")
    )
    thai.normalizer = normalizers.BertNormalizer(strip_accents=False)
    thai.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert tokens(mark_unread(thai), "ไทย 😀 ሰላም")[-2:] == ["😀", "?"]
    assert "?" not in tokens(mark_unread(thai), "ไทย")


@pytest.fixture(scope="module")
def arena() -> P2L:
    return P2L.from_pretrained()


@pytest.mark.parametrize("text", ["😀", "👍👍🔥", "สวัสดีครับ ช่วยแนะนำหนังหน่อย", "გამარჯობა, როგორ ხარ?", FANCY, "ᚠᚢᚦ"])
def test_what_nobody_here_can_read_is_of_no_kind_and_gets_the_overall_leaderboard(arena, text):
    board = arena.leaderboard(text)
    assert max(board.kinds.values()) < 0.1
    overall = arena.leaderboard("???")
    assert max(abs(board.ratings - overall.ratings)) < 5  # of 400 for odds of 10 to 1


def test_chinese_is_still_recognised_by_what_cannot_be_spelled(arena):
    for text in ("你好", "写一首关于春天的诗", "请解释牛顿第二定律 🙂"):
        assert arena.leaderboard(text).kinds["chinese"] > 0.8


def test_transformers_alone_reads_the_same(arena, tmp_path):
    arena.save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True)
    texts = [*READ, "Write a poem 🙂"]
    ids = model.prepare(texts, tokenizer)["input_ids"]
    expected = arena._scorer.encoder(texts)
    assert [row[: len(own)].tolist() for row, own in zip(ids, expected, strict=True)] == expected
