"""python -m ministn.plot: what a run's transformers look at, from its record."""

from collections.abc import Sequence
from pathlib import Path

from ministn import cli, plot, runs
from ministn.errors import UserError
from ministn.files import check_output
from ministn.plot.drawing import save


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status. Raises UserError."""
    parser = cli.Parser(
        prog="python -m ministn.plot",
        description="Draw what the transformers of a recorded run look at in its test images: as a "
        "GIF, as a picture, or both.",
        epilog="example:\n  python -m ministn.plot runs/NAME/record.json --gif attention.gif",
    )
    parser.add_argument("record", type=Path, metavar="RECORD", help="a run's record.json")
    parser.add_argument(
        "--gif", type=Path, metavar="GIF", help="write a GIF with a frame for every epoch"
    )
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="PNG",
        help="write a picture of the beginning, halfway and the best epoch",
    )
    options = parser.parse_args(arguments)
    if not (options.gif or options.figure):
        raise UserError("nothing to draw: name a file with --gif, --figure or both")
    for path in filter(None, (options.gif, options.figure)):
        check_output(path)
    record = runs.read_record(options.record)
    if options.gif:
        plot.attention_gif(record, options.gif)
        print(f"wrote {options.gif}")
    if options.figure:
        save(plot.attention_figure(record), options.figure)
        print(f"wrote {options.figure}")
    return 0


if __name__ == "__main__":
    cli.run(main)
