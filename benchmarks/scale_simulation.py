"""A simulation of many workers that score files of prompts part by part, event by event.

Each worker takes the next part, reads it, scores it, writes the result, and takes the next one. All share one storage,
which serves one part after the other; a driver merges the statistics of finished parts, one after the other. Some
workers are slow, all the time. Any may be killed at any moment (exponential waiting times): the part it had begun is
lost and goes back to the others, and it comes back after a while. No part is begun twice while it is in work.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be done: `parts`, and the seconds that one takes to read and to write (of the shared storage), to
    work on (of an ordinary worker), and to merge (of the driver)."""

    parts: int
    work_s: float
    read_s: float = 0.0
    write_s: float = 0.0
    merge_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Who does it: `workers`; seconds until one starts to work; the share of slow ones, and how many times longer these
    take; how often each is killed, and the seconds until it works again; when the first ones are killed at any rate."""

    workers: int
    start_s: float = 0.0
    slow_share: float = 0.0
    slow_factor: float = 1.0
    kills_per_hour: float = 0.0
    restart_s: float = 0.0
    killed_at: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """What happened: seconds from the start to the last merge, seconds of work that were lost, and the kills."""

    wall_s: float
    lost_s: float
    kills: int

    def efficiency(self, job: Job, fleet: Fleet) -> float:
        """The work that had to be done, as a share of what the workers' time was worth."""
        return job.parts * job.work_s / (self.wall_s * fleet.workers)


def simulate(job: Job, fleet: Fleet, seed: int = 0) -> Run:
    """One run."""
    return _Simulation(job, fleet, seed).run()


class _Simulation:
    def __init__(self, job: Job, fleet: Fleet, seed: int) -> None:
        self.job, self.fleet, self.random = job, fleet, np.random.default_rng(seed)
        slow = self.random.random(fleet.workers) < fleet.slow_share
        self.factors = np.where(slow, fleet.slow_factor, 1.0).tolist()
        self.kill_at = [fleet.start_s + self._until_killed() for _ in range(fleet.workers)]
        self.kill_at[: len(fleet.killed_at)] = fleet.killed_at
        self.began = [0.0] * fleet.workers
        self.waiting, self.idle = job.parts, deque[int]()
        self.storage_free = self.driver_free = self.lost = 0.0
        self.done = self.kills = 0
        self.order = itertools.count()  # events of one moment happen in the order in which they were foreseen
        self.events = [(fleet.start_s, next(self.order), worker, "take") for worker in range(fleet.workers)]
        heapq.heapify(self.events)

    def run(self) -> Run:
        while self.done < self.job.parts:
            now, _, worker, event = heapq.heappop(self.events)
            if event == "take":
                self._take(now, worker)
            elif event == "work":
                self._until(now + self.job.work_s * self.factors[worker], worker, "write")
            elif event == "write":
                self._until(self._stored(now, self.job.write_s), worker, "done")
            elif event == "done":
                self.done += 1
                self.driver_free = max(self.driver_free, now) + self.job.merge_s
                self._take(now, worker)
            else:
                self._killed(now, worker)
        return Run(wall_s=self.driver_free, lost_s=self.lost, kills=self.kills)

    def _take(self, now: float, worker: int) -> None:
        if self.kill_at[worker] < now:  # it was idle then, and is back
            self.kill_at[worker] = now + self._until_killed()
        if not self.waiting:
            self.idle.append(worker)
            return
        self.waiting -= 1
        self.began[worker] = now
        self._until(self._stored(now, self.job.read_s), worker, "work")

    def _stored(self, now: float, seconds: float) -> float:
        """When the storage is done with what is asked of it now."""
        self.storage_free = max(self.storage_free, now) + seconds
        return self.storage_free

    def _until(self, end: float, worker: int, event: str) -> None:
        """The event, unless the worker is killed before."""
        if self.kill_at[worker] < end:
            end, event = self.kill_at[worker], "killed"
        heapq.heappush(self.events, (end, next(self.order), worker, event))

    def _killed(self, now: float, worker: int) -> None:
        self.kills += 1
        self.lost += now - self.began[worker]
        self.waiting += 1
        back = now + self.fleet.restart_s
        self.kill_at[worker] = back + self._until_killed()
        heapq.heappush(self.events, (back, next(self.order), worker, "take"))
        if self.idle:
            heapq.heappush(self.events, (now, next(self.order), self.idle.popleft(), "take"))

    def _until_killed(self) -> float:
        rate = self.fleet.kills_per_hour / 3600.0
        return float(self.random.exponential(1.0 / rate)) if rate else float("inf")
