"""LLMs behind scripted servers, and judges with known opinions, for tests of `p2l collect` and `p2l judge`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripted_server import Script, ScriptedServer

from p2l_sdk.judging import Limits
from p2l_sdk.serve.gateway.config import GatewayConfig
from p2l_sdk.serve.gateway.llm import LLMConfig

FAST = Limits(backoff=0.01)
_QUOTED = re.compile(
    r"<<< (?P<name>REQUEST|ANSWER A|ANSWER B) (?P<code>[0-9a-f]{16})\n(?P<text>.*?)\n(?P=name) (?P=code) >>>", re.DOTALL
)


def config(server: ScriptedServer, *names: str, **settings: Any) -> GatewayConfig:
    """LLMs of these names at a server, all with these settings."""
    entry = {"base_url": server.base_url, **settings}
    return GatewayConfig.from_dict({"models": dict.fromkeys(names, entry)})


def config_file(path: Path, server: ScriptedServer, *names: str, **settings: Any) -> Path:
    """The same as a file (JSON is YAML)."""
    entry = {"base_url": server.base_url, **settings}
    path.write_text(json.dumps({"models": dict.fromkeys(names, entry)}))
    return path


def judge_at(server: ScriptedServer, **settings: Any) -> LLMConfig:
    return LLMConfig(name="judge", base_url=server.base_url, **settings)


def quoted(body: dict) -> dict[str, str]:
    """What a question to a judge quotes: REQUEST, ANSWER A, ANSWER B."""
    found = _QUOTED.findall(body["messages"][-1]["content"])
    assert [name for name, _, _ in found] == ["REQUEST", "ANSWER A", "ANSWER B"]
    assert len({code for _, code, _ in found}) == 1
    return {name: text for name, _, text in found}


def judge_by(better: Callable[[str, str], str], **script: Any) -> Callable[[dict], Script]:
    """A judge whose verdict on the two texts is that of a function."""

    def answer(body: dict) -> Script:
        texts = quoted(body)
        verdict = better(texts["ANSWER A"], texts["ANSWER B"])
        return Script(text=f"Let me see.\nVERDICT: {verdict}", **script)

    return answer


def write_answers(path: Path, answers: dict[str, dict[str, str | None]]) -> Path:
    """A file of answers: prompt -> LLM -> text, None for a failed query."""
    rows = [
        {"prompt": prompt, "model": model, "answer": text, **({"error": "timeout"} if text is None else {})}
        for prompt, texts in answers.items()
        for model, text in texts.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- stand-ins for the LLMs of docs/no-votes.md -----------------------------------------------------------------------

PROVIDERS = ("https://api.openai.com/v1", "https://api.anthropic.com/v1", "http://127.0.0.1:11434/v1")
ASKED = [f"{kind} {i}" for i in range(10) for kind in ("Write a poem about the number", "Sum the list 1, 2,")]
_LEVELS = {"gpt-4o-mini": (2, 3), "claude-3-5-haiku-20241022": (3, 2), "llama3.1:8b": (2, 0)}  # of poems, of sums
_TOKENS = {"gpt-4o-mini": 210, "claude-3-5-haiku-20241022": 260, "llama3.1:8b": 180}


def stand_in(body: dict) -> Script:
    """The answers of three LLMs, and the verdicts of gpt-4o, which is drawn to the first of two answers that differ
    little."""
    if body["model"] == "gpt-4o":
        texts = quoted(body)
        a, b = (int(texts[side].rsplit(" ", 1)[1]) for side in ("ANSWER A", "ANSWER B"))
        close = abs(a - b) == 1 and texts["REQUEST"].endswith(("3", "7"))
        verdict = "BOTH BAD" if a == b == 0 else "A" if close or a > b else "TIE" if a == b else "B"
        return Script(text=f"Compared.\nVERDICT: {verdict}", usage=(820, 60))
    prompt = body["messages"][-1]["content"]
    level = _LEVELS[body["model"]][prompt.startswith("Sum")]
    level = 0 if prompt.endswith("9") and level < 3 else level
    return Script(text=f"{body['model']}, level {level}", usage=(25, _TOKENS[body["model"]]), total=0.06)
