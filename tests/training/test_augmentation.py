"""Vectors of prompts and of their changed copies: which is read when."""

from __future__ import annotations

import numpy as np
import torch

from p2l_sdk.rewording.copies import changed_copies
from p2l_sdk.training.augmentation import VectorsWithCopies

PROMPTS = ["Who wrote this book?", "Write a poem about Rome", "How large is the moon?"]


def read(prompts):
    """As vectors: a number for each text."""
    return torch.tensor([[float(sum(map(ord, prompt)))] for prompt in prompts])


def with_copies(number=4, **options):
    copies = torch.stack([read(copy) for copy in changed_copies(PROMPTS, number, options.get("seed", 0))])
    return VectorsWithCopies(read(PROMPTS), copies, **options)


def test_a_row_is_the_prompt_or_one_of_its_copies():
    found = with_copies(3, share=0.5)
    assert len(found) == len(PROMPTS)
    rows = np.tile([2, 0, 1], 300)
    values = found[rows].numpy()[:, 0]
    own = read(PROMPTS).numpy()[:, 0]
    copies = [read(copy).numpy()[:, 0] for copy in changed_copies(PROMPTS, 3)]
    for i in range(3):
        seen = set(values[rows == i])
        assert seen == {own[i], *(copy[i] for copy in copies)}
    assert abs((values == own[rows]).mean() - 0.5) < 0.15
    assert found.own.numpy()[:, 0].tolist() == own.tolist()  # reading leaves the vectors as they were


def test_with_a_share_of_nothing_every_row_is_the_prompt():
    vectors = read(PROMPTS)
    rows = np.array([1, 1, 0])
    found = VectorsWithCopies(vectors, vectors[None] + 1, share=0.0)
    assert torch.equal(found[rows], vectors[rows])


def test_the_seed_decides():
    rows = np.arange(3).repeat(20)
    first, same, other = (with_copies(seed=s)[rows] for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
