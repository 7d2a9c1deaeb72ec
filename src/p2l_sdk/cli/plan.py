"""`p2l plan`: which votes to gather next."""

from __future__ import annotations

import json

import click

from p2l_sdk.cli.common import (
    JSON,
    MODEL,
    READING,
    load_scorer,
    print_json,
    prompts_beside,
    reading,
    say,
    say_findings,
    whole_type,
)


@click.command(short_help="Which votes to gather next.")
@click.option(
    "--prompts", metavar="FILE", required=True, help="Prompts that may be asked: text, or a table (.csv, ...)."
)
@click.option("--models", metavar="A,B,...", required=True, help="The LLMs to compare.")
@click.option("--votes", metavar="FILE", help="The votes so far.")
@click.option("-n", "number", metavar="N", type=whole_type(), default=200, show_default=True, help="Number of votes.")
@click.option(
    "--per-prompt", metavar="N", type=whole_type(), default=1, show_default=True, help="Most pairs for each prompt."
)
@click.option("--output", metavar="FILE", help="A new .jsonl file for the plan.  [standard output]")
@READING
@MODEL
@JSON
def plan(
    prompts: str,
    models: str,
    votes: str | None,
    number: int,
    per_prompt: int,
    output: str | None,
    model: str | None,
    as_json: bool,
) -> None:
    """Plan the votes that would teach the model most: prompts and pairs of LLMs where it is least sure.

    Each line of the plan has the columns prompt, model_a, model_b and gain (expected loss of a vote that it saves,
    in nats, given the votes planned before), the most telling first.
    """
    from p2l_sdk.editing.plan import plan_votes
    from p2l_sdk.outputs.files import require_file, write_file
    from p2l_sdk.votes.votes import Votes

    if output is not None:
        require_file(output, new=True)
    names = [name.strip() for name in models.split(",") if name.strip()]
    texts = list({json.dumps(prompt): prompt for prompt in prompts_beside(prompts, shared=votes is not None)}.values())
    known = None if votes is None else Votes.read(votes, **reading())
    if known is not None:
        say_findings(known.findings)
    picks = plan_votes(load_scorer(model), texts, names, number, votes=known, per_prompt=per_prompt)
    lines = [json.dumps(pick.to_dict(), ensure_ascii=False) for pick in picks]
    if output is not None:
        write_file(output, "".join(f"{line}\n" for line in lines), new=True)
    if as_json:
        print_json({"output": output, "votes": [pick.to_dict() for pick in picks]})
    elif output is None:
        say("\n".join(lines))
    else:
        asked = len({pick.index for pick in picks})
        say(f"wrote {output}: {len(picks):,} votes on {asked:,} of {len(texts):,} prompts")
