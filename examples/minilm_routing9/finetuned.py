"""An encoder fine-tuned on votes and on the benchmark's name: two of the three teachers of teach.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from p2l_sdk.modeling.feedback_p2l import Feedback, log_probabilities
from p2l_sdk.modeling.loading_p2l import load_backbone, load_tokenizer

_DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_TOKENS = 320  # of a prompt that is read: the last ones
_BATCH, _WINDOW = 32, 8  # prompts a step; steps within which prompts are sorted by length
_HEAD_RATE, _DECAY, _AVERAGE, _WARMUP, _DROPOUT = 1e-3, 0.01, 0.98, 0.06, 0.1
_NAME_WEIGHT = 0.3  # of the second target, the name of the benchmark


@dataclass
class Lessons:
    """What is learned from: for each prompt the votes of all pairs, and its benchmark.

    Attributes:
        a, b: `(n_pairs,)` the LLMs of each pair.
        share: `(n_prompts, n_pairs, 4)` share of each outcome among the votes of the pair; zeros without votes.
        kind: `(n_prompts,)` number of the benchmark.
    """

    a: torch.Tensor
    b: torch.Tensor
    share: torch.Tensor
    kind: torch.Tensor

    def losses(self, coefs: torch.Tensor, eta: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the votes of the prompts `rows`, in nats, averaged over all."""
        a, b = self.a.to(coefs.device), self.b.to(coefs.device)
        log_p = log_probabilities(Feedback.GRK, coefs[:, a], coefs[:, b], eta.expand(-1, len(a)), None)
        share = self.share[rows].to(coefs.device)
        return -(share * log_p).sum() / share.sum()


class Reader(nn.Module):
    """An encoder with a head for coefficients and eta, and one for the name of the benchmark."""

    def __init__(self, encoder: str, averaged: np.ndarray, n_kinds: int) -> None:
        super().__init__()
        self.encoder = load_backbone(encoder, dtype=torch.float32)
        for module in self.encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for name, parameter in self.encoder.named_parameters():
            if "embed" in name or "pooler" in name:
                parameter.requires_grad_(False)
        width = self.encoder.config.hidden_size
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(_DROPOUT)
        self.board, self.kind = nn.Linear(width, len(averaged)), nn.Linear(width, n_kinds)
        nn.init.zeros_(self.board.weight)
        self.board.bias.data = torch.as_tensor(averaged, dtype=torch.float32)  # starts at the averaged leaderboard

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Coefficients `(n, n_models)`, eta `(n, 1)` and logits of the benchmark `(n, n_kinds)`."""
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        pooled = self.norm((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
        board = self.board(self.drop(pooled)).float()
        return board[:, :-1], board[:, -1:], self.kind(pooled).float()


def finetuned(
    encoder: str, prompts: Sequence[str], train: np.ndarray, lessons: Lessons, averaged: np.ndarray, rate: float
) -> np.ndarray:
    """Fine-tune on the prompts `train` for three epochs, and read all prompts.

    Args:
        encoder: folder or Hub id.
        prompts, lessons: all prompts and what there is to learn of them.
        train: the numbers of the prompts to learn from.
        averaged: `(n_models + 1,)` the averaged leaderboard of the training prompts: coefficients and eta.
        rate: the encoder's learning rate.

    Returns:
        `(n_prompts, n_models + 1)` coefficients and eta.
    """
    tokenizer = load_tokenizer(encoder, truncation_side="left")
    ids = tokenizer(list(prompts), truncation=True, max_length=_TOKENS)["input_ids"]
    torch.manual_seed(0)
    model = Reader(encoder, averaged, int(lessons.kind.max()) + 1).to(_DEVICE)
    steps = list(_steps(train, [len(row) for row in ids], epochs=3))
    body = [p for p in model.encoder.parameters() if p.requires_grad]
    head = [p for name, p in model.named_parameters() if not name.startswith("encoder.")]
    groups = [{"params": body, "lr": rate}, {"params": head, "lr": _HEAD_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=_DECAY, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_at(step / len(steps)))
    average = [parameter.detach().clone() for parameter in body + head]
    model.train()
    for step, rows in enumerate(tqdm(steps, Path(encoder).name), start=1):
        with torch.autocast(_DEVICE, torch.bfloat16):
            coefs, eta, kind = model(*_padded([ids[row] for row in rows]))
        chosen = torch.as_tensor(rows)
        named = nn.functional.cross_entropy(kind, lessons.kind[chosen].to(_DEVICE))
        loss = lessons.losses(coefs, eta, chosen) + _NAME_WEIGHT * named
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(body + head, 1.0)
        optimizer.step()
        schedule.step()
        kept = min(_AVERAGE, step / (step + 10))
        torch._foreach_lerp_(average, [parameter.detach() for parameter in body + head], 1 - kept)
    for parameter, mean in zip(body + head, average, strict=True):
        parameter.data.copy_(mean)
    return _read(model.eval(), ids)


def _rate_at(share: float) -> float:
    """The learning rate's factor after this share of the training: a short warm-up, then half a cosine."""
    return float(min(1.0, share / _WARMUP) * (1 + np.cos(np.pi * share)) / 2)


def _steps(train: np.ndarray, lengths: Sequence[int], epochs: int) -> Iterator[list[int]]:
    """The prompts of each step: in random order, of similar length within a step."""
    random = np.random.default_rng(0)
    for _ in range(epochs):
        order = random.permutation(train)
        for start in range(0, len(order), _BATCH * _WINDOW):
            window = sorted(order[start : start + _BATCH * _WINDOW], key=lambda row: lengths[row])
            batches = [window[i : i + _BATCH] for i in range(0, len(window), _BATCH)]
            yield from (batches[i] for i in random.permutation(len(batches)))


def _padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [torch.as_tensor(row) for row in rows]
    ids = nn.utils.rnn.pad_sequence(parts, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(part) for part in parts], batch_first=True)
    return ids.to(_DEVICE), mask.to(_DEVICE)


@torch.inference_mode()
def _read(model: Reader, ids: Sequence[Sequence[int]]) -> np.ndarray:
    order = np.argsort([len(row) for row in ids], kind="stable")
    parts = []
    for start in range(0, len(order), 64):
        with torch.autocast(_DEVICE, torch.bfloat16):
            coefs, eta, _ = model(*_padded([ids[row] for row in order[start : start + 64]]))
        parts.append(torch.cat([coefs, eta], dim=1).float().cpu())
    return torch.cat(parts).numpy()[np.argsort(order)]
