"""`--threads N` of the benchmarks: how many threads numpy, torch, jax and the tokenizers use, one without the option.

These libraries read their settings once, when they are loaded. So importing this module sets them, and a benchmark
imports it before anything else.
"""

from __future__ import annotations

import argparse
import os

_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments of a benchmark, whose help shows `--threads` too."""
    _add_option(parser)
    return parser.parse_args()


def _add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=_positive, default=1, metavar="N", help="threads of every library (1)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a number of threads: {text}")
    return int(text)


_early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
_add_option(_early)
THREADS: int = _early.parse_known_args()[0].threads
os.environ.update(dict.fromkeys(_SETTINGS, str(THREADS)))
