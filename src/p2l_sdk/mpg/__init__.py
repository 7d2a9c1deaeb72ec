"""Project MPG (arXiv 2410.22368): a Goodness and a Fastness for every LLM, from existing benchmark results."""

from p2l_sdk.mpg.correlation import Correlation, correlations
from p2l_sdk.mpg.fastness import Fastness, Measure, Run
from p2l_sdk.mpg.goodness import Method, Missing, Prior, Weighting, goodness
from p2l_sdk.mpg.node_estimates import NodeEstimates
from p2l_sdk.mpg.results import Results
from p2l_sdk.mpg.tree import Tree

__all__ = [
    "Correlation",
    "Fastness",
    "Measure",
    "Method",
    "Missing",
    "NodeEstimates",
    "Prior",
    "Results",
    "Run",
    "Tree",
    "Weighting",
    "correlations",
    "goodness",
]
