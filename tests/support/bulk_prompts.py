"""Prompts of several kinds, and runs of `p2l score`, for the tests of bulk scoring."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

PROMPTS = [
    "Prove that the square root of two is irrational.",
    "Write a poem about the sea, in the style of Emily Dickinson",
    "def f(x): return x + 1  # what does this do?",
    "Übersetze ins Englische: 'Der Apfel fällt nicht weit vom Stamm.'",
    "List three rivers in France and their lengths in km.",
    "用中文写一首关于春天的诗",
    "Summarize the plot of Hamlet in two sentences!",
    "SELECT name FROM users WHERE id = 5; why is this slow?",
    "What is 17 * 23 - 4?",
    "Explain photosynthesis to a child of six; be brief. " * 6,
]


def write_lines(path: Path, n: int, first: int = 0) -> Path:
    """JSON lines of so many different prompts."""
    rows = (
        {"id": i, "prompt": f"{PROMPTS[i % len(PROMPTS)]} {i}", "lang": ("en", "de", "zh")[i % 3]}
        for i in range(first, first + n)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def digests(folder: Path) -> dict[str, str]:
    """Name -> digest of the content of every file in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
