"""The recogniser of kinds: its gradients, what it has not seen, what is left open, and that a seed decides all."""

from __future__ import annotations

import numpy as np
import pytest

from p2l_sdk.kinds import recogniser as module
from p2l_sdk.kinds.recogniser import FOLDS, HIDDEN, train_recogniser


def test_gradients_are_those_of_finite_differences(rng, monkeypatch):
    monkeypatch.setattr(module, "_mask", lambda shape, share, random: np.ones(shape))  # dropout has no derivative
    for name in ("_SLOPE", "_CUBE"):
        monkeypatch.setattr(module, name, float(getattr(module, name)))
    monkeypatch.setattr(module.np, "float32", np.float64)
    x, y = rng.normal(size=(7, 5)), rng.random((7, 3)) < 0.4
    told = (rng.random((7, 3)) < 0.7).astype(float)
    layers = [rng.normal(size=shape) for shape in ((5, 6), (6,), (6, 3), (3,))]

    def loss(layers) -> float:
        logits = module._gelu(x @ layers[0] + layers[1])[0] @ layers[2] + layers[3]
        return float((told * (np.logaddexp(0.0, logits) - y * logits)).sum() / len(x))

    for i, gradient in enumerate(module._gradients(layers, x, y.astype(float), told, rng)):
        assert gradient.shape == layers[i].shape
        for place in np.ndindex(*gradient.shape):
            step = np.zeros_like(layers[i])
            step[place] = 1e-6
            up, down = ([*layers[:i], layers[i] + s, *layers[i + 1 :]] for s in (step, -step))
            assert gradient[place] == pytest.approx((loss(up) - loss(down)) / 2e-6, abs=1e-8)


def test_that_copies_are_alike_has_the_gradients_of_finite_differences(rng, monkeypatch):
    monkeypatch.setattr(module, "_mask", lambda shape, share, random: np.ones(shape))
    for name in ("_SLOPE", "_CUBE"):
        monkeypatch.setattr(module, name, float(getattr(module, name)))
    monkeypatch.setattr(module.np, "float32", np.float64)
    x, told = rng.normal(size=(8, 5)), np.zeros((8, 3))  # nothing is told, so only this part of the loss is left
    layers = [rng.normal(size=shape) for shape in ((5, 6), (6,), (6, 3), (3,))]

    def loss(layers) -> float:
        own, copied = np.split(module._shares(layers, x), 2)
        return float(3.0 * np.square(own - copied).sum() / len(x))

    for i, gradient in enumerate(module._gradients(layers, x, told, told, rng, 3.0)):
        for place in np.ndindex(*gradient.shape):
            step = np.zeros_like(layers[i])
            step[place] = 1e-6
            up, down = ([*layers[:i], layers[i] + s, *layers[i + 1 :]] for s in (step, -step))
            assert gradient[place] == pytest.approx((loss(up) - loss(down)) / 2e-6, abs=1e-8)


@pytest.mark.long
def test_it_learns_from_copies_what_does_not_matter(rng):
    """Copies are moved along one entry, which also tells the kind a little: with copies, it moves the shares less."""
    x, member, unsure = separated(rng)
    x[:, 2] += 2.0 * member[:, 0]
    away = np.zeros(x.shape[1])
    away[2] = 4.0
    copies = np.stack([x + away, x - away])
    with_copies, without = (train_recogniser(x, member, unsure, copies=c) for c in (copies, None))
    moved = [np.abs(network(x + away) - network(x)).mean() for network in (with_copies, without)]
    assert moved[0] < 0.5 * moved[1]
    assert with_copies.left_out[member].mean() > 0.8


def test_dropout_keeps_the_mean(rng):
    mask = module._mask((400, 500), 0.3, rng)
    assert set(np.unique(mask)) == {np.float32(0.0), np.float32(1.0 / 0.7)}
    assert mask.mean() == pytest.approx(1.0, abs=0.01)


def separated(rng, n=120, width=12):
    """Prompts of two kinds, or of neither, told by their first two entries."""
    member = np.zeros((n, 2), dtype=bool)
    member[: n // 3, 0] = member[n // 3 : 2 * n // 3, 1] = True
    x = rng.normal(size=(n, width))
    x[:, :2] += 6.0 * member - 2.0
    return x, member, np.zeros_like(member)


def test_it_learns_kinds_and_says_how_sure_it_is(rng):
    x, member, unsure = separated(rng)
    told: list[int] = []
    trained = train_recogniser(x, member, unsure, progress=told.append)
    assert trained.left_out[member].mean() > 0.9
    assert trained.left_out[~member].mean() < 0.1
    assert trained.epochs in module.EPOCHS
    assert [layer.shape for layer in trained.layers] == [(12, HIDDEN), (HIDDEN,), (HIDDEN, 2), (2,)]
    fresh, expected, _ = separated(np.random.default_rng(7))
    assert ((trained(fresh) > 0.5) == expected).mean() > 0.95
    p = np.where(member, trained.left_out, 1.0 - trained.left_out)
    assert trained.loss == pytest.approx(-np.log(p).sum(1).mean())
    assert told == list(range(1, len(told) + 1))
    assert len(told) % FOLDS == 0


def test_what_is_said_of_a_left_out_prompt_is_by_a_network_that_did_not_see_it(rng):
    """A prompt like no other is told by its own entry: by the network that saw it, and by none that did not."""
    n = 60
    x, member = np.eye(n) * 6.0, rng.random((n, 2)) < 0.5
    trained = train_recogniser(x, member, np.zeros_like(member))
    assert ((trained(x) > 0.5) == member).all()
    of, others = trained.left_out[member].mean(), trained.left_out[~member].mean()
    assert abs(of - others) < 0.1


def test_each_fold_leaves_out_its_prompts(rng, monkeypatch):
    """Noted: the prompts that each network was trained on, and those that it was asked about."""
    x, member, unsure = separated(rng)
    x[:, -1] = np.arange(len(x))  # a number for each prompt
    trained, asked = [], []
    monkeypatch.setattr(module, "EPOCHS", (1,))
    monkeypatch.setattr(module, "_train", lambda x, *_: trained.append(set(x[..., -1].flat)) or [])
    monkeypatch.setattr(module, "_shares", lambda _, x: asked.append(set(x[:, -1])) or np.full((len(x), 2), 0.5))
    module.train_recogniser(x, member, unsure, copies=np.stack([x, x]))  # nor is it trained on copies of these
    everything = set(range(len(x)))
    assert len(trained) == FOLDS + 1
    assert trained[-1] == everything
    for seen, out in zip(trained, asked, strict=False):
        assert seen | out == everything
        assert not seen & out
    assert sorted(number for out in asked for number in out) == sorted(everything)


def test_folds_spread_kinds_of_few_prompts(rng):
    member = np.zeros((100, 2), dtype=bool)
    member[rng.permutation(100)[:10], 1] = True
    folds = module._folds(member, rng)
    assert set(np.bincount(folds)) == {20}
    assert set(np.bincount(folds[member[:, 1]])) == {2}


def test_what_is_left_open_counts_for_nothing(rng, monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", (5,))
    x, member, unsure = separated(rng)
    unsure[::3, 1] = True
    monkeypatch.setattr(module, "_folds", lambda member, random: np.arange(len(member)) % FOLDS)
    one = train_recogniser(x, member, unsure)
    other = train_recogniser(x, member ^ unsure, unsure)
    np.testing.assert_array_equal(one.left_out, other.left_out)
    assert one.loss == other.loss
    for a, b in zip(one.layers, other.layers, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_seed_decides(rng, monkeypatch):
    monkeypatch.setattr(module, "EPOCHS", (3,))
    x, member, unsure = separated(rng, n=40)
    one, same, other = (train_recogniser(x, member, unsure, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.left_out, same.left_out)
    assert all((a == b).all() for a, b in zip(one.layers, same.layers, strict=True))
    assert (one.left_out != other.left_out).any()


def test_one_prompt_of_a_kind_and_few_prompts_at_all(rng):
    """Fewer prompts than folds, and a kind that some network never saw: finite shares, no warning."""
    x, member = rng.normal(size=(3, 4)), np.array([[True, False], [True, False], [False, True]])
    trained = train_recogniser(x, member, np.zeros_like(member))
    assert np.isfinite(trained.left_out).all()
    assert ((trained.left_out > 0.0) & (trained.left_out < 1.0)).all()
    assert np.isfinite(trained.loss)
