"""Files that are either the old one or the new one, never half of either."""

import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ministn.errors import UserError

KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
# What write_atomically calls a file before it gets its name; earlier versions without the digits.
TEMPORARY = re.compile(r".+\.(safetensors|json|png|gif|npz)(\.[0-9a-f]{8})?\.tmp")


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises UserError for one that is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: make it first") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: move it away or restore it") from error


def check_output(path: Path) -> None:
    """Raise UserError if ``write_atomically`` would refuse to write there, whatever the content.

    For commands that work long before they write.
    """
    folder = _place(path)[0].parent
    if not folder.is_dir():
        raise UserError(f"cannot save {path}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot save {path}: nothing may be written into {folder}")


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``. Raises UserError as ``replacing`` does."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write what is to replace ``path``: beside it as .tmp, at the end synced, renamed.

    A symbolic link is followed: what it leads to is replaced. The file keeps its mode, and its
    owner where that is allowed. Of a file with several names (hard links) this one becomes the new
    file and the others stay the old one, as copies that were made by linking expect.

    Raises UserError for anything but a regular file, as a folder, a pipe or a device, for one that
    is write-protected, and when the disk is full or not writable. Then, and whatever else ends the
    writing, as Ctrl-C does, the old file is still there and nothing of the new one.
    """
    place, before = _place(path)
    temporary = place.with_name(f"{place.name}.{secrets.token_hex(4)}.tmp")  # nobody else's
    try:
        with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "w+b") as file:
            if before is not None:
                _keep(before, file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
        _sync_folder(place.parent)
    except OSError as error:
        kept = "the previous one is kept" if os.path.exists(path) else "there is no previous one"
        raise UserError(f"cannot save {path}: {error.strerror}; {kept}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _place(path: Path) -> tuple[Path, os.stat_result | None]:
    """Where writing to ``path`` ends, and what is there."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):  # a link that leads nowhere is followed too
        return Path(os.path.realpath(path)), None
    except OSError as error:
        raise UserError(f"cannot save {path}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in KINDS.items() if test(found.st_mode)), "no file")
        raise UserError(f"cannot save {path}: it is {kind}, not a regular file; name another")
    if not os.access(path, os.W_OK):
        raise UserError(f"cannot save {path}: it is write-protected; name another or unprotect it")
    return Path(os.path.realpath(path)), found


def _keep(before: os.stat_result, descriptor: int) -> None:
    """Give a new file the mode of the one that it replaces, and its owner where that is allowed."""
    if not hasattr(os, "fchmod"):
        return
    with suppress(OSError):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    with suppress(OSError):  # of file systems that have no modes
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


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
    """Remove what a killed process left behind in ``folder``, and nothing else."""
    for stale in folder.glob("*.tmp"):
        if TEMPORARY.fullmatch(stale.name) and stale.is_file():
            stale.unlink()
