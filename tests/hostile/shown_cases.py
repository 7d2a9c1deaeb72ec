"""Names that a page, a terminal, a card or a picture would obey: each shows them as they are written."""

from __future__ import annotations

import csv
import html
import io
from pathlib import Path

from hostile import Case, command
from hostile_models import NAMES, ask, copy_of, edited

MARKUP = {
    "html": "<img src=x onerror=alert(1)>", "link": "[x](javascript:alert(1))", "bar": "a|b", "ticks": "`a``b",
    "rich": "[bold red]a[/bold red]", "rich-open": "[/]", "emoji": ":smile:", "formula": "a$\\foo{$",
    "dollars": "$x$ $y$", "under": "_a_", "template": "${title} {0} {{x}} %s",
}  # fmt: skip
HIDDEN = {"escape": "a\x1b[2Jb", "title": "\x1b]0;x\x07", "turned": "a\u202eb", "line": "a\nb", "return": "a\rb"}


def _named(place: Path, name: str) -> Path:
    folder = copy_of("static", place)
    edited(folder / "config.json", lambda config: config | {"models": [name, *NAMES[1:]], "costs": {}})
    return folder


def _card(name: str) -> Case:
    def run(place: Path) -> str:
        from p2l_sdk.hub.cards import converted_card
        from p2l_sdk.modeling.spec_p2l import ModelSpec

        return converted_card(ModelSpec(models=(name, "b"), feedback="bt"), "org/x", f"{name}) \\1")

    def right(card: str) -> bool:
        from markdown_it import MarkdownIt

        page = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.partition("---\n\n")[2])
        return "<img" not in page and "javascript:" not in page.replace("](javascript:", "") and "<em>" not in page

    return Case(f"card-{name[:12]}".replace(" ", "-"), run, right=right)


def _printed(key: str, name: str, *arguments: str) -> Case:
    def run(place: Path) -> str:
        return command(*arguments, "a b c", "--model", str(_named(place, name)))

    return Case(f"{'-'.join(arguments)}-{key}", run, right=lambda text: visible_in(name, text))


def _page(key: str, name: str) -> Case:
    def run(place: Path) -> str:
        return str(ask(_named(place, name))._repr_html_())

    return Case(f"page-{key}", run, right=lambda page: f"<td>{html.escape(name)}</td>" in page)


def _picture(key: str, name: str) -> Case:
    def run(place: Path) -> int:
        ask(_named(place, name)).plot().figure.savefig(place / "x.png")
        return (place / "x.png").stat().st_size

    return Case(f"picture-{key}", run, right=lambda size: size > 1000)


def _categories(key: str, name: str) -> Case:
    def run(place: Path) -> str:
        text = io.StringIO()
        rows = [(f"a b {'c' * i}", name if i % 2 else "other") for i in range(1, 9)]
        csv.writer(text).writerows([("prompt", "category"), *rows])
        (place / "prompts.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
        model = str(copy_of("static", place))
        return command("aggregate", str(place / "prompts.csv"), "--by", "category", "--model", model)

    return Case(f"categories-{key}", run, right=lambda text: _is_plain(text) and visible_in(name, text))


def visible_in(name: str, text: str) -> bool:
    """Whether a text shows a name, which it may fold."""
    from p2l_sdk.modeling.limits_p2l import visible

    return "".join(visible(name).split()) in "".join(text.split())


def _is_plain(printed: str) -> bool:
    from p2l_sdk.modeling.limits_p2l import odd_character

    return odd_character(printed.replace("\n", "")) is None


CASES = [
    *(_card(name) for name in MARKUP.values()),
    *(_printed(key, name, "leaderboard") for key, name in MARKUP.items()),
    *(_page(key, name) for key, name in MARKUP.items()),
    *(_picture(key, MARKUP[key]) for key in ("formula", "dollars", "under")),
    *(_categories(key, name) for key, name in {**MARKUP, **HIDDEN}.items()),
]
