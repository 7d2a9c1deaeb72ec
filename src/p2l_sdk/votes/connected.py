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

from p2l_sdk.leaderboards.weights import NEGLIGIBLE
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner, vote_targets
from p2l_sdk.votes.counts import VoteCounts

_SHOWN = 8  # groups in a message, and names per group
_FEW_NODES = 2048  # whose edges fit into a small matrix


def undetermined(counts: VoteCounts, feedback: Feedback) -> str | None:
    """A message about what the votes leave open, naming the LLMs; None if the likelihood has a finite maximum."""
    seen = _seen(counts, feedback)
    winners, losers = _did_not_lose(counts, feedback, seen)
    names = [*counts.models, "the threshold of a usable answer"][: len(counts.models) + _grounded(feedback)]
    parts = []
    if _grounded(feedback) and not seen[:, Winner.BOTH_BAD].any():
        parts.append("no vote is 'tie (bothbad)', which leaves the threshold of a usable answer open")
        names, ground = names[:-1], len(counts.models)
        winners, losers = winners[losers != ground], losers[losers != ground]
    separated = _groups(len(names), winners, losers)
    connected = separated
    if len(separated) > 1:
        connected = _groups(len(names), np.concatenate([winners, losers]), np.concatenate([losers, winners]))
    if len(connected) > 1:
        parts.append(_apart(sorted(connected, key=len, reverse=True), names))
    if len(separated) > len(connected):
        parts.append(
            f"there are {len(separated)} groups whose members never lost (or never won) against the others, best "
            "first: " + _words(separated, names)
        )
    if feedback.has_eta and not seen[:, [Winner.A, Winner.B]].any():
        parts.append(
            "no vote is decisive, which leaves the threshold of a tie, and the scale of the coefficients, open"
        )
    if not parts:
        return None
    if ((counts.number > 0) & (counts.weight < NEGLIGIBLE * counts.weight.sum())).any():
        parts.append(f"votes with less than {NEGLIGIBLE:g} of the total weight say nothing in double precision")
    return "the votes do not determine the coefficients of all LLMs: " + "; and ".join(parts)


def _grounded(feedback: Feedback) -> bool:
    return Winner.BOTH_BAD in feedback.outcomes


def _seen(counts: VoteCounts, feedback: Feedback) -> np.ndarray:
    """`(n_pairs, 4)` booleans: whether a pair has votes of a kind that count."""
    says = vote_targets(feedback).sum(1) > 0
    return (counts.weight > NEGLIGIBLE * (counts.weight * says).sum()) & says


def _did_not_lose(counts: VoteCounts, feedback: Feedback, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges from LLMs to those to which they did not lose in some vote that counts; the ground, if any, comes last."""
    ground = len(counts.models)
    tie = seen[:, Winner.TIE] if _grounded(feedback) else seen[:, Winner.TIE] | seen[:, Winner.BOTH_BAD]
    edges = [(counts.a, counts.b, seen[:, Winner.A] | tie), (counts.b, counts.a, seen[:, Winner.B] | tie)]
    if _grounded(feedback):
        alone, bad = np.full_like(counts.a, ground), seen[:, Winner.BOTH_BAD]
        edges += [(start, alone, kept) for start, _, kept in edges]
        edges += [(alone, counts.a, bad), (alone, counts.b, bad)]
    return (
        np.concatenate([start[kept] for start, _, kept in edges]),
        np.concatenate([end[kept] for _, end, kept in edges]),
    )


def _groups(n: int, starts: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """The strongly connected components of a graph of `n` nodes, each before those it can reach: those that reach the
    most nodes first (Tarjan 1972, without recursion)."""
    if n <= _FEW_NODES and _is_one_group(n, starts, ends):
        return [np.arange(n)]
    order = np.argsort(starts, kind="stable")
    heads = np.searchsorted(starts[order], np.arange(n + 1)).tolist()
    targets = ends[order].tolist()
    index, low, on_stack = [-1] * n, [0] * n, [False] * n
    stack: list[int] = []
    groups: list[list[int]] = []
    reach: list[int] = [0] * n  # of the group of a node that is done: its nodes and those it can reach, as bits
    counter = 0
    for root in range(n):
        path = [] if index[root] >= 0 else [(root, heads[root])]
        while path:
            node, at = path.pop()
            if index[node] < 0:
                index[node] = low[node] = counter
                counter += 1
                stack.append(node)
                on_stack[node] = True
            while at < heads[node + 1]:
                target = targets[at]
                at += 1
                if index[target] < 0:
                    path += [(node, at - 1), (target, heads[target])]
                    break
                if on_stack[target]:
                    low[node] = min(low[node], low[target])
            else:
                if low[node] == index[node]:
                    groups.append(_closed(node, stack, on_stack))
                    found = 0
                    for member in groups[-1]:
                        found |= 1 << member
                        for target in set(targets[heads[member] : heads[member + 1]]):
                            found |= reach[target]
                    for member in groups[-1]:
                        reach[member] = found
    groups.sort(key=lambda group: (-reach[group[0]].bit_count(), min(group)))
    return [np.array(sorted(group)) for group in groups]


def _is_one_group(n: int, starts: np.ndarray, ends: np.ndarray) -> bool:
    """Whether a graph of at least one node is strongly connected: its first node reaches all, and all reach it. By far
    the most common case, and a fast one."""
    edges = np.zeros((n, n), dtype=bool)
    edges[starts, ends] = True
    for matrix in (edges, edges.T):
        reached = new = np.arange(n) == 0
        while new.any():
            new = matrix[new].any(0) & ~reached
            reached = reached | new
        if not reached.all():
            return False
    return True


def _closed(node: int, stack: list[int], on_stack: list[bool]) -> list[int]:
    """Take a component, whose first node this is, from the stack."""
    group: list[int] = []
    while not group or group[-1] != node:
        group.append(stack.pop())
        on_stack[group[-1]] = False
    return group


def _apart(groups: list[np.ndarray], names: list[str]) -> str:
    """What to say of groups that no vote connects, the largest first; of many without any vote, that they have none."""
    alone = [group for group in groups if len(group) == 1]
    if len(alone) <= _SHOWN:
        return f"they fall into {len(groups)} groups that are never compared, not even through others: " + _words(
            groups, names
        )
    some = ", ".join(names[group[0]] for group in alone[:_SHOWN])
    said = f"{len(alone)} of {len(names)} LLMs are in no vote ({some} and {len(alone) - _SHOWN} more)"
    rest = groups[: -len(alone)]
    return said if len(rest) < 2 else f"{said}; {_apart(rest, names)}"


def _words(groups: list[np.ndarray], names: list[str]) -> str:
    shown = []
    for group in groups[:_SHOWN]:
        more = f" and {len(group) - _SHOWN} more" if len(group) > _SHOWN else ""
        shown.append("[" + ", ".join(names[i] for i in group[:_SHOWN]) + more + "]")
    return ", ".join(shown) + (f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")
