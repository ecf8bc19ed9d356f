"""A run's folder by its name, and its record as it is read again."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ministn.errors import UserError
from ministn.kinds import differences, from_json
from ministn.runs import format1
from ministn.runs.settings import Settings

FORMAT = 2
RECORD = "record.json"
LONGEST = 150  # characters of what differs in a folder's name; its eight digits tell all

# What all records have, and no other file that this project writes.
MARKS = {"status", "epochs"}

Record = dict[str, Any]


def folder_name(settings: Settings) -> str:
    """Network, data, what differs from the defaults, seed, and eight digits over all of that.

    The number of epochs, which may grow, is not in it.
    """
    found = [each for each in differences(settings) if each.path != "training.epochs"]
    names = [settings.network.name, settings.data.name]
    spoken = [
        each.text if each.is_text else f"{each.path.rpartition('.')[2]}{each.text}"
        for each in found
        if not (each.required or each.path == "seed" or each.path.startswith("pretrained."))
    ]
    parts = [*names, *(text for text in spoken if not any(text in name for name in names))]
    digits = sha256("\n".join(f"{each.path} {each.text}" for each in found).encode()).hexdigest()
    name = "-".join(parts).replace(" ", "_")[:LONGEST]
    return f"{name}-seed{settings.seed}-{digits[:8]}"


def read_record(path: Path) -> Record:
    """A record.json, its settings as a value.

    Raises UserError for a file that is missing, damaged or of another version.
    """
    return _valued(path, _read(path))


def find_records(folders: list[Path], experiment: str | None = None) -> list[Record]:
    """The records of an experiment, or of all, under the folders, whatever their file names, in the
    order of their paths.

    Raises UserError if there is no record, or as read_record does.
    """
    return find(folders, experiment).own


class Found(NamedTuple):
    """own: the records asked for. others: how many there are of other experiments. skipped: files
    that are no records.
    """

    own: list[Record]
    others: int
    skipped: list[Path]


def find(folders: list[Path], experiment: str | None) -> Found:
    """All that find_records meets. Raises UserError as it does."""
    places = ", ".join(map(str, folders))
    paths = sorted(path for folder in folders for path in folder.rglob("*.json"))
    if not paths:
        raise UserError(f"no {RECORD} under {places}: nothing to report")
    records = {path: _read(path) for path in paths if _is_record(path)}
    if not records:
        raise UserError(f"no {RECORD} under {places}, only other JSON files: nothing to report")
    own = [
        _valued(path, record)
        for path, record in records.items()
        if experiment in (None, record.get("experiment"))
    ]
    skipped = [path for path in dict.fromkeys(paths) if path not in records]
    return Found(own, len(records) - len(own), skipped)


def _is_record(path: Path) -> bool:
    """Whether the file means to be a record: if it is damaged, a report may not pass over it."""
    if path.name == RECORD:
        return True
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.keys() >= MARKS


def _read(path: Path) -> Record:
    try:
        record: Record = json.loads(path.read_text())
        found = record["format"]
        if found == format1.FORMAT:
            record = format1.upgraded(record)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(f"{path} is not a record of a run; move it away or restore it") from error
    if found not in (format1.FORMAT, FORMAT):
        raise UserError(f"{path} has record format {found}, this version reads up to {FORMAT}")
    return record


def _valued(path: Path, record: Record) -> Record:
    try:
        settings = from_json(record["settings"])
        if not isinstance(settings, Settings):
            raise UserError("no settings of a run")
        return record | {"settings": settings}
    except (KeyError, TypeError, UserError) as error:
        reason = error if isinstance(error, UserError) else "its settings are damaged"
        raise UserError(f"{path} is not a record of a run: {reason}") from error
