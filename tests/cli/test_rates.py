"""How fast `p2l score` is, and how much time is left: in a terminal, and in the log of a night."""

from __future__ import annotations

import subprocess
import sys

from p2l_sdk.cli.terminal import Rate, rate_lines


def test_what_an_earlier_run_had_done_does_not_count_for_long():
    now = 0.0
    rate = Rate(lambda: now)
    assert rate(0, 10_000_000) == ""
    for done in range(100_000, 5_000_001, 100_000):  # found, 100,000 in a second
        now += 1.0
        rate(done, 10_000_000)
    assert rate(5_000_000, 10_000_000) == "100,000/s, 0:00:50 left"
    for done in range(5_000_000, 5_060_001, 1000):  # computed, 1,000 in a second
        told = rate(done, 10_000_000)
        now += 1.0
    assert told == "1,000/s, 1:22:20 left"
    assert rate(10_000_000, 10_000_000).endswith("/s")


def test_slow_calls_are_measured_over_some_of_them():
    now = 0.0
    rate = Rate(lambda: now)
    for part in range(1, 30):
        now += 1000.0 if part % 2 else 200.0
        told = rate(part * 2000, None)
    assert told == "3.3/s"


def test_without_a_terminal_a_line_is_said_once_a_minute():
    now, said = 0.0, []
    update = rate_lines("prompts", said.append, lambda: now)
    for second in range(1, 151):
        now = float(second)
        update(second * 2000, 400_000)
    assert said == [
        "120,000 of 400,000 prompts, 2,000/s, 0:02:20 left",
        "240,000 of 400,000 prompts, 2,000/s, 0:01:20 left",
    ]


def test_the_command_says_so_on_stderr_and_json_is_alone(tmp_path):
    """A run in which a minute is over at once."""
    file = tmp_path / "a.txt"
    file.write_text("hello\n" * 30)
    program = "import p2l_sdk.cli.terminal as t; t._MINUTE = 0.0; import p2l_sdk.__main__"
    options = [
        "score",
        str(file),
        "--model",
        "routing9",
        "--part-rows",
        "20",
        "--processes",
        "1",
        "--aggregate",
        "none",
    ]
    for more, lines in ([], 2), (["--json"], 0):
        command = [sys.executable, "-c", program, *options, "--output", str(tmp_path / f"out{lines}"), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert [line.startswith("p2l: ") and "of 30 prompts" in line for line in done.stderr.splitlines()] == [
            True
        ] * lines
