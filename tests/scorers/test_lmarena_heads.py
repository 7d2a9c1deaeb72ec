"""The heads of lmarena's layout, checked against matrix products with the reference's own hidden states."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from conftest import shared
from lmarena_checkpoints import (
    BT,
    GRK,
    RK,
    SHORT,
    WITHOUT_HEAD,
    assert_same,
    changed_checkpoint,
    layer,
    linear,
    researcher,
    truth,
)

from p2l_sdk import P2L
from p2l_sdk.errors import ModelFormatError


@pytest.fixture
def checkpoint(tmp_path):
    """checkpoint(name, tensors, training=..., config=...): see `changed_checkpoint`."""
    return functools.partial(changed_checkpoint, tmp_path / "checkpoint")


def down_sized(width: int, n_models: int = 12, hidden: int = 64) -> dict[str, torch.Tensor | None]:
    """A head of two layers in the published layout, small enough that float32 is exact to 1e-5."""
    layers = {"head.0": linear(width, hidden, 0), "head.1": linear(n_models, width, 1)}
    tensors = {key: 0.1 * tensor for name, values in layers.items() for key, tensor in layer(name, values).items()}
    return {**WITHOUT_HEAD, **tensors}


@pytest.mark.parametrize(
    ("factor", "loss", "width"),
    [(3, "bt", 4), (3, "bt_tie", 4), (5, "bt", 2), (2.5, "bt", 4), (1, "bt", 12), (12, "bt", 1), (None, "bt", 7)],
)
def test_a_down_sized_head(factor, loss, width, checkpoint, tmp_path):
    """Its inner width is the number of LLMs // factor, also if that leaves a rest. As published and converted, in the
    SDK and with transformers alone, it gives W1 (W0 h + b0) + b1 for the hidden state h of the CLS token."""
    tensors = down_sized(width)
    p2l = P2L.from_pretrained(checkpoint(BT, tensors, {"linear_head_downsize_factor": factor, "loss_type": loss}))
    p2l.save_pretrained(tmp_path / "native")
    assert p2l.spec.feedback == loss
    assert (p2l.spec.head_hidden_size, p2l.spec.head_activation) == (width, "identity")
    states, rows = np.load(shared(f"oracle/outputs/{BT}_cls_hidden_f32.npz")), truth(BT)
    state = np.stack([states[f"{key}/collator"] for key in SHORT]).astype(np.float64)
    w0, b0, w1, b1 = (tensors[f"head.head.{i}.{kind}"].double().numpy() for i in (0, 1) for kind in ("weight", "bias"))
    expected = (state @ w0.T + b0) @ w1.T + b1
    prompts = [rows[key]["prompt"] for key in SHORT]
    assert_same(p2l, prompts, expected, None)
    assert_same(P2L.from_pretrained(tmp_path / "native"), prompts, expected, None)
    if loss == "bt" and factor == 5:
        answer = researcher({str(tmp_path / "native"): [prompts, len(prompts)]}, tmp_path)[str(tmp_path / "native")]
        for way in answer.keys() - {"eta"}:
            np.testing.assert_allclose(answer[way], expected, atol=1e-5, err_msg=way)


@pytest.mark.parametrize(
    ("factor", "width", "message"),
    [
        (4, 4, r"'head.head.0.weight' of the shape \(4, 64\), but linear_head_downsize_factor 4 in .* 3 outputs"),
        (4, 16, r"'head.head.0.weight' of the shape \(16, 64\), .* and the 12 names in model_list.json ask for .* 3 "),
        (13, 4, r"linear_head_downsize_factor is 13; it must be a number from 1 to that of the LLMs, 12"),
    ],
)
def test_a_factor_that_contradicts_the_tensors_is_refused(factor, width, message, checkpoint):
    with pytest.raises(ModelFormatError, match=message):
        P2L.from_pretrained(checkpoint(BT, down_sized(width), {"linear_head_downsize_factor": factor}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head.head.1.bias": None}, r"lack 'head.head.1.bias'; config.json and training_config.json ask for it"),
        ({"head.head.1.weight": torch.zeros(12, 3)}, r"'head.head.1.weight' .* shape \(12, 3\); .* ask for \(12, 4\)"),
        ({"head.head.0.weight": torch.zeros(4, 63)}, r"'head.head.0.weight' .* shape \(4, 63\); .* for \(4, 64\)"),
        ({"head.head.0.weight": torch.tensor(0.0)}, r"'head.head.0.weight' of the shape \(\), but .* 4 outputs"),
        ({"head.head.0.weight": None}, r"lack 'head.head.0.weight', but linear_head_downsize_factor 3 in .* 4 outputs"),
    ],
)
def test_a_down_sized_head_that_is_not_whole_is_refused(changes, message, checkpoint):
    with pytest.raises(ModelFormatError, match=message):
        P2L.from_pretrained(checkpoint(BT, {**down_sized(4), **changes}, {"linear_head_downsize_factor": 3}))


def test_a_head_with_a_ground(checkpoint):
    gamma = linear(1, 64, 2)
    folder = checkpoint(GRK, layer("gamma_head", gamma), {"head_type": "ba", "loss_type": "ba"})
    p2l, rows = P2L.from_pretrained(folder), truth(GRK)
    states = np.load(shared(f"oracle/outputs/{GRK}_cls_hidden_f32.npz"))
    for key in SHORT:
        board = p2l.leaderboard(rows[key]["prompt"])
        np.testing.assert_allclose(board.coefs, rows[key]["coefs"], atol=1e-5)
        assert board.eta == pytest.approx(rows[key]["eta"], abs=1e-5)
        expected = gamma["weight"][0].double() @ torch.from_numpy(states[f"{key}/collator"]).double() + gamma["bias"][0]
        assert board.gamma == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize(
    ("loss", "feedback"),
    [("rk-reparam", "rk_reparam"), ("rk_reparam", "rk_reparam"), ("bag", "grk"), ("grk", "grk"), ("rk", "rk")],
)
def test_losses_by_all_their_names(loss, feedback, checkpoint):
    assert P2L.from_pretrained(checkpoint(RK, training={"loss_type": loss})).spec.feedback == feedback
