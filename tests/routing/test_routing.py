"""Routing: against brute force and SciPy, the paper's Theorem 1, the reference's values, errors."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from conftest import shared
from scipy.optimize import brentq, linprog

from p2l_sdk.errors import BudgetError, P2LError
from p2l_sdk.modeling.leaderboard_p2l import win_rates
from p2l_sdk.routing.mixture import optimal_mixture, router_coefficient, upper_hull


def instances(rng, count=200):
    for _ in range(count):
        m = int(rng.integers(1, 12))
        scores, costs = rng.normal(size=m), rng.uniform(0, 5, m)
        if rng.random() < 0.4:  # ties and equal costs
            scores, costs = scores.round(0), costs.round(0)
        yield scores, costs, float(costs.min() + rng.uniform(0, 1.1) * (np.ptp(costs) + 0.1))


def test_the_mixture_is_feasible_sparse_and_as_good_as_the_linear_programme(rng):
    for scores, costs, budget in instances(rng):
        mixture = optimal_mixture(scores, costs, budget)
        assert mixture.min() >= 0
        assert mixture.sum() == pytest.approx(1, abs=1e-12)
        assert (mixture > 0).sum() <= 2
        assert mixture @ costs <= budget + 1e-12
        m = len(scores)
        lp = linprog(-scores, A_ub=costs[None], b_ub=[budget], A_eq=np.ones((1, m)), b_eq=[1], bounds=(0, 1))
        assert mixture @ scores == pytest.approx(-lp.fun, abs=1e-9)


def test_no_pair_does_better(rng):
    for scores, costs, budget in instances(rng, 60):
        best = max(scores[costs <= budget])
        for i, j in itertools.permutations(range(len(scores)), 2):
            if costs[i] <= budget < costs[j]:
                share = (budget - costs[i]) / (costs[j] - costs[i])
                best = max(best, (1 - share) * scores[i] + share * scores[j])
        assert optimal_mixture(scores, costs, budget) @ scores == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("method", ["simple-lp", "optimal-lp"])
def test_values_of_the_reference(method):
    """As good as the exact linear programme on every instance of the reference; infeasible where it is infeasible."""
    compared = refused = 0
    for instance in json.loads(shared("oracle/cost_optimizers.json").read_text()):
        budget, costs = instance["budget"], np.array(instance["costs"], float)
        scores = np.array(instance[method].get("objective_coef") or instance["scores"], float)
        if budget is None:
            continue
        if not np.isfinite(scores).all():
            with pytest.raises(P2LError, match="must be finite"):
                optimal_mixture(scores, costs, budget)
        elif budget < costs.min():
            with pytest.raises(BudgetError, match="cheapest feasible budget"):
                optimal_mixture(scores, costs, budget)
            refused += 1
        else:
            mixture = optimal_mixture(scores, costs, budget)
            assert mixture @ costs <= budget * (1 + 1e-12)
            assert mixture @ scores == pytest.approx(instance[method]["highs"]["value"], rel=1e-9, abs=1e-9)
            compared += 1
    assert compared >= 50
    assert refused >= 5


def test_the_optimum_also_has_the_highest_router_coefficient(rng):
    """Theorem 1: the mixture that maximises the win rate maximises theta' as well."""
    for _ in range(30):
        m = 5
        theta, costs, q = rng.normal(0, 2, m), rng.uniform(0, 1, m), rng.dirichlet(np.ones(m))
        budget = float(np.quantile(costs, 0.6))
        scores = win_rates(theta, theta, q)
        best = router_coefficient(optimal_mixture(scores, costs, budget) @ scores, theta, q)
        for _ in range(50):
            other = rng.dirichlet(np.ones(m) * 0.3)
            if other @ costs <= budget:
                assert router_coefficient(other @ scores, theta, q) <= best + 1e-9


def test_the_router_coefficient_is_the_root(rng):
    for scale in (0.1, 3.0, 40.0):
        theta, q = rng.normal(0, scale, 6), rng.dirichlet(np.ones(6))
        mixture = rng.dirichlet(np.ones(6))
        target = mixture @ win_rates(theta, theta, q)

        def gap(x, theta=theta, q=q, target=target):
            return win_rates(np.array([x]), theta, q)[0] - target

        root = brentq(gap, theta.min() - 1, theta.max() + 1)
        assert router_coefficient(target, theta, q) == pytest.approx(root, abs=1e-6)
        assert router_coefficient(win_rates(theta, theta, q)[2], theta, q) == pytest.approx(theta[2], abs=1e-6)


def test_the_hull_is_concave_and_nothing_lies_above_it(rng):
    for scores, costs, _ in instances(rng, 100):
        hull = upper_hull(scores, costs)
        assert (np.diff(costs[hull]) > 0).all()
        assert (np.diff(scores[hull]) > 0).all()
        slopes = np.diff(scores[hull]) / np.diff(costs[hull])
        assert (np.diff(slopes) < 1e-12).all()
        above = np.interp(costs, costs[hull], scores[hull])
        assert (scores <= above + 1e-9).all()


def test_extreme_coefficients_do_not_overflow():
    theta = np.array([-1000.0, 0.0, 1000.0])
    np.testing.assert_allclose(win_rates(theta, theta, np.full(3, 1 / 3)), [1 / 6, 0.5, 5 / 6])


def test_a_budget_under_the_cheapest_is_refused_with_its_cost():
    with pytest.raises(BudgetError, match=r"the cheapest feasible budget is \$0.5") as caught:
        optimal_mixture(np.array([0.1, 0.9]), np.array([0.5, 2.0]), 0.4)
    assert caught.value.cheapest == 0.5
    for bad in (float("nan"), float("inf")):
        with pytest.raises(BudgetError, match="must be a finite number"):
            optimal_mixture(np.array([0.1]), np.array([0.5]), bad)
    np.testing.assert_array_equal(optimal_mixture(np.array([0.1, 0.9]), np.array([0.5, 2.0]), 0.5), [1, 0])
