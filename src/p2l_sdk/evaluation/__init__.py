"""How well a model predicts votes, ranks LLMs and routes prompts that it was not trained on.

Every function takes the model and the data to measure it on. Pass known coefficients as `scored`
(`p2l.coefficients(votes.prompts)`), so that several measurements need only one pass of the model.
"""

from p2l_sdk.evaluation.agreement import Agreement, aggregate_agreement
from p2l_sdk.evaluation.averaged import Averaged
from p2l_sdk.evaluation.categories import Category, by_category
from p2l_sdk.evaluation.comparison import Comparison, compare
from p2l_sdk.evaluation.metrics.estimates import Estimate, clustered_mean
from p2l_sdk.evaluation.report import Report, evaluate
from p2l_sdk.evaluation.robustness import Robustness, Stability, robustness
from p2l_sdk.evaluation.scores import evaluate_scores
from p2l_sdk.evaluation.subsets import Range, SubsetPoint, SubsetStudy, subset_study
from p2l_sdk.evaluation.votes import Baseline, calibration, compare_with_baseline, evaluate_votes

__all__ = [
    "Agreement",
    "Averaged",
    "Baseline",
    "Category",
    "Comparison",
    "Estimate",
    "Range",
    "Report",
    "Robustness",
    "Stability",
    "SubsetPoint",
    "SubsetStudy",
    "aggregate_agreement",
    "by_category",
    "calibration",
    "clustered_mean",
    "compare",
    "compare_with_baseline",
    "evaluate",
    "evaluate_scores",
    "evaluate_votes",
    "robustness",
    "subset_study",
]
