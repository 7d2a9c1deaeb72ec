"""Trees over benchmarks."""

from __future__ import annotations

from conftest import ROOT
from mpg_results import ROWS, refusal

from p2l_sdk.mpg import Results, Tree, goodness


def test_bad_trees_are_refused_by_name(tmp_path):
    def of(nodes, **more):
        return refusal(Tree.read, {"nodes": nodes, **more})

    assert "the tree is cyclic: a -> b -> a" in of({"root": ["x"], "a": ["b"], "b": ["a"]})
    assert "the tree is cyclic: a -> a" in of({"root": ["x"], "a": ["a"]})
    assert "this one has 2: a, b" in of({"a": ["x"], "b": ["y"]})
    assert "'x' is a child of 'a' and of 'b'" in of({"a": ["x", "b"], "b": ["x"]})
    assert "weights of 'x' is -1; it must be a number > 0" in of({"a": ["x"]}, weights={"x": -1})
    assert "chance of 'x' is 1; it must be a number in [0, 1)" in of({"a": ["x"]}, chance={"x": 1})
    assert "chance of the tree names 'y'" in of({"a": ["x"]}, chance={"y": 0.5})
    assert "known: name, nodes" in of({"a": ["x"]}, wieghts={})
    assert "node 'a' has no children" in of({"a": []})
    assert "trees that come along: livebench, mpg" in refusal(Tree.read, tmp_path / "none.yaml")
    (tmp_path / "t.yaml").write_text("nodes: &n\n  a: [*n]\n")
    assert "*n refers to what it stands in" in refusal(Tree.read, tmp_path / "t.yaml")
    (tmp_path / "t.yaml").write_text("nodes:\n  a: [&n {}, *n]\n")
    assert "children of a tree's node are names" in refusal(Tree.read, tmp_path / "t.yaml")
    tree = Tree.read({"nodes": {"all": ["math", "cods"]}})
    text = refusal(goodness, Results.read(ROWS), tree)
    assert "the tree names the benchmark 'cods', which has no results; your results have 'code' (to leave out" in text


def test_shares_and_parts_of_a_tree():
    tree = Tree.read({"nodes": {"all": ["x", "rest"], "rest": ["y", "z"]}, "weights": {"x": 3, "z": 4}})
    assert tree.shares("all") == {"x": 0.75, "y": 0.05, "z": 0.2}
    assert [name for name, _ in tree.walk()] == ["all", "x", "rest", "y", "z"]
    assert tree.only(["x", "y"]).shares("all") == {"x": 0.75, "y": 0.25}
    for name in ("mpg", "livebench"):
        built_in = Tree.read(name)
        assert len(built_in.leaves()) > len(built_in.domains) > 2
    assert len(Tree.read(ROOT / "examples" / "routing9_tree.yaml").leaves()) == 14
