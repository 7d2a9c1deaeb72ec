"""The formulas: oracle values, numpy and torch, extreme coefficients, limiting cases, derivatives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import shared
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from p2l_sdk.errors import ModelFormatError
from p2l_sdk.modeling.feedback_p2l import (
    Feedback,
    Pointwise,
    Winner,
    eta_of_threshold,
    log_probabilities,
    log_probability_derivatives,
    log_probability_table,
    log_threshold,
    pointwise_log_likelihood,
    vote_log_likelihood,
    vote_targets,
)

ALL = list(Feedback)
logit = st.floats(-80, 80)


def direct(feedback: Feedback, a: float, b: float, eta: float, gamma: float) -> list[float]:
    """The probabilities written out as in DESIGN.md; correct unless something over- or underflows."""
    pa, pb = np.exp(a), np.exp(b)
    if feedback in (Feedback.BT, Feedback.BT_TIE):
        return [pa / (pa + pb), pb / (pa + pb)]
    if feedback is Feedback.RK:
        e = max(np.log1p(np.exp(0.1 * (eta - 22.5))) / 0.1, 0.02)
        wins = [1 / (1 + np.exp(-(a - b - e))), 1 / (1 + np.exp(-(b - a - e)))]
        return [*wins, 1 - sum(wins)]
    t = np.exp(eta) + (1.02 if feedback is Feedback.BA else 1.000001)
    g = np.exp(gamma) if feedback is Feedback.BA else 1.0
    wins = [pa / (pa + t * pb + g), pb / (pb + t * pa + g)]
    if feedback is Feedback.RK_REPARAM:
        return [*wins, 1 - sum(wins)]
    bad = g / (g + pa + pb)
    return [*wins, 1 - sum(wins) - bad, bad]


@pytest.mark.parametrize("feedback", ALL)
def test_the_laws_are_those_of_the_design(feedback, rng):
    for a, b, eta, gamma in rng.normal(0, 1.5, (200, 4)):
        got = np.exp(log_probabilities(feedback, np.float64(a), np.float64(b), np.float64(eta), np.float64(gamma)))
        np.testing.assert_allclose(got, direct(feedback, a, b, eta, gamma), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("feedback", ALL)
@settings(max_examples=200, deadline=None)
@given(a=logit, b=logit, eta=st.floats(-40, 80), gamma=logit)
def test_extreme_coefficients_stay_probabilities_on_both_namespaces(feedback, a, b, eta, gamma):
    arrays = [np.array([x]) for x in (a, b, eta, gamma)]
    log_probs = log_probabilities(feedback, *arrays)
    assert np.isfinite(log_probs).all()
    assert (log_probs <= 1e-12).all()
    np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1.0, rtol=1e-10)
    tensors = log_probabilities(feedback, *(torch.from_numpy(x) for x in arrays))
    np.testing.assert_allclose(tensors.numpy(), log_probs, rtol=1e-12, atol=1e-12)
    single = log_probabilities(feedback, *(torch.from_numpy(x).float() for x in arrays))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(np.exp(single.numpy().astype(np.float64)).sum(-1), 1.0, rtol=1e-4)


@pytest.mark.parametrize("feedback", ALL)
def test_gradients_exist_at_the_extremes(feedback):
    points = torch.tensor([-80.0, 0.0, 80.0], dtype=torch.float64)
    theta_a, theta_b = (x.flatten().requires_grad_() for x in torch.meshgrid(points, points, indexing="ij"))
    eta, gamma = torch.full_like(theta_a, 80.0), torch.full_like(theta_a, -80.0)
    log_probabilities(feedback, theta_a, theta_b, eta, gamma).sum().backward()
    assert torch.isfinite(theta_a.grad).all()
    assert torch.isfinite(theta_b.grad).all()


@pytest.mark.parametrize("feedback", ALL)
def test_exchanging_a_and_b_exchanges_their_wins(feedback, rng):
    a, b, eta, gamma = rng.normal(0, 3, (4, 50))
    forth, back = (np.exp(log_probabilities(feedback, *pair, eta, gamma)) for pair in ((a, b), (b, a)))
    np.testing.assert_allclose(forth[:, [1, 0]], back[:, :2])
    np.testing.assert_allclose(forth[:, 2:], back[:, 2:])


def test_limits(rng):
    a, b, eta = rng.normal(0, 2, (3, 100))
    grk, reparam = (np.exp(log_probabilities(f, a, b, eta)) for f in (Feedback.GRK, Feedback.RK_REPARAM))
    np.testing.assert_allclose(grk[:, 2] + grk[:, 3], reparam[:, 2], rtol=1e-12)
    high = np.exp(log_probabilities(Feedback.GRK, a + 40, b + 40, eta))
    threshold = np.log1p(np.exp(log_threshold(Feedback.GRK, eta)))  # log t
    plain = np.exp(log_probabilities(Feedback.RK, a, b, 22.5 + 10 * np.log(np.expm1(threshold / 10))))
    above = threshold > 0.02  # the floor of rk
    np.testing.assert_allclose(high[above, :3], plain[above], rtol=1e-9)
    no_ties = np.exp(log_probabilities(Feedback.GRK, a + 40, b + 40, np.full(100, -30.0)))
    np.testing.assert_allclose(no_ties[:, :2], np.exp(log_probabilities(Feedback.BT, a, b)), atol=1e-5)
    ba = np.exp(log_probabilities(Feedback.BA, a, b, eta, np.zeros(100)))
    same_threshold = eta_of_threshold(Feedback.GRK, log_threshold(Feedback.BA, eta))
    np.testing.assert_allclose(ba, np.exp(log_probabilities(Feedback.GRK, a, b, same_threshold)), rtol=1e-9)


@pytest.mark.parametrize("feedback", [f for f in ALL if f.has_eta])
def test_the_threshold_can_be_turned_back(feedback, rng):
    log_s = log_threshold(feedback, rng.uniform(-5, 60, 200))
    np.testing.assert_allclose(log_threshold(feedback, eta_of_threshold(feedback, log_s)), log_s, atol=1e-9)


@pytest.mark.parametrize("feedback", ALL)
def test_derivatives_are_those_of_autograd(feedback, rng):
    a, b, u = rng.normal(0, 2, (3, 6))
    value, gradient, hessian = log_probability_derivatives(feedback, a, b, u)

    def law(x: torch.Tensor) -> torch.Tensor:
        log_s = x[2]
        if feedback is Feedback.RK:  # eta as a function of log s = log(t - 1)
            eta = 22.5 + 10 * torch.log(torch.expm1(0.1 * torch.nn.functional.softplus(log_s)))
        else:
            eta = torch.log(torch.exp(log_s) - {Feedback.BA: 0.02}.get(feedback, 1e-6))
        return log_probabilities(feedback, x[0], x[1], eta, torch.zeros(()).double())

    u = np.abs(u) + 0.1  # above every floor
    value, gradient, hessian = log_probability_derivatives(feedback, a, b, u)
    for i in range(6):
        x = torch.tensor([a[i], b[i], u[i]], dtype=torch.float64)
        np.testing.assert_allclose(value[i], law(x).numpy(), atol=1e-10)
        np.testing.assert_allclose(gradient[i], torch.autograd.functional.jacobian(law, x).numpy(), atol=1e-9)
        for outcome in range(len(feedback.outcomes)):
            exact = torch.autograd.functional.hessian(lambda x, o=outcome: law(x)[o], x)
            np.testing.assert_allclose(hessian[i, outcome], exact.numpy(), atol=1e-8)


# the reference's loss -> (ours, the floor at which it clamps probabilities: below, its loss is flat, ours is not)
REFERENCE = {
    "bt": ("bt", 0.0),
    "bt-tie": ("bt_tie", 0.0),
    "rk": ("rk", 1e-3),
    "rk-reparam": ("rk_reparam", 1e-6),
    "bag": ("grk", 1e-6),
    "grk": ("grk", 1e-6),
    "ba": ("ba", 1e-2),
}


@pytest.mark.parametrize("case", ["std", "ext"])
def test_losses_and_gradients_of_the_reference(case):
    entries = json.loads(shared("oracle/losses.json").read_text())["entries"]
    tensors = load_file(shared("oracle/losses.safetensors"))
    compared = set()
    for entry in entries:
        if entry["loss"] not in REFERENCE or "error" in entry or entry["case"] != case or entry["dtype"] != "float64":
            continue
        name, floor = REFERENCE[entry["loss"]]
        feedback = Feedback.parse(name)
        labels = tensors[f"{case}.in.{entry['labels']}"]
        coefs, gamma = (torch.from_numpy(tensors[f"{case}.in.{key}"]).double() for key in ("coefs", "gamma"))
        eta = torch.from_numpy(tensors[f"{case}.in.{entry['eta'] or 'eta_small'}"]).double()
        weights = torch.from_numpy(tensors[f"{case}.in.weights"]).double() if entry["weights"] == "weights" else 1.0
        coefs.requires_grad_()
        tie = torch.from_numpy(labels[:, 2]).long() if labels.shape[1] > 2 else torch.zeros(len(labels)).long()
        winners = torch.tensor([Winner.A, Winner.TIE, Winner.BOTH_BAD])[tie]
        rows, (a, b) = torch.arange(len(labels)), torch.from_numpy(labels[:, :2]).long().unbind(1)
        log_probs = log_probabilities(feedback, coefs[rows, a], coefs[rows, b], eta[:, 0], gamma[:, 0])
        log_likelihood, _ = vote_log_likelihood(feedback, log_probs, winners)
        clamped = log_likelihood.clamp_min(np.log(floor)) if floor else log_likelihood
        value = -(weights * clamped).mean()
        # the reference always computes grk in float32: at the extremes its tie, 1 - sum, is all rounding error
        rounding = feedback is Feedback.GRK and case == "ext"
        assert value.item() == pytest.approx(entry["value"], rel=1e-4 if rounding else 1e-6), entry
        compared.add(name)
        if rounding:
            continue
        value.backward()
        expected = tensors[entry["grad_key"] + ".grad_coefs"]
        np.testing.assert_allclose(coefs.grad.numpy(), expected, rtol=1e-4, atol=2e-7, err_msg=str(entry))
    assert compared == {name for name, _ in REFERENCE.values()}


def test_pointwise_feedback(rng):
    from scipy.stats import bernoulli, norm

    theta, score, log_scale = rng.normal(0, 2, (3, 50))
    right = rng.integers(0, 2, 50)
    ours = pointwise_log_likelihood(Pointwise.BERNOULLI, theta, right)
    np.testing.assert_allclose(ours, bernoulli.logpmf(right, 1 / (1 + np.exp(-theta))), rtol=1e-9)
    soft = pointwise_log_likelihood(Pointwise.BERNOULLI, theta, np.full(50, 0.3))
    hard = [pointwise_log_likelihood(Pointwise.BERNOULLI, theta, np.full(50, v)) for v in (1.0, 0.0)]
    np.testing.assert_allclose(soft, 0.3 * hard[0] + 0.7 * hard[1])
    ours = pointwise_log_likelihood(Pointwise.GAUSSIAN, theta, score, log_scale)
    np.testing.assert_allclose(ours, norm.logpdf(score, theta, np.exp(log_scale)), rtol=1e-9)
    for kind in Pointwise:
        extreme = pointwise_log_likelihood(kind, np.array([-80.0, 80.0]), np.array([1.0, 0.0]))
        assert np.isfinite(extreme).all()
        tensor = torch.from_numpy(theta).requires_grad_()
        values = pointwise_log_likelihood(kind, tensor, torch.from_numpy(score))
        np.testing.assert_allclose(values.detach().numpy(), pointwise_log_likelihood(kind, theta, score))
        values.sum().backward()
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("feedback", ALL)
def test_what_each_vote_asks(feedback):
    table = vote_targets(feedback)
    assert table.shape == (4, len(feedback.outcomes))
    sums = table.sum(1)
    assert sums.tolist() == ([1, 1, 0, 0] if feedback is Feedback.BT else [1, 1, 1, 1])
    assert table[Winner.A, 0] == table[Winner.B, 1] == 1
    both_bad = table[Winner.BOTH_BAD]
    if Winner.BOTH_BAD in feedback.outcomes:
        assert both_bad[3] == 1
    else:
        assert both_bad.tolist() == table[Winner.TIE].tolist()


def test_the_table_holds_every_pair(rng):
    coefs, eta = rng.normal(0, 1, (3, 4)), rng.normal(0, 1, (3, 1))
    table = log_probability_table(Feedback.GRK, coefs, eta)
    assert table.shape == (3, 4, 4, 4)
    expected = log_probabilities(Feedback.GRK, coefs[1, 2], coefs[1, 0], eta[1, 0])
    np.testing.assert_allclose(table[1, 2, 0], expected)


def test_names():
    assert Feedback.parse("bag") is Feedback.GRK
    assert Feedback.parse("bt-tie") is Feedback.BT_TIE
    assert Feedback.parse("rk-reparam") is Feedback.RK_REPARAM
    with pytest.raises(ModelFormatError, match="unknown feedback model 'elo'; known: bt, bt_tie"):
        Feedback.parse("elo")
    with pytest.raises(ModelFormatError, match="needs eta"):
        log_probabilities(Feedback.GRK, np.zeros(1), np.zeros(1))
