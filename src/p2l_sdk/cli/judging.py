"""`p2l collect` and `p2l judge`: answers of one's own LLMs, and votes or scores of these answers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from p2l_sdk.cli.common import JSON, PROMPT_COLUMN, Command, number_type, print_json, say, whole_type
from p2l_sdk.errors import MissingExtraError, P2LError

if TYPE_CHECKING:
    from p2l_sdk.judging.collect import Collection
    from p2l_sdk.judging.grade import Grades
    from p2l_sdk.judging.judge import Judgement
    from p2l_sdk.judging.limits import Limits
    from p2l_sdk.judging.pairs import Pairs
    from p2l_sdk.serve.gateway.llm import LLMConfig

_PACKAGES = ("aiohttp", "fastapi", "httpx", "orjson", "prometheus_client", "uvicorn", "yaml")
_ADDRESS = re.compile(r"(?P<model>.+?)@(?P<url>https?://.+)")
_GOES_ON = "the same command goes on where it stopped"
_LIMITS: list[Callable[[Any], Any]] = [
    click.option(
        "--pairs-per-prompt", metavar="N", type=whole_type(1),
        help="Compare N pairs of LLMs per prompt, drawn at random.  [all]",
    ),
    click.option("--seed", metavar="N", type=whole_type(0), default=0, show_default=True, help="Of the draw."),
    click.option("--plan", metavar="FILE", help="Compare these pairs only: prompt, model_a, model_b."),
    click.option(
        "--spend-limit", metavar="USD", type=number_type(above=0),
        help="What the whole run may cost, all its parts together; it is never exceeded.",
    ),
    click.option(
        "--concurrency", metavar="N", type=whole_type(1), default=8, show_default=True,
        help="Queries in flight at once.",
    ),
    click.option(
        "--requests-per-minute", metavar="N", type=number_type(above=0),
        help="To each LLM.  [no limit]",
    ),
    click.option(
        "--attempts", metavar="N", type=whole_type(1), default=5, show_default=True,
        help="How often a query is sent, after 429, 5xx, a time-out or a broken connection.",
    ),
    click.option(
        "--max-tokens", metavar="N", type=whole_type(1), default=1024, show_default=True,
        help="Longest answer, for LLMs whose entry in the config does not say.",
    ),
    click.option("--retry-failed", is_flag=True, help="Ask again what failed before."),
]  # fmt: skip


def _with_limits(command: Command) -> Command:
    for option in reversed(_LIMITS):
        command = option(command)
    return command


@click.command(short_help="Ask your LLMs prompts; keep the answers.")
@click.option("--prompts", metavar="FILE", help="Text with a prompt per line, or a table (.csv, ...) with `prompt`.")
@PROMPT_COLUMN
@click.option("--questions", metavar="FILE", help="Instead: questions with right answers, as of `p2l mpg measure`.")
@click.option("--config", metavar="YAML", required=True, help="The LLMs, as of `p2l serve --config`.")
@click.option("--output", metavar="FILE", required=True, help="The answers, JSON lines; an interrupted run is resumed.")
@click.option("--models", metavar="A,B", help="Only these LLMs of the config.")
@_with_limits
@JSON
def collect(
    prompts: str | None, questions: str | None, config: str, output: str, models: str | None, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Ask every LLM of a config the prompts, and write the answers to a file for `p2l judge`."""
    _require_packages("p2l collect")
    from p2l_sdk.judging.collect import collect as run
    from p2l_sdk.serve.gateway.config import GatewayConfig

    if (prompts is None) == (questions is None):
        raise click.UsageError("give --prompts or --questions, one of them")
    asked = _prompts(prompts, questions, options["column"])
    llms = GatewayConfig.from_yaml(config)
    names = None if models is None else [name.strip() for name in models.split(",") if name.strip()]
    limits = _limits(options)
    given = {name: options[name] for name in ("max_tokens", "retry_failed")}
    with _asking_bar() as progress, _resumable():
        found = run(
            asked, llms, output, models=names, pairs=_pairs(options), limits=limits, progress=progress, source=config,
            **given,
        )  # fmt: skip
    if as_json:
        print_json(found.to_dict())
    else:
        _print_collection(found)
    found.stopped.require_all(limits.spend, output)


@click.command(short_help="Votes of an LLM judge on the answers; or scores.")
@click.argument("answers")
@click.option("--judge", "judge_name", metavar="MODEL@URL", help="The judge and its OpenAI-compatible address.")
@click.option("--config", metavar="YAML", help="With --judge NAME: the file of LLMs that has its address.")
@click.option("--judge-key-env", metavar="VAR", help="The environment variable that holds the judge's API key.")
@click.option(
    "--prices", metavar="IN OUT", type=(number_type(0), number_type(0)),
    help="Of the judge, USD per million tokens.",
)  # fmt: skip
@click.option("--temperature", metavar="T", type=number_type(0, 2), help="Of the judge.  [0]")
@click.option("--timeout", metavar="S", type=number_type(above=0), help="Until the judge begins.  [120]")
@click.option("--rubric", metavar="FILE", help="Text: what makes an answer better, in place of ours.")
@click.option("--grader", type=click.Choice(["exact", "choice"]), help="Instead of a judge: grade with right answers.")
@click.option("--questions", metavar="FILE", help="The questions with their right answers, for --grader.")
@click.option("--output", metavar="FILE", required=True, help="The votes (or scores), JSON lines.")
@_with_limits
@JSON
def judge(answers: str, output: str, as_json: bool, **options: Any) -> None:
    """Have an LLM compare the ANSWERS that `p2l collect` wrote, two by two and in both orders: votes for `p2l train`.

    \b
    With a judge:
      p2l judge answers.jsonl --judge gpt-4o@https://api.openai.com/v1 --judge-key-env OPENAI_API_KEY
          --output votes.jsonl
    With right answers (scores, for p2l train too):
      p2l judge answers.jsonl --grader choice --questions questions.jsonl --output scores.jsonl
    """
    _require_packages("p2l judge")
    if (options["judge_name"] is None) == (options["grader"] is None):
        raise click.UsageError("give --judge or --grader, one of them")
    if options["grader"] is not None:
        _grade(answers, output, as_json, options)
        return
    from p2l_sdk.judging.answers import read_answers
    from p2l_sdk.judging.judge import judge as run
    from p2l_sdk.judging.rubric import RUBRIC

    llm = _judge(options)
    rubric = RUBRIC if options["rubric"] is None else _text(options["rubric"])
    limits = _limits(options)
    given = {name: options[name] for name in ("max_tokens", "retry_failed")}
    read = read_answers(answers)
    with _asking_bar() as progress, _resumable():
        found = run(
            read, llm, output, pairs=_pairs(options), limits=limits, rubric=rubric, progress=progress, **given
        )  # fmt: skip
    if as_json:
        print_json(found.to_dict())
    else:
        _print_judgement(found)
    found.stopped.require_all(limits.spend, output)


# --- options -> settings ---------------------------------------------------------------------------------------------


def _require_packages(what: str) -> None:
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError(what, package, "serve")


def _prompts(prompts: str | None, questions: str | None, column: str | None) -> list[Any]:
    from p2l_sdk.mpg.measure.questions import read_questions
    from p2l_sdk.votes.prompts import read_prompts

    if questions is not None:
        return [question.text for question in read_questions(questions)]
    return list(read_prompts(str(prompts), column))


def _limits(options: dict[str, Any]) -> Limits:
    from p2l_sdk.judging.limits import Limits

    names = ("concurrency", "requests_per_minute", "attempts")
    return Limits(spend=options["spend_limit"], **{name: options[name] for name in names})


def _pairs(options: dict[str, Any]) -> Pairs:
    from p2l_sdk.judging.pairs import Pairs, read_plan

    plan = None if options["plan"] is None else read_plan(options["plan"])
    return Pairs(options["pairs_per_prompt"], options["seed"], plan)


def _judge(options: dict[str, Any]) -> LLMConfig:
    """The judge of the options: of an address, or an entry of a config, whose settings the options replace."""
    from dataclasses import replace

    from p2l_sdk.errors import require_known
    from p2l_sdk.serve.gateway.config import GatewayConfig
    from p2l_sdk.serve.gateway.llm import LLMConfig
    from p2l_sdk.serve.gateway.prices import Prices

    name, config, prices = options["judge_name"], options["config"], options["prices"]
    given: dict[str, Any] = {
        "api_key_env": options["judge_key_env"],
        "prices": None if prices is None else Prices(input=prices[0], output=prices[1]),
        "temperature": options["temperature"],
        "timeout": options["timeout"],
    }
    given = {setting: value for setting, value in given.items() if value is not None}
    address = _ADDRESS.fullmatch(name)
    if address is not None and config is None:
        return LLMConfig(name=address["model"], base_url=address["url"], **given)
    if config is None:
        raise P2LError(
            f"--judge {name!r} has no address: write MODEL@URL, as in gpt-4o@https://api.openai.com/v1, or name the "
            "file of LLMs that it is in with --config"
        )
    llms = GatewayConfig.from_yaml(config).models
    require_known([name], list(llms), "--judge", f"which is not in {config}")
    if prices is not None:
        given["cost"] = None  # by the token instead
    return replace(llms[name], **given)


def _text(path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise P2LError(f"--rubric {path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _grade(answers: str, output: str, as_json: bool, options: dict[str, Any]) -> None:
    from p2l_sdk.judging.answers import read_answers
    from p2l_sdk.judging.grade import grade
    from p2l_sdk.mpg.measure.questions import read_questions

    if options["questions"] is None:
        raise click.UsageError("--grader needs --questions, the file with the right answers")
    questions = read_questions(options["questions"])
    texts = {question.key: question.text for question in questions}
    found = grade(read_answers(answers, texts), questions, output, options["grader"])
    if as_json:
        print_json({**vars(found), "output": str(found.output)})
    else:
        _print_grades(found)


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_GOES_ON) from None


# --- what is shown ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _asking_bar() -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar on stderr with USD, removed when done; yields the function that sets it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from p2l_sdk.cli.terminal import Console

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[usd]}"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None, usd="")
        yield lambda done, total, usd: progress.update(task, completed=done, total=total, usd=_usd(usd))


def _usd(amount: float | None) -> str:
    """USD with the digits that matter: four behind the first."""
    from p2l_sdk.routing.route import usd

    return "" if amount is None else usd(float(f"{amount:.4g}"))


def _print_collection(found: Collection) -> None:
    from rich.table import Table

    from p2l_sdk.cli.terminal import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("LLM", overflow="fold")
    for name in ("answers", "failed", "tokens in", "tokens out", "seconds", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for llm in found.llms:
        seconds = "" if llm.seconds is None else f"{llm.seconds:.1f}"
        counts = [f"{n:,}" for n in (llm.n_answered, llm.n_failed, llm.input_tokens, llm.output_tokens)]
        table.add_row(*map(Text, (llm.name, *counts, seconds, _usd(llm.cost))))
    _show(table)
    for llm in found.llms:
        for kind, n in llm.failures.items():
            say(f"{llm.name}: {n:,} failed with {kind}; --retry-failed asks again")
    _print_spent(found.spent, found.assumed)
    say(f"answers: {found.output}")


def _print_judgement(found: Judgement) -> None:
    shares = ", ".join(f"{winner} {n:,}" for winner, n in found.votes.items())
    say(f"{found.n_votes:,} votes of {found.judge} on {found.n_pairs:,} pairs of answers: {shares}")
    for n, why in (
        (found.n_unreadable, "whose verdict could not be read"),
        (found.n_failed, "whose question failed (--retry-failed asks again)"),
        (found.n_open, "not asked yet"),
        (found.n_skipped, "skipped, since an answer failed or is empty"),
    ):
        if n:
            say(f"no vote: {n:,} {'pair' if n == 1 else 'pairs'} {why}")
    if found.disagreement is not None:
        say(f"position bias: the two orders disagree on {found.disagreement:.1%} of the votes (ties)")
    if found.first_share is not None:
        say(f"  {found.first_share:.1%} of {found.n_decided:,} verdicts for one answer chose the one shown first")
    if found.n_reread:
        say(f"replies that could not be read at first: {found.n_reread:,}")
    if found.judges_itself:
        say(f"{found.judge} judges its own answers too; LLMs tend to prefer those")
    say(f"tokens: {found.input_tokens:,} in, {found.output_tokens:,} out")
    _print_spent(found.spent, found.assumed)
    say(f"votes: {found.output}")


def _print_grades(found: Grades) -> None:
    for name, mean in sorted(found.means.items(), key=lambda item: -item[1]):
        say(f"{name}: {mean:.1%} of {found.counts[name]:,}")
    if found.n_unknown:
        say(f"{found.n_unknown:,} prompts are none of the questions, and have no score")
    say(f"scores: {found.output}")


def _print_spent(spent: float, assumed: float) -> None:
    if spent:
        rest = f", of it {_usd(assumed)} assumed for queries that broke off" if assumed else ""
        say(f"spent: {_usd(spent)}{rest}")


def _show(table: Any) -> None:
    """Print without trailing spaces."""
    from p2l_sdk.cli.terminal import Console

    console = Console()
    with console.capture() as captured:
        console.print(table)
    console.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())
