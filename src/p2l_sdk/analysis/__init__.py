"""What leaderboards of many prompts tell: strengths and weaknesses, categories, people, scaling."""

from p2l_sdk.analysis.history import History, read_history
from p2l_sdk.analysis.namer import LLMNamer
from p2l_sdk.analysis.personal import Personal, personal
from p2l_sdk.analysis.report import Cluster, Finding, Strengths
from p2l_sdk.analysis.strengths import strengths

__all__ = [
    "Cluster",
    "Finding",
    "History",
    "LLMNamer",
    "Personal",
    "Strengths",
    "personal",
    "read_history",
    "strengths",
]
