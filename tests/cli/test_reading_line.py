"""The line that shows how far a long file is read, on a real terminal and without one."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading

import pytest

from p2l_sdk.cli import reading_line, terminal
from p2l_sdk.cli.reading_line import ReadingLine

PROGRAM = """
import sys
from p2l_sdk.cli import reading_line, run, cli
reading_line._PATIENCE = float(sys.argv[1])
sys.exit(run(lambda: cli(sys.argv[2:], prog_name="p2l", standalone_mode=False)))
"""


@pytest.fixture(scope="module")
def votes(tmp_path_factory):
    path = tmp_path_factory.mktemp("votes") / "[bold]votes.csv"
    rows = "".join(f"What is {i}?,x,y,{'AB'[i % 2]}\n" for i in range(60_000))
    path.write_text("prompt,model_a,model_b,winner\n" + rows)
    return str(path)


def on_a_terminal(arguments: list[str], patience: float) -> str:
    """What a command writes to stderr, a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    heard: list[bytes] = []

    def listen() -> None:
        try:
            while piece := os.read(ours, 65_536):
                heard.append(piece)
        except OSError:  # the other side has been closed
            pass

    listener = threading.Thread(target=listen)
    listener.start()
    environment = {**os.environ, "COLUMNS": "160", "TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(patience), *arguments],
        stderr=theirs, stdout=subprocess.DEVNULL, env=environment, check=False,
    )  # fmt: skip
    os.close(theirs)
    listener.join()
    os.close(ours)
    return b"".join(heard).decode()


def command(votes: str, *more: str) -> list[str]:
    return ["evaluate", "--model", "routing9", "--votes", votes, *more]


@pytest.mark.long
def test_a_long_file_is_shown_with_its_rows_speed_and_share_and_a_short_one_is_not(votes):
    said = on_a_terminal(command(votes), 0.0)
    assert re.search(r"\[bold\]votes\.csv: [\d,]+ rows, \d+% \([\d,]+ a second\)", said)
    assert "\x1b[?25h" in said  # the cursor is back
    assert "rows" not in on_a_terminal(command(votes), 1000.0)


@pytest.mark.long
def test_nothing_is_shown_beside_json_or_without_a_terminal(votes):
    assert " a second)" not in on_a_terminal(command(votes, "--json"), 0.0)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "0", *command(votes)], capture_output=True, text=True, check=False
    )
    assert " a second)" not in done.stderr


def test_it_gives_way_to_a_counter_of_prompts(monkeypatch):
    monkeypatch.setattr(reading_line, "_PATIENCE", -1.0)
    line = ReadingLine()
    line.read("a.csv", 1000, None)
    assert line._progress is not None
    with terminal.counting("prompts"):
        line.read("a.csv", 2000, None)
        assert line._progress is None
    line.read("a.csv", 3000, None)
    line.read("b.csv", 1000, 0.5)  # one at a time
    assert line._shown == "a.csv"
    line.done("a.csv")
    assert line._progress is None
    assert not terminal.busy()
