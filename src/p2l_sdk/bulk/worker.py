"""A worker process: reads a `PartScorer` and parts from its standard input, and answers with notes.

It is started by `pool`; what its libraries print goes to standard error.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from multiprocessing.connection import Connection

from p2l_sdk.errors import P2LError, P2LWarning

_OFTEN = 0.2  # seconds


def _end_with(parent: int) -> None:
    """End this process when its parent has ended, even in the middle of a part."""
    while os.getppid() == parent:
        time.sleep(_OFTEN)
    os._exit(1)


def _work(parts: Connection, answers: Connection) -> None:
    work = parts.recv()
    while True:
        try:
            number, part = parts.recv()
        except EOFError:
            return
        answer: object
        try:
            answer = number, work(number, part)
        except P2LError as error:
            answer = P2LError(str(error))
        except Exception as error:
            answer = RuntimeError(f"in part {number}: {type(error).__name__}: {error}")
        answers.send(answer)


def main() -> None:
    """Work until standard input ends, or the parent process."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    warnings.simplefilter("ignore", P2LWarning)  # the parent loads the same model, and says it once
    answers = Connection(os.dup(1), readable=False)
    os.dup2(2, 1)
    _work(Connection(os.dup(0), writable=False), answers)


if __name__ == "__main__":
    main()
