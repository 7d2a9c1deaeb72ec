"""Pushing votes to the Hub as a data set: Parquet files and a card with schema and figures, in one commit.

`Votes.read("org/name")` and `datasets.load_dataset("org/name")` read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from p2l_sdk.errors import MissingExtraError, VotesError
from p2l_sdk.hub.access import HubOptions, HubTarget, push
from p2l_sdk.hub.cards import join_card
from p2l_sdk.hub.markdown import Markdown, code, literal, render, rows
from p2l_sdk.modeling.feedback_p2l import Feedback, Winner
from p2l_sdk.options import named_options
from p2l_sdk.outputs.leftovers import scratch_folder
from p2l_sdk.tables.columns import turns_of
from p2l_sdk.votes.summary import summarise
from p2l_sdk.votes.votes import WINNERS, Votes

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo

_ROWS = 1_000_000  # per file
_WORD = {winner: word for word, winner in reversed(WINNERS.items())}  # of two words for one outcome: the Arena's
_SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
          (10_000_000, "1M<n<10M")]  # fmt: skip
_MEANING = {
    "prompt": "what the LLMs were asked: text, or the user turns of a conversation",
    "model_a": "one LLM",
    "model_b": "the other",
    "winner": ", ".join(f"`{_WORD[winner]}`" for winner in Winner),
    "weight": "weight of the vote",
}


@named_options(HubOptions, {"create_pr": False})
def push_votes(
    votes: Votes | Mapping[str, Votes],
    repo_id: str,
    *,
    title: str | None = None,
    license: str | None = None,
    description: str = "",
    **options: Unpack[HubOptions],
) -> CommitInfo:
    """Push votes as a data set.

    If any prompt is a conversation, all prompts are written as lists of user turns, the only part that is read.

    Args:
        votes: the votes, or a mapping from splits ("train", "test") to votes.
        title, license, description: for the card; the description is Markdown.
        repo_id, options: as in `P2L.push_to_hub`.

    Raises:
        HubError: the Hub refused or cannot be reached; nothing was committed.
        VotesError: there are no votes, or two splits have different columns.
        MissingExtraError: pyarrow is not installed.
    """
    target = HubTarget(repo_id=repo_id, **options)
    splits = {"train": votes} if isinstance(votes, Votes) else dict(votes)
    if not splits:
        raise VotesError("there are no votes to push; give Votes, or a mapping from splits to Votes")
    tables = _tables(splits)
    with scratch_folder() as place:
        files: dict[str, Path | bytes] = {}
        for split, table in tables.items():
            files |= _write(table, split, place)
        card = _card(splits, next(iter(tables.values())).schema, repo_id, title, license, description)
        message = f"{sum(map(len, splits.values())):,} votes"
        files["README.md"] = card.encode()
        return push(files, target, message=message, kind="dataset", stale=["data/*.parquet"])


def _tables(splits: Mapping[str, Votes]) -> dict[str, Any]:
    """A pyarrow table for each split, all with the same columns."""
    chats = any(not isinstance(prompt, str) for votes in splits.values() for prompt in votes.prompts)
    weighted = any((votes.weight != 1.0).any() for votes in splits.values())
    tables = {split: _table(votes, chats, weighted) for split, votes in splits.items()}
    (first, schema), *others = ((split, table.schema) for split, table in tables.items())
    for split, other in others:
        if not other.equals(schema):
            different = [
                name for name in dict.fromkeys([*schema.names, *other.names]) if not _same(schema, other, name)
            ]
            raise VotesError(
                f"the splits {first!r} and {split!r} differ in {', '.join(map(repr, different))}; the splits of a data "
                "set have the same columns, of the same types"
            )
    return tables


def _same(schema: Any, other: Any, name: str) -> bool:
    return name in schema.names and name in other.names and schema.field(name).equals(other.field(name))


def _table(votes: Votes, chats: bool, weighted: bool) -> Any:
    pyarrow = _pyarrow()
    prompts: list[Any] = [list(turns_of(prompt)) for prompt in votes.prompts] if chats else votes.prompts
    names = pyarrow.array(votes.models)
    columns = {
        "prompt": pyarrow.array(prompts).take(pyarrow.array(votes.prompt)),
        "model_a": names.take(pyarrow.array(votes.a)),
        "model_b": names.take(pyarrow.array(votes.b)),
        "winner": pyarrow.array([_WORD[winner] for winner in Winner]).take(pyarrow.array(votes.winner)),
    }
    if weighted:
        columns["weight"] = pyarrow.array(votes.weight)
    return pyarrow.table({**columns, **{name: pyarrow.array(labels) for name, labels in votes.categories.items()}})


def _write(table: Any, split: str, folder: Path) -> dict[str, Path]:
    from pyarrow import parquet

    n_files = max(1, -(-table.num_rows // _ROWS))
    files = {}
    for number in range(n_files):
        name = f"{split}-{number:05}-of-{n_files:05}.parquet"
        parquet.write_table(table.slice(number * _ROWS, _ROWS), folder / name)
        files[f"data/{name}"] = folder / name
    return files


def _card(
    splits: Mapping[str, Votes], schema: Any, repo_id: str, title: str | None, license: str | None, description: str
) -> str:
    main, votes = next(iter(splits.items()))
    feedback = _feedback(votes)
    summary = summarise(votes, feedback)
    n_votes = sum(map(len, splits.values()))
    title = title or repo_id.split("/")[-1]
    data: dict[str, Any] = {"license": license} if license else {}
    data |= {
        "pretty_name": title,
        "task_categories": ["text-classification"],
        "size_categories": [next((name for size, name in _SIZES if n_votes < size), "n>10M")],
        "tags": ["p2l", "llm-routing", "human-feedback", "preferences"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits],
            }
        ],
        "model_list": list(votes.models),
    }
    models = [(m.model, *(f"{n:,}" for n in (m.n_votes, m.wins, m.losses, m.ties, m.both_bad))) for m in summary.models]
    text = render(
        "votes_dataset.md",
        title=title,
        n_models=len(votes.models),
        repo=literal(repo_id),
        train=code(f"p2l train --votes {repo_id} --output my-model"),
        splits=Markdown(
            "\n".join(
                f"- {code(name)}: {len(part):,} votes on {len(part.prompts):,} prompts" for name, part in splits.items()
            )
        ),
        columns=rows(
            (name, kind, Markdown(_MEANING.get(name, "label of the vote")))
            for name, kind in zip(schema.names, schema.types, strict=True)
        ),
        main=code(main),
        models=rows(models),
        outcomes=", ".join(f"{word} {share:.1%}" for word, share in summary.outcomes.items()),
        feedback=feedback,
        cross_entropy=f"{summary.marginal_cross_entropy:.4f}",
        description=Markdown(f"\n{description}" if description else ""),
    )
    return join_card(data, text)


def _feedback(votes: Votes) -> Feedback:
    """The simplest feedback model with all the outcomes that occur in these votes."""
    if (votes.winner == Winner.BOTH_BAD).any():
        return Feedback.GRK
    return Feedback.RK if (votes.winner == Winner.TIE).any() else Feedback.BT


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("pushing votes", "pyarrow", "data") from None
    return pyarrow
