"""The engine of the server: batches, limits, failures, the cache, closing."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from conftest import MODELS, ROOT
from p2l_server import FakeScorer, numbers

from p2l_sdk import P2L, P2LError
from p2l_sdk.errors import PromptError
from p2l_sdk.modeling.prompt_p2l import user_turns
from p2l_sdk.serve import Engine
from p2l_sdk.serve.engine import cache as caching
from p2l_sdk.serve.engine import engine as engines
from p2l_sdk.serve.engine.batching import Job, JobQueue
from p2l_sdk.serve.engine.threads import DaemonThreads
from p2l_sdk.serve.errors import Closing, QueueFull, ScoringFailed, ScoringTimeout


def run(use, scorer=None, **settings):
    """Run `await use(engine, scorer)` with a started engine, then close it."""
    scorer = scorer or FakeScorer()

    async def main():
        engine = Engine(P2L(scorer), **settings)
        await engine.start()
        scorer.batches.clear()
        try:
            return await use(engine, scorer)
        finally:
            scorer.gate.set()
            await engine.close()

    return asyncio.run(main())


async def held(scorer, engine, first="the first"):
    """A request that occupies the only worker while the event loop stays free."""
    scorer.gate.clear()
    task = asyncio.create_task(engine.leaderboard(first))
    while not scorer.batches:
        await asyncio.sleep(0.001)
    return task


def texts(n):
    return [f"prompt {'x' * (i % 7)} number {i}" for i in range(n)]


def test_many_callers_get_what_each_alone_would():
    async def use(engine, scorer):
        first = await held(scorer, engine)
        tasks = [asyncio.create_task(engine.coefficients([text, text + "!"])) for text in texts(40)]
        await asyncio.sleep(0.05)
        scorer.gate.set()
        await first
        return await asyncio.gather(*tasks), [len(batch) for batch in scorer.batches]

    scored, sizes = run(use, max_batch=32)
    assert sizes[0] == 1
    assert max(sizes) == 32  # they were scored together
    assert sum(sizes) == 81
    for text, got in zip(texts(40), scored, strict=True):
        expected = np.stack([numbers(text), numbers(text + "!")])
        np.testing.assert_array_equal(got.coefs, expected[:, :-1])
        np.testing.assert_array_equal(got.eta, expected[:, -1:])


def test_a_large_request_is_cut_into_batches_and_keeps_its_order():
    asked = texts(100)

    async def use(engine, scorer):
        return await engine.coefficients(asked), [len(batch) for batch in scorer.batches]

    scored, sizes = run(use, max_batch=16)
    assert max(sizes) == 16
    np.testing.assert_array_equal(scored.coefs, np.stack([numbers(text)[:-1] for text in asked]))


def test_a_lone_request_starts_at_once_and_the_next_batch_waits_for_callers_to_come_back():
    async def use(engine, scorer):
        started = time.perf_counter()
        await engine.leaderboard("alone")
        await engine.leaderboard("alone again")
        alone = time.perf_counter() - started
        scorer.seconds = 0.5
        await asyncio.gather(*(engine.leaderboard(text) for text in texts(8)))  # one batch of 8
        scorer.batches.clear()

        async def caller(i):
            await asyncio.sleep(0.003 * i)
            await engine.leaderboard(f"back {i}")

        await asyncio.gather(*(caller(i) for i in range(8)))
        return alone, [len(batch) for batch in scorer.batches]

    alone, sizes = run(use, max_wait_ms=5000)
    assert alone < 2
    assert sizes == [8]


@pytest.mark.parametrize(
    ("max_wait_ms", "least", "most"), [(150, 0.1, 0.25), (5000, 0.25, 2.0)], ids=["its limit", "half the batch"]
)
def test_a_wait_ends(max_wait_ms, least, most):
    async def use(engine, scorer):
        scorer.seconds = 0.6
        await asyncio.gather(*(engine.leaderboard(text) for text in texts(8)))
        scorer.seconds, started = 0.0, time.perf_counter()
        await engine.leaderboard("the only one who came back")
        return time.perf_counter() - started

    assert least < run(use, max_wait_ms=max_wait_ms) < most + 0.5


def test_a_batch_is_the_oldest_job_and_those_nearest_in_length():
    loop = asyncio.new_event_loop()
    queue = JobQueue(3)
    lengths = [1000, 10, 990, 12, 2000, 1010]
    jobs = [Job(["x"], length, loop.create_future()) for length in lengths]
    for job in jobs:
        queue.put(job)
    batches = []
    while queue:
        batches.append([job.length for job in queue.take()])
    assert batches == [[1000, 990, 1010], [10, 12, 2000]]
    assert queue.prompts == 0
    for length in (60_000, 50, 40_000):  # padding to the long one would exceed the limit of a forward pass
        queue.put(Job(["x"], length, loop.create_future()))
    assert [[job.length for job in queue.take()] for _ in range(3)] == [[60_000], [50], [40_000]]
    loop.close()


def test_a_full_queue_refuses_and_says_when_to_come_back():
    async def use(engine, scorer):
        first = await held(scorer, engine)
        waiting = [asyncio.create_task(engine.leaderboard(text)) for text in texts(4)]
        await asyncio.sleep(0.02)
        with pytest.raises(QueueFull, match=r"4 prompts wait already; try again in \d+ s") as refused:
            await engine.leaderboard("one too many")
        exposed = engine.metrics.exposition().decode()
        scorer.gate.set()
        await asyncio.gather(first, *waiting)
        await engine.leaderboard("now there is room")
        return refused.value, exposed

    refused, exposed = run(use, queue_size=4)
    assert refused.retry_after >= 1
    assert refused.headers == {"Retry-After": f"{refused.retry_after:.0f}"}
    assert "p2l_queue_depth 4.0" in exposed


def test_a_caller_waits_no_longer_than_the_timeout_and_is_not_scored_after():
    async def use(engine, scorer):
        first = await held(scorer, engine)
        with pytest.raises(ScoringTimeout, match=r"did not answer within 0\.2 s"):
            await engine.leaderboard("given up")
        with pytest.raises(ScoringTimeout):
            await first
        problem = engine.problem
        scorer.gate.set()
        await asyncio.sleep(0.02)
        await engine.leaderboard("later")
        return problem, [text for batch in scorer.batches for text in batch], engine.ready

    problem, scored, ready = run(use, timeout_s=0.2)
    assert "has not answered for" in problem
    assert "given up" not in scored
    assert "later" in scored
    assert ready


def test_a_failure_fails_its_own_requests_shows_in_readiness_and_passes(monkeypatch, caplog):
    monkeypatch.setattr("p2l_sdk.serve.engine.engine._PROBE_SECONDS", 0.02)

    async def use(engine, scorer):
        assert engine.ready
        scorer.error = RuntimeError("out of memory while reading: my secret prompt")
        outcomes = await asyncio.gather(
            *(engine.leaderboard(f"my secret prompt {i}") for i in range(3)), return_exceptions=True
        )
        problem = engine.problem
        scorer.error = None
        await engine.leaderboard("all is well")
        scorer.error = RuntimeError("again")
        with pytest.raises(ScoringFailed):
            await engine.leaderboard("again")
        assert not engine.ready
        scorer.error = None
        while not engine.ready:  # without any request, its own probe finds out
            await asyncio.sleep(0.01)
        return outcomes, problem

    with caplog.at_level(logging.DEBUG):
        outcomes, problem = run(use)
    assert all(type(outcome) is ScoringFailed for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert problem == "the model failed (RuntimeError); the server's log says where"
    assert "RuntimeError at " in caplog.text
    assert "secret" not in caplog.text + "".join(map(str, outcomes))


def test_a_model_that_is_broken_from_the_start_is_never_ready():
    async def use(engine, scorer):
        return engine.problem

    scorer = FakeScorer()
    scorer.change = lambda rows: rows * np.nan
    assert "FloatingPointError" in run(use, scorer)


def test_one_bad_prompt_is_no_other_callers_trouble():
    class Picky(FakeScorer):
        def score(self, prompts):
            for i, prompt in enumerate(prompts):
                if user_turns(prompt) == ["\u2603"]:
                    error = PromptError("the prompt has no character that the tokenizer knows")
                    error.index = i
                    raise error
            return super().score(prompts)

    async def use(engine, scorer):
        first = await held(scorer, engine)
        asked = [engine.leaderboard("good"), engine.leaderboard("\u2603"), engine.leaderboards(["fine", "\u2603", "x"])]
        tasks = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0.02)
        scorer.gate.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    good, bad, many = run(use, Picky())
    np.testing.assert_array_equal(good.coefs, numbers("good")[:-1])
    assert str(bad) == "the prompt has no character that the tokenizer knows"
    assert str(many) == "prompt 1: the prompt has no character that the tokenizer knows"


def test_prompts_are_checked_before_they_wait():
    async def use(engine, scorer):
        with pytest.raises(PromptError, match="prompt 1: the prompt is empty"):
            await engine.leaderboards(["a", " "])
        with pytest.raises(PromptError, match=r"^the prompt is empty"):
            await engine.leaderboard(" ")
        with pytest.raises(PromptError, match="no prompts"):
            await engine.leaderboards([])
        return scorer.batches

    assert run(use) == []


def test_a_quick_model_scores_short_prompts_on_the_event_loop_and_long_ones_on_a_thread(routing9, monkeypatch):
    """The numbers are those of `P2L`, alone and among many; one empty prompt is nobody else's trouble."""
    places: list[tuple[bool, int]] = []
    plain = engines.score

    def noted(p2l, batch):
        places.append((threading.current_thread() is threading.main_thread(), max(job.length for job in batch)))
        return plain(p2l, batch)

    monkeypatch.setattr(engines, "score", noted)
    asked = [*texts(30), "long " * 500, "a", "again " * 400]

    async def use():
        engine = Engine(routing9, cache_mb=0)
        await engine.start()
        got = await asyncio.gather(*map(engine.leaderboard, asked), engine.leaderboard(" "), return_exceptions=True)
        await engine.close()
        return got

    *boards, refused = asyncio.run(use())
    assert isinstance(refused, PromptError)
    for prompt, board in zip(asked, boards, strict=True):
        np.testing.assert_allclose(board.coefs, routing9.leaderboard(prompt).coefs, atol=4e-6)
    assert {inline for inline, length in places if length >= 2000} == {False}
    assert {inline for inline, length in places if length < 100} == {True}


def test_a_quick_model_that_is_idle_scores_a_short_prompt_without_another_turn_of_the_event_loop(routing9):
    async def use():
        turns: list[str] = []
        engine = Engine(routing9, cache_mb=0)
        await engine.start()
        for prompt in ("short", "long " * 500):
            asyncio.get_running_loop().call_soon(turns.append, prompt)
            await engine.leaderboard(prompt)
            turns.append("scored")
        await engine.close()
        return turns

    assert asyncio.run(use()) == ["scored", "short", "long " * 500, "scored"]


def test_closing_finishes_what_was_accepted_and_takes_no_more():
    async def use(engine, scorer):
        tasks = [await held(scorer, engine)]
        tasks += [asyncio.create_task(engine.leaderboard(text)) for text in texts(5)]
        tasks += [asyncio.create_task(engine.aggregate(texts(5)))]
        await asyncio.sleep(0.02)
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0.02)
        assert engine.problem == "it is closing"
        with pytest.raises(Closing, match="the server is closing"):
            await engine.leaderboard("too late")
        scorer.gate.set()
        await closing
        return await asyncio.gather(*tasks)

    boards = run(use)
    assert [board.models for board in boards] == [MODELS] * 7
    assert boards[-1].n_prompts == 5


HANGS = """
import asyncio, threading
from p2l_server import FakeScorer
from p2l_sdk import P2L
from p2l_sdk.serve import Engine
from p2l_sdk.serve.errors import ScoringTimeout

async def main():
    scorer = FakeScorer()
    engine = Engine(P2L(scorer), timeout_s=0.1)
    await engine.start()
    scorer.score = lambda prompts: threading.Event().wait()
    try:
        await engine.leaderboard("a")
    except ScoringTimeout:
        await engine.close()
        print("closed")

asyncio.run(main())
"""


def test_a_model_that_hangs_keeps_no_process_from_its_end():
    script, env = [sys.executable, "-c", HANGS], {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    ended = subprocess.run(
        script, cwd=ROOT / "tests" / "support", env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "closed\n"), ended.stderr


def test_threads_do_what_is_submitted_and_end():
    threads, gate = DaemonThreads(1, "test"), threading.Event()
    first, second = threads.submit(gate.wait, 20), threads.submit(divmod, 7, 2)
    broken, left = threads.submit(divmod, 1, 0), threads.submit(divmod, 1, 1)
    assert left.cancel()
    gate.set()
    assert first.result(20)
    assert second.result(20) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        broken.result(20)
    gate.clear()
    last, never = threads.submit(gate.wait, 20), threads.submit(divmod, 7, 2)
    while not last.running():
        time.sleep(0.001)
    threads.shutdown(wait=False, cancel_futures=True)
    gate.set()
    threads.shutdown()
    assert last.result()
    assert never.cancelled()


@pytest.mark.parametrize("name", ["routing9", "arena"])
def test_an_aggregate_is_that_of_the_sdk(name):
    p2l = P2L.from_pretrained(name)
    prompts, weights = texts(30), [float(i % 3) for i in range(30)]

    async def main():
        engine = Engine(p2l)
        await engine.start()
        board = await engine.aggregate(prompts, weights=weights, seed=3)
        with pytest.raises(P2LError, match="there are fewer weights than prompts"):
            await engine.aggregate(prompts, weights=[1.0])
        await engine.close()
        return board

    board, expected = asyncio.run(main()), p2l.aggregate(prompts, weights=weights, seed=3)
    np.testing.assert_allclose(board.coefs, expected.coefs, atol=1e-6)
    np.testing.assert_allclose(board.intervals, expected.intervals, atol=1e-5)
    assert board.kinds == pytest.approx(expected.kinds)


def test_the_cache_answers_what_was_asked_before():
    async def use(engine, scorer):
        conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        await engine.leaderboards(["a", "b", "c"])
        scorer.batches.clear()
        again = await engine.leaderboards(["b", "new", conversation])
        return again, scorer.batches, engine.metrics.exposition().decode()

    again, batches, exposed = run(use)
    assert batches == [["new"]]  # only user turns are read
    for text, board in zip(["b", "new", "a"], again, strict=True):
        np.testing.assert_array_equal(board.coefs, numbers(text)[:-1])
        assert board.eta == numbers(text)[-1]
    assert "p2l_cache_hits_total 2.0" in exposed
    assert "p2l_cache_misses_total 4.0" in exposed


def test_the_cache_can_be_switched_off():
    async def use(engine, scorer):
        for _ in range(3):
            await engine.leaderboard("a")
        return scorer.batches

    assert run(use, cache_mb=0) == [["a"]] * 3


def test_the_cache_keeps_to_its_megabytes_and_forgets_the_least_used():
    cache = caching.CoefficientCache(0.5)
    row = np.zeros(11, dtype=np.float32)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    batch = np.zeros((64, 11), dtype=np.float32)
    for i in range(20_000):
        cache.put(caching.key([f"prompt {i}"]), batch[i % 64])
        cache.get(caching.key(["prompt 0"]))
    used = (tracemalloc.get_traced_memory()[0] - before) / 2**20
    tracemalloc.stop()
    assert cache.bytes <= 0.5 * 2**20
    assert 0.25 < used < 0.6
    assert cache.get(caching.key(["prompt 0"])) is not None
    assert cache.get(caching.key(["prompt 1"])) is None
    assert caching.key(["ab", "c"]) != caching.key(["a", "bc"])
    caching.CoefficientCache(0).put(b"k", row)


def test_settings_are_checked():
    with pytest.raises(P2LError, match="workers is 0; it must be above 0"):
        Engine(P2L(FakeScorer()), workers=0)
    with pytest.raises(P2LError, match="cache_mb is -1; it must be 0 or more"):
        Engine(P2L(FakeScorer()), cache_mb=-1)
