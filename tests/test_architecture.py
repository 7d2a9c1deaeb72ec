"""The architecture: rooms on floors, arrows down only, no circles, and a base install that stays light."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator

import pytest
from conftest import ROOT

# lowest floor first; a room knows the floors below it, and none of its neighbours
FLOORS = [
    {"modeling"},
    {"errors"},
    {"outputs"},
    {"names", "pictures", "options", "tabular", "rewording"},
    {"leaderboards"},
    {"hub"},
    {"tables"},
    {"scorers", "votes", "routing"},
    {"editing", "mpg"},
    {"p2l"},
    {"__init__", "bulk", "evaluation", "kinds"},
    {"training", "serve"},
    {"judging", "analysis"},
    {"cli"},
    {"__main__"},
]
HEIGHT = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SOURCES = {"": ROOT / "src" / "p2l_sdk", "modeling.": ROOT / "modeling"}
MODULES = {
    prefix + ".".join(path.relative_to(root).with_suffix("").parts): path
    for prefix, root in SOURCES.items()
    for path in root.rglob("*.py")
}


def imports(text: str, package: str = "") -> Iterator[str]:
    """Every module of the package that a source imports: at import time, within functions, and for type checking."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            module = f"p2l_sdk.{package}{node.module or ''}" if node.level else node.module or ""
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.split(".")[0] == "p2l_sdk":
                found = name.removeprefix("p2l_sdk").lstrip(".")
                parent = found.rpartition(".")[0]
                known = (
                    m for m in (found, f"{found}.__init__", parent, f"{parent}.__init__".lstrip(".")) if m in MODULES
                )
                yield next(known, found)


def forbidden(name: str, text: str) -> list[str]:
    """What a module imports from a room on its own floor or above."""
    room = name.split(".")[0]
    others = {other: other.split(".")[0] for other in imports(text, "modeling." if room == "modeling" else "")}
    return [other for other, its in others.items() if its != room and HEIGHT.get(its, -1) >= HEIGHT[room]]


def test_every_room_has_a_floor():
    assert {name.split(".")[0] for name in MODULES} == set(HEIGHT)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_arrow_points_down(name):
    assert forbidden(name, MODULES[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from p2l_sdk.p2l import P2L",
        "def f():\n    import p2l_sdk.p2l",
        "if TYPE_CHECKING:\n    from p2l_sdk import P2L",
        "from p2l_sdk.scorers import load",  # a neighbour
    ],
)
def test_a_forbidden_import_of_each_sort_is_caught(source):
    assert forbidden("votes.counts", source)
    assert not forbidden("cli.ask", source)


def test_the_picture_shows_these_floors():
    """docs/images/rooms.svg, from top to bottom."""
    picture = (ROOT / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8")
    floors: dict[str, set[str]] = {}
    for y, room in re.findall(r'class="room" [^>]*y="(\d+)"[^>]*>(\w+)<', picture):
        floors.setdefault(y, set()).add(room)
    assert [floors[y] for y in sorted(floors, key=int, reverse=True)] == FLOORS


@pytest.mark.long
def test_there_is_no_circle_inside_a_room():
    """At import time or later. In modeling/, imports for types alone do not count: transformers copies the files by
    them (see `spec_p2l`)."""
    graph = {}
    for name, path in MODULES.items():
        text = path.read_text(encoding="utf-8")
        if name.startswith("modeling."):
            text = re.sub(r"^if TYPE_CHECKING:.*\n(    .*\n)+", "", text, flags=re.MULTILINE)
        same = [other for other in imports(text, "modeling.") if other != name]
        graph[name] = {other for other in same if other.split(".")[0] == name.split(".")[0]}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


_OF_TRANSFORMERS = {"torch", "transformers", "safetensors", "peft", "numpy", "jinja2"}


def test_the_remote_code_stands_alone():
    """modeling/ runs from a folder of weights: torch, transformers and what they bring, nothing of p2l_sdk."""
    for path in (ROOT / "modeling").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                root = name.split(".")[0]
                assert root in {*_OF_TRANSFORMERS, *sys.stdlib_module_names}, f"{path.name}: {name}"


def python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_importing_is_light_and_has_no_side_effects():
    heavy = "torch transformers peft datasets pandas pyarrow matplotlib scipy fastapi rich click huggingface_hub"
    python(
        "import logging, os, sys, warnings\n"
        "import numpy\n"  # it adds its own warning filters
        "before = dict(os.environ), list(warnings.filters), list(logging.root.handlers)\n"
        "import p2l_sdk\n"
        "assert before == (dict(os.environ), list(warnings.filters), list(logging.root.handlers))\n"
        f"loaded = [m for m in {heavy.split()!r} if m in sys.modules]\n"
        "assert not loaded, loaded"
    )


def test_the_default_model_answers_without_torch():
    out = python(
        "import sys\n"
        "for name in ('torch', 'transformers', 'pyarrow', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "from p2l_sdk import P2L\n"
        "p2l = P2L.from_pretrained()\n"
        "print(p2l.leaderboard('hello').best, p2l.aggregate(['a', 'b']).best, p2l.route('hello', cost=0.0005).model)"
    )
    assert len(out.split()) == 3


def test_an_extra_that_is_missing_answers_with_its_pip_line(saved):
    folder = saved("llama")
    out = python(
        "import sys\n"
        "for name in ('torch', 'transformers', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
        "from p2l_sdk import P2L\n"
        "b = P2L.from_pretrained().leaderboard('hello')\n"
        "def training(): import p2l_sdk.training\n"
        f"for f in (lambda: P2L.from_pretrained({str(folder)!r}), b.to_pandas, b.plot, training):\n"
        "    try: f()\n"
        "    except ImportError as error: print(error)"
    )
    assert out.splitlines() == [
        'a llama backbone needs torch, which is not installed: pip install "p2l-sdk[torch]"',
        'to_pandas needs pandas, which is not installed: pip install "p2l-sdk[data]"',
        'plot needs matplotlib, which is not installed: pip install "p2l-sdk[data]"',
        'training needs torch, which is not installed: pip install "p2l-sdk[train]"',
    ]


def test_the_face_is_small_and_whole():
    import p2l_sdk

    assert set(p2l_sdk.__all__) <= set(dir(p2l_sdk))
    for name in p2l_sdk.__all__:
        assert getattr(p2l_sdk, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Vote'"):
        p2l_sdk.Vote  # noqa: B018


def test_a_face_that_is_not_looked_at_costs_nothing():
    """Nothing but errors is imported before it is used; a leaderboard needs no table, vote, edit or picture."""
    out = python(
        "import sys, p2l_sdk\n"
        "print(*(m for m in sys.modules if m.startswith('p2l_sdk.')), 'numpy' in sys.modules)\n"
        "p2l_sdk.P2L.from_pretrained().leaderboard('hello')\n"
        "print(*sorted({m.split('.')[1] for m in sys.modules if m.startswith('p2l_sdk.')}))"
    )
    first, second = out.splitlines()
    assert set(first.split()) == {"p2l_sdk.errors", "p2l_sdk.modeling", "p2l_sdk.modeling.errors_p2l", "False"}
    assert second == "errors hub leaderboards modeling names options p2l routing scorers tabular"


# --- walks -----------------------------------------------------------------------------------------------------------


def calls_of(action: Callable[[], object]) -> set[tuple[str | None, str]]:
    """Pairs (caller, called) of modules of the package, for every call of a function during an action, however many
    functions of other libraries lie between; the first caller is None."""
    found: set[tuple[str | None, str]] = set()
    names = {str(path): name for name, path in MODULES.items()}

    def caller(frame: types.FrameType | None) -> str | None:
        while frame is not None and frame.f_code.co_filename not in names:
            frame = frame.f_back
        return None if frame is None else names[frame.f_code.co_filename]

    def profile(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename in names:
            found.add((caller(frame.f_back), names[frame.f_code.co_filename]))

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def test_an_aggregate_walks_down_only(default):
    prompts = ["write a poem", "sum a list in python", "prove that two is irrational"] * 200
    calls = calls_of(lambda: default.aggregate(iter(prompts), weights=[1.0] * 600))
    rooms = {(a.split(".")[0], b.split(".")[0]) for a, b in calls if a is not None}
    assert {("p2l", "scorers"), ("scorers", "leaderboards"), ("scorers", "modeling")} <= rooms
    assert [room for room in rooms if HEIGHT[room[1]] > HEIGHT[room[0]]] == []


def test_votes_pass_few_files(tmp_path):
    """From a file to arrays; what raises errors and what tells the user turns of a prompt do not count."""
    from p2l_sdk import Votes

    file = tmp_path / "votes.csv"
    file.write_text("prompt,model_a,model_b,winner\nhello,a,b,model_a\nhello again,b,a,tie\n", encoding="utf-8")
    passed = {called for _, called in calls_of(lambda: Votes.read(file)) if called.split(".")[0] in ("tables", "votes")}
    assert "votes.votes" in passed
    rules = {"faults", "headers", "near_names", "numbered", "places", "prompt_cells", "progress", "reading", "winners"}
    formats = {"csv_files", "grids", "text"}
    assert len(passed - {f"tables.{name}" for name in rules | formats}) <= 6, passed
