"""The page at /, in a real browser."""

from __future__ import annotations

import os
import shutil

import pytest
from conftest import ROOT
from p2l_server import Running
from playwright.sync_api import sync_playwright

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
    if os.environ.get("P2L_WRITE_DOCS"):
        page.wait_for_timeout(300)
        page.screenshot(path=str(ROOT / "docs" / "images" / "serve.png"), full_page=True)
    assert not problems
    assert all(url.startswith((server.url, "data:")) for url in asked)
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
