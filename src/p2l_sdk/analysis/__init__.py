"""What leaderboards of many prompts tell: strengths and weaknesses, categories, people, scaling."""

from p2l_sdk.analysis.categories import by_category
from p2l_sdk.analysis.category_report import Categories
from p2l_sdk.analysis.choices import Choices
from p2l_sdk.analysis.differences import Differences
from p2l_sdk.analysis.history import History, read_history
from p2l_sdk.analysis.namer import LLMNamer
from p2l_sdk.analysis.personal import Personal, personal
from p2l_sdk.analysis.power_law import Interval, PowerLaw, fit_power_law
from p2l_sdk.analysis.report import Cluster, Finding, Strengths
from p2l_sdk.analysis.scaling import scaling
from p2l_sdk.analysis.scaling_points import Point
from p2l_sdk.analysis.scaling_report import Curve, Scaling
from p2l_sdk.analysis.strengths import strengths

__all__ = [
    "Categories", "Choices", "Cluster", "Curve", "Differences", "Finding", "History", "Interval", "LLMNamer",
    "Personal", "Point", "PowerLaw", "Scaling", "Strengths", "by_category", "fit_power_law", "personal",
    "read_history", "scaling", "strengths",
]  # fmt: skip
