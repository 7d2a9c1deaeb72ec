"""What an exception means for the command line: the text to print, and the exit status.

| status | |
|---|---|
| 0 | done |
| 2 | something that the user can mend, in one line (more where faulty rows are listed) |
| 70 | a bug of p2l-sdk; the text says what to report |
| 130 | interrupted |
"""

from __future__ import annotations

import errno
import platform
import re
import sys
import traceback
import unicodedata
from pathlib import Path

import click

from p2l_sdk.errors import NEW_LINE, P2LError
from p2l_sdk.modeling.limits_p2l import visible

MENDABLE, BUG = 2, 70  # exit statuses; 70 is EX_SOFTWARE of sysexits.h
_MOST_FRAMES = 4  # of this package, in a report
_LONGEST = 20_000  # characters of a message: a value in it may be as long as a file
_BUDGETS = ("--cost", "--budget", "--budgets", "--max-cost")
_SAME = (  # options that mean the same, the commonest first
    ("--models", "--llms", "--llm", "--candidates", "--only"),
    ("--output", "--out", "--out-dir", "--output-dir", "--folder", "--directory"),
    _BUDGETS,
    ("--column", "--text-column"),
)
_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def message_of(error: BaseException) -> tuple[str, int]:
    """What to print of an exception, and the exit status.

    Args:
        error: any exception but those that end a command as the user wished.
    """
    if isinstance(error, P2LError):
        return str(error), MENDABLE
    if isinstance(error, click.UsageError):
        return _of_usage(error), MENDABLE
    if isinstance(error, click.ClickException):
        return error.format_message(), MENDABLE
    if isinstance(error, UnicodeEncodeError) and (said := _of_encoding(error)):
        return said, MENDABLE
    if isinstance(error, OSError) and (said := _of_system(error)):
        return said, MENDABLE
    if isinstance(error, ImportError) and error.name and error.name.partition(".")[0] != "p2l_sdk":
        package = error.name.partition(".")[0]
        return f"this needs the package {package}, which is not installed or broken ({error}): pip install {package}", 2
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # of Path.expanduser
        return "a path begins with ~ and a user that this machine does not know; write ./~ for a file", MENDABLE
    if isinstance(error, MemoryError):
        return f"there is not enough memory for this ({str(error) or 'MemoryError'}); give it less, or more memory", 2
    return _of_bug(error), BUG


def printable(message: str) -> str:
    """A message in which nothing moves the cursor or turns the direction of text, cut if it is very long."""
    lines = [" ".join(line.split()) for line in message.split(NEW_LINE)]  # one, but where rows are listed
    text = NEW_LINE.join(map(visible, lines))
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text) - _LONGEST:,} characters more)"
    return text


def _of_usage(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "p2l"
    hint = f"see {path} --help"
    takes_prompt = error.ctx is not None and any(p.name == "prompt" for p in error.ctx.command.params)
    if isinstance(error, click.NoSuchOption) and (same := _same_option(error)):
        return f"{error.message} Did you mean '{same}'? ({hint})"
    if isinstance(error, click.NoSuchOption) and (meant := _of_budget(error)):
        return f"{error.message} {meant} ({hint})"
    if takes_prompt and isinstance(error, click.NoSuchOption):
        hint = f"a prompt that starts with a dash goes behind --: {path} -- PROMPT; {hint}"
    elif takes_prompt and "extra argument" in error.message:
        hint = f"put quotes around the prompt; {hint}"
    elif "extra argument" in error.message and error.ctx is not None:
        hint = f"{_file_option(error.ctx.command, error.message)}{hint}"
    return f"{error.format_message()} ({hint})"


def _same_option(error: click.NoSuchOption) -> str | None:
    """The command's own word for an option that other commands, or other tools, call otherwise; None if it has none."""
    if error.ctx is None:
        return None
    own = {option for parameter in error.ctx.command.params for option in parameter.opts}
    words = next((words for words in _SAME if error.option_name in words), ())
    return next((word for word in words if word in own), None)


def _of_budget(error: click.NoSuchOption) -> str:
    """What to say of a budget to a command that has none, but knows what LLMs cost; "" if it is nothing of the kind."""
    own = [] if error.ctx is None else [option for parameter in error.ctx.command.params for option in parameter.opts]
    if error.option_name not in _BUDGETS or "--costs" not in own:
        return ""
    return "A budget is for a command that chooses LLMs, as p2l route --cost USD; what LLMs cost is --costs SOURCE"


def _file_option(command: click.Command, message: str) -> str:
    """How to name a file that was given without its option; "" if the command has none for it."""
    found = re.search(r"extra arguments? \((\S+)", message)
    option = next((o for p in command.params if p.name in ("votes", "results") for o in p.opts), None)
    return f"a file is named by its option: {option} {found[1].rstrip(')')}; " if found and option else ""


def _of_encoding(error: UnicodeEncodeError) -> str:
    """What cannot be encoded; "" if it was not for the terminal, and is a character."""
    character = error.object[error.start]
    if unicodedata.category(character) == "Cs":
        return f"a text holds {character!a}, which is half a character; write it as UTF-8"
    if any(str(getattr(s, "encoding", "")).lower() == error.encoding.lower() for s in (sys.stdout, sys.stderr)):
        return f"this terminal ({error.encoding}) cannot show {character!a}; use UTF-8, or --json"
    return ""


def _of_system(error: OSError) -> str:
    """What the system refused, and of which file; "" if it does not say."""
    reason = error.strerror or str(error)
    if error.filename is not None:
        names = [repr(str(name)) for name in (error.filename, error.filename2) if name is not None]
        return f"{' to '.join(names)}: {reason}"
    if error.errno in _OF_OUTPUT:
        return f"cannot write the output: {reason}"
    return str(reason)


def _of_bug(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    package = Path(__file__).parents[1]
    ours = [frame for frame in frames if package in Path(frame.filename).parents]
    trail = [f"{Path(f.filename).relative_to(package)}:{f.lineno} {f.name}" for f in ours[-_MOST_FRAMES:]]
    last = frames[-1:] if frames and ours[-1:] != frames[-1:] else []
    trail += [f"{Path(f.filename).parent.name}/{Path(f.filename).name}:{f.lineno} {f.name}" for f in last]
    versions = f"p2l-sdk {_version()}, Python {platform.python_version()}, {platform.platform()}"
    what = traceback.format_exception_only(error)[-1].strip()
    return NEW_LINE.join(
        (
            f"this is a bug of p2l-sdk, no fault of yours: {what[: _LONGEST // 10]}",
            f"please report it{_tracker()}, with the command and these lines: {versions}; {' > '.join(trail)}",
            "P2L_DEBUG=1 in the environment shows the whole traceback",
        )
    )


def _version() -> str:
    from importlib import metadata  # slow to import

    try:
        return metadata.version("p2l-sdk")
    except metadata.PackageNotFoundError:  # it runs from its sources
        from p2l_sdk import __version__

        return __version__


def _tracker() -> str:
    """Where to report, as the package's metadata say; "" if they do not."""
    from importlib import metadata

    try:
        urls = metadata.metadata("p2l-sdk").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        urls = []
    named = (url.partition(",") for url in urls)
    found = [address.strip() for name, _, address in named if re.search("issue|bug|tracker", name, re.IGNORECASE)]
    return f" at {found[0]}" if found else ""
