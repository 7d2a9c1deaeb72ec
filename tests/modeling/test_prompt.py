"""From prompts to tokens: the reference's token ids, errors, and awkward text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import CHAT_TEMPLATE, ROOT, shared, transformers_tokenizer, word_tokenizer

from p2l_sdk.errors import ModelFormatError, PromptError
from p2l_sdk.modeling.prompt_p2l import PromptEncoder, pad, user_turns
from p2l_sdk.modeling.spec_p2l import ModelSpec

SPEC = ModelSpec(models=("a", "b"), feedback="bt", chat=False, max_prompt_tokens=6)


def plain(**fields) -> PromptEncoder:
    return PromptEncoder(SPEC.replace(**fields), word_tokenizer())


@pytest.mark.parametrize("checkpoint", ["tiny-qwen2-bt", "tiny-qwen2-grk", "tiny-llama-rk"])
def test_token_ids_of_the_reference(checkpoint):
    """Ours are those of the paper's training collator on all 36 awkward prompts that it accepts."""
    from transformers import AutoTokenizer

    folder = shared(f"oracle/ckpt/{checkpoint}")
    training = json.loads((folder / "training_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    spec = ModelSpec(
        models=json.loads((folder / "model_list.json").read_text()),
        feedback=training["loss_type"],
        max_prompt_tokens=training["max_length"],
        cls_token=tokenizer.cls_token,
    )
    encode = PromptEncoder.from_transformers(spec, tokenizer)
    prompts = {p["id"]: p["prompt"] for p in json.loads(shared("oracle/prompts.json").read_text())}
    compared = 0
    for row in json.loads(shared(f"oracle/outputs/{checkpoint}.json").read_text())["rows"]:
        expected = row.get("collator_input_ids")
        if expected == "same as endpoint_input_ids":
            expected = row["endpoint_input_ids"]
        if not isinstance(expected, list):
            continue
        prompt = prompts[row["id"]]
        turns = [{"role": "user", "content": t} for t in prompt] if isinstance(prompt, list) else prompt
        if not any(t.strip() for t in ([prompt] if isinstance(prompt, str) else prompt)):
            continue  # the reference scores an empty prompt, we refuse it
        assert encode([turns]) == [expected], row["id"]
        compared += 1
    assert compared >= 30


def test_conversations_are_read_by_their_user_turns():
    conversation = [
        {"role": "system", "content": "poem"},
        {"role": "user", "content": "write a poem"},
        {"role": "assistant", "content": "code"},
        {"role": "user", "content": [{"type": "text", "text": "about"}, {"type": "image_url", "image_url": {}}]},
    ]
    assert user_turns(conversation) == ["write a poem", "about"]
    assert plain()([conversation]) == plain()(["write a poem\n\nabout"])


def test_a_null_is_nothing_and_not_the_word_none():
    """As nested columns of the Hub hold parts: each has the keys of all."""
    parts = [
        {"type": "text", "text": "write", "image": None},
        {"type": "image", "text": None, "image": {"bytes": None, "path": "a.png"}},
        {"type": "text", "text": None, "image": None},
        {"type": "text"},
        {"type": None, "text": None, "image": None},
        None,
        {"type": "text", "text": "code", "image": None},
    ]
    assert user_turns([{"role": "user", "content": parts}]) == ["write\ncode"]
    for nothing in ([{"type": "text", "text": None}], [None], []):
        assert user_turns([{"role": "user", "content": nothing}, {"role": "user", "content": "sum"}]) == ["", "sum"]


def test_only_user_turns_need_a_content():
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    conversation = [
        {"role": "developer", "content": None},
        {"role": "system"},
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": None}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "function", "name": "weather", "content": {"degrees": 21}},
        {"role": "assistant", "content": "21 degrees", "refusal": None},
        {"role": "user", "content": "And tomorrow?"},
    ]
    assert user_turns(conversation) == ["What is the weather?", "And tomorrow?"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([{"role": "user", "content": None}], "the content of message 0 is neither a string nor"),
        ([{"role": "system"}, {"role": "user"}], "message 1 is not a chat message: it needs the keys 'role' and 'cont"),
        ([{"role": "user", "content": [{"type": "text", "text": 3}]}], "message 0 has a part whose text is int"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "the prompt is empty"),
        ([{"role": "user", "content": ["a"]}], "the content of message 0 is neither"),
        ([{"role": None, "content": "a"}], "message 0 has the role None"),
        ([None], "message 0 is not a chat message"),
        ("", "the prompt is empty"),
        (" \n\t\u2003", "the prompt is empty"),
        ("a\ud800b", "lone surrogate at character 1"),
        (None, "not NoneType"),
        (b"bytes", "not bytes"),
        (["one", "two"], "a list of strings is a batch of prompts"),
        ([], "no user turn"),
        ([{"role": "assistant", "content": "x"}], "no user turn"),
        ([{"role": "wizard", "content": "x"}], "message 0 has the role 'wizard'; legal roles: system, developer, user"),
        ([{"content": "x"}], "message 0 is not a chat message"),
        ([{"role": "user", "content": 3}], "the content of message 0"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "the prompt is empty"),
        ("\x00\x07", "no character that the tokenizer knows"),
    ],
)
def test_what_is_no_prompt_is_refused(prompt, message):
    with pytest.raises(PromptError, match=message):
        plain()([prompt])


def test_a_bad_prompt_of_a_batch_is_named_by_its_place():
    with pytest.raises(PromptError, match="prompt 2: the prompt is empty") as caught:
        plain()(["write", "code", ""])
    assert caught.value.index == 2


def test_the_end_of_a_long_prompt_is_kept():
    ids = plain()(["write a poem about code in python"])[0]
    assert len(ids) == 6
    assert ids == plain()(["a poem about code in python"])[0]


class Reads:
    """A tokenizer that counts the characters it is given."""

    def __init__(self, tokenizer):
        self._tokenizer, self.characters = tokenizer, 0

    def encode_batch_fast(self, texts, **options):
        self.characters += sum(map(len, texts))
        return self._tokenizer.encode_batch_fast(texts, **options)


def watched(encode: PromptEncoder) -> Reads:
    encode._tokenizer = Reads(encode._tokenizer)
    return encode._tokenizer


def real_tokenizers():
    """(encoder, its tokenizer without truncation), for the default model and for an LLM."""
    from p2l_sdk.scorers.static import read_tokenizer

    folder = ROOT / "src" / "p2l_sdk" / "embedded" / "routing9"
    spec = ModelSpec.from_config(json.loads((folder / "config.json").read_text()))
    yield PromptEncoder(spec, read_tokenizer(folder)), read_tokenizer(folder)
    folder = shared("oracle/ckpt/tiny-qwen2-bt")
    yield PromptEncoder(spec.replace(max_prompt_tokens=300), read_tokenizer(folder)), read_tokenizer(folder)


def test_of_a_very_long_prompt_only_the_end_is_read_and_the_tokens_are_the_same(rng):
    awkward = json.loads(shared("oracle/prompts.json").read_text())
    texts = [p["prompt"] if isinstance(p["prompt"], str) else "\n\n".join(p["prompt"]) for p in awkward]
    texts = [text for text in texts if text.strip() and len(text) < 2000]
    for encode, tokenizer in real_tokenizers():
        limit, reads = encode._spec.max_prompt_tokens, watched(encode)
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        for _ in range(2):
            text = " ".join(rng.choice(texts, 1000))
            assert encode([text, "short"])[0] == tokenizer.encode(text, add_special_tokens=False).ids[-limit:]
            assert len(text) > 3 * 32 * limit
        assert reads.characters <= 2 * (32 * limit + len("short"))


def test_of_blanks_more_is_read_but_not_all():
    encode = plain()
    reads = watched(encode)
    assert encode(["write a poem" + " " * 6000, "code" + " " * 100]) == plain()(["write a poem", "code"])
    assert 6000 < reads.characters < 6500
    assert encode(["write a poem" + " " * 100_000 + "about code"]) == plain()(["about code"])
    assert reads.characters < 6500 + 6 * (32 + 1024) + 1


def test_special_tokens_in_a_prompt_are_ordinary_text():
    tokenizer = word_tokenizer()
    reserved = {tokenizer.token_to_id(t) for t in ("[SEP]", "[CLS]", "[PAD]", "<|cls|>", "<|im_end|>")}
    for text in ("[SEP]", "[CLS] a", "[PAD]", "<|im_end|>"):
        assert not reserved & set(plain(max_prompt_tokens=20)([text])[0])


def test_chat_template_cls_and_special_tokens():
    tokenizer = transformers_tokenizer()
    cls_id = tokenizer.convert_tokens_to_ids("<|cls|>")
    spec = SPEC.replace(chat=True, cls_token="<|cls|>", max_prompt_tokens=12)
    encode = PromptEncoder.from_transformers(spec, tokenizer)
    assert encode.text("write <|cls|>") == "<|im_start|>user\nwrite <cls><|im_end|>\n"
    short, long = encode(["write", "write a poem about code in python sum list list list"])
    assert short[-1] == long[-1] == cls_id
    assert short.count(cls_id) == 1
    assert len(long) == 12
    assert tokenizer.chat_template == CHAT_TEMPLATE  # the user's tokenizer is unchanged
    assert tokenizer.backend_tokenizer.truncation is None
    bert = PromptEncoder.from_transformers(SPEC.replace(add_special_tokens=True), tokenizer)
    names = [tokenizer.convert_ids_to_tokens(i) for i in bert(["write a poem about code in python"])[0]]
    assert names == ["[CLS]", "about", "code", "in", "python", "[SEP]"]


def test_a_tokenizer_that_does_not_fit_the_spec_is_refused():
    with pytest.raises(ModelFormatError, match="chat template"):
        plain(chat=True)
    with pytest.raises(ModelFormatError, match="CLS token '<nope>' is not in the tokenizer"):
        plain(cls_token="<nope>")


def test_padding_is_on_the_right():
    ids, mask = pad([[5, 6, 7], [8]], pad_id=0)
    np.testing.assert_array_equal(ids, [[5, 6, 7], [8, 0, 0]])
    np.testing.assert_array_equal(mask, [[1, 1, 1], [1, 0, 0]])
