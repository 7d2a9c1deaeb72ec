"""Builds the embedded model `arena`.

    python examples/arena/build.py --data ../shared/data [--output src/p2l_sdk/embedded/arena]

Its text model is that of the embedded model `routing9`, so only the head is written.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import costs
import prompts
import pyarrow.parquet as pq
from rich.progress import Progress
from safetensors.numpy import load_file, save_file

from p2l_sdk.kinds import KindPrompts, KindRatings, build_model
from p2l_sdk.kinds.card import BuildCard
from p2l_sdk.kinds.recogniser import EPOCHS, FOLDS

ROOT = Path(__file__).parents[2]
KINDS = (
    "coding", "math", "creative_writing", "instruction_following", "longer_query",
    "industry_business_and_management_and_financial_operations", "industry_entertainment_and_sports_and_media",
    "industry_legal_and_government", "industry_life_and_physical_and_social_science",
    "industry_medicine_and_healthcare",
    "chinese", "french", "german", "japanese", "korean", "russian", "spanish",
)  # fmt: skip
READABLE = {"if": "instruction_following", "long_user": "longer_query"}
"""Categories of the Arena with names that say little, and what its site calls them."""
SHARED_FILES = ("tokenizer.json", "tokenizer_config.json", "model.safetensors")


def ratings(data: Path) -> tuple[KindRatings, set[str]]:
    """The Arena's leaderboards of these kinds, and the categories that are not used."""
    table = pq.read_table(data / "arena_leaderboard" / "leaderboard.parquet").to_pydict()
    table["category"] = [READABLE.get(name, name) for name in table["category"]]
    return KindRatings.read(table, "elo", kinds=KINDS), set(table["category"]) - set(KINDS)


def known_prompts(data: Path) -> list[dict[str, Any]]:
    """The prompts, with the readable names of their categories."""
    rows = [asdict(row) for row in prompts.read(data)]
    for row in rows:
        for column in ("categories", "unsure"):
            row[column] = [READABLE.get(name, name) for name in row[column]]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder with arena_leaderboard, mmlu_pro, ...")
    parser.add_argument("--output", type=Path, default=ROOT / "src/p2l_sdk/embedded/arena")
    args = parser.parse_args()
    known, unused = ratings(args.data)
    rows = known_prompts(args.data)
    usd = costs.read(args.data).costs
    card = BuildCard(
        title="p2l-sdk's embedded model arena",
        license="apache-2.0",
        source='"arena"',
        ratings=f"Ratings of {len(known.models)} LLMs in {len(KINDS)} categories of the Arena (text, without style "
        "control, 2025-12-11).",
        prompts=f"{len(rows):,} prompts of known kind (see the end).",
        cost_note=f"Costs of {len(usd)} LLMs, USD per response of 500 input and 500 output tokens.",
        notes=(ROOT / "hub_cards/arena_notes.md").read_text(encoding="utf-8"),
    )
    with tempfile.TemporaryDirectory() as place, Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("networks of the recogniser", total=len(EPOCHS) * FOLDS + 1)
        built = build_model(
            known,
            KindPrompts.read(rows, KINDS, unused),
            Path(place) / "arena",
            costs=usd,
            card=card,
            progress=lambda phase, done: progress.update(task, completed=done) if phase == "networks" else None,
        )
        tensors = load_file(built.folder / "model.safetensors")
        save_file({k: v for k, v in tensors.items() if k.startswith("head.")}, built.folder / "head.safetensors")
        shutil.rmtree(args.output, ignore_errors=True)
        args.output.mkdir(parents=True)
        for file in built.folder.iterdir():
            if file.name not in SHARED_FILES and file.suffix != ".py":  # the package has the code
                shutil.copyfile(file, args.output / file.name)
    for kind in built.kinds:
        print(json.dumps(vars(kind)))
    print(f"no kind: within {built.none:.2f} points; wrote {args.output}")


if __name__ == "__main__":
    main()
