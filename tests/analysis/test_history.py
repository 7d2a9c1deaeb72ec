"""Histories as vendors hand them out: the user turns that were asked, and how often."""

from __future__ import annotations

import json
import mailbox
import zipfile
from email.message import EmailMessage

import pytest
from conftest import ROOT

from p2l_sdk.analysis import read_history
from p2l_sdk.errors import P2LError

DAY = 86_400


def chatgpt(*turns, title="A chat", when=0.0, **extra):
    """A conversation as ChatGPT exports it: a tree, whose branch that was given up is not read."""
    mapping = {"root": {"id": "root", "message": None, "parent": None, "children": ["n0"]}}
    parent = "root"
    for i, (role, text) in enumerate(turns):
        message = {"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}, "metadata": {}}
        mapping[f"n{i}"] = {"id": f"n{i}", "message": message, "parent": parent, "children": []}
        parent = f"n{i}"
    given_up = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["given up"]}}
    mapping["side"] = {"id": "side", "message": given_up, "parent": "root", "children": []}
    return {"title": title, "create_time": when, "mapping": mapping, "current_node": parent, **extra}


def claude(*turns, when="2026-01-01T00:00:00Z"):
    messages = [{"sender": s, "text": t, "content": [{"type": "text", "text": t}]} for s, t in turns]
    return {"uuid": "x", "name": "A chat", "created_at": when, "chat_messages": messages}


def written(tmp_path, value, name="conversations.json"):
    path = tmp_path / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def turns(history):
    return [conversation.turns for conversation in history.conversations]


def test_the_branch_that_was_shown_last_is_read(tmp_path):
    chats = [
        chatgpt(("system", ""), ("user", "Hello"), ("assistant", "Hi"), ("user", "A poem"), when=0),
        chatgpt(("user", "Sum 1 to 9"), when=30.44 * DAY),
    ]
    history = read_history(written(tmp_path, chats))
    assert turns(history) == [["Hello", "A poem"], ["Sum 1 to 9"]]
    assert history.n_requests == 3
    assert history.per_month == pytest.approx(3.0)


def test_hidden_messages_and_pictures_are_not_read(tmp_path):
    chat = chatgpt(("user", "custom instructions"), ("user", "Hello"))
    chat["mapping"]["n0"]["message"]["metadata"] = {"is_visually_hidden_from_conversation": True}
    chat["mapping"]["n1"]["message"]["content"]["parts"] = [{"content_type": "image_asset_pointer"}, "What is this?"]
    history = read_history(written(tmp_path, [chat]))
    assert turns(history) == [["What is this?"]]


def test_a_circle_in_the_tree_ends(tmp_path):
    chat = chatgpt(("user", "Hello"))
    chat["mapping"]["n0"]["parent"] = "n0"
    assert turns(read_history(written(tmp_path, [chat]))) == [["Hello"]]


def test_claude(tmp_path):
    chats = [
        claude(("human", "Hello"), ("assistant", "Hi")),
        claude(("human", "Prove it"), when="2026-03-02T12:00:00+02:00"),
    ]
    history = read_history(written(tmp_path, chats))
    assert turns(history) == [["Hello"], ["Prove it"]]
    assert history.per_month == pytest.approx(2 / (60.4166 / 30.44), rel=1e-3)


@pytest.mark.parametrize(
    "value",
    [
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}],
        [[{"role": "user", "content": "Hello"}]],
        [{"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]}],
        {"conversations": [{"conversation": [{"role": "human", "content": "Hello"}]}]},
        ["Hello"],
        [{"prompt": "Hello"}],
    ],
)
def test_other_json(tmp_path, value):
    assert turns(read_history(written(tmp_path, value))) == [["Hello"]]


def test_the_archive_of_an_export(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("export/conversations.json", json.dumps([chatgpt(("user", "Hello"))]))
    assert turns(read_history(tmp_path / "export.zip")) == [["Hello"]]


def test_an_mbox_of_prompts(tmp_path):
    box = mailbox.mbox(tmp_path / "sent.mbox")
    for i, text in enumerate(["Übersetze das", "Second"]):
        mail = EmailMessage()
        mail["Subject"], mail["Date"] = "a prompt", f"Mon, {5 + 20 * i:02} Jan 2026 10:00:00 +0000"
        mail.set_content(text)
        box.add(mail)
    box.close()
    history = read_history(tmp_path / "sent.mbox")
    assert turns(history) == [["Übersetze das"], ["Second"]]
    assert history.per_month == pytest.approx(2 / (20 / 30.44))


def test_lines_of_text_have_no_dates(tmp_path):
    (tmp_path / "prompts.txt").write_text("One\nTwo\n", encoding="utf-8")
    history = read_history(tmp_path / "prompts.txt")
    assert turns(history) == [["One"], ["Two"]]
    assert history.per_month is None


def test_two_weeks_are_needed_to_tell_a_month(tmp_path):
    chats = [chatgpt(("user", "a"), when=0), chatgpt(("user", "b"), when=13 * DAY)]
    assert read_history(written(tmp_path, chats)).per_month is None


def test_what_has_no_text_is_counted(tmp_path):
    chats = [chatgpt(("user", "Hello")), chatgpt(("assistant", "Hi")), claude(("human", "  ")), 7]
    history = read_history(written(tmp_path, chats))
    assert (len(history.conversations), history.n_skipped) == (1, 3)


def test_the_example():
    history = read_history(ROOT / "examples" / "my_chats.json")
    assert (len(history.conversations), history.n_skipped) == (12, 1)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("conversations.json", b"[]", "no conversation with a user turn"),
        ("conversations.json", b"{", "is no JSON"),
        ("conversations.json", b"[" * 100_000, "is no JSON"),
        ("conversations.json", b"7", "no list of conversations"),
        ("export.zip", b"PK no zip", "cannot be read as a zip archive"),
        ("sent.mbox", b"", "no conversation with a user turn"),
    ],
)
def test_what_is_no_history_is_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(P2LError, match=says):
        read_history(tmp_path / name)


@pytest.mark.parametrize("name", ["none.json", "none.zip", "none.mbox", "none.txt"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(P2LError, match=name):
        read_history(tmp_path / name)


def test_an_archive_without_conversations_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(P2LError, match=r"holds no conversations\.json"):
        read_history(tmp_path / "other.zip")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("README.md", "# A title\n" + "Some words of a document\n" * 30, "looks like a document"),
        ("notes.txt", "## A title\nSome words\n```\ncode\n```\n", "looks like a document"),
        ("page.txt", "<html>\n<body>\nwords\n</body>\n", "looks like a document"),
        ("chat.txt", "User: Hello\nAssistant: Hi\n**You:** A poem\n", "looks like the transcript of a conversation"),
    ],
)
def test_text_that_is_no_list_of_prompts_is_refused(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(P2LError, match=says):
        read_history(tmp_path / name)


def test_it_is_said_what_was_read(tmp_path):
    lines = ["# include <stdio.h>: what does that mean?", "A poem"] + [f"Is {i} a prime?" for i in range(20)]
    (tmp_path / "prompts.md").write_text("\n".join(lines[1:]))
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    (tmp_path / "prompts.csv").write_text("prompt\nA poem\n")
    kinds = {name: read_history(tmp_path / name).kind for name in ("prompts.md", "prompts.txt", "prompts.csv")}
    assert set(kinds.values()) == {"text with a prompt on each line", "a table with a prompt in each row"}
    assert read_history(written(tmp_path, [chatgpt(("user", "Hello"))])).kind == "an export of ChatGPT"
    assert read_history(written(tmp_path, [claude(("human", "Hello"))])).kind == "an export of Claude"
    assert read_history(written(tmp_path, ["Hello"])).kind == "JSON of conversations"
