"""A run's folder by its name, and its record as it is read again."""

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from ministn.data import CHOSEN_CLUTTER, DIGITS
from ministn.errors import UserError
from ministn.settings import Settings

FORMAT = 1
RECORD = "record.json"


def folder_name(settings: Settings) -> str:
    """Names everything but the number of epochs, which may grow."""
    s = settings
    data = f"data{s.data_seed}-n{s.train_size}-batch{s.batch_size}"
    if s.data in CHOSEN_CLUTTER:
        data = f"{s.data}{s.canvas}-clutter{s.distractors}x{s.patch}-{data}"
    else:  # the network's name says which set it is for
        data = f"{'digits-' if s.data.endswith(DIGITS) else ''}{data}"
    parts = [s.network, data, f"lr{_short(s.lr)}", f"loc{_short(s.loc_lr)}"]
    if s.optimizer != "adam":
        parts.append(f"{s.optimizer}{_short(s.momentum)}")
    if s.weight_decay:
        parts.append(f"wd{_short(s.weight_decay)}")
    if s.iterations is not None:
        parts.append(f"its{s.iterations}")
    if (s.decay, s.decay_every) != (Settings.decay, Settings.decay_every):
        parts.append(f"decay{_short(s.decay)}x{s.decay_every}")
    if s.downsample != Settings.downsample:
        parts.append(f"d{_short(s.downsample)}")
    if s.encoder:
        parts.append(f"by{sha256(s.encoder.encode()).hexdigest()[:8]}")
    if s.precision != Settings.precision:
        parts.append(s.precision)
    return "-".join([*parts, f"seed{s.seed}"])


def _short(value: float) -> str:
    return str(value).removesuffix(".0")


def read_record(path: Path) -> dict[str, Any]:
    """A record.json, checked for its format and settings.

    Raises UserError for a file that is missing, damaged or of another version.
    """
    try:
        record = json.loads(path.read_text())
        found = record["format"]
        if found == FORMAT:
            # Are they all there, and possible? Those that came later have their defaults.
            record["settings"] = asdict(Settings(**record["settings"]))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(f"{path} is not a record of a run; move it away or restore it") from error
    if found != FORMAT:
        raise UserError(f"{path} has record format {found}, this version reads {FORMAT}")
    return record


def find_records(folders: list[Path]) -> list[dict[str, Any]]:
    """All the records under the folders, whatever their file names, in the order of their paths.

    Raises UserError if there is none, or as read_record does.
    """
    paths = sorted(path for folder in folders for path in folder.rglob("*.json"))
    if not paths:
        raise UserError(f"no {RECORD} under {', '.join(map(str, folders))}: nothing to report")
    return [read_record(path) for path in paths]
