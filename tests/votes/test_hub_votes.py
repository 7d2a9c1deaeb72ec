"""Votes on the Hub as data sets: pushed by one process and read by another, also with `datasets` alone."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from conftest import MODELS
from hub_client import GUEST, OWNER, environment, p2l_command
from huggingface_hub import DatasetCard
from pyarrow import parquet

from p2l_sdk.hub.cards import space_card, split_card
from p2l_sdk.votes.votes import Votes

CHAT = [
    {"role": "user", "content": "sum"},
    {"role": "assistant", "content": "which?"},
    {"role": "user", "content": "all"},
]
PUSH = """
from p2l_sdk.votes.publish import push_votes
from p2l_sdk.votes.votes import Votes
splits = {name: Votes.from_rows(rows) for name, rows in splits.items()}
result = vars(push_votes(splits if len(splits) > 1 else splits["train"], repo, **options))
"""
READ = """
import os
from p2l_sdk.votes.votes import Votes
from p2l_sdk.tables.columns import turns_of
os.environ["HF_TOKEN"] = token
votes = Votes.read(source)
columns = (votes.prompt, votes.a, votes.b, votes.winner, votes.weight, *votes.categories.values())
result = [[turns_of(prompt) for prompt in votes.prompts], votes.models, [column.tolist() for column in columns],
          list(votes.categories)]
"""


def rows(prompts, **more) -> list[dict]:
    pairs = [(MODELS[0], MODELS[1]), (MODELS[2], MODELS[0])]
    winners = ["model_a", "tie", "both_bad", "model_b"]
    made = [(prompt, a, b, w) for prompt in prompts for a, b in pairs for w in winners]
    return [
        {"prompt": prompt, "model_a": a, "model_b": b, "winner": w, "task": "arithmetic", "hard": i % 2 == 0, **more}
        for i, (prompt, a, b, w) in enumerate(made)
    ]


@pytest.fixture
def push(processes):
    return lambda repo, splits, **options: processes["pusher"](
        PUSH, repo=repo, splits=splits, options={"token": OWNER, **options}
    )


def read(processes, source, token=OWNER):
    return processes["loader"](READ, source=source, token=token)


def as_read(votes: Votes) -> list:
    """The result of READ for these votes."""
    from p2l_sdk.tables.columns import turns_of

    columns = (votes.prompt, votes.a, votes.b, votes.winner, votes.weight, *votes.categories.values())
    prompts = [list(turns_of(prompt)) for prompt in votes.prompts]
    return [prompts, list(votes.models), [column.tolist() for column in columns], list(votes.categories)]


@pytest.mark.long
def test_votes_come_back_as_they_went(hub, processes, push):
    splits = {"train": rows(["sum", "write a poem"]), "test": rows(["prove that"], weight=0.5)}
    push("org/votes", splits, private=True, license="cc-by-4.0")
    repo = hub.repo("org/votes", "datasets")
    assert repo.private
    assert repo.messages == ["initial commit", "24 votes"]
    for source, split in (("org/votes", "train"), ("org/votes:test", "test")):
        assert read(processes, source) == as_read(Votes.from_rows(splits[split]))
    table = parquet.read_table(io.BytesIO(repo.files()["data/train-00000-of-00001.parquet"]))
    assert table.column_names == ["prompt", "model_a", "model_b", "winner", "weight", "task", "hard"]
    assert set(table["winner"].to_pylist()) == {"model_a", "tie", "tie (bothbad)", "model_b"}  # the Arena's labels
    features = "import datasets\nresult = list(datasets.load_dataset('org/votes', split='test').features)"
    assert processes["researcher"](f"import os\nos.environ['HF_TOKEN'] = {OWNER!r}\n{features}") == [
        "prompt", "model_a", "model_b", "winner", "weight", "task", "hard"
    ]  # fmt: skip


def test_splits_of_different_columns_are_refused_before_anything_is_made(hub, processes):
    splits = {"train": rows(["sum"]), "test": rows(["sum"], task=3, language="en")}
    refusal = processes["pusher"].refused(PUSH, repo="org/uneven", splits=splits, options={"token": OWNER})
    assert "VotesError: the splits 'train' and 'test' differ in 'task', 'language'; the splits of a data set" in refusal
    assert ("datasets", "org/uneven") not in hub.repos


def test_of_conversations_the_user_turns_come_back(processes, push):
    votes = rows([CHAT, "write a poem"])
    push("org/chats", {"train": votes})
    assert read(processes, "org/chats") == as_read(Votes.from_rows(votes))


@pytest.mark.long
def test_a_revision_a_pull_request_and_what_was_there_before(hub, processes, push):
    push("org/grown", {"train": rows(["sum"]), "old": rows(["sum"])})
    push("org/grown", {"train": rows(["sum", "prove that"])})
    repo = hub.repo("org/grown", "datasets")
    assert [name for name in repo.files() if name.endswith(".parquet")] == ["data/train-00000-of-00001.parquet"]
    assert push("org/grown", {"train": rows(["of two"])}, create_pr=True, token=GUEST)["pr_revision"] == "refs/pr/1"
    push("org/grown", {"train": rows(["is irrational"])}, revision="v2")
    for source, prompts in (
        ("org/grown", ["sum", "prove that"]), ("org/grown@refs/pr/1", ["of two"]), ("org/grown@v2", ["is irrational"])
    ):  # fmt: skip
        assert read(processes, source)[0] == [[prompt] for prompt in prompts]


def test_each_refusal_names_its_remedy(hub, processes, push):
    for name in ("org/locked", "org/public"):
        push(name, {"train": rows(["sum"])})
    hub.repo("org/locked", "datasets").gated = True
    cases = {
        "org/nothing": "there is no such repository on the Hub, or it is private; check the name",
        "org/public@v9": "the Hub data set repository 'org/public' has no revision 'v9'",
        "org/locked": f"'org/locked' is gated: ask for access on its page {hub.url}/datasets/org/locked",
    }
    for source, message in cases.items():
        refusal = processes["loader"].refused(READ, source=source, token=GUEST)
        assert refusal.startswith("VotesError: ")
        assert message in refusal


@pytest.mark.long
def test_offline_votes_are_read_from_the_cache_or_it_is_said_that_they_cannot(hub, processes, push):
    push("org/kept", {"train": rows(["sum"])})
    read(processes, "org/kept")
    hub.requests.clear()
    code = "from p2l_sdk.votes.votes import Votes\nprint(len(Votes.read('org/kept')))\nVotes.read('org/other')"
    env = environment(hub, processes["loader"].home, HF_HUB_OFFLINE="1")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert result.stdout == "8\n"
    assert "VotesError: the Hub data set repository 'org/other' is not in the cache and the Hub was" in result.stderr
    assert "hf download org/other --repo-type dataset" in result.stderr
    assert not hub.requests


def test_the_card_is_complete_and_valid(hub, push):
    push(
        "org/carded-votes",
        {"train": rows(["sum", "prove that"])},
        license="mit",
        title="Ours",
        description="## How\n\nBy us.",
    )
    card = hub.repo("org/carded-votes", "datasets").files()["README.md"].decode()
    data = DatasetCard(card).data
    assert (data.license, data.pretty_name, data.size_categories) == ("mit", "Ours", ["n<1K"])
    assert data.task_categories == ["text-classification"]
    assert data["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert data["model_list"] == sorted(MODELS[:3])
    assert "averaged leaderboard: cross-entropy\n1.3863 nats (feedback model `grk`)" in card
    for line in (
        "- `train`: 16 votes on 2 prompts",
        "| winner | string | `model_a`, `model_b`, `tie`, `tie (bothbad)` |",
        "| hard | bool | label of the vote |",
        f"| {MODELS[1]} | 8 | 2 | 2 | 2 | 2 |",
        "Outcomes: model_a 25.0%, model_b 25.0%, tie 25.0%, tie (bothbad) 25.0%.",
        "## How",
    ):
        assert line in card.splitlines()


def test_the_command_makes_a_data_set_of_a_file(hub, tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(["sum"])))
    env = environment(hub, tmp_path / "home", HF_TOKEN=OWNER)
    result = p2l_command("push", path, "org/from-file", "--license", "mit", env=env)
    assert (result.returncode, result.stderr) == (0, "")
    oid = hub.repo("org/from-file", "datasets").refs["main"]
    assert result.stdout == f"pushed 8 votes on 1 prompts: {hub.url}/datasets/org/from-file/commit/{oid}\n"
    assert b"license: mit" in hub.repo("org/from-file", "datasets").files()["README.md"]


def test_the_card_of_a_space_is_its_configuration():
    data, text = split_card(space_card("Which LLM?", "org/model", 9, license="apache-2.0"))
    assert (data["sdk"], data["app_file"], data["models"]) == ("gradio", "app.py", ["org/model"])
    assert len(data["emoji"]) == 1
    assert "9 LLMs" in text
    assert "$" not in text
