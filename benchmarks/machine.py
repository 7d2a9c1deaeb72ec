"""The machine of a benchmark: its thread counts and its name.

Imported before numpy, torch and tokenizers, which read the thread counts as they are loaded. `--threads N` sets them;
by default there is one thread, so that a benchmark compares the work, not the schedulers.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Give a parser the option `--threads`, which has had its effect when this module was imported."""
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of numpy, torch, tokenizers  [1]")


def _asked() -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_threads(parser)
    return parser.parse_known_args(sys.argv[1:])[0].threads


THREADS = _asked()
os.environ.update(dict.fromkeys(VARIABLES, str(THREADS)))


def describe() -> str:
    """Processor, cores, threads and Python, for the caption of a table."""
    threads = "one thread" if THREADS == 1 else f"{THREADS} threads"
    return f"{_processor()}, {os.cpu_count()} cores, {threads}; Python {platform.python_version()}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
