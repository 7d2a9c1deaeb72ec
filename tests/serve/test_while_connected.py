"""Work for a client: it ends when the client leaves, and nothing else is taken for that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from p2l_sdk.serve.gateway.relay import Disconnected, while_connected


class Client:
    """The other end of a connection."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def slow(steps: list[str]) -> str:
    try:
        await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        steps.append("broken off")
        raise
    steps.append("done")
    return "answer"


def test_it_ends_with_the_client_and_not_before():
    async def run() -> None:
        client, steps, own = Client(), list[str](), asyncio.current_task()
        assert await while_connected(client.receive, slow(steps)) == "answer"
        asyncio.get_running_loop().call_later(0.01, client.left.set)
        with pytest.raises(Disconnected):
            await while_connected(client.receive, slow(steps))
        assert await while_connected(client.receive, slow(steps), lambda: 5.0) == "answer"  # read on for its count
        with pytest.raises(Disconnected):
            await while_connected(client.receive, slow(steps), lambda: 0.01)
        assert steps == ["done", "broken off", "done", "broken off"]
        assert own is not None
        assert own.cancelling() == 0
        async with asyncio.timeout(5):  # what follows in the same task is not ended
            await asyncio.sleep(0.01)

    asyncio.run(run())


@pytest.mark.parametrize("leaves", [False, True])
def test_a_deadline_and_the_end_of_the_server_are_none_of_the_clients_doing(leaves):
    async def run() -> None:
        client, steps = Client(), list[str]()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await while_connected(client.receive, slow(steps))
        task = asyncio.ensure_future(while_connected(client.receive, slow(steps)))
        await asyncio.sleep(0.01)
        if leaves:
            client.left.set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["broken off", "broken off"]

    asyncio.run(run())


def test_a_fault_of_the_work_is_the_fault_that_is_told():
    async def faulty() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def run() -> None:
        with pytest.raises(ZeroDivisionError):
            await while_connected(Client().receive, faulty())

    asyncio.run(run())


def test_nobody_watches_the_client_of_work_that_is_done_at_once():
    looked: list[bool] = []

    async def receive() -> dict[str, Any]:
        looked.append(True)
        await asyncio.Event().wait()
        return {}

    async def work(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "answer"

    async def run() -> None:
        assert await while_connected(receive, work(0.0)) == "answer"
        assert not looked
        assert await while_connected(receive, work(0.1)) == "answer"
        assert looked == [True]

    asyncio.run(run())
