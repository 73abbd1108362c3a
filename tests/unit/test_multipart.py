"""Bodies of files: taken as they come, and given up where they stand still."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ai_stack.errors import TooSlow
from ai_stack.rest import multipart

PART = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n'


async def test_a_body_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield PART + b"x\r\n"
            await asyncio.sleep(0.25)
        await asyncio.sleep(60)

    monkeypatch.setattr(multipart, "SILENT_S", 0.6)
    came = 0
    with pytest.raises(TooSlow):
        async for _ in multipart.read_form("multipart/form-data; boundary=b", stuck()):
            came += 1
    assert came >= 3
