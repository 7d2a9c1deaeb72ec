"""The page at /, in a real browser."""

from __future__ import annotations

import os
import shutil

import pytest
from conftest import ROOT
from p2l_server import Running
from playwright.sync_api import sync_playwright

from p2l_sdk.leaderboards.shown import rows_to_show
from p2l_sdk.serve import Engine, ServerMetrics, create_app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PROMPT = "Prove that the square root of two is irrational"


@pytest.fixture(scope="module")
def server(routing9):
    metrics = ServerMetrics()
    for model, calls, cost in (("qwen2.5-7b-instruct", 31, 0.00021), ("llama-3.3-nemotron-super-49b-v1", 12, 0.00088)):
        for _ in range(calls):  # as the router would
            metrics.choice(model, cost)
    metrics.upstream_error("qwen2.5-7b-instruct", "timeout")
    with Running(create_app(Engine(routing9, metrics=metrics))) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=CHROMIUM, args=[*options.split(), "--disable-component-update", "--disable-sync"]
        )
        yield browser
        browser.close()


@pytest.mark.long
def test_a_prompt_its_leaderboard_the_choice_and_the_mixture(server, browser, routing9):
    page = browser.new_page(viewport={"width": 900, "height": 880}, color_scheme="light")
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.url)
    page.fill("#prompt", PROMPT)
    page.click("text=Ask")
    page.wait_for_selector("#answer:visible")
    assert page.inner_text("#choice") == routing9.route(PROMPT).model
    names = page.locator("#rows td.name").all_inner_texts()
    assert names == routing9.leaderboard(PROMPT).ranking
    widths = [bar.bounding_box()["width"] for bar in page.locator("#rows td.bar div").all()]
    assert widths == sorted(widths, reverse=True)

    page.check("#limited")
    page.fill("#budget", "63")  # between the prices of the two LLMs of the mixture
    page.wait_for_selector("#mixture div:nth-child(2)")
    cost = page.evaluate("budget()")
    mixture = routing9.route(PROMPT, cost * (1 + 1e-9)).mixture
    parts = sorted(mixture.items(), key=lambda item: -item[1])
    assert page.locator("#mixture div").all_inner_texts() == [f"{100 * p:.0f} % {name}" for name, p in parts]
    assert page.locator("#rows tr.chosen").count() == 2

    page.wait_for_selector("#traffic:visible")
    rows = [row.inner_text().split("\t") for row in page.locator("#traffic tbody tr").all()]
    assert [cell.strip() for cell in rows[0]][2:] == ["31", "", "0.0065", "1"]
    assert not page.is_visible("#tools")  # nine LLMs are all there
    assert not page.is_visible("#kinds")
    assert not problems
    assert all(url.startswith((server.url, "data:")) for url in asked)
    page.close()


def test_a_prompt_unlike_those_in_training_is_told(server, browser, routing9):
    page = browser.new_page()
    page.goto(server.url)
    for prompt, words in (
        (PROMPT, None),
        ("光合作用是什么 请用简单的话解释", "below 0.0001): close to the averaged"),
    ):
        page.fill("#prompt", prompt)
        page.click("text=Ask")
        page.wait_for_selector("#answer:visible")
        page.wait_for_function(
            "text => !!last && last.n_prompts === 1 && at('unfamiliar').hidden === (text === null)", arg=words
        )
        assert bool(routing9.leaderboard(prompt).warnings()) == (words is not None)
        assert words is None or words in page.inner_text("#unfamiliar")
    page.close()


CODE = "Merge two sorted lists in Python"
ANSWERED = "() => Math.abs(last.budget / budget() - 1) < 1e-6"  # the answer to the budget that is set


@pytest.fixture(scope="module")
def arena_server(default):
    metrics = ServerMetrics()
    for model, calls, cost in (("gpt-4o-mini", 31, 0.000375), ("claude-3-5-haiku", 12, 0.0024)):
        for _ in range(calls):
            metrics.choice(model, cost)
    metrics.upstream_error("gpt-4o-mini", "timeout")
    with Running(create_app(Engine(default, metrics=metrics))) as running:
        yield running


def test_of_many_llms_it_shows_those_that_matter_and_all_if_asked(arena_server, browser, default):
    page = browser.new_page(viewport={"width": 900, "height": 880}, color_scheme="light")
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(arena_server.url)
    page.wait_for_selector("#model:has-text('282 LLMs, 17 kinds of prompt')")
    page.click(f"text={CODE}")  # one of the examples
    page.wait_for_selector("#answer:visible")
    assert page.input_value("#prompt") == CODE
    board = default.leaderboard(CODE)

    def names() -> list[str]:
        return page.locator("#rows td.name").all_inner_texts()

    wanted = [row["model"] for row in rows_to_show(board, costs=default.costs)]  # as on the command line
    assert names() == wanted
    assert names()[:10] == board.ranking[:10]
    strongest = max(board.kinds, key=board.kinds.get)
    assert page.locator("#kinds .kind").first.inner_text() == f"{strongest} {100 * board.kinds[strongest]:.0f} %"
    shown = [share for share in board.kinds.values() if share >= 0.05]
    assert page.locator("#kinds .kind").count() == len(shown)
    first = board.rows()[0]
    assert page.locator("#rows td.bound").first.inner_text() == f"± {(first['high'] - first['low']) / 2:.0f}"
    page.wait_for_selector("#traffic:visible")
    if os.environ.get("P2L_WRITE_DOCS"):
        page.check("#limited")
        page.wait_for_selector("#mixture div:nth-child(2)")
        page.wait_for_timeout(300)
        page.screenshot(path=str(ROOT / "docs" / "images" / "serve.png"), full_page=True)
        page.uncheck("#limited")

    page.click("text=Show all 282")
    assert names() == board.ranking
    page.fill("#find", "GPT-4o")
    assert names() == [name for name in board.ranking if "gpt-4o" in name]
    page.fill("#find", "")
    page.click("text=Show fewer")
    assert names() == wanted

    page.check("#limited")
    page.fill("#budget", "40")
    cost = page.evaluate("budget()")
    route = default.route(CODE, cost * (1 + 1e-9))
    page.wait_for_function(ANSWERED)
    assert set(route.mixture) == set(page.locator("#rows tr.chosen td.name").all_inner_texts())  # always to be seen
    assert f"Pale: dearer than the budget, or of unknown cost ({len(route.left_out)})." in page.inner_text("#facts")
    page.fill("#prompt", "How do I remove a coffee stain from a shirt?")
    page.click("text=Ask")
    page.wait_for_function(
        "text => document.getElementById('kinds').textContent.startsWith(text)", arg="No kind of prompt"
    )
    assert not problems
    page.close()


def test_a_router_in_front_of_a_few_of_many_llms_shows_these_first(browser, default):
    routed = ["gpt-4o-mini", "claude-3-5-haiku", "llama-3.1-8b"]  # names as in a config
    own = {"gpt-4o-mini-2024-07-18", "claude-3-5-haiku-20241022", "llama-3.1-8b-instruct"}
    with Running(create_app(Engine(default), routed=routed)) as server:
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        page.goto(server.url)
        page.fill("#prompt", CODE)
        page.click("text=Ask")
        page.wait_for_selector("#answer:visible")
        route = default.route(CODE, models=routed)
        assert page.inner_text("#choice") == route.model
        assert page.locator("#rows td.name").all_inner_texts() == [n for n in route.leaderboard.ranking if n in own]
        assert page.locator("#rows tr.chosen td.name").all_inner_texts() == [route.matched[route.model]]
        assert page.locator("#rows tr.out").count() == 0
        page.check("#limited")
        page.fill("#budget", "0")
        page.wait_for_function(ANSWERED)
        assert page.inner_text("#choice") == "llama-3.1-8b"
        assert page.locator("#mixture div").all_inner_texts() == ["100 % llama-3.1-8b"]
        assert page.locator("#rows tr.out").count() == 2  # dearer
        page.click("text=Show all 282")
        assert page.locator("#rows tr").count() == len(default.models)
        assert page.locator("#rows tr.out").count() == len(default.models) - 1
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.close()


def test_what_goes_wrong_is_shown_and_text_is_text(server, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page.goto(server.url)
    page.route("**/v1/route", lambda route: route.fulfill(status=400, json={"error": {"message": "<b>no</b> LLM"}}))
    page.fill("#prompt", PROMPT)
    page.press("#prompt", "Control+Enter")
    page.wait_for_selector("#error:visible")
    assert page.inner_text("#error") == "<b>no</b> LLM"
    page.unroute("**/v1/route")
    page.click("text=Ask")
    page.wait_for_selector("#answer:visible")
    assert not page.is_visible("#error")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # nothing overflows on a phone
    if os.environ.get("P2L_PAGE_PICTURE"):
        page.screenshot(path=os.environ["P2L_PAGE_PICTURE"], full_page=True)
    page.route("**/v1/**", lambda route: route.fulfill(status=401, json={"error": {"message": "a key is needed"}}))
    page.click("text=Ask")
    page.wait_for_selector("#key:visible")
    assert page.inner_text("#error") == "This server needs an API key: enter it above."
    page.fill("#key", "sk-wrong")
    page.click("text=Ask")
    page.wait_for_selector("text=none of the server's keys: enter another one above")
    page.fill("#prompt", " ")
    page.click("text=Ask")
    assert page.inner_text("#error") == "Type a prompt first."
    assert not page.is_visible("#answer")
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (400, "dark")])
def test_both_tables_fit_a_phone(width, scheme, server, browser, routing9):
    page = browser.new_page(viewport={"width": width, "height": 880}, color_scheme=scheme)
    busy = {"routes": 1234567, "calls": 1234567, "spend": 1234.5678, "errors": 12345}
    table = {"traffic": [{"model": name, **busy} for name in routing9.models]}
    page.route("**/v1/p2l/traffic", lambda route: route.fulfill(json=table))
    page.goto(server.url)
    page.fill("#prompt", PROMPT)
    page.click("text=Ask")
    page.wait_for_selector("#answer:visible")
    page.wait_for_selector("#traffic:visible")
    if os.environ.get("P2L_PAGE_PICTURE"):
        page.screenshot(path=f"{os.environ['P2L_PAGE_PICTURE']}.{width}.png", full_page=True)
    cut = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
    assert page.evaluate(cut) == 0
    heads = page.locator("#traffic th:visible").all_inner_texts()
    assert [" ".join(head.split()) for head in heads] == ["LLM", "calls answered", "spend, $", "calls failed"]
    page.close()


@pytest.mark.long
def test_on_a_router_it_chooses_among_the_llms_that_it_calls(browser, routing9):
    routed = ["gemma-2-9b-it", "qwen2.5-7b-instruct"]
    with Running(create_app(Engine(routing9), routed=routed)) as server:
        page = browser.new_page(viewport={"width": 900, "height": 880}, color_scheme="light")
        page.goto(server.url)
        page.fill("#prompt", PROMPT)
        page.click("text=Ask")
        page.wait_for_selector("#answer:visible")
        assert page.inner_text("#choice") == routing9.route(PROMPT, models=routed).model
        assert page.locator("#rows tr.out").count() == len(routing9.models) - len(routed)
        assert "list. Pale: not among the LLMs that this server calls" in page.inner_text("#facts")
        page.wait_for_selector("#traffic:visible")
        assert page.inner_text("#bars") == "routes"
        page.check("#limited")
        page.fill("#budget", "100")
        page.wait_for_selector("#amount:has-text('$0.2 per')")  # the more expensive of the two
        if os.environ.get("P2L_PAGE_PICTURE"):
            page.screenshot(path=os.environ["P2L_PAGE_PICTURE"] + ".router.png", full_page=True)
        page.close()
