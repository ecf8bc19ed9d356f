"""python -m ministn.data fetch: prepare MNIST, also for a machine without network."""

from collections.abc import Sequence
from pathlib import Path

from ministn import cli
from ministn.data import mnist


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status. Raises UserError."""
    parser = cli.Parser(prog="python -m ministn.data", description="The data sets.")
    commands = parser.add_subparsers(required=True, metavar="command")
    fetch = commands.add_parser(
        "fetch",
        help="download MNIST where it is missing, and check its four files",
        description="Look for MNIST's four files, download those that are missing and check the "
        "content of all four.",
        epilog="For a machine without network: fetch to FOLDER/mnist, copy FOLDER there and set "
        "MINISTN_DATA=FOLDER.",
    )
    fetch.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="the only folder to look in and to download to (default: $MINISTN_DATA/mnist, then "
        "the user's cache; downloads go to the cache)",
    )
    options = parser.parse_args(arguments)
    paths = mnist.fetch(options.data_dir)
    print("MNIST is complete and unaltered:", *paths, sep="\n")
    return 0


if __name__ == "__main__":
    cli.run(main)
