"""Shared by several commands: options, loading, printing."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from p2l_sdk.modeling.limits_p2l import visible
from p2l_sdk.modeling.number_p2l import to_number, to_whole

if TYPE_CHECKING:
    from p2l_sdk.modeling.prompt_p2l import Prompt
    from p2l_sdk.p2l import P2L
    from p2l_sdk.scorers.scorer import Scorer
    from p2l_sdk.tables.reading import Findings

Command = TypeVar("Command", bound=Callable[..., Any])


class _Bounded:
    """A range that is not shown where it has no end; click writes "x<=None"."""

    def _describe_range(self) -> str:
        ends: Any = self
        return "" if ends.min is None and ends.max is None else super()._describe_range()  # type: ignore[misc]


class _Number(_Bounded, click.FloatRange):
    """A finite number in ASCII digits, in a range; click's own types also read 1_0, inf and digits of any script."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = to_number(value)
        if math.isnan(number):
            point = "; decimals follow a point: 0.001" if isinstance(value, str) and "," in value else ""
            money = param is not None and param.metavar == "USD"
            alone = "; USD without a sign or a unit, such as 0.001" if money else ""
            self.fail(f"{value!r} is no finite number{point or alone}", param, ctx)
        return super().convert(number, param, ctx)


class _Whole(_Bounded, click.IntRange):
    """An integer in ASCII digits, in a range."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = to_whole(value) if isinstance(value, str) else value
        if number is None:
            self.fail(f"{str(value)[:40]!r} is no whole number", param, ctx)
        return super().convert(number, param, ctx)


def number_type(
    least: float | None = None, most: float | None = None, *, above: float | None = None
) -> click.FloatRange:
    """The type of an option that is a number, at least `least` or greater than `above`, and at most `most`."""
    return _Number(least if above is None else above, most, min_open=above is not None)


def whole_type(least: int | None = None, most: int | None = None) -> click.IntRange:
    """The type of an option that is an integer."""
    return _Whole(least, most)


def _of_load(name: str, metavar: str, text: str) -> Callable[[Command], Command]:
    """An option that is not passed to the command: `load` reads it from the context."""
    return click.option(
        f"--{name}",
        metavar=metavar,
        expose_value=False,
        callback=lambda context, _, value: context.meta.update({_KEY + name: value}),
        help=text,
    )


_KEY = "p2l_sdk."
BASE = _of_load("base", "PATH", "Base of an adapter, in place of the one it names: folder, Hub id or .gguf file.")
REVISION = _of_load("revision", "REV", "Branch, tag or commit of a model on the Hub.")
DEVICE = _of_load("device", "DEVICE", "Where torch runs, e.g. cuda.  [cpu]")
RUNTIME = _of_load(
    "runtime", "NAME", "What runs the model: torch; after p2l export onnx, openvino, or the address of vLLM.  [torch]"
)
COSTS = _of_load(
    "costs",
    "SOURCE",
    "USD per response, in place of the model's: a .json or .yaml file, a table (.csv, .xlsx, ...), or "
    "genai-prices[:PROVIDER,...].",
)


SCORES_OUTSIDE = click.option(
    "--scores-outside",
    type=click.Choice(["clip", "rescale", "drop"]),
    help="Scores outside [0, 1]: clip them, rescale all scores, or drop them.  [keep]",
)


def listed(context: click.Context, option: click.Parameter, value: str | None) -> list[str] | None:
    """Callback of an option: the names of a comma-separated list; None if it is not given."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def whole_numbers(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Callback of an option: comma-separated whole numbers; None if it is not given."""
    if value is None:
        return None
    sizes = [to_whole(part) for part in value.split(",")]
    if None in sizes:
        raise click.BadParameter(f"{value!r} is no list of whole numbers such as 10,25,50")
    return tuple(size for size in sizes if size is not None)


def LLMS(command: Command) -> Command:  # noqa: N802 - used as a decorator, like JSON
    """The options --llms and --not-llms, which say what columns of scores are (passed as `llms` and `not_llms`)."""
    llms = click.option("--llms", metavar="A,B,...", callback=listed, help="Of scores: only these columns are LLMs.")
    others = click.option("--not-llms", metavar="C,...", callback=listed, help="Of scores: these columns are no LLMs.")
    return llms(others(command))


def _pairs(
    name: str, last: bool, empty: bool = False
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], None]:
    """Callback of an option that is given several times: "a=b" pairs, divided at the last or the first "=";
    with `empty`, "=b" says something of empty cells."""

    def keep(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> None:
        found: dict[str, str] = {}
        for value in values:
            first, equals, second = value.rpartition("=") if last else value.partition("=")
            if not (equals and (first.strip() or empty) and second.strip()):
                raise click.BadParameter(f"{value!r} is no pair; write {option.make_metavar(context).strip('[]')}")
            if found.setdefault(first.strip(), second.strip()) != second.strip():
                raise click.BadParameter(f"{first.strip()!r} is given twice, as {found[first.strip()]!r} and otherwise")
        context.meta[_KEY + name] = found

    return keep


def _renames(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> None:
    """Callback of --rename: pairs "old=new", and files of them."""
    from p2l_sdk.tables.reading import read_renames

    found: dict[str, str] = {}
    for value in values:
        old, equals, new = value.partition("=")
        for name, other in {old: new}.items() if equals and not Path(value).exists() else read_renames(value).items():
            if found.setdefault(str(name).strip(), str(other)) != str(other):
                raise click.BadParameter(f"{name!r} is renamed twice, to {found[str(name).strip()]!r} and {other!r}")
    context.meta[_KEY + "rename"] = found


def READING(command: Command) -> Command:  # noqa: N802 - used as a decorator, like JSON
    """The options --column, --winner, --rename, --skip-invalid and --max-rows of every command that reads votes or
    scores; they are not passed to the command: `reading` gives them."""
    for decorate in (
        click.option(
            "--max-rows",
            metavar="N",
            type=whole_type(1),
            expose_value=False,
            callback=lambda context, _, value: context.meta.update({_KEY + "max_rows": value}),
            help="Refuse a file with more rows.  [10 millions]",
        ),
        click.option(
            "--skip-invalid",
            is_flag=True,
            expose_value=False,
            callback=lambda context, _, value: context.meta.update({_KEY + "skip_invalid": value}),
            help="Leave faulty rows out, and say how many.",
        ),
        click.option(
            "--rename",
            metavar="OLD=NEW|FILE",
            multiple=True,
            expose_value=False,
            callback=_renames,
            help="Another name for an LLM, such as a misspelt one; or a .yaml, .json or .csv file of old, new.",
        ),
        click.option(
            "--winner",
            "winners",
            metavar="SPELLING=OUTCOME",
            multiple=True,
            expose_value=False,
            callback=_pairs("winners", last=True, empty=True),
            help='What a spelling of the winner means: "Model A=model_a"; model_a, model_b, tie, both_bad or skip. '
            '"=tie" is said of empty cells.',
        ),
        click.option(
            "--column",
            "columns",
            metavar="COLUMN=NAME",
            multiple=True,
            expose_value=False,
            callback=_pairs("columns", last=False),
            help="The file's name of a column: prompt=Question, winner=..., model_a=...",
        ),
    ):
        command = decorate(command)
    return command


def reading(*, scores: bool = False) -> dict[str, Any]:
    """What the options of READING say, for `Votes.read` or, with `scores`, `Scores.read`; checked at once."""
    from p2l_sdk.tables.reading import Reading

    meta = click.get_current_context().meta
    names = ("columns", "winners", "rename", "skip_invalid", "max_rows")
    found = {name: meta[_KEY + name] for name in names if meta.get(_KEY + name)}
    Reading.of(**found)
    return {name: value for name, value in found.items() if not (scores and name == "winners")}


def prompts_beside(file: str, *, shared: bool) -> Iterator[Prompt]:
    """The prompts of a file, whose column --column of READING may name; with `shared`, it may be said of another file
    that the command reads, so that a table without such a column is read by itself."""
    from p2l_sdk.votes.prompts import read_prompts

    return read_prompts(file, reading().get("columns", {}).get("prompt"), shared=shared)


def _column(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Callback of --column where a file of prompts is read: NAME of "prompt=NAME", or of "NAME" alone."""
    return None if value is None else value.removeprefix("prompt=").strip()


PROMPT_COLUMN = click.option(
    "--column", metavar="prompt=NAME", callback=_column, help="The file's name of the column of prompts."
)
COLUMNS = click.option(
    "--columns", metavar="A,B,...", callback=listed, help="Of a column per benchmark: only these are benchmarks."
)


def MODEL(command: Command) -> Command:  # noqa: N802 - used as a decorator, like JSON
    """The options --model (passed to the command as `model`), --revision, --base, --device and --runtime."""
    model = click.option("--model", metavar="PATH", help="Folder or Hub id of a P2L model, or routing9.  [arena]")
    return model(REVISION(BASE(DEVICE(RUNTIME(command)))))


def MODELS_TO_COMPARE(command: Command) -> Command:  # noqa: N802 - used as a decorator, like JSON
    """Like MODEL, but --model may be given twice; it is passed to the command as the tuple `model`."""
    text = "Folder or Hub id of a P2L model, or routing9; given twice: compare the two.  [arena]"
    model = click.option("--model", metavar="PATH", multiple=True, help=text)
    return model(REVISION(BASE(DEVICE(RUNTIME(command)))))


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object only.")


def load(model: str | None) -> P2L:
    """Load the model of --model with the options --revision, --base, --device, --runtime and --costs."""
    from p2l_sdk.p2l import P2L

    return P2L.from_pretrained(model, **load_options())


def load_options() -> dict[str, Any]:
    """What the options --revision, --base, --device, --runtime and --costs say, for `P2L.from_pretrained`."""
    meta = click.get_current_context().meta
    return {name: meta.get(_KEY + name) for name in ("revision", "base", "device", "runtime", "costs")}


def load_scorer(model: str | None) -> Scorer:
    """Load only what computes the coefficients of --model; options as in `load`, but for --costs."""
    from p2l_sdk.scorers.load import open_scorer

    meta = click.get_current_context().meta
    options: dict[str, Any] = {name: meta.get(_KEY + name) for name in ("device", "base", "revision", "runtime")}
    return open_scorer(model, **options)[0]


def _weighted(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, float] | None:
    """Names with weights, "A,B=2"; a weight is 1 where none is given."""
    weights: dict[str, float] = {}
    for entry in listed(context, option, value) or ():
        name, equals, weight = entry.rpartition("=")
        weights[name.strip() if equals else entry] = number = to_number(weight) if equals else 1.0
        if math.isnan(number):
            raise click.BadParameter(f"the weight of {name!r} is {weight!r}; it must be a number, as in A,B=2")
    return weights if value is not None else None


MODELS = click.option(
    "--models", metavar="A,B,...", callback=listed, help="Only these LLMs; gpt-4o-mini finds gpt-4o-mini-2024-07-18."
)
OPPONENTS = click.option(
    "--opponents", metavar="A,B=2,...", callback=_weighted, help="Whom win rates are against, with weights.  [all LLMs]"
)
OBJECTIVE = click.option("--objective", metavar="NAME", help="What counts: win_rate or usable.  [win_rate]")


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def say_matched(matched: Mapping[str, str]) -> None:
    """Say on stderr, in one line, how names of LLMs were read: name as given -> the model's own."""
    if matched:
        (first, means), *others = matched.items()
        more = "".join(f", {name} as {own}" for name, own in others)
        say(f"p2l: {first} is read as {means}{more}", err=True)


def say_findings(findings: Findings) -> None:
    """Say on stderr how a table was read, and which rows were left out, where that is not plain; near names are a
    warning of their own."""
    for label, text in findings.facts.items():
        if label != "near names":
            say(f"p2l: {label}: {text}", err=True)


def say(text: str, err: bool = False) -> None:
    """Print text on stdout, or stderr; a name in it cannot move the cursor."""
    click.echo("\n".join(map(visible, text.split("\n"))), err=err)


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(value, indent=2, allow_nan=False, default=str))


@contextlib.contextmanager
def telling(quiet: bool) -> Iterator[Callable[[str, int], None] | None]:
    """A live line on a terminal that says what is being done; None if it is not one, or with --json."""
    if quiet or not sys.stderr.isatty():
        yield None
    else:
        from p2l_sdk.cli import terminal

        with terminal.telling() as progress:
            yield progress


@contextlib.contextmanager
def counting(quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A live counter of prompts on a terminal; None if it is not one, or with --json."""
    if quiet or not sys.stderr.isatty():
        yield None
    else:
        from p2l_sdk.cli import terminal

        with terminal.counting("prompts") as progress:
            yield progress
