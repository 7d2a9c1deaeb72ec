"""What suits a process that does nothing but serve."""

from __future__ import annotations

import gc
import os


def settle() -> None:
    """To be called once, when model and libraries are loaded and before the first request.

    They stay for good: to look through them again would hold up requests for 50 ms. And prompts come a few at a time:
    the tokenizer's threads would wait for each other longer than they read (TOKENIZERS_PARALLELISM=true has them back).
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    gc.collect()
    gc.freeze()
