"""The pipelines saved with the weights, in this process and with transformers alone; the endpoint's handler."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import MODELS, ROOT, build_model, transformers_tokenizer, word_tokenizer
from researcher import without_p2l_sdk
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    TextClassificationPipeline,
    dynamic_module_utils,
    pipeline,
)
from transformers.pipelines.pt_utils import KeyDataset

from p2l_sdk import P2L, P2LError
from p2l_sdk.errors import ModelFormatError, PromptError
from p2l_sdk.modeling.configuration_p2l import P2LConfig
from p2l_sdk.modeling.modeling_p2l import P2LModel
from p2l_sdk.modeling.pipeline_p2l import LeaderboardPipeline, TopModelsPipeline
from p2l_sdk.modeling.spec_p2l import CUSTOM_PIPELINES
from p2l_sdk.training.static import write_static

NATIVE, WIDGET = CUSTOM_PIPELINES
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "write a poem about python"}]
PROMPTS = ["sum", CHAT, "prove that the square root of two is irrational in code", "poem"]


@pytest.fixture(scope="module")
def p2l(saved):
    return P2L.from_pretrained(saved("llama"))


@pytest.fixture(scope="module")
def native(saved, p2l):
    return pipeline(NATIVE, str(saved("llama")))


@pytest.fixture(scope="module")
def widget(saved, p2l):
    return pipeline(WIDGET, str(saved("llama")))


def close(found, expected) -> None:
    """Check for equality, of numbers up to float32 precision."""
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            close(*pair)
    else:
        assert found == (pytest.approx(expected, rel=1e-4, abs=1e-4) if isinstance(expected, float) else expected)


# --- results ------------------------------------------------------------------------------------------------------


def test_the_native_task_gives_the_leaderboard_of_the_sdk(native, p2l):
    for prompt in PROMPTS:
        close(native(prompt), p2l.leaderboard(prompt).to_dict())
    expected = [board.to_dict() for board in p2l.leaderboards(PROMPTS)]
    for batch_size in (None, 1, 3):
        close(native(PROMPTS, batch_size=batch_size), expected)
    close(native(tuple(PROMPTS)), expected)
    assert native([]) == []
    assert [len(result["leaderboard"]) for result in native(PROMPTS, top_k=2)] == [2] * 4


def test_other_iterables_are_read_as_they_come(native, p2l):
    asked = []

    def stream():
        for i in range(600):
            asked.append(i)
            yield PROMPTS[i % 4]

    results = native(stream())
    close(next(results), p2l.leaderboard(PROMPTS[0]).to_dict())
    assert len(asked) < 600
    rest = list(results)
    assert len(rest) == 599
    close(rest[-1], p2l.leaderboard(PROMPTS[599 % 4]).to_dict())
    column = KeyDataset([{"prompt": prompt} for prompt in PROMPTS], "prompt")
    close(list(native(column)), native(PROMPTS))


def test_the_shape_of_text_classification(widget, p2l):
    board = p2l.leaderboard("sum")
    result = widget("sum")
    assert [row["label"] for row in result] == board.ranking
    assert [row["score"] for row in result] == pytest.approx(sorted(board.usable, reverse=True), rel=1e-5)
    assert [set(row) for row in result] == [{"label", "score"}] * 4
    assert widget(CHAT, top_k=2) == widget(CHAT)[:2]
    batch = widget(PROMPTS, top_k=1)
    assert [rows[0]["label"] for rows in batch] == [b.best for b in p2l.leaderboards(PROMPTS)]
    assert [len(rows) for rows in widget(PROMPTS, top_k=None)] == [4] * 4


def test_at_first_five_of_many_llms(tmp_path):
    model = build_model("static", models=[f"m{i}" for i in range(9)], costs={})
    assert len(TopModelsPipeline(model=model, tokenizer=transformers_tokenizer())("sum")) == 5
    assert len(TopModelsPipeline(model=model, tokenizer=transformers_tokenizer(), top_k=7)("sum")) == 7


@pytest.mark.parametrize("feedback", ["bt", "rk", "ba"])
def test_without_a_ground_the_score_is_the_win_rate(feedback):
    model = build_model("static", feedback)
    pipe = TopModelsPipeline(model=model, tokenizer=transformers_tokenizer(), device="cpu")
    found = {row["label"]: row["score"] for row in pipe("sum", top_k=None)}
    coefs = model(**model.prepare(["sum"], transformers_tokenizer())).coefs[0].detach().numpy().astype(float)
    for i, name in enumerate(MODELS):
        wins = [1 / (1 + np.exp(c - coefs[i])) for c in coefs]
        assert found[name] == pytest.approx(np.mean(wins), abs=1e-6)
    assert np.mean(list(found.values())) == pytest.approx(0.5)


def test_a_route_scores_as_the_widget_does(saved):
    p2l = P2L.from_pretrained(saved("static", "bt"))
    pipe = TopModelsPipeline(model=build_model("static", "bt"), tokenizer=transformers_tokenizer())
    assert pipe("sum")[0]["score"] == pytest.approx(p2l.route("sum").expected_score, abs=1e-6)


def test_a_tokenizer_that_pads_on_the_left_changes_nothing(native):
    tokenizer = transformers_tokenizer()
    tokenizer.padding_side = "left"
    tokenizer.pad_token = None
    close(LeaderboardPipeline(model=native.model, tokenizer=tokenizer)(PROMPTS), native(PROMPTS))


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ("  ", {}, r"^the prompt is empty"),
        (["sum", ""], {}, r"^prompt 1: the prompt is empty"),
        ([{"role": "wizard", "content": "x"}], {}, r"^message 0 has the role 'wizard'"),
        ([{"text": "sum"}], {}, r"message 0 is not a chat message"),
        (["sum", ["poem", "code"]], {}, r"prompt 1: a list of strings is a batch"),
        (None, {}, r"a prompt is a string or a list of chat messages, not NoneType"),
        ({"text": "sum"}, {}, r"a prompt is a string or a list of chat messages, not dict"),
        ("sum", {"top_k": 0}, r"top_k is 0; it must be an integer > 0"),
        ("sum", {"truncation": True}, r"no option 'truncation'; it has batch_size and top_k"),
    ],
)
def test_what_is_no_request_is_refused(inputs, options, message, native, widget):
    for pipe in (native, widget):
        with pytest.raises(P2LError, match=message):
            pipe(inputs, **options)


def test_it_needs_the_tokenizer():
    with pytest.raises(ModelFormatError, match="needs the model's tokenizer"):
        LeaderboardPipeline(model=build_model("static"))


def test_a_bad_prompt_deep_in_a_stream_is_named_by_its_place(native):
    with pytest.raises(PromptError, match=r"^prompt 300: the prompt is empty"):
        list(native(prompt for prompt in ["sum"] * 300 + [""]))


# --- saved with every folder --------------------------------------------------------------------------------------


def writers(saved, folder: Path) -> dict[str, Path]:
    """The folders written by each way of saving."""
    model, tokenizer = build_model("static"), transformers_tokenizer()
    places = {name: folder / name for name in ("model", "config", "static", "copy", "default", "pipeline")}
    model.save_pretrained(places["model"])
    model.config.save_pretrained(places["config"])
    places["static"].mkdir()
    write_static(model, word_tokenizer(), places["static"])
    P2L.from_pretrained(saved("llama")).save_pretrained(places["copy"])
    P2L.from_pretrained().save_pretrained(places["default"])
    LeaderboardPipeline(model=model, tokenizer=tokenizer).save_pretrained(places["pipeline"])
    return places


def test_every_saved_folder_carries_them(saved, tmp_path):
    names = {file.name for file in (ROOT / "modeling").glob("*_p2l.py")}
    for way, folder in writers(saved, tmp_path).items():
        assert json.loads((folder / "config.json").read_text())["custom_pipelines"] == CUSTOM_PIPELINES, way
        assert {file.name for file in folder.glob("*.py")} == names, way
    for entry in CUSTOM_PIPELINES.values():
        module, name = entry["impl"].split(".")
        assert hasattr(sys.modules[f"p2l_sdk.modeling.{module}"], name)


# runs in a process that cannot import p2l_sdk; saves what it loaded, and loads that again
RESEARCHER = """
import json, sys
sys.modules["p2l_sdk"] = None
from transformers import AutoConfig, AutoModel, AutoTokenizer, pipeline
prompts, answers = json.loads(sys.argv[1]), []
for i, folder in enumerate(sys.argv[2:]):
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    again = f"again{i}"
    pipeline("prompt-to-leaderboard", folder, trust_remote_code=True).save_pretrained(again)
    model = AutoModel.from_pretrained(again, trust_remote_code=True)
    model.save_pretrained(again)
    AutoTokenizer.from_pretrained(folder, trust_remote_code=True).save_pretrained(again)
    native = pipeline("prompt-to-leaderboard", again, trust_remote_code=True)
    widget = pipeline("text-classification", again, trust_remote_code=True, device="cpu")
    assert type(widget).__module__.startswith("transformers_modules"), type(widget)
    refused = []
    for inputs in ("", [prompts[0], 3]):
        try: native(inputs)
        except ValueError as error: refused.append(str(error))
    answers.append([config.models, native(prompts), native(prompts[1]), widget(prompts, top_k=2), refused])
print(json.dumps(answers))
"""


@pytest.mark.thorough
def test_with_transformers_alone(saved, tmp_path):
    P2L.from_pretrained().save_pretrained(tmp_path / "default")
    folders = [tmp_path / "default", saved("bert", "bt"), saved("llama")]
    results = without_p2l_sdk(tmp_path, PROMPTS, folders, RESEARCHER)
    for folder, answer in zip(folders, results, strict=True):
        models, boards, single, widget, refused = answer
        p2l = P2L.from_pretrained(folder)
        expected = p2l.leaderboards(PROMPTS)
        assert tuple(models) == p2l.models
        close(boards, [board.to_dict() for board in expected])
        close(single, boards[1])
        assert [[row["label"] for row in rows] for rows in widget] == [board.ranking[:2] for board in expected]
        assert refused == [
            "the prompt is empty; write what the LLM would be asked",
            "prompt 1: a prompt is a string or a list of chat messages, not int",
        ]


# --- in a process that has p2l_sdk --------------------------------------------------------------------------------


def test_no_code_of_a_folder_is_run_here(saved, tmp_path, monkeypatch):
    """The saved code is poisoned, and transformers' place for remote code stays empty: own classes are used."""
    folder, cache = tmp_path / "model", tmp_path / "modules"
    P2L.from_pretrained(saved("llama")).save_pretrained(folder)
    for file in folder.glob("*.py"):
        file.write_text("raise SystemExit('remote code was run')\n")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(cache))
    before = {name for name in sys.modules if name.startswith("transformers_modules")}
    for trust in (None, True):
        name, options = str(folder), {"trust_remote_code": trust}
        assert type(AutoConfig.from_pretrained(name, **options)) is P2LConfig
        assert type(AutoModel.from_pretrained(name, **options)) is P2LModel
        AutoTokenizer.from_pretrained(name, **options)
        assert type(pipeline(NATIVE, name, **options)) is LeaderboardPipeline
        assert type(pipeline(WIDGET, name, **options)) is TopModelsPipeline
        assert P2L.from_pretrained(name).leaderboard("sum").models == MODELS
    assert not cache.exists()
    assert {name for name in sys.modules if name.startswith("transformers_modules")} == before


def test_the_text_classification_of_other_models_is_as_it_was(p2l):
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = transformers_tokenizer()
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                        num_attention_heads=2, num_labels=3)  # fmt: skip
    pipe = pipeline(WIDGET, model=BertForSequenceClassification(config), tokenizer=tokenizer)
    assert type(pipe) is TextClassificationPipeline
    assert sum(row["score"] for row in pipe("sum", top_k=None)) == pytest.approx(1.0)


# --- the handler of Inference Endpoints ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endpoint(saved, tmp_path_factory):
    """A handler as in an endpoint: handler.py is in the model's folder."""
    folder = tmp_path_factory.mktemp("endpoint") / "repository"
    shutil.copytree(saved("llama"), folder)
    shutil.copy(ROOT / "hub_cards" / "handler.py", folder)
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


def test_the_handler_answers_leaderboards(endpoint, p2l):
    board = p2l.leaderboard("sum").to_dict()
    close(endpoint({"inputs": "sum"}), board)
    close(endpoint({"inputs": "sum", "parameters": None, "options": {"use_cache": False}}), board)
    close(endpoint({"inputs": CHAT}), p2l.leaderboard(CHAT).to_dict())
    close(endpoint({"inputs": PROMPTS}), [b.to_dict() for b in p2l.leaderboards(PROMPTS)])
    short = endpoint({"inputs": "sum", "parameters": {"task": "leaderboard", "top_k": 2}})
    close(short["leaderboard"], board["leaderboard"][:2])


def test_the_handler_aggregates(endpoint, p2l):
    request = {"inputs": PROMPTS, "parameters": {"task": "aggregate", "seed": 3}}
    close(json.loads(json.dumps(endpoint(request))), p2l.aggregate(PROMPTS, seed=3).to_dict())
    assert endpoint({"inputs": "sum", "parameters": {"task": "aggregate"}})["n_prompts"] == 1


def test_the_handler_routes(endpoint, p2l):
    for options in ({}, {"cost": 0.0005, "seed": 1}, {"models": MODELS[:2], "policy": "strict", "cost": 0.0002}):
        asked = json.loads(json.dumps({"task": "route", **options}))
        close(endpoint({"inputs": "sum", "parameters": asked}), p2l.route("sum", **options).to_dict())
        routes = p2l.route_many(PROMPTS, **options)
        close(endpoint({"inputs": PROMPTS, "parameters": asked}), [route.to_dict() for route in routes])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("sum", r'a request is a JSON object with "inputs"'),
        ({"prompt": "sum"}, r'a request is a JSON object with "inputs"'),
        ({"inputs": "sum", "task": "route"}, r'unknown key \'task\' beside "inputs"; .* stands in "parameters"'),
        ({"inputs": ""}, r'"inputs" must be a prompt .* not empty'),
        ({"inputs": []}, r'"inputs" must be a prompt .* not empty'),
        ({"inputs": 3}, r'"inputs" must be a prompt'),
        ({"inputs": ["sum", " "]}, r"prompt 1: the prompt is empty"),
        ({"inputs": [{"role": "user"}]}, r"message 0 is not a chat message"),
        ({"inputs": "sum", "parameters": ["route"]}, r'"parameters" must be a JSON object'),
        (
            {"inputs": "sum", "parameters": {"task": "chat"}},
            r"unknown task 'chat'; known: leaderboard, aggregate, route",
        ),
        ({"inputs": "sum", "parameters": {"cost": 1}}, r"'leaderboard' has no parameter 'cost'; it has: top_k"),
        ({"inputs": "sum", "parameters": {"top_k": 0}}, r"top_k is 0; it must be an integer > 0"),
        ({"inputs": "sum", "parameters": {"task": "route", "cost": "cheap"}}, r"cost is 'cheap'; it must be a number"),
        ({"inputs": "sum", "parameters": {"task": "route", "cost": 1e-9}}, r"the cheapest feasible budget is \$0.0001"),
        ({"inputs": "sum", "parameters": {"task": "route", "models": ["x"]}}, r"names 'x', which this model does not"),
        ({"inputs": "sum", "parameters": {"task": "route", "policy": "luck"}}, r"luck"),
        ({"inputs": "sum", "parameters": {"task": "aggregate", "seed": -1}}, r"seed is -1; it must be an integer >= 0"),
    ],
)
def test_the_handler_refuses_with_a_message(data, message, endpoint):
    with pytest.raises(P2LError, match=message):
        endpoint(data)


def test_the_handler_and_what_it_needs_are_in_the_package():
    from p2l_sdk import hub_cards

    folder = Path(next(iter(hub_cards.__path__)))
    assert (folder / "handler.py").is_file()
    assert "p2l-sdk[torch]" in (folder / "requirements.txt").read_text()
