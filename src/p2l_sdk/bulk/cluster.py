"""Bulk scoring on a Ray cluster: the same parts and the same work as in processes, in Ray actors with a model each.

The process that was called reads the input and writes the output, so the machines of the cluster need no common disk;
what an actor would write is sent back instead. Ray places the actors, sends a part on when one is free, starts an actor
again that has died, and has its part scored again.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2l_sdk.bulk.arrow import need_pyarrow
from p2l_sdk.bulk.folder import RunFolder
from p2l_sdk.bulk.work import Part, PartScorer
from p2l_sdk.errors import MissingExtraError, P2LError

if TYPE_CHECKING:
    import pyarrow

LOCAL = "local"
_RESTARTS = 3  # of an actor, and tries of a part after the first
_PATIENCE = 10.0  # seconds to wait for a connection
Files = list[tuple[Path, bytes]]


def need_ray() -> Any:
    """The package ray; MissingExtraError if it is not installed."""
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise MissingExtraError("scoring on a cluster", "ray", "ray") from None


def scored_parts(
    work: PartScorer, parts: Iterator[tuple[int, Part]], address: str, workers: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Score parts on a cluster, and yield the note on each when it is written, in whatever order.

    Args:
        work: scores a part.
        parts: parts with their numbers.
        address: "local" for a Ray of its own on this machine, "auto" for the one that runs here, "host:port", or
            "ray://host:10001".
        workers: number of actors; by default one for each core of the cluster, or each GPU if the model runs on GPUs.

    Raises:
        P2LError: as in the work; the cluster cannot be reached, or an actor died again and again.
    """
    ray = need_ray()
    from ray.util import ActorPool

    on_gpus = str(work.scorer.settings.device or "").startswith("cuda")
    with _connected(ray, address, workers):
        resource = "GPU" if on_gpus else "CPU"
        count = workers or int(ray.cluster_resources().get(resource, 0))
        if count == 0:
            raise P2LError(f"the Ray cluster {address!r} has no {resource}")
        actor = ray.remote(_Worker).options(
            num_cpus=1, num_gpus=int(on_gpus), max_restarts=_RESTARTS, max_task_retries=_RESTARTS
        )
        pool = ActorPool([actor.remote(work) for _ in range(count)])
        waiting = 0
        for part in parts:
            if waiting > count:  # one part more than there are actors: the next is read while they work
                yield _written(ray, pool, work.folder)
                waiting -= 1
            pool.submit(lambda one, value: one.score.remote(*value), part)
            waiting += 1
        for _ in range(waiting):
            yield _written(ray, pool, work.folder)


def _written(ray: Any, pool: Any, folder: RunFolder) -> tuple[int, dict[str, Any]]:
    try:
        answer = pool.get_next_unordered()
    except ray.exceptions.RayError as error:
        raise P2LError(
            f"a Ray actor failed ({str(error).strip().splitlines()[0]}); the parts that are finished are kept: give "
            "the same command again to go on"
        ) from None
    if isinstance(answer, Exception):
        raise answer
    number, note, files = answer
    for path, content in files:
        folder.write(path, content)
    return number, note


class _Worker:
    """A Ray actor: one model."""

    def __init__(self, work: PartScorer) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._folder = _Sent(work.folder.folder, work.folder.waiting)
        self._work = PartScorer(work.scorer, self._folder)

    def score(self, number: int, part: Part) -> tuple[int, dict[str, Any], Files] | Exception:
        self._folder.files.clear()
        try:
            note = self._work(number, part)
        except P2LError as error:
            return P2LError(str(error))
        except Exception as error:
            return RuntimeError(f"in part {number}: {type(error).__name__}: {error}")
        return number, note, list(self._folder.files)


class _Sent(RunFolder):
    """A folder whose files are not written but kept, in their order. Attributes: files, with path and content."""

    def __init__(self, folder: Path, waiting: bool = False) -> None:
        super().__init__(folder, waiting)
        self.files: Files = []

    def write_table(self, path: Path, table: pyarrow.Table) -> None:
        pa = need_pyarrow()
        sink = pa.BufferOutputStream()
        pa.parquet.write_table(table, sink, compression="zstd")
        self.write(path, sink.getvalue().to_pybytes())

    def write(self, path: Path, content: str | bytes) -> None:
        encoded = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
        self.files.append((path, encoded))


@contextlib.contextmanager
def _connected(ray: Any, address: str, workers: int | None) -> Iterator[None]:
    """Context manager of a connection to a cluster, unless there is one already."""
    if ray.is_initialized():
        yield
        return
    local = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if ":" in address:  # Ray itself would try for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), _PATIENCE).close()
        ray.init(address, log_to_driver=False, logging_level="error", **local)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise P2LError(f"the Ray cluster {address!r} cannot be reached: {str(error).strip().splitlines()[0]}") from None
    try:
        yield
    finally:
        ray.shutdown()
