"""What every command line shares: what it prints to, and how it ends."""

import argparse
import errno
import io
import os
import select
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from ministn.errors import UserError
from ministn.parallel.mpi import led

INTERRUPTED = 130  # the shells' convention for a command that Ctrl-C ended
NOBODY_READS = (errno.EPIPE, errno.EIO)  # as after "| head", or where the terminal is gone


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

    A UserError is one line on stderr and status 2, and so is what the system refuses. Streams that
    are closed, or that nobody reads any more, end no work, see lasting_streams.
    """
    with lasting_streams(), _errors_explained(), led(), _errors_explained():
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


# -- streams that end no work --------------------------------------------------------------------


@contextmanager
def lasting_streams() -> Iterator[None]:
    """In this block whatever becomes of stdin, stdout and stderr is no error to who uses them.

    What nobody reads is dropped. Where stdout takes no more for another reason, as on a full disk,
    a status of 0 becomes 1: what was asked for may have been printed, and is lost.
    """
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)
    try:
        yield
    except SystemExit as end:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
        lost = raw.lost if isinstance(raw, Lasting) else None
        if end.code or lost is None or lost.errno in NOBODY_READS:
            raise
        print(f"error: not all could be printed: {lost.strerror}", file=sys.stderr)
        raise SystemExit(1) from end
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


class Lasting(io.FileIO):
    """A file that takes all that is written to it; lost: what the system said when it did not."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        while True:
            try:
                written = super().write(data)
            except OSError as error:
                self.lost = error
                _to_nowhere(self.fileno())
                return memoryview(data).nbytes
            if written is not None:
                return written
            select.select([], [self], [])  # another program has made it one that does not wait


def _lasting(stream: Any) -> Any:
    """The same stream, which lasts; one that is no file as it is, as in a notebook."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    with suppress(OSError, ValueError):  # closed or broken: what is in it is lost anyway
        stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if not isinstance(raw, io.FileIO) or isinstance(raw, Lasting) or raw.closed:
        stream.reconfigure(line_buffering=True)  # a log file shows an epoch when it ends
        return stream
    file = Lasting(raw.fileno(), "w", closefd=False)
    errors = stream.errors if stream.errors != "strict" else "backslashreplace"
    buffer = io.BufferedWriter(file)
    return io.TextIOWrapper(buffer, stream.encoding, errors, line_buffering=True)


def _open_closed() -> None:
    """Give the numbers 0, 1 and 2, where they are free, to streams from and to nowhere.

    Else the next files to be opened would get them: a checkpoint would be somebody's stderr.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            _to_nowhere(number)
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)
    os.set_inheritable(number, True)
