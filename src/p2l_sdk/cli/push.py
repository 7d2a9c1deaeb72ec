"""`p2l push`: push a model or votes to the Hub."""

from __future__ import annotations

from typing import Any

import click

from p2l_sdk.cli.common import BASE, JSON, READING, load, print_json, reading, say, say_findings
from p2l_sdk.tables.files import is_data


@click.command(short_help="Push a model or votes to the Hub, with a card.")
@click.argument("source")
@click.argument("repo_id")
@click.option("--private", is_flag=True, default=None, help="Create the repository as private.")
@click.option("--revision", metavar="NAME", help="The branch to push to; created if it does not exist.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of writing to the main branch.")
@click.option("--message", "commit_message", metavar="TEXT", help="Commit message.")
@click.option(
    "--handler/--no-handler", default=True, help="With a model, also push handler.py, for Inference Endpoints."
)
@click.option("--license", metavar="ID", help="Licence of votes, for their card: cc-by-4.0, mit, ...")
@READING
@BASE
@JSON
def push(source: str, repo_id: str, license: str | None, as_json: bool, handler: bool, **options: Any) -> None:
    """Push SOURCE to the Hub repository REPO_ID (org/name), in one commit with its card.

    SOURCE is a model (a folder or a Hub id; "default" is the embedded one), or a table of votes (.csv,
    .xlsx, .jsonl, .parquet, ...), which becomes a data set. Log in first with `hf auth login`, or set HF_TOKEN.
    """
    if is_data(source):
        from p2l_sdk.votes.publish import push_votes
        from p2l_sdk.votes.votes import Votes

        votes = Votes.read(source, **reading())
        say_findings(votes.findings)
        what = f"{len(votes):,} votes on {len(votes.prompts):,} prompts"
        commit = push_votes(votes, repo_id, license=license, **options)
    else:
        if license is not None:
            raise click.UsageError("--license is of votes; a model's licence is set in training (p2l train --license)")
        if reading():
            raise click.UsageError("--column, --winner, --rename and --skip-invalid are of votes; SOURCE is a model")
        p2l = load(None if source == "default" else source)
        what = f"model of {len(p2l.models)} LLMs"
        commit = p2l.push_to_hub(repo_id, handler=handler, **options)
    if as_json:
        found = {"commit": str(commit), "oid": commit.oid, "pull_request": commit.pr_url}
        print_json({"repo_id": repo_id, "revision": commit.pr_revision or options["revision"], **found})
    else:
        say(f"pushed {what}: {commit.pr_url or commit}")
