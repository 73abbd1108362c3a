"""What is to outlast a loss of power, beside the contents of files."""

import os
from pathlib import Path


def sync(folder: Path) -> None:
    """Return when the names in a folder, files that were moved or linked there, are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
