"""`History`: what a person has asked chatbots, from the files in which their vendors hand it out."""

from __future__ import annotations

import email
import email.utils
import json
import lzma
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from p2l_sdk.errors import P2LError, PromptError
from p2l_sdk.modeling.prompt_p2l import CheckedPrompt, Message
from p2l_sdk.tables.files import kind_of
from p2l_sdk.tables.limits import PACKED_TIMES, is_bomb
from p2l_sdk.tables.prompt_cells import is_sharegpt, prompt_of_cell
from p2l_sdk.tables.text import read_text
from p2l_sdk.votes.prompts import read_prompts

_INSIDE = "conversations.json"  # of the archives of ChatGPT and Claude
_MOST_BYTES = 2 << 30  # of what an archive holds
_FIELDS = re.compile(rb"^(?:content-[\w-]+|date|mime-version):(?:[^\n]|\n[ \t])*", re.IGNORECASE | re.MULTILINE)
_LONGEST_FIELD = 4_000  # bytes of such a field of a mail
_DAY, _MONTH = 86_400.0, 30.44 * 86_400.0  # seconds
_USERS = ("user", "human")
_VENDORS, _LOOKED_AT = {"ChatGPT": "mapping", "Claude": "chat_messages"}, 100_000  # characters
_DOCUMENT = re.compile(r"\s*(#{1,6} |```|\| |\|-|!\[|<[a-z/!])|[-*_=]{3,}\s*$", re.IGNORECASE)  # marks of Markdown
_TRANSCRIPT = re.compile(r"\W*(user|human|you|me|assistant|chatgpt|claude|gpt-?4\w*|bot|ai)\b\W*:", re.IGNORECASE)
_MARKED = 0.1  # share of lines with such marks above which a text is no list of prompts


@dataclass(frozen=True)
class History:
    """The conversations of a person.

    Attributes:
        name: of the file.
        conversations: each of them one prompt, of which the user turns are read.
        n_requests: user turns, each of which called an LLM.
        per_month: requests per month between the first and the last; None if they have no dates, or fewer than two
            weeks lie between.
        n_skipped: conversations without a user turn that can be read.
        kind: what the file was read as, in words.
    """

    name: str
    conversations: tuple[CheckedPrompt, ...]
    n_requests: int
    per_month: float | None
    n_skipped: int
    kind: str


def read_history(path: str | Path) -> History:
    """Read an export of ChatGPT or Claude (`conversations.json`, or the archive with it), a JSON file of conversations
    (lists of messages, or objects with `messages`), of messages or of prompts, an mbox whose mails are prompts, or a
    table or text of prompts that `p2l aggregate` reads. A document or a transcript as text is refused, since its lines
    are no prompts.

    Raises:
        P2LError: the file cannot be read, or holds no conversation.
    """
    path = Path(path)
    if path.suffix.lower() == ".mbox":
        return _history(path, _mails(path), "mails, each of them a prompt")
    if path.suffix.lower() == ".zip":
        return _of_json(_parsed(_from_archive(path), path), path)
    if path.suffix.lower() == ".json":
        return _of_json(_parsed(read_text(path), path), path)
    if kind_of(path) is not None:
        return _history(path, ((prompt, None) for prompt in read_prompts(path)), "a table with a prompt in each row")
    lines = list(read_prompts(path))
    _require_prompts(lines, path)
    return _history(path, ((line, None) for line in lines), "text with a prompt on each line")


def _require_prompts(lines: list[Any], path: Path) -> None:
    """Raise P2LError if these are the lines of a document, or of what two have said."""
    few = 0.0 if path.suffix.lower() == ".md" else _MARKED
    marks = (("a document", _DOCUMENT, few), ("the transcript of a conversation", _TRANSCRIPT, _MARKED))
    for what, line_of, most in marks:
        marked = sum(line_of.match(str(line)) is not None for line in lines)
        if marked > most * len(lines):
            raise P2LError(
                f"{str(path)!r} looks like {what}, whose lines are no prompts of yours; give an export of ChatGPT or "
                "Claude, a JSON list of conversations, an mbox, or a text with one prompt on each line"
            )


def _of_json(value: Any, path: Path) -> History:
    text = json.dumps(value)[:_LOOKED_AT]
    vendors = (name for name, key in _VENDORS.items() if f'"{key}": ' in text)
    kind = next((f"an export of {name}" for name in vendors), "JSON of conversations")
    return _history(path, _conversations(value, path), kind)


def _history(path: Path, found: Iterator[tuple[Any, float | None]], kind: str) -> History:
    conversations, times, skipped = [], [], 0
    for prompt, when in found:
        try:
            conversations.append(CheckedPrompt(prompt))
        except PromptError:  # no user turn, or one without text, such as a picture
            skipped += 1
            continue
        if when is not None and math.isfinite(when):
            times.append(when)
    if not conversations:
        raise P2LError(
            f"{str(path)!r} holds no conversation with a user turn; give an export of ChatGPT or Claude, a JSON list "
            "of conversations, an mbox, or a file with one prompt per line"
        )
    requests = sum(len(conversation) for conversation in conversations)
    span = max(times) - min(times) if len(times) == len(conversations) else 0.0
    rate = None if span < 14 * _DAY else requests / (span / _MONTH)
    return History(path.name, tuple(conversations), requests, rate, skipped, kind)


def _from_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((n for n in archive.namelist() if n.rsplit("/", 1)[-1] == _INSIDE), None)
            if name is None:
                raise P2LError(f"{str(path)!r} holds no {_INSIDE}, as the exports of ChatGPT and Claude do")
            info = archive.getinfo(name)
            if info.file_size > _MOST_BYTES or is_bomb(info.file_size, info.compress_size):
                raise P2LError(
                    f"{name} in {str(path)!r} is larger than 2 GB, or {PACKED_TIMES} times as large as it is packed"
                )
            with archive.open(info) as file:  # which ends where the archive says that it does
                return file.read().decode("utf-8")
    except FileNotFoundError:
        raise P2LError(f"there is no file {str(path)!r}") from None
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise P2LError(f"{str(path)!r} cannot be read as a zip archive: {error}") from None


def _parsed(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise P2LError(f"{str(path)!r} is no JSON of conversations: it is nested too deeply") from None
    except ValueError as error:
        raise P2LError(f"{str(path)!r} is no JSON: {error}") from None


def _conversations(value: Any, path: Path) -> Iterator[tuple[Any, float | None]]:
    """The conversations of a parsed file, each with the time of its beginning, in seconds, if it is known."""
    if isinstance(value, Mapping):  # one conversation, or an object around the list
        lists = (value[key] for key in ("conversations", "chats", "data") if isinstance(value.get(key), list))
        value = next(lists, [value])
    if not isinstance(value, list):
        raise P2LError(f"{str(path)!r} holds no list of conversations")
    if value and all(isinstance(item, Mapping) and "role" in item for item in value):
        value = [value]  # the messages of one conversation
    for item in value:
        if isinstance(item, str | list):
            yield item, None
        elif isinstance(item, Mapping):
            yield _messages(item), _time(item)
        else:
            yield None, None  # counted as skipped


def _messages(item: Mapping[str, Any]) -> Any:
    """The messages of one conversation, whatever its vendor calls them."""
    if isinstance(item.get("mapping"), Mapping):
        return list(_branch(item["mapping"], item.get("current_node")))
    for key in ("chat_messages", "messages", "conversation"):
        if isinstance(item.get(key), list):
            return [_message(message) for message in item[key] if isinstance(message, Mapping)]
    if is_sharegpt(item.get("conversations")):
        return prompt_of_cell(item["conversations"])
    return item.get("prompt")


def _branch(nodes: Mapping[str, Any], last: Any) -> Iterator[Message]:
    """ChatGPT's tree of messages: the branch that was shown last, from its beginning."""
    if not isinstance(last, str) or last not in nodes:
        last = next(reversed(list(nodes)), None)
    path: list[Mapping[str, Any]] = []
    seen = set()
    while isinstance(last, str) and last in nodes and last not in seen:
        seen.add(last)
        node = nodes[last] if isinstance(nodes[last], Mapping) else {}
        if isinstance(node.get("message"), Mapping):
            path.append(node["message"])
        last = node.get("parent")
    for message in reversed(path):
        author, content = message.get("author"), message.get("content")
        role = author.get("role") if isinstance(author, Mapping) else None
        parts = content.get("parts") if isinstance(content, Mapping) else None
        hidden = isinstance(message.get("metadata"), Mapping) and message["metadata"].get(
            "is_visually_hidden_from_conversation"
        )
        if role in ("user", "assistant") and isinstance(parts, list) and not hidden:
            yield {"role": role, "content": "\n".join(part for part in parts if isinstance(part, str))}


def _message(message: Mapping[str, Any]) -> Message:
    """A message with a role and text; Claude calls the role sender, and the user human."""
    role, text = message.get("role", message.get("sender")), message.get("content", message.get("text"))
    if isinstance(text, list):
        parts = [part for part in text if isinstance(part, Mapping) and part.get("type", "text") == "text"]
        text = "\n".join(part["text"] for part in parts if isinstance(part.get("text"), str)) or message.get("text")
    return {"role": "user" if role in _USERS else "assistant", "content": text if isinstance(text, str) else ""}


def _time(item: Mapping[str, Any]) -> float | None:
    """Seconds since 1970 of a number or an ISO date; None if there is neither."""
    keys = ("create_time", "created_at", "created", "timestamp")
    value = next((item[key] for key in keys if item.get(key) is not None), None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _mails(path: Path) -> Iterator[tuple[str, float | None]]:
    """The plain text of each mail, and its date."""
    import mailbox

    if not path.is_file():
        raise P2LError(f"there is no file {str(path)!r}")
    box = mailbox.mbox(path, create=False)
    for key in box.iterkeys():
        try:
            data = box.get_bytes(key)
            if any(len(found[0]) > _LONGEST_FIELD for found in _FIELDS.finditer(data)):
                raise ValueError("its parts have long descriptions, which take quadratic time to read")
            mail = email.message_from_bytes(data)
            body = min(_bodies(mail), key=lambda found: found[0], default=None)
            text = "" if body is None else _text_of(body[1])
            date = mail["date"]
            when = None if date is None else email.utils.parsedate_to_datetime(str(date)).timestamp()
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError, UnicodeError):
            text, when = "", None
        yield text.strip(), when


def _bodies(part: Any) -> Iterator[tuple[int, Any]]:
    """The texts of a mail that are no attachments, plain ones with 0 and HTML with 1. As `EmailMessage.get_body`, whose
    headers, read by the whole grammar of mails, take five times as long."""
    if part.get_content_disposition() == "attachment":
        return
    kind = part.get_content_type()
    if kind in ("text/plain", "text/html"):
        yield int(kind == "text/html"), part
    elif kind.startswith("multipart/") and part.is_multipart():
        parts = part.get_payload()
        for each in parts[:1] if kind == "multipart/related" else parts:
            yield from _bodies(each)


def _text_of(part: Any) -> str:
    content = part.get_payload(decode=True)
    charset = part.get_content_charset("ascii")
    return content.decode(charset, "replace") if isinstance(content, bytes) else ""
