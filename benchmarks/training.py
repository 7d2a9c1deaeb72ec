"""Fine-tuning on routing9: votes per second with grouped and plain votes, and a step compared with its bare passes.

A grouped step is a step of `P2LTrainer`: all votes on 16 prompts, including loss, backward pass, optimizer, sampling
and collation. "Plain" is the usual form with one vote per row, in the same trainer: 16 votes, each with its own forward
pass, over the same tokens. "Bare" is the floor: a forward and a backward pass over the tokens of the same step, without
votes, loss and optimizer. Each bare pass runs right after its step, so that a busy machine slows both alike; ratios of
step to bare pass are medians over the steps.

    python benchmarks/training.py --data ../shared/data/routing9 --base SmolLM2-135M-Instruct.Q4_1.gguf [--steps 12]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainerCallback

from p2l_sdk import Votes
from p2l_sdk.modeling.feedback_p2l import Feedback
from p2l_sdk.modeling.prompt_p2l import PromptEncoder
from p2l_sdk.training.arguments import training_arguments
from p2l_sdk.training.config import TrainingConfig
from p2l_sdk.training.data import GroupedPrompts
from p2l_sdk.training.heads import start_at
from p2l_sdk.training.model import add_lora, new_model
from p2l_sdk.training.task import Task
from p2l_sdk.training.trainer import P2LTrainer

SEED = 0


class Stopwatch(TrainerCallback):
    """Times each step, including its data loading, and right after it the bare passes over its tokens."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.steps: list[float] = []
        self.bare: list[float] = []
        self.votes: list[int] = []
        self._start = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.steps.append(time.perf_counter() - self._start)
        batch = self.trainer.last_batch
        self.votes.append(len(batch["labels"]))
        model = self.trainer.model
        start = time.perf_counter()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.trainer.args.bf16):
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).coefs.sum().backward()
        self.bare.append(time.perf_counter() - start)
        model.zero_grad()
        self._start = time.perf_counter()


class Watched(P2LTrainer):
    """Remembers the batch of the last step."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Remember the batch."""
        self.last_batch = inputs
        return super().compute_loss(model, inputs, *args, **options)


def measure(config: TrainingConfig, votes: Votes, steps: int) -> Stopwatch:
    """Times steps of the trainer on these votes; the first two warm up and are dropped."""
    torch.manual_seed(SEED)
    task = Task.of_votes(votes, Feedback.GRK, 0.0, SEED)
    model, tokenizer = new_model(config, task.models, task.saved_feedback, {})
    start_at(model, task.averaged)
    ids = PromptEncoder.from_transformers(model.spec, tokenizer)(task.train.prompts)
    train = GroupedPrompts(ids, task.train.feedback, tokenizer.pad_token_id or 0)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        arguments, _ = training_arguments(config, Path(folder), len(train), 16, False)
        arguments.max_steps, arguments.save_strategy = steps + 2, "no"
        trainer = Watched(
            add_lora(model, config), arguments, objective=task.objective, train=train, validation=None,
            head_learning_rate=1e-3, batch_size=16, callbacks=[watch],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        watch.trainer = trainer
        trainer.train()
    for seconds in (watch.steps, watch.bare, watch.votes):
        del seconds[:2]
    return watch


def one_each(votes: Votes) -> Votes:
    """One random vote per prompt: the plain form, whose steps read the same tokens as the grouped ones."""
    order = np.random.default_rng(SEED).permutation(len(votes))
    rows = order[np.unique(votes.prompt[order], return_index=True)[1]]
    columns = {name: getattr(votes, name)[rows] for name in ("prompt", "a", "b", "winner", "weight")}
    return replace(votes, **columns, categories={})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    config = TrainingConfig(
        votes="-", output="-", base=args.base, max_prompt_tokens=160, chat=False, cls_token="<|endoftext|>"
    )
    votes = Votes.read(args.data / "votes_train.parquet")
    sample = np.random.default_rng(SEED).permutation(len(votes.prompts))[: 16 * (args.steps + 2)]
    grouped = measure(config, votes.subset(sample), args.steps)
    plain = measure(config, one_each(votes.subset(sample)), args.steps)
    speeds = [sum(run.votes) / sum(run.steps) for run in (grouped, plain)]
    result = {
        "grouped_votes_per_second": speeds[0],
        "plain_votes_per_second": speeds[1],
        "ratio": speeds[0] / speeds[1],
        "seconds_per_step": statistics.median(grouped.steps),
        "bare_seconds": statistics.median(grouped.bare),
        "step_over_bare": statistics.median(s / b for s, b in zip(grouped.steps, grouped.bare, strict=True)),
        "steps": args.steps,
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads",
    }
    if args.json:
        print(json.dumps(result))
        return
    print(f"{Path(args.base).stem}, LoRA of rank 16, {args.steps} steps of 16 rows, {result['machine']}")
    print(f"votes per second: grouped {speeds[0]:,.0f}, plain {speeds[1]:,.1f}; {result['ratio']:.1f} times")
    print(
        f"seconds per step: {result['seconds_per_step']:.2f}, bare passes {result['bare_seconds']:.2f}; "
        f"{result['step_over_bare']:.2f} times"
    )


if __name__ == "__main__":
    main()
