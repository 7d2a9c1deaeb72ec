"""Trying out a stranger's exported graph in a process of its own, before it computes in this one.

How much a graph makes depends on the number of prompts and of their tokens alone (`hub.onnx_operators`), so a few
numbers of both show it: small ones, a larger one, and one that no graph can foresee.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np

from p2l_sdk.errors import MissingExtraError, ModelFormatError, P2LError
from p2l_sdk.hub.config import read_config
from p2l_sdk.hub.onnx_files import ONNX_FILE, graph_bytes
from p2l_sdk.modeling.spec_p2l import ModelSpec
from p2l_sdk.scorers.onnx_scorer import OnnxScorer
from p2l_sdk.scorers.onnx_sessions import Runtime
from p2l_sdk.scorers.tryout import PATIENCE, in_child, last_line, limit

_SHAPES = ((1, 1), (32, 4), (2, 128))  # prompts and tokens
_LARGEST = 128  # tokens of a random shape, and of all its prompts
_SECONDS, _BYTES_A_SECOND = 8, 20_000_000  # of the processor; and a second more for so many bytes of weights
_BYTES, _COPIES = 3 << 29, 4  # of address space; and so many times the weights


def try_out_graph(folder: Path, runtime: Runtime) -> None:
    """Load and run the exported graph of a folder in a child process; it must have been checked by `inspect_onnx`.

    Args:
        folder: of the model.
        runtime: what runs it; where it is not installed, nothing is tried.

    Raises:
        ModelFormatError: the graph did not finish in time, ran out of memory, or failed.
    """
    seconds, n_bytes = _limits(folder)
    done = in_child("p2l_sdk.scorers.onnx_tryout", [str(folder), runtime], "", PATIENCE * seconds)
    if done is None or done.returncode:
        why = "it was ended" if done is None else last_line(done)
        raise ModelFormatError(
            f"the graph {str(folder / ONNX_FILE)!r} was tried out on at most {_LARGEST * 2} tokens, with {seconds} s "
            f"and {n_bytes >> 20:,} MB, and failed; do not use it: {why}"
        )


def _limits(folder: Path) -> tuple[int, int]:
    """Seconds and bytes of a child."""
    weights = graph_bytes(folder)
    return _SECONDS + weights // _BYTES_A_SECOND, _BYTES + _COPIES * weights


def _main(folder: Path, runtime: Runtime) -> None:
    config = read_config(folder)
    scorer = OnnxScorer.load(folder, config, runtime, threads=1)
    most = min(_LARGEST, ModelSpec.from_config(config).max_prompt_tokens)
    n_tokens = random.SystemRandom().randint(1, most)
    n_prompts = random.SystemRandom().randint(1, max(1, _LARGEST // n_tokens))
    for rows, length in (*_SHAPES, (n_prompts, n_tokens)):
        ids = np.zeros((rows, min(length, most)), dtype=np.int64)
        for session in scorer.sessions:
            scorer.run_ids(ids, np.ones_like(ids), session)


if __name__ == "__main__":
    limit(*_limits(Path(sys.argv[1])))
    try:
        _main(Path(sys.argv[1]), Runtime(sys.argv[2]))
    except MissingExtraError:  # the parent will say so
        pass
    except P2LError as error:
        sys.exit(" ".join(str(error).split()))
