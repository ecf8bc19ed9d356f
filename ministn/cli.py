"""What every command line shares: how it ends."""

import argparse
import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import NoReturn

from ministn.errors import UserError

INTERRUPTED = 130  # the shells' convention for a command that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """A parser to which an impossible flag is an error like any other: one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists all flags")


def run(main: Callable[[], int]) -> None:
    """Exit with what ``main`` returns.

    A UserError is one line on stderr and status 2, and so is what the system refuses.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows an epoch when it ends
    try:
        status = main()
    except (UserError, OSError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)
