"""A tree over benchmarks: how they are grouped into subdomains, domains and the root, and how much each counts.

name: reasoning
nodes:                                    # parent: [children]; a name that is not a parent is a benchmark
  Goodness: [knowledge, mathematics]
  knowledge: [mmlu, trivia_qa]
  mathematics: [gsm8k, math]
weights: {mathematics: 2}                 # relative to its siblings; 1 if not given
chance: {mmlu: 0.25}                      # score of guessing; 0 if not given
questions: {gsm8k: 1319}                  # number of questions, for published means that do not state it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from p2l_sdk.errors import ResultsError, TableError, did_you_mean, nearest
from p2l_sdk.leaderboards.weights import scaled
from p2l_sdk.modeling.limits_p2l import shown
from p2l_sdk.modeling.number_p2l import to_number
from p2l_sdk.tables.documents import yaml_value
from p2l_sdk.tables.limits import LARGEST_DOCUMENT
from p2l_sdk.tables.text import read_text

_KEYS = ("name", "nodes", "weights", "chance", "questions")


@dataclass(frozen=True)
class Tree:
    """A validated tree.

    Attributes:
        nodes: parent -> children; exactly one parent, the root, is not a child.
        weights: node -> weight among its siblings, > 0; 1 where absent.
        chance: benchmark -> score of guessing, in [0, 1); 0 where absent.
        questions: benchmark -> number of questions, >= 1, for published means that do not state it.
        name: name of the tree.

    Raises:
        ResultsError: it is not a tree (a cycle, two roots, a child of two parents), or a table has an unknown name or a
            number out of range.
    """

    nodes: Mapping[str, tuple[str, ...]]
    weights: Mapping[str, float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    questions: Mapping[str, float] = field(default_factory=dict)
    name: str = "tree"

    def __post_init__(self) -> None:
        parents: dict[str, str] = {}
        for parent, children in self.nodes.items():
            if not children:
                raise ResultsError(f"the tree's node {parent!r} has no children")
            for child in children:
                if child in parents:
                    raise ResultsError(f"{child!r} is a child of {parents[child]!r} and of {parent!r}; name it once")
                parents[child] = parent
        for start in self.nodes:  # walk up from every parent: one that meets itself is a cycle
            trail = [start]
            while trail[-1] in parents:
                trail.append(parents[trail[-1]])
                if trail[-1] in trail[:-1]:
                    circle = trail[trail.index(trail[-1]) :]
                    raise ResultsError(f"the tree is cyclic: {' -> '.join(reversed(circle))}")
        roots = [parent for parent in self.nodes if parent not in parents]
        if len(roots) != 1:
            raise ResultsError(f"a tree has one root; this one has {len(roots)}: {', '.join(roots) or 'no nodes'}")
        known = {*self.nodes, *parents}
        checks = (
            ("weights", self.weights, known, lambda x: 0 < x < np.inf, "> 0"),
            ("chance", self.chance, set(self.leaves()), lambda x: 0 <= x < 1, "in [0, 1)"),
            ("questions", self.questions, set(self.leaves()), lambda x: 1 <= x < np.inf, ">= 1"),
        )
        for what, table, names, holds, bound in checks:
            for key, value in table.items():
                if key not in names:
                    raise ResultsError(
                        f"{what} of the tree names {key!r}, which is not known here; {did_you_mean(key, names)}"
                    )
                if isinstance(value, str) or not holds(to_number(value)):
                    raise ResultsError(f"{what} of {key!r} is {shown(value)}; it must be a number {bound}")

    @classmethod
    def read(cls, source: str | Path | Mapping[str, Any]) -> Tree:
        """A tree from a YAML file, from a mapping with the same content, or a built-in one (`mpg`, `livebench`).

        Raises:
            ResultsError: the file cannot be read, or is not a tree.
        """
        if isinstance(source, Mapping):
            return cls._of(source)
        text, name = _text(source), str(source)
        values = yaml_value(text, f"the tree {name!r}", ResultsError)
        if not isinstance(values, dict):
            raise ResultsError(f"the tree {name!r} must hold the key 'nodes': parent: [children]")
        return cls._of({"name": Path(name).stem, **values})

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> Tree:
        unknown = [str(key) for key in values if key not in _KEYS]
        if unknown:
            raise ResultsError(f"the tree has the key {unknown[0]!r}; known: {', '.join(_KEYS)}")
        nodes = values.get("nodes")
        if not isinstance(nodes, Mapping) or not all(isinstance(c, list | tuple) for c in nodes.values()):
            raise ResultsError("the tree needs the key 'nodes': parent: [children]")
        if not all(isinstance(child, str | int | float) for children in nodes.values() for child in children):
            raise ResultsError("the children of a tree's node are names; write a node of its own for each subdomain")
        tables = [values.get(key) or {} for key in _KEYS[2:]]
        for key, table in zip(_KEYS[2:], tables, strict=True):
            if not isinstance(table, Mapping):
                raise ResultsError(f"{key} of the tree must be a mapping, {{name: number}}, not {table!r}")
        weights, chance, questions = ({str(k): v for k, v in table.items()} for table in tables)
        named = {str(parent): tuple(map(str, children)) for parent, children in nodes.items()}
        return cls(named, weights, chance, questions, str(values.get("name", "tree")))

    @classmethod
    def flat(cls, benchmarks: Sequence[str]) -> Tree:
        """All benchmarks under one root, with equal weights."""
        return cls({"Goodness": tuple(benchmarks)}, name="flat")

    @cached_property
    def root(self) -> str:
        """The node that is not a child."""
        children = {child for below in self.nodes.values() for child in below}
        return next(parent for parent in self.nodes if parent not in children)

    @property
    def domains(self) -> tuple[str, ...]:
        """The root's children."""
        return self.nodes[self.root]

    def walk(self, node: str | None = None) -> Iterator[tuple[str, int]]:
        """Names and depths (0 at the start) from the top down, each parent before its children."""
        stack = [(node or self.root, 0)]
        while stack:
            name, depth = stack.pop()
            yield name, depth
            stack += [(child, depth + 1) for child in reversed(self.nodes.get(name, ()))]

    def leaves(self, node: str | None = None) -> list[str]:
        """The benchmarks below a node; the node itself if it is a benchmark."""
        return [name for name, _ in self.walk(node) if name not in self.nodes]

    def shares(self, node: str) -> dict[str, float]:
        """Benchmark -> its share of a node, summing to 1: the product of the normalised weights on the path."""
        if node not in self.nodes:
            return {node: 1.0}
        children = self.nodes[node]
        given = scaled(np.array([float(self.weights.get(child, 1.0)) for child in children]))
        weights = dict(zip(children, given.tolist(), strict=True))
        total = sum(weights.values())
        return {leaf: weights[child] / total * share for child in weights for leaf, share in self.shares(child).items()}

    def only(self, benchmarks: Sequence[str]) -> Tree:
        """The tree restricted to these benchmarks, without empty nodes. Raises `ResultsError` if none is left."""
        kept = set(benchmarks)
        for name, _ in reversed(list(self.walk())):
            if name in self.nodes and any(child in kept for child in self.nodes[name]):
                kept.add(name)
        nodes = {p: tuple(c for c in children if c in kept) for p, children in self.nodes.items() if p in kept}
        if not nodes:
            raise ResultsError(f"the tree {self.name!r} names none of the benchmarks: {', '.join(benchmarks)}")
        weights, chance, questions = (
            {k: v for k, v in table.items() if k in kept} for table in (self.weights, self.chance, self.questions)
        )
        return Tree(nodes, weights, chance, questions, self.name)

    def require(self, benchmarks: Sequence[str]) -> None:
        """Raise `ResultsError` if a benchmark of the tree is not among these."""
        for leaf in self.leaves():
            if leaf not in benchmarks:
                near = nearest(leaf, benchmarks)
                has = repr(near) if near else ", ".join(benchmarks)
                raise ResultsError(
                    f"the tree names the benchmark {leaf!r}, which has no results; your results have {has} "
                    "(to leave out what has no results: tree.only(results.benchmarks), --allow-absent)"
                )


def _text(source: str | Path) -> str:
    folder = resources.files("p2l_sdk.mpg") / "trees"
    built_in = folder / f"{source}.yaml"
    try:
        if str(source).isidentifier() and built_in.is_file():
            return built_in.read_text(encoding="utf-8")
        return read_text(source, most=LARGEST_DOCUMENT)
    except (OSError, TableError) as error:
        has = ", ".join(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir()))
        reason = getattr(error, "strerror", None) or error
        raise ResultsError(f"the tree {str(source)!r} cannot be read: {reason}; trees that come along: {has}") from None
