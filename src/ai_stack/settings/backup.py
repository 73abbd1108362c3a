"""Settings of backups."""

from pathlib import Path

from pydantic import Field

from ai_stack.settings.part import Part


class Backup(Part):
    """What is kept of the whole stack, for whom, and for how long."""

    backup_daily: bool = Field(
        True, description="Make a backup every day, in the worker, and prune the old ones."
    )
    backup_dir: Path | None = Field(
        None, description="Folder of the backups; by default <data_dir>/backups."
    )
    backup_recipients: str = Field(
        "",
        description="age recipients that backups are encrypted for, parted by commas: age1… or "
        "ssh-ed25519 …; empty: backups are not encrypted and hold no secrets.",
    )
    backup_identity: Path | None = Field(
        None, description="File of the age or SSH identity that opens encrypted backups."
    )
    backup_keep_days: int = Field(
        7, ge=1, le=3660, description="Days of which the newest backup is kept."
    )
    backup_keep_weeks: int = Field(
        4, ge=0, le=520, description="Weeks, counted likewise, of which the newest is kept."
    )
    backup_wal: bool = Field(
        False,
        description="Archive the supervised PostgreSQL's log into <backup_dir>/wal, for recovery "
        "to a point in time.",
    )
