"""What every command line shares: how it ends."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, NoReturn

from ministn.errors import UserError
from ministn.parallel.mpi import led

INTERRUPTED = 130  # the shells' convention for a command that Ctrl-C ended


class Help(argparse.RawDescriptionHelpFormatter):
    """Descriptions and examples of several lines stay as they are written, and no name is cut at
    its hyphen.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, break_on_hyphens=False)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """A parser to which an impossible flag, or a part of one, is an error of one line."""

    def __init__(self, **how: Any) -> None:
        usual: dict[str, Any] = {"formatter_class": Help, "allow_abbrev": False}
        super().__init__(**usual | how)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists all flags")


def run(main: Callable[[], int]) -> NoReturn:
    """Exit with what ``main`` returns. Where mpirun started several ranks, the first runs it alone.

    A UserError is one line on stderr and status 2, and so is what the system refuses.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file shows an epoch when it ends
    with _errors_explained(), led(), _errors_explained():
        sys.exit(main())


@contextmanager
def _errors_explained() -> Iterator[None]:
    try:
        yield
    except (UserError, OSError, MemoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
