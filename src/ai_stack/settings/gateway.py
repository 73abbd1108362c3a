"""Settings of the folders, the gateway and what it works on."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ai_stack.settings.part import Part


class Gateway(Part):
    """Where everything lies, and how the gateway is reached."""

    data_dir: Path = Field(description="Folder of all data, backed up as one.")
    config_dir: Path = Field(description="Folder of .env and ai-optimizer.json.")
    runtime_dir: Path | None = Field(
        None, description="Folder of the sockets; by default one for each data folder under /tmp."
    )
    run_as: str = Field(
        "nobody", description="The user that the parts run as when the stack is started by root."
    )
    host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    port: int = Field(8091, ge=1, le=65535, description="Port that the gateway listens on.")
    workers: int = Field(
        1, ge=1, le=64, description="Processes of the gateway that share its port."
    )
    shutdown_grace_s: int = Field(
        120, ge=1, description="Longest time that a gateway which stops has for open requests."
    )
    drain_s: float = Field(
        0,
        ge=0,
        le=600,
        description="Seconds for which a gateway that is told to stop still takes requests while "
        "`/health/ready` answers 503, so that a load balancer sends it no more.",
    )
    url: str | None = Field(
        None, description="Gateway that the data verbs of the command line talk to."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged."
    )
