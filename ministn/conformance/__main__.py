"""``python -m ministn.conformance``: exact vectors against this library and others."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ministn import cli
from ministn.conformance.compare import ERRS, outcome, totals
from ministn.conformance.report import lines
from ministn.conformance.runners import RUNNERS
from ministn.conformance.vectors import FILE, document
from ministn.errors import UserError
from ministn.files import check_output, write_atomically
from ministn.runs import environment

EXAMPLES = f"""\
examples:
  python -m ministn.conformance
      all libraries that are installed
  python -m ministn.conformance torch --json torch.json
      one, and every number of it that is wrong, in a file

The vectors, what they are and how to use them in any language:
  {FILE.relative_to(FILE.parents[2])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 1 if a library errs. Raises UserError."""
    parser = cli.Parser(
        prog="python -m ministn.conformance",
        description="Compare what libraries make of grids, samplers, warps and their slopes with "
        "exact numbers: how many agree, are those of another documented choice, or are wrong. "
        "Exits with 1 if a library errs.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "libraries", nargs="*", metavar="LIBRARY",
        help=f"of {', '.join(RUNNERS)}; default: all that are installed",
    )  # fmt: skip
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the outcome; default: nothing"
    )
    parser.add_argument(
        "--vectors", type=Path, metavar="FILE",
        help="instead, make the vectors anew by their formulas and write them; default: nothing",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    for name in options.libraries:
        if name not in RUNNERS:
            raise UserError(f"library must be one of {', '.join(RUNNERS)}, got {name!r}")
    for path in filter(None, (options.json, options.vectors)):
        check_output(path)
    if options.vectors:
        write_atomically(options.vectors, document().encode())
        return 0
    found: dict[str, dict[str, Any]] = {}
    for name in options.libraries or RUNNERS:
        try:
            runner = RUNNERS[name]()
        except UserError as error:
            if options.libraries:
                raise
            print(f"\n{error}")
            continue
        rows = outcome(runner)
        found[name] = {"version": runner.version, "groups": rows}
        print(f"\n{name} {runner.version}")
        print(*lines(rows), sep="\n")
    if options.json:
        record = {
            "format": 1,
            "command": "python -m ministn.conformance --json FILE",
            **environment.commit(),
            "versions": environment.versions(),
            "device": environment.device(),
            "libraries": found,
        }
        write_atomically(options.json, (json.dumps(record) + "\n").encode())
    return int(any(ERRS in totals(each["groups"]) for each in found.values()))


if __name__ == "__main__":
    cli.run(main)
