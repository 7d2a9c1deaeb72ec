"""examples/space: the app, its card, and its page in a real browser.

To update the docs' screenshot: P2L_WRITE_PICTURES=1 pytest -m long tests/examples/test_space.py
"""

from __future__ import annotations

import ast
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

import numpy as np
import pytest
from conftest import ROOT
from hub_client import OWNER, environment
from huggingface_hub import SpaceCard

from p2l_sdk import P2L
from p2l_sdk.hub.cards import GRADIO_VERSION, space_card
from p2l_sdk.leaderboards.shown import rows_to_show

SPACE, PICTURE = ROOT / "examples" / "space", ROOT / "docs" / "images" / "space.png"
CHROMIUM = "/usr/bin/chromium"
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
TYPED = "Who painted the Mona Lisa?"
PASTED = ["What is 17 * 23?", "Solve x^2 = 2 for x.", "How many legs have three spiders?"]


def require(*packages: str, chromium: bool = False) -> None:
    """If the packages are not installed, skip the test with a reason; in CI, fail."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    missing += [CHROMIUM] if chromium and not Path(CHROMIUM).exists() else []
    if missing:
        text = f"{', '.join(missing)} not installed; the page of the Space is not tested without"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(text)


# --- the app --------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_page_of_a_model_without_costs_has_no_slider(space):
    require("gradio")
    page = space("app").build(P2L.from_pretrained("routing9", costs={}), "a model")
    parts = {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}
    assert {"prompt", "leaderboard", "note", "prompts", "aggregate"} == set(parts)
    assert "knows no costs" in parts["note"].value.lower()
    assert parts["leaderboard"].value.count("<tr data-model") == 9


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
    data = SpaceCard.load(SPACE / "README.md").data  # raises if it is not YAML
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
    """The address of the real app with the embedded default, in a separate process."""
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
    """The page as a visitor sees it. It must not have errors or contact other hosts."""
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

        def failed(request):  # gradio aborts its event stream once it is complete
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


ROWS = """part => [...document.querySelectorAll(`#${part} > * .p2l-board tr[data-model]`)]
    .filter(row => !row.closest("details")).map(row => row.dataset.model)"""


def rows(board, default) -> list[str]:
    """The LLMs that the first table shows."""
    return [row["model"] for row in rows_to_show(board, costs=default.costs)]


def wait_for_rows(page, part: str, names: list[str]) -> None:
    """Wait until the table shows these LLMs in this order."""
    page.wait_for_function(
        f"([part, names]) => JSON.stringify(({ROWS})(part)) === JSON.stringify(names)", arg=[part, names]
    )


@pytest.mark.long
def test_a_visitor_finds_an_answer_and_asks_for_another(page, default):
    prompt = page.get_by_label("Your prompt", exact=True)
    assert page.evaluate(ROWS, "leaderboard") == rows(default.leaderboard(prompt.input_value()), default)
    if os.environ.get("P2L_WRITE_PICTURES"):
        page.wait_for_timeout(500)
        page.screenshot(path=PICTURE, full_page=True)
    assert PICTURE.stat().st_size < 300_000
    board = default.leaderboard(TYPED)
    assert board.ranking != default.leaderboard(prompt.input_value()).ranking
    prompt.fill(TYPED)
    prompt.press("Enter")
    wait_for_rows(page, "leaderboard", names := rows(board, default))
    drawn = page.locator("#leaderboard .p2l-bar:visible").all()  # not of the table that is folded
    bars = np.array([bar.bounding_box()["width"] for bar in drawn])
    ratings = np.array([board.ratings[board.models.index(name)] for name in names])
    assert bars[-1] > 2  # the last LLM has a bar too, and lengths are linear in the rating
    slope = (bars[0] - bars[-1]) / (ratings[0] - ratings[-1])
    np.testing.assert_allclose(bars, bars[-1] + slope * (ratings - ratings[-1]), atol=1.0)
    page.get_by_text("Write a haiku about the sea").click()
    board = default.leaderboard("Write a haiku about the sea")
    wait_for_rows(page, "leaderboard", rows(board, default))
    assert (
        f"creative writing {board.kinds['creative_writing']:.0%}"
        in page.locator("#leaderboard .p2l-kinds").inner_text()
    )
    page.get_by_text("All 282 LLMs").click()
    last = page.locator("#leaderboard details tr[data-model]").last
    assert last.is_visible()
    assert last.get_attribute("data-model") == board.ranking[-1]


@pytest.mark.long
def test_the_slider_moves_the_choice(page, default):
    page.get_by_label("Your prompt", exact=True).fill(TYPED)
    page.get_by_role("button", name="Rank the LLMs", exact=True).click()
    slider, mixtures = page.locator("#budget input[type=range]"), []
    prices = sorted(default.costs.values())
    slider.focus()
    for key in ("End", "Home", "PageUp", "PageUp", "PageUp", "PageUp"):
        slider.press(key)
        place = float(slider.input_value()) / 100
        assert {"End": 1.0, "Home": 0.0}.get(key, place) == place
        budget = prices[0] * (prices[-1] / prices[0]) ** place  # in equal ratios
        route = default.route(TYPED, min(budget, prices[-1]), seed=0)
        mixtures.append(" + ".join(f"{p:.4f} {name}" for name, p in route.mixture.items()))
        page.wait_for_selector(f'#choice section[data-chosen="{route.model}"][data-mixture="{mixtures[-1]}"]')
        page.wait_for_selector("#frontier .p2l-chosen", state="attached")
    assert {mixture.count("+") for mixture in mixtures} == {0, 1}  # mixtures of one LLM and of two
    assert page.locator("#budget .max_value").is_hidden()  # 100 of what?


def test_many_prompts_become_one_leaderboard(page, default):
    page.get_by_role("tab", name="Many prompts").click()
    page.get_by_label("Your prompts, one per line").fill("\n".join(PASTED))
    page.get_by_role("button", name="Rank the LLMs for all of them").click()
    board = default.aggregate(PASTED)
    wait_for_rows(page, "aggregate", rows(board, default))
    (low, high) = board.rating_intervals[board.order[0]]
    assert f"{low:.0f} to {high:.0f}" in page.locator("#aggregate tr[data-model]").first.inner_text()
    assert page.locator("#aggregate details .p2l-interval").count() == len(board.models)
    page.get_by_label("Your prompts, one per line").fill("")
    page.get_by_role("button", name="Rank the LLMs for all of them").click()
    page.wait_for_selector("#aggregate :text('There are no prompts')")


def test_nothing_went_wrong_and_no_other_host_was_asked(page):
    assert page.problems == []
