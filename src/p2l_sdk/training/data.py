"""Grouped feedback: an example is a prompt with all of its votes, which share one forward pass.

The loss equals that of one forward pass per vote at a fraction of the cost: routing9 has 36 votes per prompt. Batches
hold prompts of similar length, which saves padding. The order depends only on seed and epoch, not on the number of
processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from p2l_sdk.leaderboards.weights import scaled
from p2l_sdk.modeling.feedback_p2l import Feedback, vote_targets
from p2l_sdk.modeling.prompt_p2l import pad
from p2l_sdk.votes.votes import Scores, Votes


class ByPrompt:
    """Feedback indexed by prompt, which yields that of any batch of prompts in the form that the objectives take.

    Args:
        n_prompts: number of prompts.
        columns: `labels` `(n, k)`, whose first column is the index of the prompt; `weights` `(n,)`; further columns.
    """

    def __init__(self, n_prompts: int, **columns: np.ndarray) -> None:
        prompt = columns["labels"][:, 0]
        order = np.argsort(prompt, kind="stable")
        self._columns = {name: column[order] for name, column in columns.items()}
        self._starts = np.searchsorted(prompt[order], np.arange(n_prompts + 1))

    @classmethod
    def of_votes(cls, votes: Votes, feedback: Feedback) -> ByPrompt:
        """From votes: labels are [prompt, a, b, winner]. Votes that carry no information under the feedback model (ties
        under `bt`) are dropped, so that the loss is the mean over exactly the sum of the weights."""
        weights = vote_targets(feedback).sum(1)[votes.winner] * scaled(votes.weight)
        kept = weights > 0
        labels = np.stack([votes.prompt, votes.a, votes.b, votes.winner], 1).astype(np.int64)
        return cls(len(votes.prompts), labels=labels[kept], weights=weights[kept].astype(np.float32))

    @classmethod
    def of_scores(cls, scores: Scores) -> ByPrompt:
        """From scores: labels are [prompt, LLM], `values` are the scores; missing scores are dropped."""
        prompt, model = np.nonzero(np.isfinite(scores.scores))
        values = scores.scores[prompt, model].astype(np.float32)
        labels = np.stack([prompt, model], 1).astype(np.int64)
        return cls(len(scores.prompts), labels=labels, weights=np.ones_like(values), values=values)

    def of(self, prompts: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """The columns for these prompts, as tensors; prompt indices in the labels are relative to the batch."""
        spans = [np.arange(self._starts[p], self._starts[p + 1]) for p in prompts]
        rows = np.concatenate(spans)
        batch = {name: column[rows] for name, column in self._columns.items()}
        batch["labels"][:, 0] = np.repeat(np.arange(len(spans)), [len(span) for span in spans])
        return {name: torch.from_numpy(column) for name, column in batch.items()}

    @property
    def prompts(self) -> np.ndarray:
        """Indices of the prompts that have feedback, in ascending order."""
        return np.flatnonzero(np.diff(self._starts))

    def __len__(self) -> int:
        return len(self._columns["weights"])


class GroupedPrompts(Dataset[Any]):
    """Prompts with their feedback, which are loaded in whole batches, see `__getitems__`.

    Args:
        inputs: token ids of each prompt, or `(n_prompts, width)` features of a frozen backbone.
        feedback: their votes or scores.
        pad_id: the padding token.
    """

    def __init__(self, inputs: Sequence[Sequence[int]] | torch.Tensor, feedback: ByPrompt, pad_id: int = 0) -> None:
        self._inputs, self._feedback, self._pad_id = inputs, feedback, pad_id
        self.prompts = feedback.prompts
        self.n_items = len(feedback)

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([i])

    def __getitems__(self, items: list[int]) -> dict[str, torch.Tensor]:
        """A collated batch; torch's loader calls this. Collating is done here because the Trainer has a single collator
        for training and validation, which have different prompts."""
        return self.collate([int(self.prompts[i]) for i in items])

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each item; 1 for features."""
        return np.array([1 if isinstance(self._inputs, torch.Tensor) else len(self._inputs[p]) for p in self.prompts])

    def all_feedback(self) -> dict[str, torch.Tensor]:
        """The feedback on all prompts, in the order of `prompts`."""
        return self._feedback.of(self.prompts)

    def collate(self, prompts: list[int]) -> dict[str, torch.Tensor]:
        """The model inputs for these prompts, and their feedback."""
        feedback = self._feedback.of(prompts)
        if isinstance(self._inputs, torch.Tensor):
            return {"features": self._inputs[prompts], **feedback}
        input_ids, mask = pad([self._inputs[p] for p in prompts], self._pad_id)
        return {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask), **feedback}


class LengthGroupedBatches(Sampler[int]):
    """An order of items in which every batch has items of similar length; different in each epoch.

    Items are shuffled, cut into windows of several batches and sorted by length within each window; then whole batches
    are shuffled. The last batch is filled up with items from the start of the shuffle.

    Args:
        lengths: of the items.
        batch_size: items per batch.
        seed: of the order.
        window: batches per window. With 1 every batch is a random draw, sorted by length.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, window: int = 16) -> None:
        self._lengths, self._seed, self._window = lengths, seed, window
        self._batch = min(batch_size, len(lengths))
        self.epoch = 0

    def __len__(self) -> int:
        return self.steps * self._batch

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-len(self._lengths) // self._batch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, that the next iteration orders."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self._seed, self.epoch])
        order = random.permutation(len(self._lengths))
        order = np.concatenate([order, order[: len(self) - len(order)]])
        window = self._window * self._batch
        batches = [
            part[np.argsort(self._lengths[part], kind="stable")].reshape(-1, self._batch)
            for part in (order[start : start + window] for start in range(0, len(order), window))
        ]
        shuffled = random.permutation(np.concatenate(batches))
        return iter(shuffled.reshape(-1).tolist())
