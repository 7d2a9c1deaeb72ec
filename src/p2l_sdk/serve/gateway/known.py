"""What is known of LLMs at their makers' own addresses, for settings that a config leaves out.

Behind any other address (a proxy, vLLM), the name of an LLM says little about what it can do there. Abilities are
listed only if they are surely absent: an LLM of which nothing is known may be tried. The context windows are those of
`catalogue`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from p2l_sdk.serve.gateway.catalogue import context_window
from p2l_sdk.serve.gateway.llm import LLMConfig

_OPENAI, _ANTHROPIC, _DEEPSEEK = "api.openai.com", "api.anthropic.com", "api.deepseek.com"
_FACTS: tuple[tuple[str, re.Pattern[str], dict[str, Any]], ...] = tuple(
    (host, re.compile(pattern), facts)
    for host, pattern, facts in (
        (_OPENAI, r"(o\d|gpt-[5-9])", {"max_tokens_field": "max_completion_tokens"}),
        (_OPENAI, r"(gpt-3\.5|gpt-4(-0|-1106|-32k|$))", {"vision": False, "json_schema": False}),
        (_OPENAI, r"(o1-mini|o1-preview)", {"vision": False, "tools": False, "json_schema": False}),
        (_OPENAI, r"o3-mini", {"vision": False}),
        (_OPENAI, r"(?!.*(audio|realtime|omni))", {"audio": False}),
        (_ANTHROPIC, r"", {"audio": False}),
        (_DEEPSEEK, r"", {"vision": False, "audio": False, "json_schema": False}),
    )
)


def completed(llm: LLMConfig) -> LLMConfig:
    """An LLM of a config with what is known of it in place of what the config leaves out. With several addresses,
    nothing is: they may differ."""
    if llm.addresses:
        return llm
    host = urlsplit(llm.base_url).hostname
    found: dict[str, Any] = {"context": context_window(llm.model, llm.base_url)}
    for where, pattern, facts in _FACTS:
        if where == host and pattern.match(llm.model):
            found |= facts
    return replace(llm, **{name: value for name, value in found.items() if getattr(llm, name) is None})
