"""Settings of requests, skills and the folder that is watched."""

from pydantic import Field

from ai_stack.settings.part import Part


class Work(Part):
    """What a request may bring, and what a worker does."""

    request_max_bytes: int = Field(
        8 << 20, ge=1024, description="Largest request body, imports aside."
    )
    skill_folders: str = Field(
        "", description="Folders of your skills, parted by `:`; empty: <config_dir>/skills."
    )
    skill_paths: str = Field(
        "", description="Folders, parted by `:`, whose files a request may name to a skill."
    )
    skill_runs: int = Field(4, ge=1, le=64, description="Skills that a worker runs at once.")
    watch_imports: bool = Field(True, description="Follow the files under <data>/imports.")
    watch_interval_s: float = Field(2, gt=0, description="Seconds between looks at that folder.")
