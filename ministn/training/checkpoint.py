"""Checkpoints: safetensors files with one JSON text beside the arrays. Nothing is ever unpickled.

The content depends on the training state alone. There is no clock in it, so a resumed run writes
the same bytes as an uninterrupted one.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from ministn.backend import assign, device_of, to_cpu
from ministn.errors import UserError
from ministn.files import write_atomically

FORMAT = 1
NUMBERS = "biuf"  # kinds of dtype
WIDEST = 8  # bytes


def save(path: Path, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    """Write ``arrays``, wherever they lie, and the JSON-able ``state``, atomically.

    What ``load`` returns is what was given, but that tuples in the state come back as lists and
    arrays in the machine's order of bytes.

    Raises TypeError or ValueError, before anything is written, for what would not come back: names
    that are no text, arrays that are not NumPy's or a GPU's or hold other things than numbers, a
    state with the key "format". Raises UserError when the disk is full or not writable. The
    previous file is then kept.
    """
    _check_state(state)
    text = json.dumps({"format": FORMAT, **state}, sort_keys=True, allow_nan=False)
    plain = {_name(name): _plain(name, array) for name, array in arrays.items()}
    write_atomically(Path(path), to_bytes(plain, metadata={"ministn": text}))


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"names of arrays must be text, got {name!r}")
    if name == "__metadata__":
        raise ValueError("no array may be called '__metadata__': the file has that for itself")
    return name


def _plain(name: str, array: Any) -> np.ndarray:
    """The array in memory as in a file."""
    if type(array) is not np.ndarray and device_of(array) is None:
        raise TypeError(f"array {name!r} must be a plain array, got {type(array).__name__}")
    if array.dtype.kind not in NUMBERS or array.dtype.itemsize > WIDEST:
        raise TypeError(f"array {name!r} must hold numbers of up to 64 bits, got {array.dtype}")
    found = np.asarray(to_cpu(array), order="C")
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def _check_state(state: Any, path: str = "state") -> None:
    """Raise unless JSON gives back what it is given: it makes text of keys that are none."""
    if path == "state" and not isinstance(state, dict):
        raise TypeError(f"state must be a dict, got {type(state).__name__}")
    if path == "state" and "format" in state:
        raise ValueError("state may not have the key 'format': it says how the file is to be read")
    if isinstance(state, dict):
        for key, value in state.items():
            if not isinstance(key, str):
                raise TypeError(f"keys of {path} must be text, got {key!r}")
            _check_state(value, f"{path}[{key!r}]")
    elif isinstance(state, list | tuple):
        for value in state:
            _check_state(value, f"an entry of {path}")


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and state of a file that ``save`` wrote.

    Raises UserError for a missing, unreadable, truncated or foreign file and for another format
    version.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # from a pipe nothing would ever come
            raise UserError(f"{path} is not a file: name a checkpoint")
        with open(path, "rb"):
            pass  # why a file cannot be read is the system's to say
        with safe_open(path, framework="numpy") as file:
            state = _state(path, file.metadata())  # first: NumPy lacks dtypes that others save
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable checkpoint: {error}; move it away") from error
    except (TypeError, AttributeError) as error:
        raise UserError(f"{path} was not written by ministn: {error}") from error
    return arrays, state


def _state(path: Path, metadata: dict[str, str] | None) -> dict[str, Any]:
    try:
        state = json.loads((metadata or {})["ministn"])
        found = state["format"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} was not written by ministn") from error
    if type(found) is not int or found != FORMAT:
        raise UserError(f"{path} has checkpoint format {found!r}, this version reads {FORMAT}")
    return state


def entry(path: Path, state: dict[str, Any], name: str) -> Any:
    """An entry of the state of the file at ``path``. Raises UserError if there is none."""
    if name not in state:
        raise UserError(f"{path} is another kind of checkpoint: it has no {name!r}")
    return state[name]


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


def check_same(path: Path, name: str, content: dict[str, Any], wanted: Any) -> None:
    """Raise UserError unless ``content[name]`` of the file at ``path`` is what is wanted.

    A field that there was not yet may be nothing: None, False or 0.
    """
    found = content.get(name)
    if found == wanted:
        return
    if isinstance(found, dict) and isinstance(wanted, dict):
        found, wanted = _flat(found), _flat(wanted)
        known = found.keys() | {k for k, value in wanted.items() if value}
        keys = sorted(k for k in known if found.get(k) != wanted.get(k))
        if not keys:
            return
        name = f"{name} ({', '.join(keys)})"
        found, wanted = [found.get(k) for k in keys], [wanted.get(k) for k in keys]
    raise UserError(f"{path} has other {name}: found {found}, expected {wanted}")


def _flat(content: dict[str, Any], path: str = "") -> dict[str, Any]:
    """What dictionaries in dictionaries hold, by paths."""
    found: dict[str, Any] = {}
    for name, held in content.items():
        found |= _flat(held, f"{path}{name}.") if isinstance(held, dict) else {path + name: held}
    return found
