"""Training on changed copies of the prompts, so that a model answers a question alike however it is put.

Only for frozen backbones: the vectors of prompts and copies are computed once.
"""

from __future__ import annotations

import numpy as np
import torch


class VectorsWithCopies:
    """Vectors of prompts; each time a prompt is read, it may be one of its changed copies instead.

    Args:
        vectors: `(n_prompts, width)` of the prompts themselves.
        copies: `(n_copies, n_prompts, width)` of their changed copies.
        share: how often a copy is read, in [0, 1]; four of five was best on routing9, see docs/evaluation.md.
        seed: of which is read when.
    """

    def __init__(self, vectors: torch.Tensor, copies: torch.Tensor, share: float = 0.8, seed: int = 0) -> None:
        self.own, self.copies, self.share = vectors, copies, share
        self._random = np.random.default_rng([seed, 1])

    def __len__(self) -> int:
        return len(self.own)

    @property
    def shape(self) -> torch.Size:
        """That of the prompts' own vectors."""
        return self.own.shape

    def __getitem__(self, rows: np.ndarray) -> torch.Tensor:
        """`(len(rows), width)` the prompts of these rows, each as it stands or changed."""
        changed = np.flatnonzero(self._random.random(len(rows)) < self.share)
        found = self.own[rows]
        if len(changed):
            which = self._random.integers(0, len(self.copies), len(changed))
            found = found.clone()
            found[changed] = self.copies[which, rows[changed]]
        return found
