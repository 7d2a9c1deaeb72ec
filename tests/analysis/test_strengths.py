"""Strengths and weaknesses: what is planted is found, what is not there is not, and every number is right."""

from __future__ import annotations

import dataclasses
import re
import warnings

import numpy as np
import pytest
from analysis.worlds import MODELS, TOPICS, TopicScorer, topic_prompts

from p2l_sdk import P2L
from p2l_sdk.analysis import prompt_map, strengths
from p2l_sdk.analysis.cluster_sums import ClusterSums
from p2l_sdk.analysis.clusters import Tree, choose, joins_of
from p2l_sdk.analysis.deviations import GroupMoments, deviations, largest_by_chance
from p2l_sdk.analysis.report import POINTS
from p2l_sdk.analysis.space import Space
from p2l_sdk.analysis.terms import distinctive, terms, words
from p2l_sdk.cli.analysis_tables import print_report, print_strengths
from p2l_sdk.errors import P2LError, PromptError, UnknownModelError
from p2l_sdk.leaderboards.leaderboard import Coefficients
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.spec_p2l import ModelSpec

PLANTED = np.zeros((len(TOPICS), len(MODELS)))
PLANTED[1, 4], PLANTED[3, 0] = 0.8, -0.8  # e writes poems, a is no lawyer
COSTS = {name: 0.001 * (i + 1) for i, name in enumerate(MODELS)}


def world(strength: np.ndarray, seed: int = 0) -> P2L:
    return P2L(TopicScorer(strength, seed), costs=COSTS)


def by_topic(found, prompts):
    """{topic: row of the cluster that has its name}, each cluster holding one topic."""
    return {next(t for t in TOPICS if t in cluster.terms): k for k, cluster in enumerate(found.clusters)}


@pytest.fixture(scope="module")
def found():
    return strengths(world(PLANTED), topic_prompts(400))


def test_the_topics_are_found_and_named(found):
    names = by_topic(found, None)
    assert {"poetry", "law"} <= names.keys()
    assert [found.clusters[names[t]].n_prompts for t in ("poetry", "law")] == pytest.approx([80, 80], abs=8)
    assert found.clusters[names["poetry"]].stability > 0.9
    assert all(text.startswith("poetry ") for text in found.clusters[names["poetry"]].examples)


def test_what_is_planted_is_found_and_nothing_else(found):
    names = by_topic(found, None)
    marked = {(k, MODELS[i]) for k, i in zip(*np.nonzero(found.found), strict=True)}
    assert marked == {(names["poetry"], "e"), (names["law"], "a")}


def test_a_deviation_is_what_the_topic_adds_relative_to_the_other_llms(found):
    relative = PLANTED - PLANTED.mean(1, keepdims=True)
    expected = relative[1, 4] - relative[:, 4].mean()
    row = by_topic(found, None)["poetry"]
    assert found.deviations[row, 4] == pytest.approx(POINTS * expected, abs=25)
    assert found.margins[row, 4] < 60


def test_the_report_names_what_to_use_instead():
    prompts = topic_prompts(400)
    (weak,) = strengths(world(PLANTED), prompts, "a").of("a")
    assert weak.cluster.name.startswith("law")
    assert weak.low < weak.deviation < weak.high < 0
    assert (weak.rank_overall, weak.best) == (1, "b")
    assert weak.rank > 1
    assert weak.instead is None  # a is the cheapest
    (strong,) = strengths(world(PLANTED), prompts, "e").of("e")
    assert strong.deviation > 0
    assert strong.instead in ("a", "b", None)  # of those that cost no more


def test_a_report_in_a_narrow_terminal_is_lines(found, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    print_report(found, "a")
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 40
    (weak,) = found.of("a")
    told = " ".join(said.split())
    assert f"{weak.deviation:+.0f} ({weak.low:+.0f} to {weak.high:+.0f}) {weak.cluster.name}: 80 prompts" in told
    assert "best there: b ($2.00 per 1k)" in told


def test_a_report_names_no_llm_twice(found, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    cheap = strengths(P2L(TopicScorer(PLANTED), costs=dict.fromkeys(MODELS, 0.001)), topic_prompts(400))
    print_report(cheap, "a")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "law" in line)
    assert line.count(" b ") == 1
    assert re.search(r"b \(\$1\.00 per 1k\) +the same \+\d+", line)
    best = dataclasses.replace(cheap, overall=np.where(np.array(MODELS) == "e", 200.0, cheap.overall))
    print_report(best, "e")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "poetry" in line)
    assert line.split()[-1] == "itself"


@pytest.mark.parametrize("width", [40, 60, 90])
def test_no_word_is_cut(found, monkeypatch, capsys, width):
    monkeypatch.setenv("COLUMNS", str(width))
    llms = ("a-name-of-twenty-five-abc", *MODELS[1:])
    names = [dataclasses.replace(cluster, name="poetry, metamorphosis") for cluster in found.clusters]
    print_strengths(dataclasses.replace(found, models=llms, asked=llms, clusters=tuple(names)))
    print_report(dataclasses.replace(found, models=llms, asked=llms[:1], clusters=tuple(names)), llms[0])
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    assert said.count("metamorphosis") == len(names) + 1
    assert said.count(llms[0]) == 2


def test_a_comparison_is_the_difference_of_ratings(found):
    for cluster, ahead in found.compare("a", "b"):
        k = found.clusters.index(cluster)
        assert ahead == pytest.approx(found.ratings[k, 0] - found.ratings[k, 1])
    assert found.compare("a", "b")[-1][0].name.startswith("law")


def test_further_prompts_are_assigned_to_the_clusters(found):
    names = by_topic(found, None)
    further = [f"{TOPICS[(i + 1) % len(TOPICS)]} {i}" for i in range(100)]
    terms_of = [found.clusters[k].terms for k in found.assign(further)]
    assert np.mean([text.split()[0] in terms for text, terms in zip(further, terms_of, strict=True)]) > 0.9
    assert {names["poetry"], names["law"]} <= set(found.assign(topic_prompts(20)).tolist())
    assert found.assign([]).shape == (0,)


def test_every_form_tells_the_same(found):
    rows = found.to_dict()["rows"]
    assert rows == found.rows() == found.to_pandas().to_dict("records")
    assert sum(row["found"] for row in rows) == found.found.sum()
    assert "poetry" in repr(found)
    assert "poetry" in found._repr_html_()


def test_a_picture_names_clusters_in_whole_words_and_long_names_in_two_lines(found):
    first, second, *others = found.clusters
    long = dataclasses.replace(first, name="following, question refers, information", n_prompts=493)
    endless = dataclasses.replace(second, name="x" * 90, n_prompts=3)
    ax = dataclasses.replace(found, clusters=(long, endless, *others)).plot()
    drawn = [label.get_text() for label in ax.get_yticklabels()]
    assert drawn[0] == "following, question refers,\ninformation  (493 prompts)"
    assert drawn[1].startswith("xxxx")
    assert drawn[1].endswith("…  (3)")
    assert max(len(line) for label in drawn for line in label.split("\n")) <= 34 + len("  (493 prompts)")


def test_a_sample_and_assignment_give_what_all_prompts_give(found, monkeypatch):
    monkeypatch.setattr(prompt_map, "_SAMPLE", 150)
    told = []
    sampled = strengths(world(PLANTED), topic_prompts(400), progress=lambda *what: told.append(what))
    assert {("prompts read", 400), ("vectors of prompts", 150), ("finding clusters", 0)} <= set(told)
    assert ("of 400 prompts assigned to clusters", 400) in told
    assert told[-1] == ("clusters named", len(sampled.clusters))
    names, whole = by_topic(sampled, None), by_topic(found, None)
    assert sum(cluster.n_prompts for cluster in sampled.clusters) == 400
    assert sampled.deviations[names["poetry"], 4] == pytest.approx(found.deviations[whole["poetry"], 4], abs=15)


def test_without_structure_there_are_no_clusters():
    found = strengths(world(np.zeros_like(PLANTED)), topic_prompts(400))
    assert found.clusters == ()
    assert found.of("a") == []
    assert "No clusters" in found.caption
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "nothing found" in [text.get_text() for text in found.plot().texts]


def _null(seed: int, n: int = 200) -> float:
    """The largest deviation of a world without structure, as a share of what chance is said to bring."""
    random = np.random.default_rng(seed)
    group, coefs = random.integers(0, 6, n), random.normal(size=(n, 5))
    members = np.vstack([np.eye(6, dtype=bool), np.eye(6, dtype=bool)[0] | np.eye(6, dtype=bool)[1]])
    moments = GroupMoments(6, 5)
    moments.add(group, coefs)
    away, errors = deviations(moments, members)
    return float(np.abs(away / errors).max() / largest_by_chance(group, coefs, members, np.arange(5), 0.95, seed))


@pytest.mark.long
def test_chance_finds_something_in_one_analysis_of_twenty(monkeypatch):
    """Family-wise error of 200 searches without structure: 0.05, and with 95 % between 0.02 and 0.085."""
    monkeypatch.setattr("p2l_sdk.analysis.deviations._PERMUTATIONS", 100)
    shares = [_null(seed) > 1.0 for seed in range(200)]
    assert 0.02 <= np.mean(shares) <= 0.085


@pytest.mark.slow
def test_whole_analyses_without_structure_and_with():
    """Nothing is found in 95 of 100 worlds without structure, whatever number of clusters is shown; what is planted is
    found in 95 of 100."""
    prompts, nothing = topic_prompts(300), np.zeros_like(PLANTED)
    false = [strengths(world(nothing, s), prompts, clusters=5, least=0.0).found.any() for s in range(100)]
    assert np.mean(false) <= 0.10
    power = [strengths(world(PLANTED, s), prompts).found.sum() >= 2 for s in range(100)]
    assert np.mean(power) >= 0.95


def test_moments_are_those_of_the_prompts():
    random = np.random.default_rng(0)
    group, coefs = random.integers(0, 4, 90), random.normal(size=(90, 3))
    moments = GroupMoments(4, 3)
    for part in np.array_split(np.arange(90), 7):
        moments.add(group[part], coefs[part])
    members = np.array([[True, False, True, False], [False, True, False, False]])
    counts, mean, variance = moments.joined(members.astype(float))
    inside = np.isin(group, [0, 2])
    assert counts.tolist() == [inside.sum(), (group == 1).sum()]
    assert np.allclose(mean[0], coefs[inside].mean(0))
    assert np.allclose(variance[0], coefs[inside].var(0))
    away, errors = deviations(moments, members)
    assert np.allclose(away[1], coefs[group == 1].mean(0) - coefs.mean(0))
    n = (group == 1).sum()
    assert np.allclose(errors[1], np.sqrt(coefs[group == 1].var(0) / (n - 1) * (1 - n / 90)))


def test_the_fewest_clusters_that_explain_enough_are_chosen():
    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(3), 200, 0) * 5
    points = Space.of(centres + random.normal(size=(600, 3))).points(centres + random.normal(size=(600, 3)))
    coefs = np.repeat(np.array([[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]]), 200, 0) + 0.1 * random.normal(size=(600, 2))
    tree = Tree.of(points, 0)
    n_clusters, explained = choose(tree, tree.leaf(points), coefs, 0)
    assert n_clusters == 3
    assert explained[0] == pytest.approx(0.0, abs=1e-9)
    assert explained[2] > 0.9


def test_the_nodes_of_a_cut_hold_every_leaf_once():
    random = np.random.default_rng(0)
    tree = Tree.of(random.normal(size=(300, 4)).astype(np.float32), 0)
    for n_clusters in range(1, tree.n_leaves + 1):
        nodes = tree.members()[tree.cut(n_clusters)]
        assert len(nodes) == n_clusters
        assert (nodes.sum(0) == 1).all()


def test_leaves_of_equal_size_join_as_by_wards_method(monkeypatch):
    from scipy.cluster.hierarchy import cut_tree, linkage

    monkeypatch.setattr("p2l_sdk.analysis.clusters.SHARE", 0.0)
    points = np.random.default_rng(3).normal(size=(25, 4))
    joins, merged = joins_of(points, np.ones(25)), linkage(points, "ward")
    tree = Tree(points, joins)
    for n in range(1, 26):
        mine, theirs = np.argmax(tree.members()[tree.cut(n)], axis=0), cut_tree(merged, n)[:, 0]
        assert len({*zip(mine.tolist(), theirs.tolist(), strict=True)}) == n


def test_leaves_with_few_prompts_join_first():
    """Three leaves in a row: the small one in the middle is not joined last, and counts weigh where a join lies."""
    joins = joins_of(np.array([[0.0], [0.4], [1.0], [1.1]]), np.array([50, 2, 24, 24]))
    assert joins.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_cluster_holds_a_twentieth_of_the_prompts_unless_more_clusters_are_asked_for():
    """Law is 3 % of the prompts: it is a part of a larger cluster, or, if asked for, a cluster of its own."""
    rare = [f"{'law' if i % 33 == 0 else TOPICS[i % 3]} {i}" for i in range(600)]
    p2l = world(PLANTED)
    chosen, asked = strengths(p2l, rare), strengths(p2l, rare, clusters=25)
    assert min(cluster.n_prompts for cluster in chosen.clusters) >= 30
    assert len(chosen.explained) < 25
    assert min(cluster.n_prompts for cluster in asked.clusters) < 30


def test_names_leave_out_what_all_clusters_say():
    texts = ["Answer the question: a sonnet", "Answer the question: a sonnet or a haiku"] * 5
    texts += ["Answer the question: the integral", "Answer the question: an integral"] * 5
    members = np.repeat(np.array([[True, False], [False, True]]), 10, 1)
    first, second = distinctive(texts, members)
    assert first[0] == "sonnet"
    assert second[0] == "integral"
    assert not {"answer", "question"} & {*first, *second}


def test_words_of_scripts_without_blanks_are_pairs_of_characters():
    assert terms(["写一首诗"]) == {"写一", "一首", "首诗", "写一 一首", "一首 首诗"}


def test_names_hold_no_markup():
    """Commands of LaTeX with their environments, tags and entities of HTML, and fences of code are no words."""
    formula = r"\begin{array}{cc} x \\ y \end{array} $\frac{a}{b}\, \mathrm{kg}$ \\alpha"
    assert words(formula) == ["x", "y", "a", "b", "kg"]
    assert words('<div class="big" id=x>One <b>two</b>&nbsp;three<br/> <!-- not\nthis -->') == ["one", "two", "three"]
    assert words("```python\nreturn area\n```\nExplain") == ["return", "area", "explain"]
    assert words("if a<b and c>d") == ["if", "a", "b", "and", "c", "d"]


@pytest.mark.parametrize(
    ("prompts", "options", "says"),
    [
        (["one prompt"], {}, "clusters need 40 prompts or more"),
        (
            topic_prompts(30) * 2,
            {},
            "clusters need 40 prompts or more to be found in; there are 30, and 30 that repeat another one",
        ),
        (iter(topic_prompts(60)), {}, "can be read only once"),
        (topic_prompts(60), {"level": 1.0}, "the level is 1.0"),
        (topic_prompts(60), {"level": float("nan")}, "the level is nan"),
        (topic_prompts(60), {"least": -1.0}, "the least deviation is -1.0"),
        (topic_prompts(60), {"clusters": 50}, "50 clusters are not possible; of these prompts, 1 to 3 are"),
        ("a prompt", {}, "not one string"),
    ],
)
def test_bad_input_is_named(prompts, options, says):
    with pytest.raises(P2LError, match=says):
        strengths(world(PLANTED), prompts, **options)


def test_prompts_that_are_all_alike_are_refused():
    with pytest.raises(P2LError, match="all alike to the model"):
        strengths(P2L.from_pretrained("routing9"), ["the same prompt" + i * " " for i in range(50)])


def test_an_unknown_llm_is_named():
    with pytest.raises(UnknownModelError, match="zeta"):
        strengths(world(PLANTED), topic_prompts(60), "zeta")


def test_an_invalid_prompt_is_named_by_its_position():
    with pytest.raises(PromptError) as error:
        strengths(world(PLANTED), [*topic_prompts(60), *topic_prompts(5), ""])
    assert error.value.index == 65


@pytest.mark.parametrize("sample", [prompt_map._SAMPLE, 150])
def test_a_prompt_counts_once_however_many_votes_are_on_it(found, monkeypatch, sample):
    """Counted 36 times each, prompts would make limits a sixth as wide as they are."""
    monkeypatch.setattr(prompt_map, "_SAMPLE", sample)
    once = strengths(world(PLANTED), topic_prompts(400))
    twice = [form for prompt in topic_prompts(400) for form in (prompt, [{"role": "user", "content": prompt}])]
    many = strengths(world(PLANTED), twice)
    assert (many.n_prompts, many.n_repeated) == (400, 400)
    assert many.to_dict() == {**once.to_dict(), "n_repeated": 400}
    assert "clusters of 400 different prompts (of 800)" in many.caption
    assert "clusters of 400 prompts," in once.caption


class KnowsItsError(TopicScorer):
    """A model whose error for a group of like prompts has a variance of 0.04, if they are all alike."""

    group_error = np.array([0.04, 4.0], dtype=np.float32)


def test_limits_include_the_error_of_the_model_for_a_group_of_prompts(found):
    wide = strengths(P2L(KnowsItsError(PLANTED), costs=COSTS), topic_prompts(400))
    assert (found.own_error, wide.own_error) == (False, True)
    assert [a.name for a in wide.clusters] == [a.name for a in found.clusters]
    scorer = TopicScorer(PLANTED)
    coefs = scorer.score(topic_prompts(400)).coefs.astype(np.float64)
    cluster = wide.assign(topic_prompts(400))
    for k in range(len(wide.clusters)):
        inside = coefs[cluster == k] - coefs[cluster == k].mean(1, keepdims=True)
        alike = 1.0 - inside.var(0).mean() / 4.0  # bt knows coefficients up to a shift, so all error is relative
        more = np.square(wide.margins[k]) - np.square(found.margins[k])
        assert np.allclose(np.sqrt(more), POINTS * 1.96 * np.sqrt(0.04 * alike), rtol=0.01)


def test_where_prompts_differ_in_how_hard_they_are_only_the_relative_part_of_the_error_counts():
    random = np.random.default_rng(0)
    coefs = random.normal(size=(300, 5)) + 2.0 * random.normal(size=(300, 1))
    leaf = random.integers(0, 2, 300)
    p2l = P2L(Grounded(coefs.shape[1]))
    sums = ClusterSums(p2l, 2)
    for rows in (slice(0, 100), slice(100, 300)):
        sums.add(leaf[rows], Coefficients(coefs[rows], None, None))
    relative = coefs - coefs.mean(1, keepdims=True)
    share = relative.var(0).mean() / coefs.var(0).mean()
    alike = [1.0 - coefs[leaf == k].var(0).mean() / 50.0 for k in (0, 1)]
    assert np.allclose(sums.of_groups(np.eye(2, dtype=bool)), 0.3 * share * np.array(alike))


class Grounded:
    """What a sum needs of a scorer: a feedback model whose coefficients are not relative, and errors."""

    group_error = np.array([0.3, 50.0])

    def __init__(self, n_models: int) -> None:
        self.spec = ModelSpec(models=tuple(MODELS[:n_models]), feedback=Feedback.GRK)

    def score(self, prompts):
        raise NotImplementedError
