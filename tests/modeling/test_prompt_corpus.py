"""Prompts drawn at random, good and bad: the code saved with the weights reads and refuses them as the SDK does."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
from p2l_server import Running
from researcher import answer

from p2l_sdk import P2L
from p2l_sdk.errors import P2LError
from p2l_sdk.serve import Engine, create_app

WORDS = ["write", "a poem", "about", "python", "code", "None", "null", "<|cls|>", "[SEP]", "<|im_end|>", "<cls>", "ß",
         "\u4f60", "\U0001f600", "e\u0301", "\u202e", "\x00", "\ufeff", "\n\n", "\t", " ", "\r", "{{ x }}", "{% raw %}",
         "\ud83d", "\x07", "17 * 23?"]  # fmt: skip
OTHERS = ["system", "developer", "assistant", "function", "tool"]
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ODD = [None, 7, True, [], {}, "", " ", ["a"], {"role": "user"}, [None], [[]], [7], [{"type": "text"}], {"text": "a"}]


def text(draw: random.Random) -> str:
    words = WORDS if draw.random() < 0.1 else WORDS[:-3]
    length = 400 if draw.random() < 0.05 else 6
    return draw.choice(["", " "]).join(draw.choices(words, k=draw.randrange(length)))


def part(draw: random.Random) -> object:
    return draw.choice(
        [
            {"type": "text", "text": text(draw)},
            {"type": "text", "text": text(draw), "image": None},
            {"type": "text", "text": None},
            {"type": "image", "text": None, "image": {"path": "a.png"}},
            {"type": "image_url", "image_url": {"url": "data:"}},
            {"type": None, "text": None},
            {"type": "text"},
            None,
            draw.choice([{"text": "a"}, {"type": "text", "text": 7}, "a", 7]) if draw.random() < 0.2 else None,
        ]
    )


def message(draw: random.Random) -> object:
    kind = draw.random()
    if kind < 0.03:
        return draw.choice(ODD)
    if kind < 0.4:
        bare = {"role": draw.choice(OTHERS)}
        more = [{}, {"content": None}, {"tool_calls": [CALL]}, {"content": text(draw)}, {"content": {"degrees": 21}}]
        return {**bare, **draw.choice(more)}
    if kind < 0.44:
        return {"role": draw.choice(["wizard", None, 7, "User"]), "content": "a"}
    content = draw.choice([text(draw), text(draw), [part(draw) for _ in range(draw.randrange(4))], draw.choice(ODD)])
    return {"role": "user", "content": content}


def corpus(n: int) -> list:
    """`n` prompts of a seed, as JSON can hold them."""
    draw = random.Random(17)
    kinds = [text, lambda d: [message(d) for _ in range(d.randrange(1, 6))], lambda d: d.choice(ODD)]
    return [draw.choices(kinds, [6, 12, 1])[0](draw) for _ in range(n)]


CORPUS = corpus(250)

# reads the prompts from a file, in a process that cannot import p2l_sdk
RESEARCHER = """
import json, sys
sys.modules["p2l_sdk"] = None
import torch
from transformers import AutoModel, AutoTokenizer, pipeline
prompts = json.load(open(sys.argv[1]))

def tried(read, prompt):
    try:
        return read(prompt)
    except ValueError as error:
        return type(error).__name__ + ": " + str(error)

found = []
for folder in sys.argv[2:]:
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    pipe = pipeline("prompt-to-leaderboard", folder, trust_remote_code=True)
    assert type(pipe).__module__.startswith("transformers_modules")

    @torch.inference_mode()
    def coefs(prompt):
        return model(**model.prepare(["sum", prompt], tokenizer)).coefs[1].tolist()

    def board(prompt):
        return {row["model"]: row["coef"] for row in pipe(["sum", prompt])[1]["leaderboard"]}

    # a tokenizer is read anew for each call of `prepare`, so it gets fewer prompts
    found.append([[tried(board, prompt), i % 4 == 0 and tried(coefs, prompt)] for i, prompt in enumerate(prompts)])
print(json.dumps(found))
"""


def expected(p2l: P2L, prompt: object) -> np.ndarray | str:
    """The coefficients of the second of two prompts in the SDK, or its refusal."""
    try:
        return p2l.coefficients(["sum", prompt]).coefs[1]
    except P2LError as error:
        return f"{type(error).__name__}: {error}"


def test_the_corpus_holds_both_good_and_bad_prompts(routing9):
    values = [expected(routing9, prompt) for prompt in CORPUS]
    refused = {value for value in values if isinstance(value, str)}
    assert 100 < sum(not isinstance(value, str) for value in values) < 220
    assert len({value.split(": ")[2][:12] for value in refused}) >= 8, refused


@pytest.mark.long
def test_the_saved_code_treats_every_prompt_as_the_sdk_does(saved, tmp_path):
    P2L.from_pretrained("routing9").save_pretrained(tmp_path / "routing9")
    folders = [tmp_path / "routing9", saved("llama"), saved("bert", "bt")]
    (tmp_path / "prompts.json").write_text(json.dumps(CORPUS), encoding="utf-8")
    found = answer(RESEARCHER, tmp_path, tmp_path / "prompts.json", *folders)
    for folder, values in zip(folders, found, strict=True):
        p2l = P2L.from_pretrained(folder)
        for prompt, (board, coefs) in zip(CORPUS, values, strict=True):
            value = expected(p2l, prompt)
            if isinstance(value, str):
                assert (board, coefs or value) == (value, value), prompt
            else:
                assert not isinstance(board, str), (prompt, board)
                np.testing.assert_allclose(coefs or value, value, atol=2e-4, err_msg=repr(prompt))
                np.testing.assert_allclose([board[name] for name in p2l.models], value, atol=2e-4, err_msg=repr(prompt))


def is_text(value: object) -> bool:
    """Whether JSON without lone surrogates can hold a value."""
    return not re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False))


def test_the_server_treats_every_prompt_as_the_sdk_does(routing9):
    """It refuses what JSON cannot hold, or its schema, in words of its own."""
    with Running(create_app(Engine(routing9))) as server:
        for prompt in CORPUS:
            value = expected(routing9, prompt)
            status, reply, _ = server.ask("/v1/coefficients", {"prompts": ["sum", prompt]})
            if isinstance(value, str):
                assert status in (400, 422), (prompt, value, reply)
            elif '\\ud83d"' not in json.dumps(prompt):
                assert status == 200, (prompt, reply)
                np.testing.assert_allclose(reply["coefs"][1], value, atol=1e-5, err_msg=repr(prompt))
