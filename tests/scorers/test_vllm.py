"""Models exported as sequence classifiers for vLLM, loaded by transformers alone and read back over HTTP.

No vLLM runs here: `VllmLike` answers in the format that vLLM documents for /v1/models and /classify, and computes its
answers with transformers' own class.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import COSTS, MODELS, shared, transformers_tokenizer
from lmarena_checkpoints import CHECKPOINTS, scored
from transformers import CONFIG_MAPPING, AutoModelForSequenceClassification

from p2l_sdk import P2L
from p2l_sdk.cli import cli
from p2l_sdk.errors import ModelFormatError, P2LError, PromptError, RemoteError
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.scorers.transformer import TransformerScorer
from p2l_sdk.scorers.vllm import VllmScorer
from p2l_sdk.scorers.vllm_export import DECODERS, export_vllm

PROMPTS = ["the cat", "write a poem about the sea", "code " * 100, [{"role": "user", "content": "hi"}], "the cat [SEP]"]
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 24, "num_experts_per_tok": 2}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "moe_intermediate_size": 8, "head_dim": 8}


def exported(p2l: P2L, folder):
    done = export_vllm(p2l._scorer, p2l.costs, folder)
    assert done.difference < 1e-5
    return done


def know(familiarity) -> None:
    """Training prompts of which half are like ours, and some are not like them at all."""
    familiarity.precision += 1.0
    familiarity.directions.copy_(torch.eye(3, 32))
    familiarity.quantiles.copy_(torch.linspace(2.0, 30.0, len(familiarity.quantiles)))
    familiarity.average.normal_()


class Classifier:
    """What transformers alone makes of an exported folder: token ids -> outputs, one prompt at a time."""

    def __init__(self, folder) -> None:
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def __call__(self, token_ids):
        with torch.inference_mode():
            return np.concatenate([self.model(input_ids=torch.tensor([ids])).logits.numpy() for ids in token_ids])


def assert_same(found, expected) -> None:
    for name in ("coefs", "eta", "gamma", "familiarity"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


CASES = [
    ("llama", "grk", {}),
    ("qwen2", "ba", {"cls_token": None}),
    ("llama", "bt", {"chat": False, "cls_token": None}),
    ("qwen2", "rk", {"head_norm": True}),  # as p2l train makes them
    ("llama", "grk", {"head_norm": True, "head_hidden_size": 8, "familiarity": 3}),
    ("llama", "bt_tie", {"kinds": ("maths", "code")}),
    ("bert", "grk", {"pooling": "first"}),
    ("bert", "bt", {"pooling": "pooler", "head_norm": True}),
]


@pytest.mark.parametrize(("kind", "feedback", "fields"), CASES)
def test_transformers_alone_gives_the_same_coefficients(kind, feedback, fields, saved, tmp_path):
    p2l = P2L.from_pretrained(saved(kind, feedback, **fields))
    if "familiarity" in fields:
        know(p2l._scorer.model.head.familiarity)
    done = exported(p2l, tmp_path / "e")
    classifier = Classifier(tmp_path / "e")
    read = P2L(VllmScorer(tmp_path / "e", classifier))
    assert_same(read.coefficients(PROMPTS), p2l.coefficients(PROMPTS))
    assert (read.models, read.costs, read.spec.feedback) == (p2l.models, p2l.costs, p2l.spec.feedback)
    plain = not {"head_norm", "kinds", "familiarity"} & fields.keys()
    assert done.outputs == ("coefficients" if plain else "states")
    if plain:  # nothing is left of the head but its bias
        ids = p2l._scorer.token_ids(PROMPTS)
        bias = p2l._scorer.model.head.coefs.bias.detach().numpy()
        coefs = classifier(ids)[:, : len(MODELS)] + bias
        np.testing.assert_allclose(coefs, p2l.coefficients(PROMPTS).coefs, atol=1e-5)
        assert list(classifier.model.config.id2label.values())[: len(MODELS)] == [*MODELS]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_checkpoints_of_the_papers_authors_give_their_true_coefficients(checkpoint, tmp_path):
    p2l = P2L.from_pretrained(shared(f"oracle/ckpt/{checkpoint}"))
    done = exported(p2l, tmp_path / "e")
    prompts, coefs, _ = scored(checkpoint)
    found = P2L(VllmScorer(tmp_path / "e", Classifier(tmp_path / "e"))).coefficients(prompts[:20])
    np.testing.assert_allclose(found.coefs, coefs[:20], atol=1e-5)
    assert done.outputs == "coefficients"


def test_a_padded_batch_of_transformers_ends_at_the_cls_token(saved, tmp_path):
    p2l = P2L.from_pretrained(saved("llama"))
    exported(p2l, tmp_path / "e")
    one = Classifier(tmp_path / "e")
    ids = p2l._scorer.token_ids(PROMPTS[:2])
    longest = max(map(len, ids))
    padded = torch.tensor([row + [one.model.config.pad_token_id] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    with torch.inference_mode():
        together = one.model(input_ids=padded, attention_mask=mask).logits.numpy()
    np.testing.assert_allclose(together, one(ids), atol=1e-5)


@pytest.mark.parametrize("kind", [*DECODERS, "roberta", "xlm-roberta"])
def test_every_family_that_is_said_to_be_exported_is(kind, tmp_path):
    tokenizer = transformers_tokenizer()
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = CONFIG_MAPPING[kind](hidden_size=16, num_hidden_layers=2, **tokens, **HEADS, **EXPERTS)
    rules = {"pooling": "last"} if kind in DECODERS else {"pooling": "first", "chat": False}
    torch.manual_seed(0)
    model = P2LModel(P2LConfig(backbone_config=config, models=MODELS, feedback="bt", max_prompt_tokens=24, **rules))
    p2l = P2L(TransformerScorer(model, tokenizer))
    exported(p2l, tmp_path / "e")
    read = P2L(VllmScorer(tmp_path / "e", Classifier(tmp_path / "e")))
    assert_same(read.coefficients(PROMPTS), p2l.coefficients(PROMPTS))


def test_what_a_classifier_cannot_express_is_refused_by_name(saved, tmp_path):
    for kind, text in (
        ("bert", r"this model's pooling is 'mean', and that of a sequence classifier of type bert is 'first' or"),
        ("static", "vLLM serves transformers, and this model is none; p2l serve runs it"),
    ):
        p2l = P2L.from_pretrained(saved(kind))
        with pytest.raises(P2LError, match=text):
            export_vllm(p2l._scorer, p2l.costs, tmp_path / "e")
    assert not (tmp_path / "e").exists()
    with pytest.raises(ModelFormatError, match="is no model exported for vLLM; make one with p2l export"):
        VllmScorer(saved("llama"), print)


def test_an_exported_model_needs_its_server(folder):
    for options, text in (
        ({}, "was exported for vLLM; name the server that runs it: runtime='http://host:8000'"),
        ({"runtime": "onnx"}, "was exported for vLLM; name the server"),
        ({"runtime": "http://127.0.0.1:9", "device": "cuda"}, "a vLLM server takes no device"),
    ):
        with pytest.raises(P2LError, match=text):
            P2L.from_pretrained(folder, **options)


class VllmLike:
    """A server that speaks vLLM's documented formats. Attributes: url; bodies, the requests; faults, given instead."""

    def __init__(self, classifier, max_model_len: int = 64, key: str | None = None) -> None:
        self.bodies, self.faults = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if key is not None and self.headers["Authorization"] != f"Bearer {key}":
                    return self.answer(401, {"error": "Unauthorized"})
                model = {"id": "exported", "object": "model", "owned_by": "vllm", "max_model_len": max_model_len}
                return self.answer(200, {"object": "list", "data": [model]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                if self.path != "/classify" or body["model"] != "exported":
                    return self.answer(404, {"error": {"message": "no such model", "code": 404}})
                if outer.faults:
                    return self.answer(*outer.faults.pop(0))
                rows = [
                    {"index": i, "label": "a", "probs": probs, "num_classes": len(probs)}
                    for i, probs in enumerate(np.asarray(classifier(body["input"])).tolist())
                ]
                usage = {"prompt_tokens": 1, "total_tokens": 1, "completion_tokens": 0}
                whole = {"id": "classify-1", "object": "list", "created": 1, "model": "exported", "usage": usage}
                return self.answer(200, {**whole, "data": rows[::-1]})

            def answer(self, status, content):
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def folder(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vllm") / "e"
    exported(P2L.from_pretrained(saved("llama", head_norm=True)), folder)
    return folder


def test_a_server_is_read_back_as_leaderboards_and_routes(folder, saved):
    p2l, prompts = P2L.from_pretrained(saved("llama", head_norm=True)), PROMPTS * 40
    with VllmLike(Classifier(folder)) as server:
        read = P2L.from_pretrained(folder, runtime=server.url)
        assert_same(read.coefficients(prompts), p2l.coefficients(prompts))
        assert read.route("the cat", COSTS[MODELS[0]]).expected_cost == pytest.approx(
            p2l.route("the cat", COSTS[MODELS[0]]).expected_cost, abs=1e-6
        )
        np.testing.assert_allclose(read.aggregate(prompts).coefs, p2l.aggregate(prompts).coefs, atol=1e-4)
    assert [len(body["input"]) for body in server.bodies[:2]] == [128, 72]
    assert all(body["use_activation"] is False and body["add_special_tokens"] is False for body in server.bodies)
    assert max(len(ids) for body in server.bodies for ids in body["input"]) == 24  # truncated here


def test_what_is_wrong_with_a_server_is_said(folder, monkeypatch):
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    zeros = lambda token_ids: np.zeros((len(token_ids), 3))  # noqa: E731
    with VllmLike(zeros, max_model_len=16) as server, pytest.raises(RemoteError, match="--max-model-len 24"):
        VllmScorer(folder, server.url)
    with VllmLike(zeros, key="sk-1") as server:
        with pytest.raises(RemoteError, match=r"does not accept a request without a key; .* or set VLLM_API_KEY"):
            VllmScorer(folder, server.url)
        monkeypatch.setenv("VLLM_API_KEY", "sk-1")
        scorer = VllmScorer(folder, server.url, retries=1)
        with pytest.raises(RemoteError, match="outputs 3 numbers for a prompt, and the exported model 32; does it"):
            scorer.score(["the cat"])
        for fault, text in (
            ((400, {"error": {"message": "too long", "code": 400}}), "answers 400: too long"),
            ((200, {"data": [{"index": 1, "probs": [1.0]}]}), "not as a vLLM server does"),
            ((200, {"data": [{"index": 0, "probs": ["x"]}]}), "not as a vLLM server does"),
            ((200, [1]), "not as a vLLM server does"),
        ):
            server.faults[:] = [fault]
            with pytest.raises(RemoteError, match=text):
                scorer.score(["the cat"])
        with pytest.raises(PromptError, match="the prompt is empty") as caught:
            scorer.score(["the cat", " "])
        assert caught.value.index == 1
    with pytest.raises(RemoteError, match=r"cannot be reached .*; does vllm serve run there"):
        VllmScorer(folder, "http://127.0.0.1:9", retries=0)


def test_a_damaged_export_is_refused(folder, tmp_path):
    copy = tmp_path / "e"
    shutil.copytree(folder, copy)
    config = json.loads((copy / "p2l" / "config.json").read_text())
    (copy / "p2l" / "config.json").write_text(json.dumps(config | {"n_outputs": 7}))
    with pytest.raises(ModelFormatError, match="its config and its tensors do not fit together"):
        VllmScorer(copy, print)


def test_reading_needs_no_torch(folder):
    code = (
        "import sys, numpy as np; from p2l_sdk.scorers.vllm import VllmScorer\n"
        f"s = VllmScorer({str(folder)!r}, lambda ids: np.ones((len(ids), 32)))\n"
        "assert s.score(['the cat']).coefs.shape == (1, 4)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_says_how_to_serve_it(saved, tmp_path):
    def export(model, *options):
        return CliRunner().invoke(cli, ["export", str(model), "--runtime", "vllm", *options])

    out = tmp_path / "e"
    done = export(saved("llama"), "--output", str(out))
    assert "LlamaForSequenceClassification, 5 outputs (coefficients)" in done.output
    assert f"vllm serve {out} --runner pooling --max-model-len 24" in done.output
    assert "exists" in str(export(saved("llama"), "--output", str(out)).exception)
    assert "this model is none" in str(export("default", "--output", str(tmp_path / "s")).exception)
    assert "name a new folder: --output DIR" in export("default").output
    assert "--int8 is of --runtime onnx" in export("default", "--int8", "--output", str(tmp_path / "s")).output
    assert json.loads(export(saved("qwen2"), "--json", "--output", str(tmp_path / "j")).output)["n_outputs"] == 5
