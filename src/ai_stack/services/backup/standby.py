"""The restored database beside that of a server, as the swap moves it: it knows no files."""

from dataclasses import dataclass

from ai_stack.database import replacing
from ai_stack.services.backup.sources import servers_of
from ai_stack.settings import Settings


@dataclass(frozen=True, slots=True)
class Standby:
    """The database of a URL of its owner's, and the one that is to take its name."""

    url: str

    @property
    def place(self) -> str:
        return replacing.place_of(self.url)

    async def forward(self) -> None:
        await replacing.replace(self.url)

    async def backward(self) -> None:
        await replacing.give_back(self.url)

    async def clear(self, *, replaced: bool) -> None:
        await replacing.drop(self.url, replacing.REPLACED if replaced else replacing.RESTORING)


def standby_of(settings: Settings) -> Standby | None:
    """That of the server which the settings name; None where the supervisor keeps the database."""
    return None if settings.database is None else Standby(servers_of(settings).owner)
