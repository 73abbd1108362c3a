"""Expiries: many that come after one and the same time, on one timer."""

import asyncio

from ai_stack.services.inference.reading import Expiries


async def test_each_comes_in_its_time_unless_it_is_cancelled() -> None:
    loop, expiries = asyncio.get_running_loop(), Expiries(0.05)
    came: dict[str, float] = {}

    def note(name: str) -> float:
        return came.setdefault(name, loop.time())

    began: dict[str, float] = {}
    for name in ("one", "left", "two"):
        began[name] = loop.time()
        due = expiries.add(lambda name=name: note(name))  # type: ignore[misc]
        if name == "left":
            due.cancel()
            due.cancel()
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert list(came) == ["one", "two"]
    assert all(0.045 <= came[name] - began[name] < 0.09 for name in came)


async def test_it_begins_anew_when_none_was_left() -> None:
    expiries, came = Expiries(0.02), asyncio.Event()
    expiries.add(came.set).cancel()
    await asyncio.sleep(0.05)
    assert not came.is_set()
    expiries.add(came.set)
    async with asyncio.timeout(1):
        await came.wait()


async def test_one_may_cancel_and_add_others() -> None:
    expiries, came = Expiries(0.02), asyncio.Event()
    others = [expiries.add(came.clear)]
    others[0].cancel()
    first = expiries.add(lambda: (second.cancel(), expiries.add(came.set)))
    second = expiries.add(lambda: came.clear())
    async with asyncio.timeout(1):
        await came.wait()
    first.cancel()
