"""`--models`, `--opponents`, `--policy` and `--objective`, tables of many LLMs, and `p2l frontier`."""

from __future__ import annotations

import json

import pytest
from arena_names import NAMES
from command_line import ok, p2l, refused

PROMPT = "write a poem about code"
COSTS = {name: 0.0001 * 1.1**i for i, name in enumerate(NAMES) if i % 3}
ASKED = "gpt-4o-mini,anthropic/claude-3.5-haiku,Llama-3.1-8B"
OWN = ["gpt-4o-mini-2024-07-18", "claude-3-5-haiku-20241022", "llama-3.1-8b-instruct"]
SAID = (
    f"p2l: gpt-4o-mini is read as {OWN[0]}, anthropic/claude-3.5-haiku as {OWN[1]}, Llama-3.1-8B as {OWN[2]}\n"
).encode()


@pytest.fixture(scope="module")
def folder(saved):
    return saved("static", "grk", models=NAMES, costs={**COSTS, **dict.fromkeys(OWN, 0.0004)})


@pytest.fixture(scope="module")
def arena(folder):
    from p2l_sdk import P2L

    return P2L.from_pretrained(folder)


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "prompts.txt").write_text(f"{PROMPT}\nsum a list in python\n")
    return tmp_path / "prompts.txt"


def said(*arguments) -> tuple[str, bytes]:
    """What a command prints, and what it says on stderr."""
    result = p2l(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.decode(), result.stderr


def shown(table: str) -> list[int]:
    """The ranks in a table."""
    return [int(line.split()[0]) for line in table.splitlines() if line.strip()[:1].isdigit()]


def test_route_with_every_option(folder, arena):
    options = {"models": ASKED.split(","), "opponents": {"o1": 1.0, "grok-4": 2.0}, "policy": "strict"}
    options["objective"] = "usable"
    command = ("route", PROMPT, "--model", folder, "--cost", 0.0005, "--models", ASKED, "--opponents", "o1,grok-4=2")
    out, err = said(*command, "--policy", "strict", "--objective", "usable", "--json")
    assert json.loads(out) == arena.route(PROMPT, 0.0005, **options).to_dict()
    assert err == SAID[:-1] + b", o1 as o1-2024-12-17, grok-4 as grok-4-0709\n"
    out, err = said("route", PROMPT, "--model", folder, "--cost", 0.0005, "--models", ASKED)
    assert out.split()[:2] == ["call", arena.route(PROMPT, 0.0005, models=options["models"]).model]
    assert "read as" not in out
    assert err == SAID


@pytest.mark.long
def test_a_table_of_many_shows_the_best_and_says_how_many_more(folder, arena, prompts):
    for command in (("leaderboard", PROMPT), ("aggregate", prompts)):
        short = ok(*command, "--model", folder)
        assert shown(short)[:10] == list(range(1, 11))
        n = len(shown(short))
        assert 10 <= n <= 15
        assert f"... and {len(NAMES) - n} more LLMs (--all shows all, --top {2 * n} the best)" in short
        assert shown(ok(*command, "--model", folder, "--top", 17)) == list(range(1, 18))
        assert shown(ok(*command, "--model", folder, "--all")) == list(range(1, len(NAMES) + 1))
        for options, rows in (((), len(NAMES)), (("--top", 3), 3)):
            assert len(json.loads(ok(*command, "--model", folder, "--json", *options))["leaderboard"]) == rows


def test_models_and_opponents_of_a_table(folder, arena, prompts):
    for command, board in (
        (("leaderboard", PROMPT), arena.leaderboard(PROMPT)),
        (("aggregate", prompts), arena.aggregate(prompts.read_text().split("\n")[:-1])),
    ):
        out, err = said(*command, "--model", folder, "--models", ASKED, "--opponents", "o1-mini=3,phi-4", "--json")
        assert err == SAID
        rows = json.loads(out)["leaderboard"]
        assert [row["model"] for row in rows] == [name for name in board.ranking if name in OWN]
        for row in rows:
            wins = [board.win_probability(row["model"], other) for other in ("o1-mini", "phi-4")]
            assert row["win_rate"] == pytest.approx(0.75 * wins[0] + 0.25 * wins[1])
        table, _ = said(*command, "--model", folder, "--models", ASKED, "--opponents", "phi-4")
        assert len(shown(table)) == 3
        assert "win rate" in table
        assert "more LLMs" not in table
        assert len(shown(said(*command, "--model", folder, "--models", ASKED, "--top", 1)[0])) == 1


def test_frontier(folder, arena, prompts, tmp_path):
    texts = prompts.read_text().split("\n")[:-1]
    command = ("frontier", prompts, "--model", folder)
    out, err = said(*command, "--models", ASKED, "--costs", _file(tmp_path), "--budgets", "0.0003,0.0002", "--json")
    assert err == SAID
    found = json.loads(out)
    own = arena.frontier(texts, models=ASKED.split(","), costs=_COSTS, budgets=[0.0002, 0.0003])
    assert found["budgets"] == [0.0002, 0.0003]
    assert found["router_scores"] == pytest.approx(own.router_scores.tolist())
    assert [row["model"] for row in found["models"]] == ASKED.split(",")
    missing = len(NAMES) - len(arena.costs)
    out, err = said(*command, "--output", tmp_path / "frontier.png", "--objective", "usable")
    assert err == f"p2l: {missing} LLMs without a cost are left out (p2l costs lists them)\n".encode()
    lines = out.splitlines()
    assert lines[0].split(":")[1].strip() == f"{len(arena.costs)} of {len(NAMES)} LLMs on 2 prompts"
    budgets = [float(line.split()[0].removeprefix("$")) for line in lines[2:10]]
    assert budgets == sorted(budgets)
    assert "an answer is usable" in out
    assert (tmp_path / "frontier.png").stat().st_size > 5000


_COSTS = {"gpt-4o-mini": 0.0001, "claude-3-5-haiku": 0.0004, "llama-3.1-8b": 0.0002}


def _file(folder) -> str:
    (folder / "costs.json").write_text(json.dumps(_COSTS))
    return str(folder / "costs.json")


@pytest.mark.long
def test_refusals(folder, saved, prompts):
    model = ("--model", folder)
    for command in (("route", PROMPT), ("leaderboard", PROMPT), ("aggregate", prompts), ("frontier", prompts)):
        assert "names 'gpt-4o', which may be gpt-4o-2024-05-13 or" in refused(*command, *model, "--models", "gpt-4o")
        unknown = refused(*command, *model, "--models", "gpt-9")
        assert "names 'gpt-9', which this model does not know; " in unknown
        assert "docs/no-votes.md" in unknown
        assert "is empty" in refused(*command, *model, "--models", " , ")
        assert "the weight of 'o1' is 'x'" in refused(*command, *model, "--opponents", "o1=x")
    assert "unknown policy 'cheap'; known: optimal, strict, best" in refused("route", PROMPT, "--policy", "cheap")
    assert "unknown objective" in refused("frontier", prompts, "--objective", "speed")
    assert "'a,b' is no list of USD" in refused("frontier", prompts, "--budgets", "a,b")
    assert "the cheapest feasible budget is" in refused("frontier", prompts, "--budgets", "0.000001")
    assert "is no name of a picture" in refused("frontier", prompts, "--output", "frontier.txt")
    assert "no cost is known for any LLM of this model" in refused(
        "frontier", prompts, "--model", saved("static", models=("a", "b"), costs={})
    )
