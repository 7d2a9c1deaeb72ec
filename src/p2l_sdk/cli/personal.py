"""`p2l personal`: the leaderboard of a person's own conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from p2l_sdk.cli.common import COSTS, JSON, MODEL, MODELS, READING, load, number_type, print_json, reading, say

if TYPE_CHECKING:
    from p2l_sdk.analysis import Personal

_SHOWN = 10


@click.command(short_help="The leaderboard of your own chats, and your bill.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@MODEL
@COSTS
@MODELS
@click.option("--votes", metavar="FILE", help="Your own votes: the model is refined with them first.")
@READING
@click.option(
    "--per-month", metavar="N", type=number_type(), help="Requests per month.  [by the dates in FILE, else 1,000]"
)
@click.option("--output", metavar="FILE", help="Draw it: a .png, .pdf or .svg file.")
@JSON
def personal(
    files: tuple[str, ...],
    model: str | None,
    models: list[str] | None,
    votes: str | None,
    per_month: float | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Show which LLMs are best for what you ask: FILE is your export of ChatGPT or Claude (conversations.json, or the
    .zip with it), a JSON file of conversations, an .mbox of mails, or a file with one prompt per line. A second FILE is
    somebody else's, to compare. Nothing leaves this machine.

    A short history is drawn to the overall leaderboard, as far as it tells little.
    """
    from p2l_sdk import analysis

    if output is not None:
        from p2l_sdk.pictures import check_picture

        check_picture(output)
    histories = [analysis.read_history(file) for file in files]
    p2l = load(model)
    if votes is not None:
        from p2l_sdk.votes.votes import Votes

        p2l = p2l.refine(Votes.read(votes, **reading()))
        assert p2l.refined is not None
        say(f"p2l: refined with {p2l.refined.source}: {p2l.refined.verdict}", err=True)
    people = [
        analysis.personal(
            p2l,
            history.conversations,
            name=history.name,
            models=models,
            per_month=history.per_month if per_month is None else per_month,
        )
        for history in histories
    ]
    for history in histories:
        n = len(history.conversations)
        click.echo(f"p2l: {history.name}: {n:,} conversation{'' if n == 1 else 's'}, read as {history.kind}", err=True)
        if history.n_skipped:
            n = history.n_skipped
            said = f"{n:,} conversation{'' if n == 1 else 's'} without text of yours"
            say(f"p2l: {history.name}: {said} left out", err=True)
    if output is not None:
        from p2l_sdk import pictures

        pictures.save(people[0].plot(others=people[1:]).figure, output)
    if as_json:
        print_json({"people": [person.to_dict() for person in people]})
        return
    for k, (person, history) in enumerate(zip(people, histories, strict=True)):
        if k:
            click.echo()
        _print(person, per_month is None and history.per_month is None)


def _print(person: Personal, guessed: bool) -> None:
    from rich.table import Table

    from p2l_sdk.cli.terminal import Console, Text, print_table

    console = Console()
    table = Table(title=person.caption, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in ("rank", "overall"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("LLM", overflow="fold")
    for name in ("rating", "95 % limits", "more than overall"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in person.rows()[:_SHOWN]:
        table.add_row(
            str(row["rank"]),
            str(row["rank_overall"]),
            Text(row["model"]),
            f"{row['rating']:+.0f}",
            f"{row['low']:+.0f} to {row['high']:+.0f}",
            f"{row['difference']:+.0f}",
            style="bold" if row["rank"] == 1 else None,
        )
    print_table(console, table, ["more than overall", "95 % limits"])
    note = (
        "rating: points above the mean LLM (400 are odds of 10 to 1); "
        f"{person.kept:.0%} of what these conversations say beyond the overall leaderboard is kept; "
        "limits: what other conversations of the same person would give, not where the model itself is wrong"
    )
    console.print(Text(note, style="dim"))
    if person.plans:
        volume = f"{person.per_month:,.0f} requests per month{' (a guess: --per-month N)' if guessed else ''}"
        console.print()
        bills = Table(title=f"Your bill at {volume}", title_justify="left", box=None, pad_edge=False)
        bills.add_column("USD per month", justify="right", no_wrap=True)
        bills.add_column("preferred", justify="right", no_wrap=True)
        bills.add_column("", overflow="fold")
        for plan in person.plans:
            amount = f"{plan.per_month:,.2f}" if plan.per_month >= 1 else f"{plan.per_month:.2g}"
            bills.add_row(amount, f"{plan.score:.0%}", Text(plan.what))
        console.print(bills)
        console.print(Text("preferred: chance against another LLM's answer, as the model expects", style="dim"))
