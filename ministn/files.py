"""Files that are either the old one or the new one, never half of either."""

import os
from contextlib import suppress
from pathlib import Path

from ministn.errors import UserError


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``: written beside it as .tmp, synced, renamed.

    Raises UserError when the disk is full or not writable; the old file is then still there.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        kept = "the previous one is kept" if path.exists() else "there is no previous one"
        raise UserError(f"cannot save {path}: {error.strerror}; {kept}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Some systems cannot open a folder; there the rename has to do."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process left behind in ``folder``."""
    for stale in folder.glob("*.tmp"):
        stale.unlink()
