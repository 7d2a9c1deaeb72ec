"""What an upstream's error is about, in the words of many vendors, and the work that an LLM may have done before it,
which is billed.

Nobody can list all errors that come after an answer was written, but those that come before any work are few, and
the same everywhere: the account, the model, a field of the request. So an error that is not known to be one of them is
taken to be billed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class Work(IntEnum):
    """What an LLM may have done before an error, at most."""

    NONE, READ, WROTE = 0, 1, 2


CONTEXT = "context_length_exceeded"
MODERATED = ("content_filter", "content_policy_violation")
EMPTY_ACCOUNT = ("insufficient_quota", "billing_not_active")
_BY_LAW = 451  # may be said of the answer
# statuses that are said instead of any work: of the key (401, 403), the address, the load (429, 503, 529) or the
# server's own failure (500), which no vendor is known to bill
_INSTEAD = frozenset((
    *range(300, 400), 401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 423, 425,
    426, 428, 429, 431, 500, 501, 503, 505, 511, 521, 522, 523, 525, 526, 529, 530,
))  # fmt: skip
# that are said both before and after. All others come after: an LLM failed at its work (424 of Bedrock and TGI), or
# what stands between lost its answer, by a time-out (408, 504, Cloudflare's 524), as it took its client to have left
# (499), as a connection broke (502, Cloudflare's 520), or as it checks answers, too (Portkey's 446)
_EITHER = (400, 422)
_BILLS_REFUSALS = re.compile(r"(^|\.)azure(-api)?\.(com|us|cn|net)$")
_BEGINNING = 300  # characters of a message that say what it is about; behind them may stand what an LLM wrote
_QUOTED = re.compile(r"(?<!\w)(['\"`])(?:(?!\1).){40,}(\1|$)", re.DOTALL)  # longer than a name
_TOO_LONG = re.compile(
    r"context[ _](length|window|size|limit)|max_model_len|prompt is too long|input is too long|too many (input )?tokens"
    r"|maximum input length|input tokens, limit is|longer than the model"
    r"|reduce the length|token (count|limit)[^.]{0,40} exceed|exceed[^.]{0,60}(maximum|max|limit)[^.]{0,30} tokens"
)
_OF_CONTENT = re.compile(
    r"content[ _-]?(filter|policy|management|violat|moderat|security|exists risk)"
    r"|content (was |is )?blocked|inappropriate"
    r"|data_?inspection|blocked (by|due to|for)|filtered by|(pattern|violation) detected"  # of proxies' filters
    r"|usage (guideline|polic)|acceptable use|moderation|safety[ _](check|system|filter|polic)|prohibited[_ ]content"
    r"|recitation|sensitive[_ ](content|information|word)|high risk|was flagged|harmful|敏感|不安全|违规"
    r"|guardrail|safety reasons|cyber[ _](activity|policy)|invalid_prompt"
)
_OF_AN_ANSWER = re.compile(  # although it may sound like one of the request
    r"could not finish|model('s (output|response|answer)| output| generated| produced)"
    r"|generated (output|text|response|answer)|parsing failed|no valid (response|output|answer|json)"
    r"|(model|it) did not (output|generate|produce|return)|(output|response|answer) was (truncated|cut)"
    r"|(max\w*|output) tokens? limit was reached"
    r"|(failed|unable) to generate|pars(e|ing) (the )?(model'?s? |generated )?(tool|function|argument|output|response)"
    r"|validation errors? for (?!validatoriterator|\w*(request|param))"  # vLLM's of what it makes of an answer
    r"|invalid json: eof while parsing|tool call validation|attempted to call|not in the tools list|unknown recipient"
    r"|unexpected token \d+ while|no channel value|message header (did not|to complete)|remaining in message header"
    r"|could not decode header|unknown role|unexpected eos"  # and of gpt-oss's messages
    r"|parse input at pos|type_error\.316|invalid diff|incomplete generation"  # llama.cpp's and TGI's
    r"|nonetype|apiconnectionerror|(invalid|empty|unexpected) response|response (failed|too (short|long))|post-call"
    r"|(response|answer|output|completion) (was |is |has been )?(blocked|filtered|flagged|denied|rejected|withheld)"
    r"|jsonschemavalidation|proxy rules"  # LiteLLM's, as it read or checked an answer
    r"|tool_use_failed|json_validate_failed|output_parse_failed|error_model_output"  # Groq's and SambaNova's
)
_CODES = frozenset((
    CONTEXT, *EMPTY_ACCOUNT, "invalid_api_key", "billing_hard_limit_reached", "rate_limit_exceeded", "model_not_found",
    "model_decommissioned", "unsupported_model", "unsupported_country_region_territory", "unsupported_parameter",
    "unsupported_value", "unknown_parameter", "missing_required_parameter", "invalid_value", "invalid_type",
    "invalid_function_parameters", "invalid_image", "invalid_image_url", "invalid_image_format", "invalid_base64",
    "image_parse_error", "image_too_large", "string_above_max_length", "string_below_min_length",
    "array_above_max_length", "array_below_min_length", "integer_above_max_value", "integer_below_min_value",
    "decimal_above_max_value", "decimal_below_min_value", "invalid_request_message_order", "invalid_model",
))  # fmt: skip
_STATES = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "PERMISSION_DENIED", "UNAUTHENTICATED", "NOT_FOUND")  # Google's
_FIELD = (
    r"(messages|tools|tool_choice|tool_call_id|(max|min)_\w*tokens|temperature|top_p|top_k|response_format|json_schema"
    r"|logprobs|top_logprobs|best_of|stop_token_ids|allowed_token_ids|logit_bias|stream_options"
    r"|parallel_tool_calls|reasoning_effort|frequency_penalty"
    r"|presence_penalty|functions|function_call|modalities|anthropic-version)"
)
_OF_THE_ACCOUNT = (
    r"api[ _-]?key|credential|unauthori[sz]ed|authenticat|authori[sz]ation|permission|access (to|denied)|have access"
    r"|access[^.]{0,40} denied|forbidden|credit|balance|quota|billing|payment|subscription|rate limit|too many requests"
    r"|organi[sz]ation|your (account|project|plan)|(account|user|project) (is|has been|was) (disabled|suspended)"
    r"|country|territory|location is not supported|your region|budget|usage limits|terms acceptance|no connected db"
)
_OF_THE_MODEL = (
    r"model\b[^.]{0,100}?(not (found|exist|available)|doesn't exist|decommissioned|deprecated|retired|is invalid)"
    r"|(unknown|invalid|no such|unsupported) (model|deployment|engine)|no endpoints found|no longer available"
    r"|not a (multimodal|chat|vision)|on-demand throughput|not work with the specified model|non-serverless model"
    r"|no healthy deployments|there is no 'model_name'|(is|are) enabled only for|provider not provided|at capacity"
    r"|capacity exceeded|no (models|allowed providers)( are)? available|request queue is full|is deprecated"
)
_OF_AN_ABILITY = (
    r"(does not|doesn't|do not|not|only|cannot|isn't) (currently )?(support|capable)|unsupported|unrecogni[sz]ed"
    r"|is not enabled|not permitted|only text|at most \d+ (image|audio|video)|requires --|chat template"
    r"|cannot be (combined|disabled|used with)|is unavailable now|too complex|grammar is too large|failed to compile"
)
_OF_THE_REQUEST = (
    r"(invalid|malformed|missing|unknown|unexpected|extra|duplicate|wrong)( or missing)?( required)?( request)?"
    r" (parameter|argument|field|value|inputs?|schema|request|role|type|part|content[ -]type|url|image|audio|file"
    rf"|base64|['\"`]?{_FIELD})"
    r"|unknown part|invalid '|property '|field required|is required|input (should|validation)"
    r"|roles must alternate|unexpected role|expected last role|role '?\w+'? (must|should|cannot)|must be followed by"
    r"|number of function calls and responses|tool call id|tool_use[^.]{0,40}(found )?without|deserialize the json body"
    r"|pars(e|ing) (the )?(json )?(body|request)|body is not|content-type|(process|load|decode|download|fetch)"
    r"(ing)?( the| input| your)* (image|audio|video|file|url)|downloading http"
    r"|(prompt|input|request|messages?)( is| are|_is)? too (long|large)"
    rf"|^\W*{_FIELD}\b(?! (limit )?was)|{_FIELD}['\"`]?:? (must|should|cannot|is too|is not|are not|exceeds|may|\d+ >)"
    r"|contain the word 'json'|must provide|invalid max_\w*tokens|text content blocks|empty (message|content|prompt)"
    r"|invalid json payload|be a response to a prec|must be passed back|must (start|end) with a (user|assistant)"
    r"|(is|value) not a valid|must have required property|in the same turn|cannot find field"
    r"|is not of type|is too short|(greater|less) than the (maximum|minimum)|greater than max allowed"
    r"|additional propert|last message of|(assistant|system) message must|consecutive \w+ message"
    r"|invalid (assistant|user|tool|system) mess"
    r"|function name was|must have at least|error with tools|tool with name|no user query|has no attribute 'content'"
    r"|cannot end with|blocks with cache_control|pdf pages|no pages|(too many|number of) images|image cannot be empty"
    r"|stop cannot|cannot identify image|retrieve media|fetch content|allowed domains|must have stream|use a valid role"
    r"|arguments to a tool_call with id|^'[\w.]+' : |is not one of \[|(url|uri) is invalid"
    r"|image (is )?too (small|large)"
    r"|template error|unpaired surrogate|incorrect padding|base64 data urls|allowed-local-media"
    r"|placeholders|parse audio"
    r"|out of vocabulary|out-of-vocab|sampling parameters|grammar (error|request)|invalid grammar"
    r"|tool messages|for role '"
    r"|in the content field|unexpected (message role|item type)|last message is from|incorrect hostname"
    r"|not allowed\. set"
)
_BEFORE_WORK = re.compile("|".join((_OF_THE_MODEL, _OF_AN_ABILITY, _OF_THE_REQUEST)))
_WORDS_OF_THE_ACCOUNT = re.compile(_OF_THE_ACCOUNT)
_NAMED = re.compile(r"(?<!\w)(['\"`]).*?\1")  # a function may have any name


def is_too_long(text: str) -> bool:
    """Whether a message says that the request is longer than what the LLM can read."""
    return _TOO_LONG.search(text.lower()) is not None


def is_of_content(error: Mapping[str, Any]) -> bool:
    """Whether an error is for what the prompt or the answer says, whatever the vendor's code for that."""
    return error.get("code") in MODERATED or _OF_CONTENT.search(_said(error)) is not None


def work_before(status: int, error: Mapping[str, Any] | None = None, counted: bool = False) -> Work:
    """What an LLM may have done, at most, before a reply that is no answer. Those below 300 are one that is not
    understood here.

    Args:
        status: of the reply.
        error: the object that holds its message, or the whole text as its `message`; None if it is a page of HTML or
            empty, as what stands before an LLM sends.
        counted: whether it says what is billed.
    """
    if status == _BY_LAW or (error is not None and _is_of_an_answer(error)):
        return Work.WROTE
    if error is not None and _is_of_a_prompt(error):
        return Work.READ
    if status in _INSTEAD:
        return Work.NONE
    known = counted or error is None or _is_before_work(error)
    return Work.NONE if status in _EITHER and known else Work.WROTE


def bills_refusals(host: str) -> bool:
    """Whether a vendor bills what it read of a request that it refuses with 400, as Azure says of its filter and of
    requests that are too long (learn.microsoft.com: Plan and manage costs)."""
    return _BILLS_REFUSALS.search(host.lower().rstrip(".")) is not None


def _is_of_an_answer(error: Mapping[str, Any]) -> bool:
    """A filter of the prompt may run beside the LLM (as Azure's, which bills both); only where it is said (OpenRouter)
    was the prompt refused alone."""
    if "failed_generation" in error or _OF_AN_ANSWER.search(_said(error)):
        return True
    return is_of_content(error) and not _is_of_a_prompt(error)


def _is_before_work(error: Mapping[str, Any]) -> bool:
    param, code = error.get("param"), error.get("code")
    if error.get("status") in _STATES or (isinstance(code, str) and code in _CODES):
        return True
    if "loc" in error or (isinstance(param, str) and param.lower() not in ("", "none", "null")):
        return True  # a field of the request, as FastAPI and OpenAI name it
    beginnings = [_QUOTED.sub(" ", text[:_BEGINNING]) for text in _texts(error)]
    return any(
        _BEFORE_WORK.search(text) or _TOO_LONG.search(text) or _WORDS_OF_THE_ACCOUNT.search(_NAMED.sub(" ", text))
        for text in beginnings
    )


def _is_of_a_prompt(error: Mapping[str, Any]) -> bool:
    more = error.get("metadata")
    return isinstance(more, dict) and "flagged_input" in more


def _said(error: Mapping[str, Any]) -> str:
    return " ".join(_texts(error))


def _texts(error: Mapping[str, Any]) -> list[str]:
    """What an error says, in lower case; of OpenRouter's also what its provider said."""
    more = error.get("metadata")
    raw = more.get("raw") if isinstance(more, dict) else None
    found = (error.get("code"), error.get("type"), error.get("message"), raw and str(raw).replace('"', " "))
    return [text.lower() for text in found if isinstance(text, str)]
