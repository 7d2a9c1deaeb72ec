"""Whether votes determine a leaderboard: the graph of which LLM did not lose to which.

The likelihood has a finite maximum if and only if this graph is strongly connected (Ford 1957, for Bradley-Terry: for
every split of the contestants into two groups, each group wins some vote against the other). A tie is an edge in both
directions. In feedback models with the outcome "both bad" (grk, ba), the ground (the threshold of a usable answer) is a
contestant of its own: an answer that wins or ties did not lose to it, and it did not lose to two answers that are both
bad.

In models with a tie threshold, some vote must also be decisive: the likelihood of ties alone increases with the
threshold without bound.
"""

from __future__ import annotations

import numpy as np

from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, vote_targets
from p2l_sdk.votes.counts import VoteCounts

_SHOWN = 8  # groups in a message, and names per group


def undetermined(counts: VoteCounts, feedback: Feedback) -> str | None:
    """A message about what the votes leave open, naming the LLMs; None if the likelihood has a finite maximum."""
    edges = _did_not_lose(counts, feedback)
    names = [*counts.models, "the threshold of a usable answer"]
    parts = []
    if len(edges) == len(names) and not edges[-1].any():
        parts.append("no vote is 'tie (bothbad)', which leaves the threshold of a usable answer open")
        edges = edges[:-1, :-1]
    connected, separated = _groups(edges | edges.T), _groups(edges)
    if len(connected) > 1:
        connected.sort(key=len, reverse=True)
        parts.append(
            f"they fall into {len(connected)} groups that are never compared, not even through others: "
            + _words(connected, names)
        )
    if len(separated) > len(connected):
        parts.append(
            f"there are {len(separated)} groups whose members never lost (or never won) against the others, best "
            "first: " + _words(separated, names)
        )
    if feedback.has_eta and not counts.number[:, [Winner.A, Winner.B]].any():
        parts.append(
            "no vote is decisive, which leaves the threshold of a tie, and the scale of the coefficients, open"
        )
    if not parts:
        return None
    return "the votes do not determine the coefficients of all LLMs: " + "; and ".join(parts)


def _did_not_lose(counts: VoteCounts, feedback: Feedback) -> np.ndarray:
    """`(n, n)` booleans, [i, j]: i did not lose to j in some vote that counts; the ground, if any, comes last."""
    n, grounded = len(counts.models), Winner.BOTH_BAD in feedback.outcomes
    a, b = np.triu_indices(n, 1)
    seen = (counts.number > 0) & (vote_targets(feedback).sum(1) > 0)
    tie = seen[:, Winner.TIE] if grounded else seen[:, Winner.TIE] | seen[:, Winner.BOTH_BAD]
    edges = np.zeros((n + grounded, n + grounded), dtype=bool)
    edges[a, b] = seen[:, Winner.A] | tie
    edges[b, a] = seen[:, Winner.B] | tie
    if grounded:
        edges[:n, n] = edges[:n, :n].any(1)
        edges[n, a[seen[:, Winner.BOTH_BAD]]] = edges[n, b[seen[:, Winner.BOTH_BAD]]] = True
    return edges


def _groups(edges: np.ndarray) -> list[np.ndarray]:
    """The strongly connected components, each before those it can reach."""
    reach = edges | np.eye(len(edges), dtype=bool)
    while True:  # each round doubles the length of the paths
        steps = reach.astype(np.float32)
        further = steps @ steps > 0
        if (further == reach).all():
            break
        reach = further
    label = (reach & reach.T).argmax(1)  # the first member represents its group
    heads = np.unique(label)
    heads = heads[np.argsort(-reach[heads].sum(1), kind="stable")]
    return [np.flatnonzero(label == head) for head in heads]


def _words(groups: list[np.ndarray], names: list[str]) -> str:
    shown = []
    for group in groups[:_SHOWN]:
        more = f" and {len(group) - _SHOWN} more" if len(group) > _SHOWN else ""
        shown.append("[" + ", ".join(names[i] for i in group[:_SHOWN]) + more + "]")
    return ", ".join(shown) + (f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")
