"""What a request can make a vendor charge beside tokens that are counted here: hosted tools, searches, audio.

A key with budgets is only as safe as what is understood of its requests, so what is not is refused, unless the config
allows it. A key without budgets may send anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from p2l_sdk.serve.gateway.config import PRICED
from p2l_sdk.serve.gateway.contents import FIELDS, PLAIN, TOOL, strangers
from p2l_sdk.serve.gateway.references import strange_keyword
from p2l_sdk.serve.gateway.request import BadRequest, ChatRequest

_TOOLS = ("function", "custom")  # kinds that the client runs itself
_RUN_BY_NAME = frozenset((  # functions that proxies (new-api, LiteLLM) take for tools of the vendor, or of their own
    "googleSearch", "googleSearchRetrieval", "enterpriseWebSearch", "googleMaps", "codeExecution", "urlContext",
    "litellm_web_search",
))  # fmt: skip
# arguments of a template that may be a word: how an LLM is to think. Others may go to the tokenizer (`padding`), or
# stand for a token that is written after each message (`eos_token`)
_WORDED, _WORD = re.compile(r"(reasoning|thinking)_[a-z]+"), re.compile(r"[a-z_]{1,16}")
_FORMATS = ("text", "json_object", "json_schema", "json", "regex", "grammar", "ebnf", "structural_tag")
_NO_SCHEMA = ("messages", "metadata")
_PLAIN = frozenset((  # fields that cost no more than the tokens they hold, at any vendor
    "model", "messages", "audio", "n", "stream", "stream_options", "cost", "max_tokens", "max_completion_tokens",
    "min_tokens", "temperature", "top_p", "top_k", "top_a", "min_p", "typical_p", "seed", "random_seed", "stop",
    "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "skip_special_tokens",
    "spaces_between_special_tokens", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "length_penalty", "logit_bias", "bad_words", "logprobs", "top_logprobs", "prompt_logprobs", "response_format",
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "guided_decoding_backend", "function_call", "tool_choice", "parallel_tool_calls", "user",
    "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "session_id", "request_id",
    "priority", "verbosity", "reasoning_effort", "include_reasoning", "separate_reasoning",
    "chat_template_kwargs", "add_generation_prompt", "continue_final_message",
    "add_special_tokens", "echo", "thinking", "think", "keep_alive", "format", "safe_prompt",
    "prompt_mode", "prompt_truncate_len", "truncate_prompt_tokens", "usage", "reasoning_format", "cache_prompt",
    "safety_settings",
))  # fmt: skip


def check_charges(request: ChatRequest, allow: Collection[str]) -> None:
    """Refuse a request that a key with budgets pays, if it may cost something that nobody here can count.

    Args:
        request: the request.
        allow: fields that the config allows.

    Raises:
        BadRequest: a field is not known to be free, a tool is run by the vendor, the answer is to hold something else
            than text and audio, or a message holds what is not in the table of `contents`.
    """
    for place, name in request.size.strange:
        if name not in allow:
            raise _refused(f"{name[:100]!r} in message {place}", name[:100], f"messages[{place}]")
    for name in request.size.endless:
        if name not in allow:
            raise _refused(f"the references ($ref) and lists of types in {name[:100]!r}, written out,", name[:100])
    for name, field in request.fields.items():
        value = field.value
        if value is None or value is False or name in allow or name in PRICED:  # those were asked for before
            continue
        keyword = None if name in _NO_SCHEMA else strange_keyword(field.text, value, allow)
        if keyword is not None:
            raise _refused(f"{keyword[:100]!r} in {name}, which may refer to anything,", keyword[:100], name)
        if name in ("tools", "functions"):
            _check_names(value, name, allow)
        if name == "tools":
            _check_tools(value, allow)
        elif name == "chat_template_kwargs" and not _switches(value):
            raise _refused("a template's argument that is no switch, with which it may write more,", name)
        elif name == "modalities":
            if not isinstance(value, list) or any(kind not in ("text", "audio") for kind in value):
                raise _refused("an answer in anything but text and audio", name)
        elif name == "response_format" and not (isinstance(value, dict) and value.get("type") in _FORMATS):
            raise _refused("an answer in anything but text", name)
        elif name in _PLAIN or name in FIELDS:
            for other in strangers(value, FIELDS.get(name, PLAIN)):
                if other not in allow:
                    what = f"{other[:100]!r} in {name}" if other else f"{name} of another kind than usual"
                    raise _refused(what, other[:100] or name, name)
        else:
            raise _refused(f"the field {name[:100]!r}", name[:100])


def _check_tools(tools: Any, allow: Collection[str]) -> None:
    for i, tool in enumerate(tools if isinstance(tools, list) else [tools]):
        kind = tool.get("type", "function" if "function" in tool else None) if isinstance(tool, dict) else None
        if kind not in _TOOLS:
            what = f"of the type {kind[:100]!r}" if isinstance(kind, str) else "without a known type"
            raise _refused(f"tool {i}, {what},", "tools")
        for name in strangers(tool, TOOL):  # some vendors go by such a name
            if name not in allow:
                raise _refused(f"{name[:100]!r} of tool {i}", "tools")


def _check_names(tools: Any, field: str, allow: Collection[str]) -> None:
    for tool in tools if isinstance(tools, list) else ():
        for place in (tool, *(tool.get(kind) for kind in _TOOLS)) if isinstance(tool, dict) else ():
            name = place.get("name") if isinstance(place, dict) else None
            if isinstance(name, str) and (name in _RUN_BY_NAME or name[:1] == "$") and name not in allow:
                raise _refused(f"the function {name[:100]!r}, which may be run by the vendor,", name[:100], field)


def _switches(value: Any) -> bool:
    """Whether the arguments of a template only switch something on or off, or say in a word how to think."""

    def is_word(name: str, inner: Any) -> bool:
        return isinstance(inner, str) and all((_WORDED.fullmatch(name), _WORD.fullmatch(inner)))

    return isinstance(value, dict) and all(
        isinstance(inner, bool | None) or is_word(name, inner) for name, inner in value.items()
    )


def _refused(what: str, name: str, param: str | None = None) -> BadRequest:
    text = f"{what} may be charged beside tokens, and this key has a budget; leave it out"
    return BadRequest(f"{text}, or let the config of the server `allow` {name!r}", param=param or name)
