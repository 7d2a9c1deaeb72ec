"""The steps of an aggregate's sums: those that a hand would write, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from p2l_sdk.leaderboards.sum_plan import Kind, plan_of
from p2l_sdk.modeling.feedback_p2l import Feedback

NAMES = {np.add: "+", np.multiply: "*", np.divide: "/", np.vecdot: "sum"}


@pytest.mark.parametrize(
    ("feedback", "steps", "rows"),
    [
        (Feedback.BT, "+ / sum sum", 2),
        (Feedback.BT_TIE, "+ / sum sum", 2),
        (Feedback.RK, "+ / sum + / sum * * sum", 4),
        (Feedback.RK_REPARAM, "+ / sum + / sum * sum * sum", 7),
        # ties: s a b (1 / d1 + 1 / d2) / d3, since their numerator is s a b (d1 + d2)
        (Feedback.GRK, "+ / sum + / sum + / sum + * * sum", 7),
        (Feedback.BA, "+ / sum + / sum + / sum + * * sum", 7),
    ],
)
def test_as_few_steps_and_rows_as_by_hand(feedback, steps, rows):
    plan = plan_of(feedback)
    assert [NAMES[function] for function, *_ in plan.steps] == steps.split()
    assert len(plan.rows) == rows


@pytest.mark.parametrize("feedback", Feedback)
def test_every_outcome_is_summed_and_no_inverse_is_used_by_another_once_it_is_a_product(feedback):
    plan = plan_of(feedback)
    assert set(plan.outcomes) == set(range(len(feedback.outcomes)))
    assert sorted(n for kind, n in plan.operands if kind is Kind.SUM) == list(range(len(plan.outcomes)))
    products: set[int] = set()
    for _, x, y, out in plan.steps:
        assert products <= {x, y}
        if x == out:
            products.add(out)
