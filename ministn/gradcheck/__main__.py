"""``python -m ministn.gradcheck``: check every backward pass, or break each to see it noticed."""

import re
import time

from ministn import cli
from ministn.errors import UserError
from ministn.fast.threads import limited
from ministn.gradcheck.check import GradientError
from ministn.gradcheck.faults import FAULTS
from ministn.gradcheck.suite import CHECKS

EXAMPLES = """\
examples (times on one core of a 2020 server):
  python -m ministn.gradcheck
      everything: less than a minute
  python -m ministn.gradcheck conv2d arch1-tstn
      an operation and a network: seconds
  python -m ministn.gradcheck relu --faults
      what is noticed when relu's backward pass is wrong
"""
WIDTH = 2 + max(map(len, CHECKS))  # of the column of names


def main(arguments: list[str] | None = None) -> int:
    """Run the checks whose names have one of the given words. Returns the exit status, 0 or 1.

    Raises UserError if no name does.
    """
    parser = cli.Parser(
        prog="python -m ministn.gradcheck",
        description="Check every backward pass against finite differences in float64: all "
        "operations, layers and whole networks. Exits with 1 if one is wrong.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="WORD",
        help="only the checks that have one of these words in their names; default: all",
    )
    parser.add_argument(
        "--faults",
        action="store_true",
        help="instead, break each backward pass on purpose and see whether its check notices; "
        "exits with 1 if a fault escapes",
    )
    options = parser.parse_args(arguments)
    # The arrays are tiny: one thread is fastest.
    with limited():
        return run_faults(options.names) if options.faults else run_checks(options.names)


def run_checks(words: list[str]) -> int:
    """Print one line for each check: its largest relative error, where, and the kinks met."""
    names = selected(list(CHECKS), words)
    began, worst, failed = time.perf_counter(), 0.0, 0
    print(f"{'check':<{WIDTH}}{'rel. error':<12}{'places':>7}{'kinks':>6}{'s':>6}  largest at")
    for name in names:
        start = time.perf_counter()
        try:
            report = CHECKS[name]()
        except Exception as error:  # a wrong backward pass may fail in any way
            kind = "" if isinstance(error, GradientError) else f"{type(error).__name__}: "
            failed += 1
            print(f"{name:<{WIDTH}}FAILED  {kind}{error}")
            continue
        seconds = time.perf_counter() - start
        worst = max(worst, report.error)
        print(
            f"{name:<{WIDTH}}{report.error:<12.1e}{report.points:>7}{len(report.kinks):>6}"
            f"{seconds:>6.1f}  {report.where}"
        )
    print(
        f"{len(names) - failed} of {len(names)} checks passed, largest relative error {worst:.1e}, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return int(failed > 0)


def run_faults(words: list[str]) -> int:
    """Print one line for each fault, and where the checker saw it."""
    began, escaped = time.perf_counter(), 0
    checks = selected([fault.check for fault in FAULTS], words)
    faults = [fault for fault in FAULTS if fault.check in checks]
    for fault in faults:
        error = fault.caught()
        escaped += error is None
        found = "ESCAPED " if error is None else "caught  "
        print(f"{found}{fault.check}: {fault.what}" + (f"  ({error.place})" if error else ""))
    print(
        f"{len(faults) - escaped} of {len(faults)} faults caught, "
        f"{time.perf_counter() - began:.0f} s"
    )
    return int(escaped > 0)


def selected(names: list[str], words: list[str]) -> list[str]:
    """The names that have one of the words in them, as whole words; all if there are none."""
    patterns = [rf"(?<!\w){re.escape(word)}(?!\w)" for word in words]
    found = [name for name in names if not words or any(re.search(p, name) for p in patterns)]
    if not found:
        raise UserError(
            f"no check's name has the word {' or '.join(map(repr, words))}; "
            "run the command without names to see them all"
        )
    return found


if __name__ == "__main__":
    cli.run(main)
