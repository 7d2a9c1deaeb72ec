"""What strangers name in a card shows as text: rendered by a Markdown parser, it is the text that was given."""

from __future__ import annotations

import ast
import html
import json
import re

import pytest
from markdown_it import MarkdownIt

from p2l_sdk.hub.markdown import Markdown, block, bullets, code, literal, render, row, text
from p2l_sdk.modeling.limits_p2l import visible

NAMES = (
    "a|b", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://e/x.png)", "`rm`", "``a`b", "a\nb",
    "*a* _b_ __c__ **d** ~~e~~", "gpt_4o_mini", "_a_", "# a", "- a", "+ a", "---", "- - -", "===", "1. a", "12) a",
    "> a", "{{7*7}}", "&amp; &lt;b&gt;", "a\\|b", "\\", "$x^2$", "https://evil.example/x", "www.evil.example", "<http://e>",
    "a<!-- x", "    code", "a  ", "\x1b[31m", "a\u202eb", "${title}", "-0.5", "7-b", "a\tb", "[a]: http://e", "[^1]",
    "a | b | c", "| a |", "<details>", "```\nx\n```", "~~~", "höher 🦙",
)  # fmt: skip
PAGE = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(["table", "strikethrough"])


def shown(page: str, tag: str) -> tuple[list[str], set[str]]:
    """The texts of a kind of element, and all tags of a rendered page."""
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    return [html.unescape(found) for found in texts], set(re.findall(r"<(\w+)", page))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is_written(name):
    expected = visible(name)
    assert shown(PAGE.render(f"{text(name)}\n"), "p") == ([expected], {"p"})
    assert shown(PAGE.render(f"# {text(name)}\n"), "h1") == ([expected], {"h1"})
    assert shown(PAGE.render(bullets([name, "end"])), "li") == ([expected, "end"], {"ul", "li"})
    table = f"| a | b |\n|---|---|\n{row(name, 'end')}\n"
    assert shown(PAGE.render(table), "td") == ([expected, "end"], {"table", "thead", "tr", "th", "tbody", "td"})


@pytest.mark.parametrize("name", NAMES)
def test_code_is_shown_as_it_is_written(name):
    expected = visible(name)
    assert shown(PAGE.render(f"x {code(name)}\n"), "code") == ([expected], {"p", "code"})
    (found,) = re.findall(r'<pre><code class="language-yaml">(.*)</code></pre>', PAGE.render(block(name, "yaml")), re.S)
    lines = "\n".join(map(visible, name.strip("\n").split("\n")))
    assert html.unescape(found) == f"{lines}\n"
    assert ast.literal_eval(literal(name)) == name
    assert "\n" not in literal(name)


def test_a_page_makes_no_link_of_an_address():
    page = PAGE.render(f"{text('see https://evil.example or www.evil.example')}\n")
    assert "<a" not in page
    assert "https://" not in text("https://evil.example")
    assert "www." not in text("WWW.evil.example").lower()


def test_what_is_markdown_stays_and_all_else_is_text():
    card = render("space.md", title="<b>", n_models=3, model=Markdown("[a](https://b)"))
    assert "# &lt;b&gt;\n" in card
    assert "[a](https://b)" in card
    assert json.loads(literal('a"b')) == 'a"b'
