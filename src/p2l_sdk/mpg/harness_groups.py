"""Groups of tasks in lm-evaluation-harness's results, whose means must not count beside those of their own tasks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from p2l_sdk.mpg.harness_logs import Log, table

_DEPTH = re.compile(r"(?P<indent> *)- ")
_ROUNDING = 2e-3  # by which a group's mean may differ from that of its tasks
_FEWEST = 2  # tasks of a group that no table names


def children_of(summaries: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """Group -> its tasks and groups, from whatever the result files say of it: `group_subtasks`; in older ones the
    indented aliases, or the table `groups` and the tasks whose names go on from a group's; and where nothing is said,
    tasks whose names go on from another's and whose mean is that one's."""
    found: dict[str, set[str]] = {}
    for summary in summaries:
        for group, children in (_named(summary) or _by_alias(summary) or _by_name(summary)).items():
            found.setdefault(group, set()).update(children)
    return {group: children for group, children in found.items() if children}


def _named(summary: Mapping[str, Any]) -> dict[str, set[str]]:
    listed = table(summary.get("group_subtasks"))
    return {str(group): set(map(str, children)) for group, children in listed.items() if isinstance(children, list)}


def _by_alias(summary: Mapping[str, Any]) -> dict[str, set[str]]:
    """From aliases such as `mmlu`, ` - stem`, `  - physics`, each below its group."""
    found: dict[str, set[str]] = {}
    path: list[tuple[int, str]] = []
    for task, values in summary["results"].items():
        match = _DEPTH.match(str(table(values).get("alias", "")))
        depth = len(match["indent"]) if match else 0
        path = [(above, name) for above, name in path if above < depth]
        if path and depth:
            found.setdefault(path[-1][1], set()).add(str(task))
        path.append((depth, str(task)))
    return found


def _by_name(summary: Mapping[str, Any]) -> dict[str, set[str]]:
    """From names that go on from a group's: groups are in a table of their own, have no size, or are others' mean."""
    tasks, sizes = [str(task) for task in summary["results"]], table(summary.get("n-samples"))
    groups = {task for task in tasks if task in table(summary.get("groups")) or (sizes and task not in sizes)}
    if not groups:
        begun = {task: {other for other in tasks if _goes_on(other, task)} for task in tasks}
        return {g: c for g, c in begun.items() if len(c) >= _FEWEST and not sizes and _is_mean(g, c, summary)}
    leaves = [task for task in tasks if task not in groups]
    found = {}
    for group in groups:
        above = [group, *(other for other in groups if _goes_on(group, other)), re.split("[_-]", group)[0]]
        parts = ({leaf for leaf in leaves if _goes_on(leaf, name)} for name in above)
        found[group] = next((part for part in parts if part), set())
    return found


def _goes_on(task: str, group: str) -> bool:
    return task.startswith((f"{group}_", f"{group}-"))


def _is_mean(group: str, children: Iterable[str], summary: Mapping[str, Any]) -> bool:
    """Whether a task's metric is the mean of the others', so that it is their group."""
    values = table(summary["results"][group])
    for key, value in values.items():
        if isinstance(value, float) and "_stderr" not in key:
            parts = [table(summary["results"][name]).get(key) for name in children]
            numbers = [part for part in parts if isinstance(part, int | float)]
            if len(numbers) == len(parts):
                return abs(sum(numbers) / len(parts) - value) < _ROUNDING
    return False


def counted_once(
    logs: Sequence[Log], children: Mapping[str, set[str]]
) -> tuple[list[Log], list[str], dict[str, list[str]]]:
    """The logs without those that another one contains; the groups left out; and the groups that stand for their tasks,
    with these.

    A group's mean is left out where its tasks have results. It stands for its tasks instead if some LLM has the mean
    alone, and every LLM has it.
    """
    of_llm: dict[str, set[str]] = {}
    for log in logs:
        if log.values or log.faults:
            of_llm.setdefault(log.model, set()).add(log.task)
    groups: set[str] = set()
    tasks_of: dict[str, list[str]] = {}
    present = {log.task for log in logs if log.values or log.faults}
    for group in children:
        below = _below(group, children)
        with_tasks = [tasks for tasks in of_llm.values() if tasks & below]
        alone = [tasks for tasks in of_llm.values() if group in tasks and not tasks & below]
        if not with_tasks:
            continue
        if alone and all(group in tasks for tasks in with_tasks):
            tasks_of[group] = sorted(below & present)
        else:
            groups.add(group)
    stood_for = set[str]().union(*tasks_of.values())
    kept = [log for log in logs if log.task not in groups | stood_for]
    return kept, sorted((groups - stood_for) & present), tasks_of


def _below(group: str, children: Mapping[str, set[str]]) -> set[str]:
    """All tasks and groups below a group."""
    found: set[str] = set()
    rest = list(children.get(group, ()))
    while rest:
        name = rest.pop()
        if name not in found and name != group:
            found.add(name)
            rest += children.get(name, ())
    return found
