"""Libraries that are not needed but by who asks for them."""

from importlib import import_module
from typing import Any

from ministn.errors import UserError


def needed(name: str) -> Any:
    """The module of that name. Raises UserError where it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        library = name.split(".")[0]
        raise UserError(f"{library} is not installed: pip install -e '.[interop]'") from error
