"""examples/space: what its page says, its card, and the page itself in a real browser.

To take the picture of the docs again: P2L_WRITE_PICTURES=1 pytest tests/test_space.py
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT
from hub_client import OWNER, environment
from huggingface_hub import SpaceCard
from p2l_sdk.modeling.feedback_p2l import Feedback

from p2l_sdk import P2L, Leaderboard
from p2l_sdk.errors import BudgetError
from p2l_sdk.hub_metadata import GRADIO_VERSION, space_card
from p2l_sdk.routing import upper_hull

SPACE, PICTURE = ROOT / "examples" / "space", ROOT / "docs" / "images" / "space.png"
CHROMIUM = "/usr/bin/chromium"
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
TYPED = "Who painted the Mona Lisa?"
PASTED = ["What is 17 * 23?", "Solve x^2 = 2 for x.", "How many legs have three spiders?"]


def require(*packages: str, chromium: bool = False) -> None:
    """Skips the test, loudly, where they are not installed; in CI it fails."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    missing += [CHROMIUM] if chromium and not Path(CHROMIUM).exists() else []
    if missing:
        text = f"{', '.join(missing)} not installed; the page of the Space is not tested without"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(text)


# --- what the page says -------------------------------------------------------------------------------------------


@pytest.fixture
def space(monkeypatch):
    """space(name) -> a module of the Space's folder."""
    monkeypatch.syspath_prepend(str(SPACE))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # the folder is published as it is
    yield importlib.import_module
    for path in SPACE.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def answers(space, default):
    return space("answers").Answers(default)


def xml(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<all>{html}</all>")


def shown(html: str) -> list[tuple[str, list[str]]]:
    """Name and cells of each row."""
    rows = xml(html).iterfind(".//tbody/tr")
    return [(row.get("data-model"), ["".join(cell.itertext()) for cell in row]) for row in rows]


def test_the_bars_are_the_leaderboard(answers, default):
    board, rows = default.leaderboard(TYPED), shown(answers.one_prompt(TYPED)[0])
    assert [name for name, _ in rows] == board.ranking
    for (name, cells), row in zip(rows, board.rows(), strict=True):
        cost = f"${default.costs[name]:.4f}"
        assert cells == [str(row["rank"]), name, "", f"{row['rating']:.0f}", f"{row['usable']:.0%}", cost]


def test_the_intervals_are_those_of_the_aggregate(answers, default):
    board, html = default.aggregate(PASTED), answers.many_prompts("\n\n".join(PASTED) + "\n")
    for (_, cells), row in zip(shown(html), board.rows(), strict=True):
        assert cells[3:5] == [f"{row['rating']:.0f}", f"{row['low']:.0f} to {row['high']:.0f}"]
    number = r"([\d.]+)%"
    drawn = re.findall(rf'p2l-bar" style="width:{number}"></span><span [^>]*left:{number};width:{number}', html)
    for place, low, width in np.array(drawn, dtype=float):
        assert low - 0.1 <= place <= low + width + 0.2 <= 100.4


def test_one_prompt_has_no_interval(answers):
    html = answers.many_prompts("hello")
    assert "Intervals need two prompts or more." in html
    assert " to " not in "".join(cell for _, cells in shown(html) for cell in cells)


@pytest.mark.parametrize("prompt", ["", " \n"])
def test_an_empty_prompt_is_answered_in_words(answers, prompt):
    says = "The prompt is empty; write what the LLM would be asked."
    assert answers.one_prompt(prompt, 0.0005) == (
        f'<p class="p2l-message p2l-problem" role="status">{says}</p>',
        "",
        "",
    )
    assert "There are no prompts; paste some, one per line." in answers.many_prompts(prompt)


def test_there_is_a_limit_to_what_one_visitor_may_ask(answers, space):
    n = space("answers").MAX_PROMPTS
    assert f"These are {n + 1:,} prompts, and this page takes {n:,}" in answers.many_prompts("a\n" * (n + 1))


def test_the_choice_is_the_route(answers, default):
    for budget in (0.0001, 0.00033, 0.0009):
        route = default.route(TYPED, budget, seed=0)
        section = xml(answers.one_prompt(TYPED, budget)[1]).find("section")
        assert section.get("data-chosen") == route.model
        assert section.get("data-mixture") == " + ".join(f"{p:.4f} {name}" for name, p in route.mixture.items())
        assert f"{route.expected_score:.0%} chance" in "".join(section.itertext())


def test_a_budget_that_buys_nothing_is_answered_with_the_one_that_does(answers):
    board, choice, frontier = answers.one_prompt(TYPED, 0.00005)
    assert len(shown(board)) == 9
    assert "the cheapest feasible budget is $0.0001." in choice
    assert "your budget $0.00005" in frontier
    assert "p2l-chosen" not in frontier


def test_the_picture_is_the_concave_hull(answers, default):
    board, budget = default.leaderboard(TYPED), 0.0005
    router = default.router()
    scores, route = router.scores(board.coefs), router.route(board, budget)
    picture = xml(answers.one_prompt(TYPED, budget)[2])
    dots = {
        dot.find("title").text.split(":")[0]: (float(dot.get("cx")), float(dot.get("cy")))
        for dot in picture.iterfind(".//circle")
    }
    assert set(dots) == {*default.models, "what the budget buys"}
    line = np.array([p.split(",") for p in picture.find(".//polyline").get("points").split()], dtype=float)
    hull = upper_hull(scores, router.prices)
    np.testing.assert_allclose(line[:-1], [dots[router.names[i]] for i in hull])
    assert line[-1, 1] == line[-2, 1]  # more money than the best LLM costs buys no more
    ring = dots["what the budget buys"]
    assert abs(np.interp(ring[0], *line.T) - ring[1]) < 0.2  # on the hull, and there where its mixture lies
    (a, share), (b, _) = route.mixture.items()
    np.testing.assert_allclose(ring, share * np.array(dots[a]) + (1 - share) * np.array(dots[b]), atol=0.2)
    places = sorted(
        float(text.get("y")) for text in picture.iterfind(".//text") if "p2l-label" in text.get("class", "")
    )
    assert len(places) == 9


@pytest.mark.parametrize(
    ("costs", "note"),
    [
        ({}, "this model knows no costs of its LLMs, so there is no routing here"),
        ({"gemma-2-9b-it": 0.0}, "all LLMs of this model are free"),
    ],
)
def test_without_costs_there_is_no_routing_and_the_page_says_so(space, costs, note):
    answers = space("answers").Answers(P2L.from_pretrained(costs=costs))
    assert answers.slider is None
    assert note in answers.note
    assert answers.one_prompt(TYPED)[1:] == ("", "")


def test_llms_without_a_cost_are_left_out_of_routing(space):
    costs = {"gemma-2-9b-it": 0.02, "qwen2.5-7b-instruct": 0.0500004}
    answers = space("answers").Answers(P2L.from_pretrained(costs=costs))
    assert answers.slider == {"minimum": 0.0, "maximum": 0.0505, "value": 0.035, "step": 0.0005, "precision": 4}
    assert "cost is not known: codegemma-7b, llama-3.1-8b-instruct" in answers.note
    board, _, frontier = answers.one_prompt(TYPED, 0.03)
    assert {cells[-1] for _, cells in shown(board)} == {"$0.02", "$0.05", "not known"}
    assert "codegemma" not in frontier


def test_a_name_is_no_markup(space):
    names = ('<b>"one"</b>', "a & b")
    board = Leaderboard(models=names, coefs=np.array([0.0, 1.0]), feedback=Feedback("bt"))
    assert [name for name, _ in shown(space("board_html").leaderboard_html(board, "x", {}))] == list(names[::-1])
    svg = space("frontier_svg").frontier_svg(names, np.array([1e-4, 2e-4]), np.array([0.4, 0.6]), 1e-4, (1e-4, 0.4))
    assert names[0] in [text.text for text in xml(svg).iterfind(".//text")]


def test_names_stand_apart_however_near_the_points_are(space):
    names, n = [f"llm-{i}" for i in range(12)], 12
    svg = space("frontier_svg").frontier_svg(names, np.full(n, 1e-3), np.linspace(0.5, 0.501, n), 1e-3, None)
    places = sorted(float(t.get("y")) for t in xml(svg).iterfind(".//text") if "p2l-label" in t.get("class", ""))
    assert len(places) == n
    assert np.diff(places).min() > 13.0
    assert places[0] > 0.0


def test_the_page_of_a_model_without_costs_has_no_slider(space):
    require("gradio")
    page = space("app").build(P2L.from_pretrained(costs={}), "a model")
    parts = {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}
    assert {"prompt", "leaderboard", "note", "prompts", "aggregate"} == set(parts)
    assert "knows no costs" in parts["note"].value.lower()
    assert len(shown(parts["leaderboard"].value)) == 9


def test_a_model_that_cannot_be_had_is_named_with_the_remedy(space, monkeypatch):
    require("gradio")
    monkeypatch.setattr(sys, "argv", ["app.py"])
    monkeypatch.setenv("P2L_MODEL", "org/no-such-model")
    with pytest.raises(SystemExit, match=r"org/no-such-model.* is not in the cache"):
        space("app").main()


def test_in_ci_nothing_is_skipped(monkeypatch):
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no_such_package not installed"):
        require("no_such_package")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="is not tested without"):
        require("no_such_package")


# --- the card -----------------------------------------------------------------------------------------------------


def test_the_card_is_rendered_from_the_template(default):
    title = "Which LLM answers this prompt best?"
    card = space_card(title, None, len(default.models), license="apache-2.0")
    assert (SPACE / "README.md").read_text(encoding="utf-8") == card


def test_the_card_is_valid_metadata_of_a_space():
    data = SpaceCard.load(SPACE / "README.md").data  # raises if it is no YAML
    assert (data.sdk, data.license, data.models) == ("gradio", "apache-2.0", None)
    assert (SPACE / data.app_file).exists()
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {data.to_dict()["colorFrom"], data.to_dict()["colorTo"]} <= colours
    assert len(data.to_dict()["short_description"]) <= 60
    assert data.sdk_version == GRADIO_VERSION
    for file in (ROOT / "constraints.txt", SPACE / "requirements.txt"):
        assert f"gradio=={GRADIO_VERSION}" in file.read_text().splitlines()


def test_the_requirements_are_what_is_imported():
    lines = (SPACE / "requirements.txt").read_text().splitlines()
    required = {re.match(r"[\w-]+", line)[0].replace("-", "_") for line in lines}
    own = {path.stem for path in SPACE.glob("*.py")}
    imported = set()
    for path in SPACE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    assert imported - own - sys.stdlib_module_names == required


def test_the_command_of_the_docs_publishes_it(hub, tmp_path):
    (line,) = re.findall(r"^hf upload .*$", (ROOT / "docs" / "hub.md").read_text(encoding="utf-8"), re.MULTILINE)
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", *shlex.split(line)[1:]]
    shutil.copytree(SPACE, tmp_path / "examples" / "space", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "examples" / "space" / "__pycache__").mkdir()
    (tmp_path / "examples" / "space" / "__pycache__" / "app.pyc").write_bytes(b"")
    env = environment(hub, tmp_path / "home", HF_TOKEN=OWNER)
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    published = hub.repo("org/which-llm", "spaces").files()
    assert {name: published[name] for name in published if name != ".gitattributes"} == {
        path.name: path.read_bytes() for path in SPACE.iterdir() if path.is_file()
    }


# --- the page in a browser ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of the real app, a process of its own, with the embedded default."""
    require("gradio", "playwright", chromium=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if name != "P2L_MODEL"}
    env |= {"GRADIO_SERVER_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    log = tmp_path_factory.mktemp("space") / "log"
    with log.open("w") as file:
        server = subprocess.Popen([sys.executable, SPACE / "app.py"], env=env, stdout=file, stderr=file)
    deadline = time.monotonic() + 180
    try:
        while True:
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/"
        assert "Traceback" not in log.read_text()
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def page(address):
    """The page as a visitor sees it. Nothing may go wrong in it, and it may ask no other host."""
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(60_000)

        def asked(request):
            if not request.url.startswith((address, "data:", "blob:")):
                problems.append(f"another host: {request.url}")

        def answered(response):
            if response.status >= 400:
                problems.append(f"{response.status}: {response.url}")

        def failed(request):  # gradio ends its stream of events when it has them all
            if not (request.failure == "net::ERR_ABORTED" and "/queue/data?" in request.url):
                problems.append(f"{request.failure}: {request.url}")

        opened.on("request", asked)
        opened.on("response", answered)
        opened.on("requestfailed", failed)
        opened.on("pageerror", lambda error: problems.append(f"error: {error}"))
        opened.on("console", lambda said: said.type == "error" and problems.append(f"console: {said.text}"))
        opened.goto(address)
        opened.wait_for_selector("#leaderboard tr[data-model]")
        opened.problems = problems
        yield opened
        browser.close()


ROWS = """part => [...document.querySelectorAll(`#${part} tr[data-model]`)].map(row => row.dataset.model)"""


def wait_for_rows(page, part: str, names: list[str]) -> None:
    """Until the table shows these LLMs in this order."""
    page.wait_for_function(
        f"([part, names]) => JSON.stringify(({ROWS})(part)) === JSON.stringify(names)", arg=[part, names]
    )


def test_a_visitor_finds_an_answer_and_asks_for_another(page, default):
    prompt = page.get_by_label("Your prompt", exact=True)
    assert page.evaluate(ROWS, "leaderboard") == default.leaderboard(prompt.input_value()).ranking
    if os.environ.get("P2L_WRITE_PICTURES"):
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURE, full_page=True)
    assert PICTURE.stat().st_size < 300_000
    board = default.leaderboard(TYPED)
    assert board.ranking != default.leaderboard(prompt.input_value()).ranking
    prompt.fill(TYPED)
    prompt.press("Enter")
    wait_for_rows(page, "leaderboard", board.ranking)
    bars = np.array([bar.bounding_box()["width"] for bar in page.locator("#leaderboard .p2l-bar").all()])
    ratings = board.ratings[board.order]
    assert bars[-1] > 2  # the last LLM has one, too; and they are linear in the rating
    slope = (bars[0] - bars[-1]) / (ratings[0] - ratings[-1])
    np.testing.assert_allclose(bars, bars[-1] + slope * (ratings - ratings[-1]), atol=1.0)
    page.get_by_text("Write a haiku about the sea").click()
    wait_for_rows(page, "leaderboard", default.leaderboard("Write a haiku about the sea").ranking)


def test_the_slider_moves_the_choice(page, default):
    page.get_by_label("Your prompt", exact=True).fill(TYPED)
    page.get_by_role("button", name="Rank the LLMs", exact=True).click()
    slider, mixtures, messages = page.locator("#budget input[type=range]"), [], 0
    slider.focus()
    for key in ("End", "Home", "PageUp", "PageUp", "PageUp", "PageUp"):
        slider.press(key)
        budget = round(float(slider.input_value()), 6)
        assert {"End": 0.0009, "Home": 0.0}.get(key, budget) == budget
        try:
            route = default.route(TYPED, budget, seed=0)
        except BudgetError as error:
            page.wait_for_selector(f"#choice :text('{str(error)[1:]}')")
            page.wait_for_selector("#frontier .p2l-chosen", state="detached")
            messages += 1
            continue
        mixtures.append(" + ".join(f"{p:.4f} {name}" for name, p in route.mixture.items()))
        page.wait_for_selector(f'#choice section[data-chosen="{route.model}"][data-mixture="{mixtures[-1]}"]')
        page.wait_for_selector("#frontier .p2l-chosen", state="attached")
    assert messages > 0
    assert {mixture.count("+") for mixture in mixtures} == {0, 1}  # one LLM, and two


def test_many_prompts_become_one_leaderboard(page, default):
    page.get_by_role("tab", name="Many prompts").click()
    page.get_by_label("Your prompts, one per line").fill("\n".join(PASTED))
    page.get_by_role("button", name="Rank the LLMs for all of them").click()
    board = default.aggregate(PASTED)
    wait_for_rows(page, "aggregate", board.ranking)
    (low, high) = board.rating_intervals[board.order[0]]
    assert f"{low:.0f} to {high:.0f}" in page.locator("#aggregate tr[data-model]").first.inner_text()
    assert page.locator("#aggregate .p2l-interval").count() == len(board.models)
    page.get_by_label("Your prompts, one per line").fill("")
    page.get_by_role("button", name="Rank the LLMs for all of them").click()
    page.wait_for_selector("#aggregate :text('There are no prompts')")


def test_nothing_went_wrong_and_no_other_host_was_asked(page):
    assert page.problems == []
