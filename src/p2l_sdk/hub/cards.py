"""Hub cards: the metadata at the top of a README.md, and the parts of its text that depend on where it is published.

The Hub's page shows and searches this metadata: licence, base model, data sets, task, widget, results. What a card
already says is kept; what is missing is added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from p2l_sdk.errors import P2LError
from p2l_sdk.hub.markdown import Markdown, bullets, code, literal, render, text
from p2l_sdk.modeling.spec_p2l import ModelSpec

EXAMPLE_PROMPTS = (
    "Prove that the square root of two is irrational",
    "Write a haiku about the sea",
    "What is the capital of France?",
)
GRADIO_VERSION = "6.31.0"  # the version that examples/space was tested with
_TAGS = ["p2l", "llm-routing", "prompt-to-leaderboard"]
_FRONT_MATTER = re.compile(r"---\r?\n(.*?)\r?\n?---\r?\n", re.DOTALL)
_LOADING = re.compile(r'P2L\.from_pretrained\(("(?:[^"\\\n]|\\.)*"|[^)\n]*)\)')
_MOST_METADATA = 500_000  # characters: reading them takes seconds
_ADAPTER = re.compile(r"<!-- adapter -->\n.*?<!-- /adapter -->", re.DOTALL)
_UNFILLED = "# Model Card for Model ID"  # heading of the unfilled template that PEFT leaves beside an adapter
_TITLE = re.compile(r"^# .*$", re.MULTILINE)
_FIRST_SNIPPET = re.compile(r"```python\n.*?^```\n", re.DOTALL | re.MULTILINE)


def split_card(text: str) -> tuple[dict[str, Any], str]:
    """Split a card into metadata and text. Raises P2LError if the metadata is not a YAML mapping."""
    import yaml

    found = _FRONT_MATTER.match(text)
    if found is None:
        return {}, text
    if len(found[1]) > _MOST_METADATA:
        raise P2LError(
            f"the metadata on top of README.md has {len(found[1]):,} characters; {_MOST_METADATA:,} are legal"
        )
    try:
        data = yaml.safe_load(found[1])
    except RecursionError:
        raise P2LError("the metadata on top of README.md is nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # a number of thousands of digits, a date that is none
        raise P2LError(f"the metadata on top of README.md is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict | None):
        raise P2LError("the metadata on top of README.md is no YAML mapping of names to values")
    return data or {}, text[found.end() :]


def join_card(data: Mapping[str, Any], text: str) -> str:
    """Join metadata and text into a card."""
    return f"---\n{as_yaml(data)}---\n\n{text.lstrip()}"


def as_yaml(data: Mapping[str, Any]) -> str:
    """A mapping as YAML, in its own order."""
    import yaml

    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=120)


def complete_model_card(text: str | None, spec: ModelSpec, repo_id: str, base_model: str | None = None) -> str:
    """The card of a model for publication: its metadata is complete, and its snippet loads the model from `repo_id`.

    Args:
        text: the card so far; None for a plain one.
        spec: the model's specification.
        repo_id: repository where the model is published.
        base_model: the base of an adapter, on the Hub ("org/name", or a GGUF file in that repository).
    """
    given, body = split_card(text or "")
    if not body.strip() or _UNFILLED in body:
        title, models = repo_id.split("/")[-1], bullets(spec.models)
        body = render("model.md", title=title, n_models=len(spec.models), feedback=spec.feedback, models=models)
    base = {} if base_model is None else {"base_model": hub_id(base_model), "base_model_relation": "adapter"}
    if base_model is not None:
        section = adapter_section(base_model, repo_id, published=True)
        if _ADAPTER.search(body):
            body = _ADAPTER.sub(lambda _: section, body)
        else:
            body = f"{body.rstrip()}\n\n## As an adapter\n\n{section}\n"
    data = {
        **given,
        **base,
        "library_name": given.get("library_name") or "transformers",
        "pipeline_tag": given.get("pipeline_tag") or "text-classification",
        "tags": list(dict.fromkeys([*(given.get("tags") or []), *_TAGS])),
        "widget": given.get("widget") or [{"text": prompt} for prompt in EXAMPLE_PROMPTS],
        "model_list": list(spec.models),
    }
    return join_card(data, _LOADING.sub(lambda _: f"P2L.from_pretrained({literal(repo_id)})", body))


def converted_card(spec: ModelSpec, source: str, name: str, revision: str | None = None) -> str:
    """The card of a model converted from a published checkpoint.

    Args:
        spec: the model's specification.
        source: folder or Hub id of the checkpoint.
        name: name of the new folder.
        revision: revision of the checkpoint on the Hub.
    """
    origin = code(Path(source).name) if Path(source).exists() else _link(source)
    body = render(
        "converted_model.md",
        title=name,
        source=Markdown(f"{origin} (revision {code(revision)})") if revision else origin,
        feedback=spec.feedback,
        n_models=len(spec.models),
        n_costs=len(spec.costs) or "none",
        models=bullets(spec.models),
        pipeline=code(f'pipeline("prompt-to-leaderboard", {literal(name)}, trust_remote_code=True)'),
    )
    return complete_model_card(body, spec, name)


def adapter_section(base: str, source: str, *, published: bool = False) -> Markdown:
    """The section of a card about an adapter: its base, and how to load it with transformers alone.

    Args:
        base: name of the base.
        source: the adapter's folder or, if it is published, its Hub id.
        published: whether the adapter is on the Hub.
    """
    imports, folder = "from transformers import pipeline", str(literal(source))
    if published:  # given a Hub id, transformers would load the base without the heads
        imports, folder = f"from huggingface_hub import snapshot_download\n{imports}", f"snapshot_download({folder})"
    section = render("adapter.md", base=code(base), imports=Markdown(imports), folder=Markdown(folder))
    return Markdown(section.strip())


def merged_card(text: str, name: str) -> str:
    """The card of an adapter merged into its base: a complete model, fine-tuned from that base.

    Args:
        text: the adapter's card.
        name: name of the merged model's folder, which replaces the adapter's name.
    """
    data, body = split_card(text)
    loading = _LOADING.search(body)
    adapter = _name_in(loading[1]) if loading else None
    data = {**data, "library_name": "transformers"}
    data["tags"] = [tag for tag in data.get("tags") or [] if tag not in ("peft", "lora", "adapter")]
    if "base_model" in data:
        data["base_model_relation"] = "finetune"
    if "model-index" in data:
        data["model-index"] = [
            {**entry, "name": name} if entry.get("name") == adapter else entry for entry in data["model-index"]
        ]
    note = "The adapter was merged into its base: all weights are in this folder."
    merged, n = _ADAPTER.subn(note, body)
    if not n:
        merged = f"> {note} What follows describes the adapter.\n\n{body.lstrip()}"
    merged = _LOADING.sub(lambda _: f"P2L.from_pretrained({literal(name)})", merged)
    return join_card(data, _TITLE.sub(lambda title: _merged_title(title[0], adapter, name), merged, count=1))


def _merged_title(title: str, adapter: str | None, name: str) -> str:
    """Rename the model in a title that training wrote ("# my-adapter: a P2L model"); keep the user's own title."""
    given = f"# {text(adapter)}:"
    return f"{f'# {text(name)}:{title.removeprefix(given)}' if title.startswith(given) else title} (merged)"


def _name_in(argument: str) -> str:
    """The name that a snippet loads."""
    try:
        return str(json.loads(argument))
    except ValueError:  # in other quotes, by the user
        return argument.strip("\"'")


def _link(repo_id: str) -> Markdown:
    return Markdown(f"[{text(repo_id)}](https://huggingface.co/{quote(repo_id)})")


def hub_id(base: str) -> str:
    """The Hub repository of a base, which may be a file in that repository."""
    return "/".join(base.split("/")[:2])


def space_card(
    title: str, model: str | None, n_models: int, *, license: str | None = None, app_file: str = "app.py"
) -> str:
    """The card of a Gradio Space, which is also its configuration.

    Args:
        title: title of the Space.
        model: Hub id of the model it shows; None for the embedded default.
        n_models: number of LLMs of that model.
        license: licence of the Space's code.
        app_file: file that the Space runs.
    """
    data: dict[str, Any] = {
        "title": title,
        "emoji": "🏆",
        "colorFrom": "blue",
        "colorTo": "gray",
        "sdk": "gradio",
        "sdk_version": GRADIO_VERSION,
        "app_file": app_file,
        "short_description": "How would LLMs rank on your prompt?",
    }
    data |= {"models": [model]} if model else {}
    data |= {"tags": _TAGS}
    data |= {"license": license} if license else {}
    shown = _link(model) if model else "the one embedded in p2l-sdk, which runs on numpy"
    return join_card(data, render("space.md", title=title, n_models=n_models, model=shown))


def with_picture(card: str, file: str, caption: str) -> str:
    """The card with a picture below its first snippet, unless it already shows that picture or has no snippet."""
    snippet = _FIRST_SNIPPET.search(card)
    if f"]({file})" in card or snippet is None:
        return card
    return f"{card[: snippet.end()]}\n![{text(caption)}]({file})\n{card[snippet.end() :]}"


def model_index(name: str, results: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """The measured results of a model in the format of the Hub's metadata.

    Args:
        name: name of the model.
        results: data set -> metric -> value.
    """
    from huggingface_hub import EvalResult, ModelCardData

    found = [
        EvalResult(
            task_type="text-classification",
            task_name="Prompt-to-Leaderboard",
            dataset_type=re.sub(r"\W+", "-", data).strip("-"),
            dataset_name=data,
            metric_type=metric,
            metric_name=metric.replace("_", " "),
            metric_value=round(float(value), 6),
        )
        for data, metrics in results.items()
        for metric, value in metrics.items()
    ]
    return ModelCardData(model_name=name, eval_results=found).to_dict()["model-index"] if found else []
