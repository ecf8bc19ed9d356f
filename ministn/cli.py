"""What every command line shares: how it ends."""

import sys
from collections.abc import Callable

from ministn.errors import UserError

INTERRUPTED = 130    # the shells' convention for a command that Ctrl-C ended


def run(main: Callable[[], int]) -> None:
    """Exit with what ``main`` returns; a UserError is one line on stderr and status 2."""
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = INTERRUPTED
    sys.exit(status)
