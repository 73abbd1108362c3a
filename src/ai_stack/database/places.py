"""Where the files of the watched folder were when they were followed, as rows."""

from collections.abc import Mapping

from ai_stack.database import Transaction


async def known(tx: Transaction) -> dict[str, int]:
    """Path -> inode, of the folder itself (`""`) and of what is mounted below it (`nas/`)."""
    return {path: int(inode) for path, inode in await tx.rows("SELECT path, inode FROM places")}


async def replace(tx: Transaction, places: Mapping[str, int]) -> None:
    """These are the places from now on."""
    await tx.execute("DELETE FROM places")
    await tx.execute(
        "INSERT INTO places (path, inode)"
        " SELECT * FROM unnest(%(paths)s::text[], %(inodes)s::numeric[])",
        {"paths": list(places), "inodes": list(places.values())},
    )
