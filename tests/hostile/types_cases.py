"""Hostile calls: values of types that nobody expects; chat templates that read at length; letters that are not seen."""

from __future__ import annotations

import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hostile import Case, command

HEADER = "prompt,model_a,model_b,winner\n"
WRONG: dict[str, Any] = {"number": 5, "bytes": b"x", "none": None, "list": ["x"], "object": object()}
INVISIBLE = "\xad\u034f\u115f\u180e\u3164\u206a\ufff9\U000e0041"


def _model() -> Any:
    from p2l_sdk import P2L

    return P2L.from_pretrained("routing9")


def _call(name: str, run: Callable[[], Any], says: str) -> Case:
    return Case(name, lambda _: run(), says=says)


def _budgets(budgets: Any) -> Any:
    return _model().frontier(["a", "b"], budgets=budgets).budgets.tolist()


def _opened(source: Any) -> Any:
    from p2l_sdk import P2L

    return P2L.from_pretrained(source)


def _renamed(name: Any) -> Any:
    model = _model()
    return model.rename_model(model.models[0], name)


def _pushed(repo: Any) -> Any:
    return _model().push_to_hub(repo)


def _votes(rows: Any) -> Any:
    from p2l_sdk import Votes

    return Votes.from_rows(rows)


def _costs_of_no_row(place: Path) -> str:
    (place / "costs.csv").write_text('{"codegemma-7b": 0.1}\n')
    return command("route", "hi", "--model", "routing9", "--costs", str(place / "costs.csv"))


def _many_names(place: Path) -> int:
    from p2l_sdk import Votes

    (place / "votes.csv").write_text(HEADER + "".join(f"p{i},a{i},b{i},tie\n" for i in range(20_000)))
    return len(Votes.read(place / "votes.csv").models)


def _recorded(cost: Any) -> float:
    pacer = _model().pacer(1.0)
    pacer.record(cost)
    return float(pacer.spent)


def _help(command_name: str) -> str:
    return command(command_name, "--help")


def _template(name: str, source: str, says: str | None = None, right: Callable[[str], bool] | None = None) -> Case:
    def run(_: Path) -> str:
        from p2l_sdk.modeling.template_p2l import renderer

        return renderer(source)(["hello\n" * 20_000])

    return Case(f"template-{name}", run, says=says, right=right)


_BIG = "{% set a = 'a' * 900000 %}"
_LOOP = "{% for i in range(99999) %}"
TEMPLATES = {
    "indent": "{{ ('a\n' * 99999) | indent(999999, true) }}",
    "in": _BIG + _LOOP + "{{ ('a' * 400000 ~ 'b') in a }}{% endfor %}",
    "in-hoisted": _BIG + "{% set b = 'a' * 400000 ~ 'b' %}" + _LOOP + "{% if b in a %}x{% endif %}{% endfor %}",
    "is-in": _BIG + _LOOP + "{% if 'b' is in a %}x{% endif %}{% endfor %}",
    "upper": _BIG + _LOOP + "{% set y = a | upper %}{% endfor %}",
    "equal": _BIG + "{% set b = 'a' * 900000 %}" + _LOOP + "{% if a == b %}{% endif %}{% endfor %}",
    "slice": _BIG + _LOOP + "{% set y = a[1:] %}{% endfor %}",
    "split": _BIG + _LOOP + "{% set y = a.split('a') | length %}{% endfor %}",
    "sort": "{% for i in range(99) %}{{ range(100000) | list | sort | length }}{% endfor %}",
    "joined": _BIG + _LOOP + "{% set y = a ~ 'x' %}{% endfor %}",
}
NEEDLESS = ("'x' | wordwrap(1)", "'x' | urlize", "'x' | striptags", "[1] | random", "'x'.translate({97: 'b' * 100000})")
CASES = [
    *(
        _call(f"source-{name}", lambda value=value: _opened(value), "the model is a .*; name a folder")
        for name, value in WRONG.items()
        if value is not None
    ),
    _call("source-too-long", lambda: _opened("x" * 5_000), "there is no folder"),
    _call("source-brackets", lambda: _opened("http://["), "is no address of a server"),
    *(
        _call(f"output-{name}", lambda value=value: _model().save_pretrained(value), "the output is a .*; name a path")
        for name, value in WRONG.items()
    ),
    *(
        _call(f"repository-{name}", lambda value=value: _pushed(value), "the repository is a ")
        for name, value in {**WRONG, "path": Path("org/\ud800")}.items()
    ),
    *(_call(f"new-name-{name}", lambda value=value: _renamed(value), "the new name") for name, value in WRONG.items()),
    *(_call(f"new-name-{ord(x):x}", lambda x=x: _renamed(f"a{x}"), "which cannot be shown") for x in INVISIBLE),
    Case(
        "new-name-honest",
        lambda _: _renamed("GPT-4 👩‍💻 नमस्ते می‌خواهم").models[0],
        right=lambda name: name.startswith("GPT-4"),
    ),
    *(_call(f"rows-{name}", lambda value=value: _votes(value), "row|dictionar") for name, value in WRONG.items()),
    *(
        _call(f"budget-{i}", lambda text=text: _budgets([text]), "budget")
        for i, text in enumerate(("0x10", "1,5", "", "½", "٣", "1_0", "$1", None, True, b"1", {}, [1], 1j, 10**400))
    ),
    *(_call(f"budgets-{i}", lambda value=value: _budgets(value), "budgets") for i, value in enumerate((5, "x", []))),
    Case("budgets-right", lambda _: _budgets(np.array([1.0])) + _budgets(["1e0", 1]), right=[1.0, 1.0, 1.0].__eq__),
    *(
        _call(f"record-{i}", lambda value=value: _recorded(value), "the response cost")
        for i, value in enumerate(("1_0", "x", None, [1], -1, 10**400, decimal.Decimal("nan")))
    ),
    Case("record-decimal", lambda _: _recorded(decimal.Decimal("0.5")) + _recorded("1e-1"), right=(0.6).__eq__),
    *(
        _call(f"seed-{i}", lambda value=value: _model().route("hi", seed=value), "seed is")
        for i, value in enumerate(("x", "1_0", 1.5, True, [1]))
    ),
    _call("models-number", lambda: _model().route("hi", models=5), "models must be a list"),
    _call("pacer-number", lambda: _model().route("hi", pacer=5), "make one with pacer"),
    Case("costs-of-no-row", _costs_of_no_row, says="holds no costs"),
    Case("40000-names-of-votes", _many_names, right=(40_000).__eq__),
    Case("max-rows", lambda _: command("evaluate", "--votes", "x.csv", "--max-rows", "٣"), says="no whole number"),
    Case("least", lambda _: command("analyze", "strengths", "x", "--least", "1_0"), says="no finite number"),
    *(
        Case(f"help-{name}", lambda _, name=name: _help(name), right=lambda text: "<=None" not in text)
        for name in ("route", "add-model", "keys")
    ),
    *(_template(name, source, "was stopped: it") for name, source in TEMPLATES.items()),
    *(
        _template(f"needless-{i}", "{{ " + source + " }}", "damaged: |cannot take the prompt")
        for i, source in enumerate(NEEDLESS)
    ),
    _template(
        "honest",
        "{% for m in messages %}{% if m.role == 'user' and loop.index0 % 2 == 0 and 'x' not in m.content %}"
        "{{ m.content[1:] | trim | indent(4) }}{% endif %}{% endfor %}",
        right=lambda text: text.startswith("ello\n    hello"),
    ),
]
