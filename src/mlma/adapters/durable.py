"""What makes a rename survive a power cut."""

import os
from pathlib import Path


def sync_directory(folder: Path) -> None:
    """Flush the names of a folder; a rename is durable only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
