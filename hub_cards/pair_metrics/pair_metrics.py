"""Metrics of predicted pairwise preferences for the `evaluate` library, by p2l_sdk.evaluation.metrics."""

from typing import Any

import datasets
import evaluate  # type: ignore[import-untyped]
import numpy as np

from p2l_sdk.evaluation.metrics import PairPredictions, pair_metrics
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.votes.votes import WINNERS

_CITATION = """\
@misc{frick2025prompttoleaderboard,
    title={Prompt-to-Leaderboard},
    author={Evan Frick and Connor Chen and Joseph Tennyson and Tianle Li and Wei-Lin Chiang and
        Anastasios N. Angelopoulos and Ion Stoica},
    year={2025},
    eprint={2502.14855},
    archivePrefix={arXiv},
}
"""

_INPUTS = """
Args:
    coefs_a, coefs_b: coefficients (logits) of the two LLMs of each vote, on the vote's prompt.
    winners: "model_a", "model_b", "tie", "tie (bothbad)" or "both_bad".
    feedback: "bt" (the default), "bt_tie", "rk", "rk_reparam", "grk" or "ba".
    etas, gammas: raw tie threshold and ground of each vote's prompt, where the feedback model has them.
    weights: of the votes; 1 if not given.
    prompts: which prompt each vote is on (any values); with them come standard errors, clustered by prompt.

Returns:
    A number for each metric that applies, none for the others; with `prompts`, also `<metric>_standard_error`.
"""


class PairMetrics(evaluate.Metric):
    """Log-loss, squared error, accuracy and calibration of pairs, and the losses for ties and "both bad"."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "coefs_a": datasets.Value("float64"),
                    "coefs_b": datasets.Value("float64"),
                    "winners": datasets.Value("string"),
                }
            ),
        )

    def _compute(
        self,
        coefs_a: list[float],
        coefs_b: list[float],
        winners: list[str],
        *,
        feedback: str = "bt",
        etas: Any = None,
        gammas: Any = None,
        weights: Any = None,
        prompts: Any = None,
    ) -> dict[str, float]:
        unknown = next((winner for winner in winners if winner not in WINNERS), None)
        if unknown is not None:
            raise ValueError(f"winner is {unknown!r}; legal values: {', '.join(WINNERS)}")
        pairs = PairPredictions(
            Feedback.parse(feedback),
            np.asarray(coefs_a),
            np.asarray(coefs_b),
            np.array([int(WINNERS[winner]) for winner in winners]),
            eta=etas,
            gamma=gammas,
            weights=weights,
            cluster=None if prompts is None else np.unique(np.asarray(prompts), return_inverse=True)[1],
        )
        estimates = pair_metrics(pairs)
        result = {name: estimate.value for name, estimate in estimates.items()}
        if prompts is not None:
            errors = {name: estimate.standard_error for name, estimate in estimates.items()}
            result |= {f"{name}_standard_error": error for name, error in errors.items() if error is not None}
        return result
