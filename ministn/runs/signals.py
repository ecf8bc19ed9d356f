"""How a run is told to stop, and what it says above its progress bar."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from tqdm import tqdm


def say(line: str) -> None:
    """Print a line above the bar, if there is a stream to print to."""
    if sys.stdout is not None:
        tqdm.write(line)


def stopping() -> list[signal.Signals]:
    """Ctrl-C, a scheduler's signal, and that of a terminal which is gone, if that is not ignored
    as with nohup.
    """
    found = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        found.append(signal.SIGHUP)
    return found


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and others ask to stop after the current step; a second Ctrl-C stops at once."""
    asked = said = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True
        with suppress(RuntimeError):  # it may come in the middle of a line
            tell()

    def tell() -> None:
        nonlocal said
        if asked and not said:
            say("stopping after this step; the run will be saved")
            said = True

    def stop() -> bool:
        tell()
        return asked

    before = {number: signal.signal(number, ask) for number in stopping()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
