"""Checkpoints in lmarena's layout: their true outputs, however they are loaded; damaged ones, each with its error."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import ok
from conftest import shared
from huggingface_hub import ModelCard
from lmarena_checkpoints import (
    BT,
    CHECKPOINTS,
    GRK,
    RK,
    WITHOUT_HEAD,
    assert_same,
    changed_checkpoint,
    layer,
    linear,
    n_short,
    researcher,
    scored,
    truth,
)
from safetensors.torch import load_file, save_file

from p2l_sdk import P2L
from p2l_sdk.errors import ModelFormatError, P2LError
from p2l_sdk.hub.cards import converted_card


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The checkpoints in the native layout, by name."""
    root = tmp_path_factory.mktemp("converted")
    for name in CHECKPOINTS:
        P2L.from_pretrained(shared(f"oracle/ckpt/{name}")).save_pretrained(root / name)
    return {name: root / name for name in CHECKPOINTS}


@pytest.mark.long
@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_a_checkpoint_gives_its_own_outputs(checkpoint, converted):
    """As it is and converted, batched and one by one, on every prompt that the training collator accepts."""
    prompts, coefs, eta = scored(checkpoint)
    published = P2L.from_pretrained(shared(f"oracle/ckpt/{checkpoint}"))
    assert {p.dtype for p in published._scorer.model.parameters()} == {torch.float32}
    assert_same(published, prompts, coefs, eta)
    assert_same(P2L.from_pretrained(converted[checkpoint]), prompts, coefs, eta)
    for i, prompt in enumerate(prompts[: n_short(checkpoint)]):
        board = published.leaderboard(prompt)
        np.testing.assert_allclose(board.coefs, coefs[i], atol=1e-5)
        if eta is not None:
            assert board.eta == pytest.approx(eta[i], abs=1e-5)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_empty_prompts_are_refused_but_their_tokens_score_alike(checkpoint):
    published = P2L.from_pretrained(shared(f"oracle/ckpt/{checkpoint}"))
    rows = [row for row in truth(checkpoint).values() if row["empty"]]
    assert len(rows) >= 3
    for row in rows:
        with pytest.raises(P2LError, match=r"the prompt is empty|no user turn"):
            published.leaderboard(row["prompt"])
        coefs = published._scorer.model(torch.tensor([row["ids"]])).coefs[0].detach()
        np.testing.assert_allclose(coefs, row["coefs"], atol=1e-5)


@pytest.mark.thorough
def test_a_converted_folder_gives_them_with_transformers_alone(converted, tmp_path):
    answers = researcher({str(converted[name]): [scored(name)[0], n_short(name)] for name in CHECKPOINTS}, tmp_path)
    for name in CHECKPOINTS:
        _, coefs, eta = scored(name)
        answer = answers[str(converted[name])]
        for way in answer.keys() - {"eta"}:
            expected = coefs[: len(answer[way])]
            np.testing.assert_allclose(answer[way], expected, atol=1e-5, err_msg=f"{name} {way}")
        assert answer["eta"] == (pytest.approx(eta, abs=1e-5) if eta is not None else [None] * len(coefs))


def test_p2l_convert(tmp_path):
    source = shared(f"oracle/ckpt/{GRK}")
    shutil.copytree(source, tmp_path / "source")
    (tmp_path / "source").chmod(0o755)
    (tmp_path / "source" / "README.md").write_text("# A card\n")
    assert ok("convert", tmp_path / "source", tmp_path / "new") == f"wrote {tmp_path / 'new'}: 12 LLMs, feedback grk\n"
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["models"] == json.loads((source / "model_list.json").read_text())
    assert (config["feedback"], config["max_prompt_tokens"], config["cls_token"]) == ("grk", 512, "<|cls|>")
    files = {file.name for file in (tmp_path / "new").iterdir()}
    assert {"README.md", "model.safetensors", "tokenizer.json", "modeling_p2l.py", "pipeline_p2l.py"} <= files
    assert not files & {"training_config.json", "model_list.json", "vocab.json"}
    tokenizer = (tmp_path / "new" / "tokenizer_config.json").read_text()
    assert "local_files_only" not in tokenizer
    assert (tmp_path / "new" / "README.md").read_text() == "# A card\n"


@pytest.mark.thorough
def test_p2l_convert_writes_a_card_where_there_is_none(tmp_path):
    ok("convert", shared(f"oracle/ckpt/{BT}"), tmp_path / "my-p2l")
    text = (tmp_path / "my-p2l" / "README.md").read_text()
    data = ModelCard(text).data.to_dict()  # raises if the metadata is malformed
    models = list(P2L.from_pretrained(tmp_path / "my-p2l").models)
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "text-classification")
    assert data["model_list"] == models
    assert f"converted by p2l-sdk from `{BT}`, and" in text
    assert "Feedback model: `bt`." in text
    assert "Costs: known for none of its LLMs." in text
    assert all(f"\n- {name}\n" in text for name in models)
    assert 'p2l = P2L.from_pretrained("my-p2l")\n' in text
    published = converted_card(P2L.from_pretrained(tmp_path / "my-p2l").spec, "org/theirs", "mine", "v2")
    assert "from [org/theirs](https://huggingface.co/org/theirs) (revision `v2`), and" in published


@pytest.fixture
def checkpoint(tmp_path):
    """checkpoint(name, tensors, training=..., config=...): see `changed_checkpoint`."""
    return functools.partial(changed_checkpoint, tmp_path / "checkpoint")


def test_weights_in_several_files(checkpoint):
    folder = checkpoint(BT)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in files if files[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    row = truth(BT)["short_question"]
    np.testing.assert_allclose(P2L.from_pretrained(folder).leaderboard(row["prompt"]).coefs, row["coefs"], atol=1e-5)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelFormatError, match=r"model-00002-of-00002.safetensors' is missing or damaged"):
        P2L.from_pretrained(folder)


def test_an_edited_model_is_saved_edited(tmp_path):
    p2l = P2L.from_pretrained(shared(f"oracle/ckpt/{GRK}"))
    row = truth(GRK)["short_hi"]
    p2l.remove_model("Zeta-Upper-1").save_pretrained(tmp_path / "edited")
    board = P2L.from_pretrained(tmp_path / "edited").leaderboard(row["prompt"])
    assert board.models == p2l.models[1:]
    np.testing.assert_allclose(board.coefs, row["coefs"][1:], atol=1e-5)


def test_no_code_of_the_repository_is_run(checkpoint):
    bomb = {"auto_map": dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "bomb.Bomb")}
    folder = checkpoint(BT, config=bomb)
    (folder / "bomb.py").write_text("raise SystemExit('code of the repository was run')\n")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**tokenizer, "auto_map": {"AutoTokenizer": ["bomb.Bomb", "bomb.Bomb"]}})
    )
    row = truth(BT)["short_hi"]
    np.testing.assert_allclose(P2L.from_pretrained(folder).leaderboard(row["prompt"]).coefs, row["coefs"], atol=1e-5)


# --- errors -----------------------------------------------------------------------------------------------------


def damaged(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


def unlink(name: str):
    return lambda folder: (folder / name).unlink()


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def shortened(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def without_cls(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "cls_token": None}))
    (folder / "special_tokens_map.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (unlink("training_config.json"), r"has lmarena's layout, but no training_config.json; copy that file too"),
        (unlink("model_list.json"), r"has lmarena's layout, but no model_list.json"),
        (damaged("training_config.json", '{"head_type":'), r"training_config.json' cannot be read as JSON"),
        (damaged("model_list.json", '{"a": 1}'), r"model_list.json' is no JSON list"),
        (damaged("model_list.json", '["a", "b"]'), r"'head.head.\w+' .* shape \(12.*the 2 names in model_list.json"),
        (damaged("model_list.json", json.dumps(["a"] * 12)), r"names a more than once"),
        (damaged("config.json", "]"), r"config.json' cannot be read as JSON"),
        (unlink("model.safetensors"), r"holds no model.safetensors; weights are read from safetensors alone"),
        (pickled, r"holds only pytorch_model.bin, a pickle, which may run code.*weights_only=True"),
        (shortened, r"model.safetensors' is missing or damaged .*; copy or download it again"),
        (unlink("tokenizer.json"), r"it has no tokenizer.json"),
        (damaged("tokenizer.json", "{}"), r"is no whole P2L model"),
        (without_cls, r"names no CLS token"),
    ],
)
def test_a_damaged_folder_is_refused(damage, message, checkpoint):
    folder = checkpoint(BT)
    damage(folder)
    with pytest.raises(ModelFormatError, match=message):
        P2L.from_pretrained(folder)


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("name", "tensors", "message"),
    [
        (BT, {NORM: None}, r"lack 'model.norm.weight'; config.json and training_config.json ask for it"),
        (BT, {**WITHOUT_HEAD, NORM: None}, r"lack 'head.head.bias' and 2 more"),
        (RK, {"head.eta_head.bias": None}, r"lack 'head.eta_head.bias'"),
        (BT, layer("eta_head", linear(1, 64, 0)), r"hold 'head.eta_head.bias' and 1 more; .* know no such tensor"),
        (BT, {"lm_head.weight": torch.zeros(2, 2)}, r"hold 'lm_head.weight'"),
        (BT, {NORM: torch.zeros(63)}, r"'model.norm.weight' .* has the shape \(63,\); .* ask for \(64,\)"),
        (BT, {NORM: torch.zeros(64, dtype=torch.int8)}, r"torch.int8, no floating type"),
        (BT, {"head.head.bias": torch.full((12,), torch.nan)}, r"holds NaN or infinite values"),
    ],
)
def test_tensors_that_are_not_those_of_the_config_are_refused(name, tensors, message, checkpoint):
    with pytest.raises(ModelFormatError, match=message):
        P2L.from_pretrained(checkpoint(name, tensors))


@pytest.mark.parametrize(
    ("name", "training", "message"),
    [
        (BT, {"head_type": "mlp"}, r"has the head_type 'mlp'; legal values: bt, rk, ba"),
        (BT, {"loss_type": "hinge"}, r"loss_type: unknown feedback model 'hinge'; known: bt, bt_tie, rk"),
        (BT, {"loss_type": None}, r"loss_type: unknown feedback model"),
        (BT, {"loss_type": "rk"}, r"contradicts itself: the loss_type 'rk' is not that of a head_type 'bt'"),
        (RK, {"loss_type": "bt"}, r"contradicts itself: the loss_type 'bt' is not that of a head_type 'rk'"),
        (BT, {"model_type": "llama"}, r"has the model_type 'llama', config.json 'qwen2'"),
        (BT, {"max_length": None}, r"has the max_length None; it must be an integer"),
        (BT, {"max_length": 0}, r"describe no P2L model: max_prompt_tokens is 0"),
        (BT, {"linear_head_downsize_factor": 0}, r"linear_head_downsize_factor is 0; it must be a number from 1"),
        (BT, {"linear_head_downsize_factor": 4}, r"lack 'head.head.0.weight', but linear_head_downsize_factor 4 in"),
        (RK, {"linear_head_downsize_factor": 4}, r"down-sized head of type 'rk'.*Only bt heads are down-sized"),
    ],
)
def test_a_training_config_that_contradicts_is_refused(name, training, message, checkpoint):
    with pytest.raises(ModelFormatError, match=message):
        P2L.from_pretrained(checkpoint(name, training=training))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt5"}, r"'qwen2', config.json 'gpt5'"),
        ({"vocab_size": 500}, r"the CLS token '<\|cls\|>' .* has no embedding: its id is beyond the vocab_size 500"),
        ({"hidden_size": 128}, r"has the shape"),
        ({"architectures": ["Qwen2ForCausalLM"]}, r"is no P2L model: its model_type is 'qwen2', not 'p2l'"),
        ({"hidden_size": None}, r"hidden_size|has the shape"),
    ],
)
def test_a_config_of_another_model_is_refused(config, message, checkpoint):
    with pytest.raises(ModelFormatError, match=message):
        P2L.from_pretrained(checkpoint(BT, config=config))


def test_it_takes_no_base():
    with pytest.raises(ModelFormatError, match="is a whole model, no adapter: it takes no base"):
        P2L.from_pretrained(shared(f"oracle/ckpt/{BT}"), base="somewhere")
