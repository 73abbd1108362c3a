"""Looking up what strangers send: few at once, so that they do not take every connection."""

import asyncio

AT_ONCE = 3


class Lookups(asyncio.Semaphore):
    """Held around each question to the database that whoever is not known yet can bring about."""

    def __init__(self) -> None:
        super().__init__(AT_ONCE)
