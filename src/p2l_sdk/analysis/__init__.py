"""What leaderboards of many prompts tell: strengths and weaknesses, categories, people, scaling."""

from p2l_sdk.analysis.namer import LLMNamer
from p2l_sdk.analysis.power_law import Interval, PowerLaw, fit_power_law
from p2l_sdk.analysis.report import Cluster, Finding, Strengths
from p2l_sdk.analysis.scaling import scaling
from p2l_sdk.analysis.scaling_points import Point
from p2l_sdk.analysis.scaling_report import Curve, Scaling
from p2l_sdk.analysis.strengths import strengths

__all__ = [
    "Cluster",
    "Curve",
    "Finding",
    "Interval",
    "LLMNamer",
    "Point",
    "PowerLaw",
    "Scaling",
    "Strengths",
    "fit_power_law",
    "scaling",
    "strengths",
]
