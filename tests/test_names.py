"""Names as people write them: what they mean, what is refused as ambiguous, and what is never guessed."""

from __future__ import annotations

import re

import pytest
from arena_names import NAMES
from conftest import ROOT, shared
from effort import effort

from p2l_sdk import names
from p2l_sdk.errors import LONGEST_NAME, UnknownModelError
from p2l_sdk.names import find_model, find_models, matched, meant, normalised, place_of, places

MEANT = {
    # without a date, or with another way to write it
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4o-0806": "gpt-4o-2024-08-06",
    "gpt-4-turbo": "gpt-4-turbo-2024-04-09",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.5-preview": "gpt-4.5-preview-2025-02-27",
    "gpt-4-0125": "gpt-4-0125-preview",
    "gpt-5.1-2025-11-13": "gpt-5.1",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "chatgpt-4o-latest": "chatgpt-4o-latest-20250326",
    "claude-3-5-haiku": "claude-3-5-haiku-20241022",
    "claude-3-5-haiku-latest": "claude-3-5-haiku-20241022",
    "claude-3-5-haiku@20241022": "claude-3-5-haiku-20241022",
    "claude-3.5-haiku": "claude-3-5-haiku-20241022",
    "Claude 3.5 Haiku": "claude-3-5-haiku-20241022",
    "claude-3-haiku": "claude-3-haiku-20240307",
    "claude-3-7-sonnet": "claude-3-7-sonnet-20250219",
    "claude-opus-4-1": "claude-opus-4-1-20250805",
    "claude-opus-4-1-thinking-16k": "claude-opus-4-1-20250805-thinking-16k",
    "claude-opus-4-0": "claude-opus-4-20250514",
    "claude-4-sonnet": "claude-sonnet-4-20250514",
    "claude-4.5-haiku": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "gemini-2.0-flash": "gemini-2.0-flash-001",
    "gemini-1.5-flash-8b": "gemini-1.5-flash-8b-001",
    "gemini-flash-1.5-8b": "gemini-1.5-flash-8b-001",
    "grok-4": "grok-4-0709",
    "command-a": "command-a-03-2025",
    "command-r": "command-r",
    "Command R+ (08-2024)": "command-r-plus-08-2024",
    "ministral-8b": "ministral-8b-2410",
    "Kimi K2-0905": "kimi-k2-0905-preview",
    "qwen-max": "qwen-max-0919",
    "GPT-5 mini (high)": "gpt-5-mini-high",
    # with an organisation, a region, a service
    "openai/gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "openai:gpt-4o-mini": "gpt-4o-mini-2024-07-18",  # promptfoo, LangChain
    "openai:chat:gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "anthropic/claude-3-5-haiku": "claude-3-5-haiku-20241022",
    "openrouter/anthropic/claude-3.5-haiku": "claude-3-5-haiku-20241022",
    "us.anthropic.claude-3-5-haiku-20241022-v1:0": "claude-3-5-haiku-20241022",
    "bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0": "claude-3-5-sonnet-20241022",
    "gemini/gemini-2.0-flash": "gemini-2.0-flash-001",
    "x-ai/grok-4.1-fast-reasoning": "grok-4-1-fast-reasoning",
    "amazon.nova-pro-v1:0": "amazon-nova-pro-v1.0",
    "amazon/nova-lite-v1": "amazon-nova-lite-v1.0",
    "nova-lite": "amazon-nova-lite-v1.0",
    "aya-expanse-8b": "c4ai-aya-expanse-8b",
    "deepseek/deepseek-r1:free": "deepseek-r1",
    "accounts/fireworks/models/llama-v3p1-8b-instruct": "llama-3.1-8b-instruct",
    "accounts/fireworks/models/deepseek-v3p1": "deepseek-v3.1",
    "meta.llama3-1-8b-instruct-v1:0": "llama-3.1-8b-instruct",
    "ai21/jamba-large-1.5": "jamba-1.5-large",
    # open weights
    "Llama-3.1-8B": "llama-3.1-8b-instruct",
    "llama3.1:8b": "llama-3.1-8b-instruct",
    "llama-3.1-8b-instant": "llama-3.1-8b-instruct",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b-instruct",
    "meta-llama/Meta-Llama-3.1-70B-Instruct": "llama-3.1-70b-instruct",
    "meta-llama/Llama-2-7b-chat-hf": "llama-2-7b-chat",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": "llama-4-maverick-17b-128e-instruct",
    "llama-3.3-70b-versatile": "llama-3.3-70b-instruct",
    "nvidia/llama-3.3-nemotron-super-49b-v1.5": "nvidia-llama-3.3-nemotron-super-49b-v1.5",
    "llama-3.3-nemotron-super-49b-v1": "llama-3.3-nemotron-49b-super-v1",
    "gemma2:9b": "gemma-2-9b-it",
    "google/gemma-2-9b-it:free": "gemma-2-9b-it",
    "mixtral-8x7b": "mixtral-8x7b-instruct-v0.1",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b-instruct-v0.1",
    "mistral-small-3.1-24b": "mistral-small-3.1-24b-instruct-2503",
    "Qwen/Qwen2.5-72B-Instruct": "qwen2.5-72b-instruct",
    "qwen/qwen-2.5-72b-instruct": "qwen2.5-72b-instruct",
    "qwen3-235b-a22b-instruct": "qwen3-235b-a22b-instruct-2507",
    "gpt-oss:20b": "gpt-oss-20b",
    "z-ai/glm-4.6": "glm-4.6",
    "phi4": "phi-4",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "smollm2-1.7b-instruct",
}

AMBIGUOUS = {
    "gpt-4o": ["gpt-4o-2024-05-13", "gpt-4o-2024-08-06"],
    "gpt-4": ["gpt-4-0314", "gpt-4-0613"],
    "openai/gpt-3.5-turbo": ["gpt-3.5-turbo-0125", "gpt-3.5-turbo-1106"],
    "gpt-4-preview": ["gpt-4-0125-preview", "gpt-4-1106-preview"],
    "claude-3-5-sonnet": ["claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20241022"],
    "claude-3-5-sonnet-latest": ["claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20241022"],
    "gemini-1.5-flash": ["gemini-1.5-flash-001", "gemini-1.5-flash-002"],
    "mistral-large": ["mistral-large-2402", "mistral-large-2407"],
    "mistral-medium-latest": ["mistral-medium", "mistral-medium-2505"],
    "mistral-7b": ["mistral-7b-instruct", "mistral-7b-instruct-v0.2"],
    "llama-3.1-405b": ["llama-3.1-405b-instruct-bf16", "llama-3.1-405b-instruct-fp8"],
    "llama-3.3-nemotron-super-49b": ["llama-3.3-nemotron-49b-super-v1", "nvidia-llama-3.3-nemotron-super-49b-v1.5"],
    "qwen3-next-80b-a3b": ["qwen3-next-80b-a3b-instruct", "qwen3-next-80b-a3b-thinking"],
    "qwen3-235b-a22b-2507": ["qwen3-235b-a22b-instruct-2507", "qwen3-235b-a22b-thinking-2507"],
}

UNKNOWN = [
    "gpt-4o-2024-11-20",  # a date that is none of the known ones
    "mistral-medium-2312",
    "grok-2-1212",
    "gpt-5",  # gpt-5-chat is another LLM, and so are the efforts of reasoning
    "gpt-5-mini",
    "gpt-3.5-turbo-instruct",  # without a size, -instruct is a variant
    "gpt-4-turbo-preview",
    "gemini-3-pro-preview",
    "gemini-2.0-flash-lite",
    "claude-opus-4-1-thinking",
    "claude-3.7-sonnet:thinking",
    "deepseek",
    "deepseek-coder",
    "deepseek-v4",
    "vicuna-13b-v1.5",
    "llama-3.1-9b",
    "llama-3-8b-8192",
    "kimi-k2",
    "mixtral-8x22b",
    "my-own-llm",
    "",
    "/",
    "-latest",
    "b" * (LONGEST_NAME + 1),
]


@pytest.mark.parametrize("name", MEANT)
def test_a_name_is_read_as_what_it_means(name):
    assert find_model(name, NAMES, "x") == MEANT[name]


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_name_is_refused_with_its_candidates(name):
    assert sorted(meant(name, NAMES)) == AMBIGUOUS[name]
    several = f"the list names {re.escape(repr(name))}, which may be .* or .*; name one of them$"
    with pytest.raises(UnknownModelError, match=several) as caught:
        find_model(name, NAMES, "the list")
    assert all(candidate in str(caught.value) for candidate in AMBIGUOUS[name])


@pytest.mark.parametrize("name", UNKNOWN)
def test_nothing_is_guessed(name):
    assert meant(name, NAMES) == []
    with pytest.raises(
        UnknownModelError, match=r"the list names .*, which this model does not know; .*docs/no-votes.md"
    ):
        find_model(name, NAMES, "the list")


def test_an_unknown_name_is_told_those_that_begin_with_it():
    with pytest.raises(UnknownModelError, match="did you mean 'kimi-k2-0711-preview' or 'kimi-k2-0905-preview' or"):
        find_model("kimi-k2", NAMES, "the list")
    with pytest.raises(UnknownModelError, match=r"did you mean 'gpt-oss-20b'\?"):
        find_model("gpt-os-20b", NAMES, "the list")
    with pytest.raises(
        UnknownModelError, match=r"known of that name: deepseek-coder-v2, deepseek-r1, .*, deepseek-v3\.2 \("
    ):
        find_model("deepseek-chat", NAMES, "the list")
    with pytest.raises(UnknownModelError, match="the list names 7, which"):
        find_model(7, NAMES, "the list")


@pytest.mark.parametrize(
    "name",
    ["foo-bar", "xyz-7b", "acme-7b", "model-a", "human", "roberta", "company-chat", "house-model-v2", "my-llm",
     "foo-mini", "baz-large"],
)  # fmt: skip
def test_a_name_that_is_like_none_is_told_none(name):
    with pytest.raises(UnknownModelError, match=r"does not know; known: .* and \d+ more \("):
        find_model(name, NAMES, "the list")


@pytest.mark.parametrize(
    ("name", "near"),
    [("gtp-4o", "gpt-4o-"), ("lama-3.1-9b", "llama-3.1-"), ("mistrl-large", "mistral-large-"), ("quen-2.5", "qwen2.5-"),
     ("my-gpt", "gpt-"), ("claudesonnet5", "claude-")],
)  # fmt: skip
def test_a_name_with_a_typing_error_is_told_the_nearest(name, near):
    with pytest.raises(UnknownModelError, match=rf"(did you mean '|known of that name: ){near}"):
        find_model(name, NAMES, "the list")


def test_all_unclear_names_are_told_at_once():
    with pytest.raises(UnknownModelError, match=r"names 'gpt-9'.*; unclear too: 'nobody', 'kimi-k2'$"):
        find_models(["gpt-9", "gpt-4o-mini-2024-07-18", "nobody", "kimi-k2"], NAMES, "the list")
    with pytest.raises(UnknownModelError, match=r"unclear too: 'b', 'c', 'd', 'e', 'f' and 2 more$"):
        find_models("abcdefgh", NAMES, "the list")
    with pytest.raises(UnknownModelError, match=r"\(.You have no votes.\) adds it, from ratings or votes\)$"):
        find_models(["gpt-9"], NAMES, "the list")


def written(name: str) -> set[str]:
    """Other ways to write a name, with nothing left out."""
    plain = {name.upper(), name.title(), name.replace(".", "-"), name.replace("-", "_"), name.replace("-", " ")}
    less = {f"org/{name}", f"router/org/{name.upper()}", f"eu.org.{name.lower()}", f"{name}:free"}
    return plain | less | {re.sub(r"^([a-z]+)-(\d)", r"\1\2", name), re.sub(r"(\d)\.(\d)", r"\1p\2", name)}


def shortened(name: str) -> set[str]:
    """A name with one of its endings less, or with -latest for its date."""
    undated = re.sub(r"-(\d{4}-\d\d-\d\d|\d{8}|\d{4}|\d\d-\d{4}|0\d\d)$", "", name)
    tuned = r"-(instruct|it|chat)$"
    return {undated, f"{undated}-latest", re.sub(tuned, "", name), re.sub(tuned, "", undated)}


def check_names(names: tuple[str, ...]) -> tuple[int, int]:
    """How many shortened names were read, and how many were refused."""
    by_normal = {normalised(name): name for name in names}
    assert len(by_normal) == len(names)
    read = refused = 0
    for name in names:
        assert meant(name, names) == [name]
        for way in written(name):
            assert meant(way, names) == [name], way
        for way in shortened(name):
            found = meant(way, names)
            whole = by_normal.get(normalised(way))
            assert found == [whole] if whole else name in found or found == [], (way, found)
            read, refused = read + (len(found) == 1), refused + (len(found) != 1)
    return read, refused


def test_every_name_is_found_however_it_is_written():
    read, refused = check_names(NAMES)
    assert read > 2 * refused > 0


def test_every_name_of_the_arena_is_found_however_it_is_written():
    import pyarrow.parquet as pq

    table = pq.read_table(shared("data/arena_leaderboard/leaderboard.parquet"), columns=["model"])
    names = tuple(sorted(set(table["model"].to_pylist())))
    assert len(names) == 282
    check_names(names)
    for name, means in MEANT.items():
        assert meant(name, names) == [means], name
    for name, candidates in AMBIGUOUS.items():
        assert set(candidates) <= set(meant(name, names)), name


def test_a_more_certain_rule_wins():
    assert meant("a-7b", ("A-7b", "a-7b-it", "a-7b-2024-01-01")) == ["A-7b"]
    assert meant("a.7b", ("a-7b", "a-7b-it", "org/a-7b")) == ["a-7b"]
    assert meant("a-7b", ("a-7b-it", "a-7b-2024-01-01")) == ["a-7b-2024-01-01"]
    assert meant("x/a", ("y/a", "a")) == ["y/a", "a"]
    assert meant("x/a", ("x/a", "y/a")) == ["x/a"]
    assert meant("A", ("a.1", "a-1")) == []
    assert meant("a_1", ("a.1", "a-1")) == ["a.1", "a-1"]
    versions = ("m-7b-instruct-v0.1", "m-7b-instruct-v0.3")
    assert meant("m-7b-instruct", versions) == list(versions)


def test_many_names_at_once():
    found = find_models(["gpt-4o-mini", "o1-mini"], NAMES, "x")
    assert found == {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "o1-mini": "o1-mini"}
    assert matched(found) == {"gpt-4o-mini": "gpt-4o-mini-2024-07-18"}


def test_the_examples_of_the_docs_are_true():
    page = (ROOT / "docs" / "routing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d.* \| (`.*`) \| (`.*`) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for written_names, means in rows:
        examples = re.findall("`(.*?)`", written_names)
        assert [meant(name, NAMES) for name in examples] == [[own] for own in re.findall("`(.*?)`", means)]


def test_names_are_looked_up_in_constant_time():
    """A hundred times as many LLMs take no longer for each; a list that changes is read anew."""
    models = tuple(f"org{i % 97}/model-{i:06d}" for i in range(50_000))
    assert place_of(models[-1], models, "x") == 49_999

    def look_up(among: tuple[str, ...]) -> None:
        for i in range(5000):
            find_model(among[i % len(among)], among, "x")

    assert effort(lambda: look_up(models), lambda: look_up(models[:500])) < 10  # 100 where each look-up reads them all
    assert dict(places(["b", "a"])) == {"b": 0, "a": 1}
    changing = ["gpt-4"]
    assert find_model("gpt-4", changing, "x") == "gpt-4"
    changing[0] = "gpt-5"
    assert find_model("GPT-5", changing, "x") == "gpt-5"
    with pytest.raises(UnknownModelError):
        find_model("gpt-4", changing, "x")
    for i in range(100):  # more lists than are remembered
        assert place_of(f"m{i}", (f"l{i}", f"m{i}"), "x") == 1
    assert len(names._recent) <= 16
