"""Which errors of upstreams are booked: all but those that are known to come before any work, as vendors word them."""

import json

import httpx
import pytest
from gateway_llms import CHEAP, HELLO, TEAM, config, team
from gateway_server import serving
from upstreams import Reply, closed_port

from p2l_sdk.serve.gateway.llm import LLMConfig
from p2l_sdk.serve.gateway.prices import Prices
from p2l_sdk.serve.gateway.quote import Quote
from p2l_sdk.serve.gateway.reasons import Work, bills_refusals
from p2l_sdk.serve.gateway.refusal import Refusal
from p2l_sdk.serve.gateway.request import ChatRequest

pytest_plugins = ["gateway_fixtures"]
BEFORE = [
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "Unrecognized request argument supplied: foo",
    "Invalid schema for function 'f': In context=(), 'required' is required to be supplied",
    "Invalid 'messages[0].name': string does not match pattern '^[a-zA-Z0-9_-]+$'.",
    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'.",
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided more.",
    "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
    "We could not parse the JSON body of your request. (HINT: this likely means you aren't using your HTTP library "
    "correctly.)",
    "Timeout while downloading https://example.com/i.png.",
    "Incorrect API key provided: abc. You can find your API key at https://example.com.",
    "messages.0.content: Input should be a valid string",
    "messages: text content blocks must be non-empty",
    "messages: roles must alternate between \"user\" and \"assistant\", but found multiple \"user\" roles in a row",
    "max_tokens: 300000 > 64000, which is the maximum allowed number of output tokens for x",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "Your credit balance is too low to access the Anthropic API.",
    "tools.0.custom.input_schema: JSON schema is invalid",
    "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: x",
    "Could not process image",
    "anthropic-version: header is required",
    "API key not valid. Please pass a valid API key.",
    "User location is not supported for the API use.",
    "Function calling is not enabled for this model",
    "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.",
    "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant",
    "Unexpected role 'user' after role 'tool'",
    "Not the same number of function calls and responses",
    "'messages.0' : for 'role:user' the following must be satisfied[('messages.0.content' : value must be a string)]",
    "The model `x` has been decommissioned and is no longer supported.",
    "Model x does not support parameter presencePenalty.",
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193.",
    "Extra inputs are not permitted, field: 'foo', value: 1",
    "Failed to deserialize the JSON body into the target type: missing field `messages`",
    "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
    "At most 0 image(s) may be provided in one prompt.",
    "x is not a multimodal model",
    "Conversation roles must alternate user/assistant/user/assistant/...",
    "[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required', 'input': {}}]",
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template",
    "litellm.BadRequestError: OpenAIException - Unsupported value: 'temperature' does not support 0.3 with this model.",
    "Malformed input request: extraneous key [n] is not permitted, please reformat your input and try again.",
    "Invocation of model ID x with on-demand throughput isn't supported.",
    "The model returned the following errors: Input is too long for requested model.",
    "too many tokens: total number of tokens cannot exceed 4081",
    "Your project has no access to this model; it does not have access",
    "Access denied due to Virtual Network/Firewall rules.",
    "Country, region, or territory not supported",
    "Your account is suspended",
    "Messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
    "Model Not Exist",
    "The `reasoning_content` in the thinking mode must be passed back to the API.",
    "Failed to parse the request body as JSON: messages[111].tool_calls[0].?: key must be a string at line 1 column 3",
    "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view available models for your key.",
    'Invalid JSON payload received. Unknown name "reasoning": Cannot find field.',
    "A conversation must start with a user message. Try again with a conversation that starts with a user message.",
    "The provided model identifier is invalid.",
    "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
    "chat_template is not supported for Mistral tokenizers.",
    "Budget has been exceeded! Current cost: 1.2, Max budget: 1.0",
    "ExceededBudget: User=u over budget. Spend=2, Budget=1",
    "litellm.BadRequestError: You passed in model=x. There is no 'model_name' with this string",
    "There are no healthy deployments for this model",
    "No connected db.",
    "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.",
    "final assistant content cannot end with trailing whitespace",
    "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    "Schema is too complex for compilation.",
    "The compiled grammar is too large, which would cause performance issues.",
    "A maximum of 100 PDF pages may be provided.",
    "image cannot be empty",
    "1 validation error for ValidatorIterator\\n0.image_url\\n  Input should be a valid dictionary [type=dict_type]",
    "1 validation error for ChatCompletionRequest\\nn\\n  Input should be a valid integer",
    "The arguments to a tool_call with ID 'x' are not a valid JSON string. "
    "Parsing error: Error(\"EOF while parsing a value\", line: 1)",
    "Model o1 is enabled only for api versions 2024-12-01-preview and later",
    "[] is too short - 'messages'",
    "5 is greater than the maximum of 2 - 'temperature'",
    "None is not of type 'string' - 'messages.1.content'",
    "Additional properties are not allowed ('foo' was unexpected)",
    "The chatCompletion operation does not work with the specified model, x.",
    "Assistant message must have either content or tool_calls, but not both.",
    "Function name was f.g but must be a-z, A-Z, 0-9, or contain underscores and dashes",
    "Conversation must have at least one message",
    "The last message of deepseek-reasoner must be a user message",
    "Invalid consecutive assistant message at message index 2",
    "Invalid assistant message: content or tool_calls must be set",
    "This response_format type is unavailable now",
    "Error with tools: parameters must be a JSON schema of 'type: \"object\"'",
    "json mode cannot be combined with tool/function calling",
    "The model `x` requires terms acceptance.",
    "Too many images provided.",
    "failed to retrieve media: received status code: 404",
    "Unable to access non-serverless model x.",
    "Input must have at least 1 token.",
    "Requests with max_tokens > 4096 must have stream=true",
    "The number of images exceeds 30",
    "Please use a valid role: user, model.",
    "Budget 0 is invalid. This model only works in thinking mode.",
    "Cannot fetch content from the provided URL.",
    "The document has no pages.",
    "Reasoning is mandatory for this endpoint and cannot be disabled.",
    "No user query found in messages.",
    "System message must be at the beginning.",
    "'dict object' has no attribute 'content'",
    "Requested sample logprobs of 50, which is greater than max allowed: 20",
    "min_tokens must be less than or equal to max_tokens=5, got 9.",
    "stop cannot contain an empty string.",
    "cannot identify image file <x>",
    "The URL must be from one of the allowed domains",
    "Failed to compile json grammar: x",
    "Model is at capacity",
    "best_of must be at least 1",
    "'n' : number must be at most 1",
    "Token id 999999 is out of vocabulary",
    "image too large: 33177600",
    "Only base64 data URLs are supported for now.",
    "No allowed providers are available for the selected model.",
    "litellm.BadRequestError: LLM Provider NOT provided. Pass in the LLM provider you are trying to call.",
    "Tool error: Tool with name x not found",
]  # fmt: skip
UNKNOWN = [
    "no",
    "The model's response is not valid JSON: 1 is not of type 'object'",
    "Something went wrong",
    "Bad Request",
    "'utf-8' codec can't encode characters in position 3-4: surrogates not allowed",  # vLLM's, of an answer
    "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits; use "
    "sys.set_int_max_str_digits() to increase the limit",  # and of a call of a tool
    "list index out of range",
    "Invalid tool call: 'messages must alternate, unsupported parameter, api key is not valid' at line 1",
    "Tool call arguments are no JSON: \"" + "the api key is not valid " * 9 + "\"",
    "Failed to parse tool call arguments as JSON: [json.exception.parse_error.101]",  # llama.cpp's, often with 500
    "error parsing tool call: invalid character ']' after object key:value pair",  # Ollama's
    "Content blocked: credit_card pattern detected",
    "Content blocked: keyword 'credentials' found",
    "Invalid request format: litellm.APIConnectionError: x - 'NoneType' object has no attribute 'get'",
    "Failed to parse input at pos 12: <tool_call>",
    "Blocked by Prompt Security, Violations: Secrets, API Key",
    "Content blocked by Zscaler AI Guard: 'creditCard'",
    "Unexpected EOS while waiting for message header to complete",
    "Invalid diff: now finding less tool calls!",
    "Incomplete generation",
    "Content has no parts.",
    "Expecting ',' delimiter: line 1 column 54",
    "Unterminated string starting at: line 1 column 109 (char 108)",
    "tool call validation failed: attempted to call tool 'api_key_lookup' which was not in request.tools",
    "1 validation error for DeltaFunctionCall\\narguments\\n  Input should be a valid string [type=string_type]",
    "1 validation error for ChatMessage\\ncontent\\n  Input should be a valid string",
    "Unknown recipient: permission",
    "no such function: 'credentials'",
    'Cato: Violation detected enabled policies: "Credentials"',
    "1 validation error for DeltaToolCall\\nfunction\\n  Field required",
    "1 validation error for ExtractedToolCallInformation\\n  Input should be a valid list",
    "litellm.JSONSchemaValidationError: model=, returned an invalid response={}, for schema={}",
    "LLM Response failed post-call-rule check",
    "This violates LiteLLM Proxy Rules. Response too short",
    "hooks failed " + " " * 300 + "your messages must alternate",
]  # fmt: skip


@pytest.mark.parametrize("message", BEFORE)
@pytest.mark.parametrize("status", [400, 422])
def test_what_is_about_the_request_the_model_or_the_account_is_not_billed(status, message):
    for body in (
        {"error": {"message": message, "code": None, "param": None}},
        {"message": message},
        [{"error": message}],
    ):
        assert Refusal.of(status, json.dumps(body).encode(), "x").work is Work.NONE


@pytest.mark.parametrize("message", UNKNOWN)
def test_what_nobody_knows_may_be_billed(message):
    for status in (400, 422):
        assert Refusal.of(status, json.dumps({"error": {"message": message}}).encode(), "x").work is Work.WROTE
        assert Refusal.of(status, message.encode(), "x").work is Work.WROTE
        assert Refusal.of(446, message.encode(), "x").work is Work.WROTE  # Portkey's, of its hooks


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503, 529])
def test_of_what_is_said_instead_of_work_only_words_of_an_answer_count(status):
    wrote = (
        "The model produced no JSON", "LLM Response failed post-call-rule check",
        "Response was filtered by Lakera Guard", "Response blocked due to security configurations",
    )  # fmt: skip
    for message, work in (("no", Work.NONE), (UNKNOWN[0], Work.NONE), *((text, Work.WROTE) for text in wrote)):
        assert Refusal.of(status, json.dumps({"error": {"message": message}}).encode(), "x").work is work


@pytest.mark.parametrize(
    ("body", "work"),
    [
        ({"error": {"message": "no", "code": "string_above_max_length"}}, Work.NONE),
        ({"error": {"message": "no", "param": "messages[0]"}}, Work.NONE),
        ({"error": {"message": "no", "param": "None"}}, Work.WROTE),
        ({"error": {"message": "no", "param": "prompt", "code": "content_filter"}}, Work.WROTE),
        ([{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}], Work.NONE),
        ({"detail": [{"loc": ["body", "n"], "msg": "no", "type": "int_type"}]}, Work.NONE),
        ({"code": "Client specified an invalid argument", "error": "no"}, Work.NONE),
        ({"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "no"}}}, Work.WROTE),
        ({"error": {"message": "Provider returned error", "code": 400,
                    "metadata": {"raw": '{"error": {"message": "Unsupported parameter: \'n\'"}}'}}}, Work.NONE),
        ({"error": {"message": "Invalid parameter", "failed_generation": "x"}}, Work.WROTE),
        ({"error": {"message": "Invalid parameter: the model produced no JSON"}}, Work.WROTE),
    ],
)  # fmt: skip
def test_what_beside_the_message_tells_when_an_error_came(body, work):
    assert Refusal.of(400, json.dumps(body).encode(), "x").work is work


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
def test_an_answer_with_the_status_of_an_error_may_be_billed(status):
    """As Higress' guard sends one in place of an answer that it refuses."""
    denied = json.dumps({"object": "chat.completion", "choices": [CHOICE], "usage": {"total_tokens": 0}}).encode()
    for content in (denied, b"data: %b\n\ndata: [DONE]\n\n" % denied):
        assert Refusal.of(status, content, "x").work is Work.WROTE


def test_a_page_or_nothing_comes_from_what_stands_before_an_llm():
    for page in (b"", b" \n", b"<html><h1>400 Bad Request</h1></html>"):
        assert Refusal.of(400, page, "x").work is Work.NONE
        assert Refusal.of(424, page, "x").work is Work.WROTE


def test_azure_bills_what_it_read_of_a_request_that_it_refuses():
    for host in (
        "x.openai.azure.com",
        "X.services.ai.azure.com",
        "x.openai.azure.us",
        "y.azure-api.net",
        "x.openai.azure.com.",
    ):
        assert bills_refusals(host)
    for host in ("api.openai.com", "azure.com.example.com", "notazure.com", ""):
        assert not bills_refusals(host)


PRICES = {"input": 1.0, "output": 4.0}
INVALID = {"error": {"code": 400, "message": "Request contains an invalid argument.", "status": "INVALID_ARGUMENT"}}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "said"}, "finish_reason": "stop"}
DELTA = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "said"}}]}
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}


def booked(reply, routing9, upstreams, **settings) -> float:
    """What a key pays of a call of an LLM with these settings that ends so, as a part of what was set aside."""
    upstreams.reset()
    upstreams.replies["no"], upstreams.always[CHEAP] = reply, "no"
    keys, key = team(1.0)
    ask = {"model": CHEAP, "messages": HELLO, "max_tokens": 100, "stream": reply.kind != "application/json"}
    llm = LLMConfig(name="x", base_url="http://x", prices=Prices(**PRICES))
    quote = Quote.of(ChatRequest.parse(json.dumps(ask).encode()), llm, 0.0)
    known = config(upstreams, llms={CHEAP: {"prices": PRICES, **settings}}, attempts=1)
    with serving(routing9, known, keys) as server:
        assert httpx.post(f"{server.url}/chat/completions", content=json.dumps(ask), headers=TEAM).status_code >= 400
    return key.spent / quote.most


def stream(*events: dict[str, object]) -> Reply:
    """All of them in one part, as behind a proxy that buffers."""
    return Reply(b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events), kind="text/event-stream")


@pytest.mark.parametrize(
    ("reply", "worked"),
    [
        (Reply({"choices": [CHOICE], **INVALID}), True),
        (Reply({"choices": [], **INVALID}), False),
        (stream(DELTA, INVALID), True),
        (stream(ROLE, INVALID), True),
        (stream({**INVALID, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}), True),
        (stream({"choices": [], "prompt_filter_results": []}, INVALID), False),
        (stream(INVALID), False),
        (Reply({"choices": [CHOICE], **INVALID}, status=400), True),
        (Reply({"choices": [CHOICE], "error": {"message": "no"}}, status=500), True),
    ],
    ids=[
        "beside an answer",
        "no answer",
        "behind its beginning",
        "behind a role",
        "with an empty end",
        "behind a filter",
        "at once",
        "beside an answer with 400",
        "beside one with 500",
    ],
)
def test_an_error_with_an_answer_is_booked_whatever_it_says(reply, worked, routing9, upstreams):
    assert booked(reply, routing9, upstreams) == pytest.approx(float(worked), abs=1e-4)


def test_grok_adds_more_to_a_request_than_others_and_azure_serves_templates():
    frames = {
        "https://api.x.ai/v1": 1024, "https://us-east-1.api.x.ai/v1": 1024, "https://api.openai.com/v1": 128,
        "https://notx.ai/v1": 128,
    }  # fmt: skip
    assert {url: LLMConfig(name="a", base_url=url).frame for url in frames} == frames
    assert LLMConfig(name="a", base_url="https://llm.example.com/v1", upstream_model="xai/Grok-4").frame == 1024
    assert LLMConfig(name="grok-4", base_url="https://llm.example.com/v1", upstream_model="ours").frame == 1024
    assert LLMConfig(name="a", base_url="https://a.openai.azure.com/openai/v1").templated
    assert not LLMConfig(name="a", base_url="https://api.openai.com/v1").templated


FREE = {"error": {"message": "invalid api key", "code": "invalid_api_key", "param": "model"}}
COUNTED = {"error": {"message": "no"}, "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


@pytest.mark.parametrize(
    "reply",
    [*(Reply(FREE, status=status) for status in (302, 400, 401, 404, 410, 422, 429, 500, 503)), Reply("", status=400),
     Reply({"choices": [], **INVALID}), stream(INVALID), stream({"choices": [], "prompt_filter_results": []}, INVALID)],
    ids=lambda reply: f"{reply.status} {reply.kind.partition('/')[2]} {len(reply.content)}",
)  # fmt: skip
def test_where_errors_may_be_billed_each_is_booked_whatever_its_status_and_words(reply, routing9, upstreams):
    assert booked(reply, routing9, upstreams) == 0.0
    assert booked(reply, routing9, upstreams, bills_errors=True) == pytest.approx(1.0, abs=1e-4)


def test_where_errors_may_be_billed_a_count_says_how_much(routing9, upstreams):
    counted = booked(Reply(COUNTED, status=500), routing9, upstreams)
    assert 0.0 < counted < 0.5
    assert booked(Reply(COUNTED, status=500), routing9, upstreams, bills_errors=True) == counted


def test_where_errors_may_be_billed_a_call_that_could_not_be_sent_is_free(routing9, upstreams):
    nowhere = f"http://127.0.0.1:{closed_port()}/v1"
    assert booked(Reply(FREE), routing9, upstreams, bills_errors=True, base_url=nowhere) == 0.0
