"""The prompts of known kind that the embedded model `arena` is built from.

    python examples/arena/prompts.py --data ../shared/data --output prompts.jsonl

One row a prompt: `prompt`, `categories` (the Arena's names; none: a prompt of no known kind), `unsure` (categories that
the source leaves open: count the prompt neither for nor against them), `source`, `style` ("chat", or "exam": made to
examine, not asked by somebody who wants to know) and `language`. The README says where they come from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from labels import CATEGORY_PROMPTS, HARD, LANGUAGES, LEFT_OUT, MMLU, MMLU_PRO, ROUTING9, USED, Labels
from languages import language

from p2l_sdk.hub.folders import STATIC_MODEL
from p2l_sdk.scorers.static import read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HERE = Path(__file__).parent
LONG = 500
"""Tokens from which the Arena calls a prompt long."""
ASKED, OURS, EXAM = 1.0, 0.15, 0.02
"""How typical a prompt is of what people ask in the Arena: asked by users (or written as such), by us, in an exam."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A prompt and its kinds."""

    prompt: str
    categories: list[str]
    unsure: list[str]
    source: str
    style: str
    language: str
    weight: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the sources")
    parser.add_argument("--output", type=Path, help="where to write the rows (.jsonl)")
    parser.add_argument("--cap", type=int, default=100, help="exam questions per source and set of categories")
    parser.add_argument("--seed", type=int, default=0, help="which exam questions are taken")
    parser.add_argument("--table", action="store_true", help="print the README's table of counts")
    arguments = parser.parse_args()
    rows = read(arguments.data, cap=arguments.cap, seed=arguments.seed)
    if arguments.output:
        lines = (json.dumps(asdict(row)) for row in rows)
        arguments.output.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    if arguments.table:
        print(table(rows))
    print(f"{len(rows)} prompts, {sum(not row.categories for row in rows)} of no kind")


def read(data: Path, *, cap: int = 100, seed: int = 0) -> list[Row]:
    """All prompts; a prompt that two sources hold stands once, as the first has it."""
    exams = [*_mmlu_pro(data), *_mmlu(data), *_routing9(data)]
    rows = [*_own(), *_category_prompts(data), *_capped(exams, cap, seed)]
    return list({row.prompt.strip(): row for row in reversed(rows)}.values())[::-1]


def table(rows: list[Row]) -> str:
    """Prompts per category and source, in Markdown."""
    sources = list(dict.fromkeys(row.source for row in rows))
    counts = Counter((category, row.source) for row in rows for category in row.categories or ["no kind"])
    head = ["category", *sources, "all"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for category in (*sorted(USED), "no kind"):
        cells = [counts[category, source] for source in sources]
        lines.append(f"| {' | '.join([category, *(str(n or '') for n in cells), str(sum(cells))])} |")
    totals = Counter(row.source for row in rows)
    cells = [totals[source] for source in sources]
    return "\n".join([*lines, f"| {' | '.join(['**prompts**', *map(str, cells), str(sum(cells))])} |"])


def _row(prompt: str, labels: Labels, *, source: str, style: str, spoken: str = "english") -> Row:
    """A row, with the kinds that can be read off the prompt itself: its language and its length."""
    categories, unsure = set(labels[0]), set(labels[1])
    if spoken in LANGUAGES:
        categories.add(spoken)
    if spoken != "english":
        categories -= {"hard_english_6"}
        unsure -= {"hard_english_6"}
    tokens = _tokens(prompt)
    if tokens >= LONG:
        categories.add("long_user")
    elif tokens > 0.8 * LONG:  # the Arena counts with another tokenizer
        unsure.add("long_user")
    named = [category for category in USED if category in categories]
    still = [category for category in USED if category in unsure - categories]
    weight = EXAM if style == "exam" else OURS if source == "own" else ASKED
    return Row(
        prompt=prompt, categories=named, unsure=still, source=source, style=style, language=spoken, weight=weight
    )


def _own() -> Iterator[Row]:
    """Prompts written for this purpose. Who wrote them said which topics they have; hardness is rarely one of them."""
    for line in (HERE / "own_prompts.jsonl").read_text(encoding="utf-8").splitlines():
        own = json.loads(line)
        categories, unsure = set(own["categories"]), set(own.get("unsure", ()))
        if unknown := (categories | unsure) - set(USED) - set(LEFT_OUT):
            raise ValueError(f"own_prompts.jsonl has the unknown categories {sorted(unknown)}: {own['prompt'][:60]!r}")
        if "expert" in categories:  # the Arena's experts' prompts are the hardest
            categories |= {*HARD}
        elif categories & {"coding", "math"}:
            unsure |= {*HARD}
        spoken = next((name for name in LANGUAGES if name in categories), "english")
        labels = (tuple(categories), tuple(unsure))
        yield _row(own["prompt"], labels, source="own", style="chat", spoken=spoken)


def _category_prompts(data: Path) -> Iterator[Row]:
    for row in _rows(data / "category_prompts" / "prompts.parquet"):
        labels, spoken = CATEGORY_PROMPTS[row["source"], row["label"]], language(row["prompt"])
        yield _row(row["prompt"], labels, source=row["source"], style="chat", spoken=spoken)


def _mmlu_pro(data: Path) -> Iterator[Row]:
    for row in _rows(data / "mmlu_pro" / "scores_train.parquet", "prompt", "category"):
        yield _row(_exam(row["prompt"]), MMLU_PRO[row["category"]], source="mmlu_pro", style="exam")


def _mmlu(data: Path) -> Iterator[Row]:
    """The train part alone, by the rule of all sources, so that the rest may measure."""
    for row in _rows(data / "routellm_mmlu" / "mmlu.parquet", "prompt", "subject"):
        if _hash(row["prompt"])[2:4] >= "1a":
            yield _row(_exam(row["prompt"]), MMLU[row["subject"]], source="routellm_mmlu", style="exam")


def _routing9(data: Path) -> Iterator[Row]:
    for row in _rows(data / "routing9" / "scores_train.parquet", "prompt", "task"):
        if row["task"] in ROUTING9:
            yield _row(row["prompt"], ROUTING9[row["task"]], source="routing9", style="exam")


def _exam(prompt: str) -> str:
    """Most questions that are complete without their options lose them: options are a form, not a kind."""
    question = prompt.partition("\nA. ")[0]
    complete = question.rstrip().endswith("?")
    return question if complete and int(_hash(prompt)[4:6], 16) < 192 else prompt


def _capped(rows: list[Row], cap: int, seed: int) -> list[Row]:
    """At most `cap` rows of each source and set of categories, drawn by the hash of seed and prompt."""
    groups: dict[tuple[str, tuple[str, ...]], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: _hash(f"{seed} {row.prompt}")):
        groups[row.source, tuple(row.categories)].append(row)
    return [row for group in groups.values() for row in group[:cap]]


def _rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    return pq.read_table(path, columns=list(columns) or None).to_pylist()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _tokenizer() -> Tokenizer:
    return read_tokenizer(STATIC_MODEL)


@cache
def _tokens(prompt: str) -> int:
    return len(_tokenizer().encode(prompt, add_special_tokens=False).ids)


if __name__ == "__main__":
    main()
