"""Checkpoints: safetensors files with one JSON text beside the arrays. Nothing is ever unpickled.

The content depends on the training state alone. There is no clock in it, so a resumed run writes
the same bytes as an uninterrupted one.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from ministn.backend import assign, to_cpu
from ministn.errors import UserError
from ministn.files import write_atomically

FORMAT = 1


def save(path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    """Write ``arrays``, wherever they lie, and the JSON-able ``state``, atomically.

    Raises UserError when the disk is full or not writable; the previous file is then kept.
    """
    text = json.dumps({"format": FORMAT, **state}, sort_keys=True, allow_nan=False)
    contiguous = {name: np.ascontiguousarray(to_cpu(array)) for name, array in arrays.items()}
    write_atomically(path, to_bytes(contiguous, metadata={"ministn": text}))


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and state of a file that ``save`` wrote.

    Raises UserError for a missing, truncated or foreign file and for another format version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            state = _state(path, file.metadata())  # first: NumPy lacks dtypes that others save
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable checkpoint: {error}; delete it") from error
    return arrays, state


def _state(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    try:
        state = json.loads((metadata or {})["ministn"])
        found = state["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} was not written by ministn") from error
    if found != FORMAT:
        raise UserError(f"{path} has checkpoint format {found}, this version reads {FORMAT}")
    return state


def fill(path: Path, arrays: dict[str, np.ndarray], into: dict[str, np.ndarray]) -> None:
    """Copy loaded ``arrays`` into existing ones, which must match by name, shape and dtype.

    Raises UserError naming the first array that is missing, surplus or of another shape.
    """
    for name in sorted(arrays.keys() | into.keys()):
        if name not in arrays or name not in into:
            side = "lacks" if name not in arrays else "has an unknown"
            raise UserError(f"{path} is of another network: it {side} array {name!r}")
        found, wanted = arrays[name], into[name]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise UserError(
                f"{path} is of another network: {name!r} is {found.dtype} {found.shape}, "
                f"expected {wanted.dtype} {wanted.shape}"
            )
    for name, wanted in into.items():
        assign(wanted, arrays[name])
