"""python -m ministn.data: prepare MNIST, also for a machine without network; look at the sets, and
write them for other software.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from ministn import cli
from ministn.data import export, mnist
from ministn.files import check_output
from ministn.kinds import replaced
from ministn.plot.data_sets import SETS, contact_sheet
from ministn.plot.drawing import save


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status. Raises UserError."""
    parser = cli.Parser(
        prog="python -m ministn.data",
        description="Fetch MNIST, look at the images of a data set, or write it for others.",
        epilog="Each command has its own --help: python -m ministn.data show --help",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    fetch = commands.add_parser(
        "fetch",
        help="download MNIST where it is missing, and check its four files",
        description="Look for MNIST's four files, download those that are missing and check the "
        "content of all four.",
        epilog="for a machine without network:\n"
        "  python -m ministn.data fetch --data-dir FOLDER/mnist\n"
        "      then copy FOLDER there and set MINISTN_DATA=FOLDER",
    )
    fetch.set_defaults(run=_fetch)
    show = commands.add_parser(
        "show",
        help="draw the first test images of a data set",
        description="Draw the first test images of a data set, with labels and true poses.",
        epilog="R, RTS, P, E and TC are explained by reproduce/stn_table1.py --help;\n"
        "mnist and digits are cluttered; all others: ministn/data/.\n\n"
        "example:\n  python -m ministn.data show RTS    (writes RTS.png here)",
    )
    show.set_defaults(run=_show)
    show.add_argument("set", choices=SETS, metavar="SET", help="one of " + ", ".join(SETS))
    show.add_argument("--seed", type=int, default=0, help="of the images' random draws; default: 0")
    show.add_argument(
        "--out", type=Path, metavar="PNG", help="where to write the picture; default: SET.png"
    )
    written = commands.add_parser(
        "export",
        help="write a data set as one .npz file, for other software",
        description="Write the whole of a data set as one .npz file, images, labels, boxes and "
        "poses, with a description of these, the seed and a SHA-256.",
        epilog="mnist and digits have the layout of mnist_cluttered_60x60_6distortions.npz: "
        "x_train,\ny_train and so on. What others have, ministn/data/export.py says.\n\n"
        "example:\n  python -m ministn.data export mnist --out cluttered.npz",
    )
    written.set_defaults(run=_export)
    written.add_argument(
        "set", choices=export.SETS, metavar="SET", help="one of " + ", ".join(export.SETS)
    )
    written.add_argument(
        "--out", type=Path, metavar="NPZ", help="where to write it; default: SET.npz"
    )
    written.add_argument(
        "--seed", type=int, default=0, help="of the images' random draws; default: 0"
    )
    written.add_argument(
        "--train-size", type=int, metavar="N", help="only the first N training images; default: all"
    )
    written.add_argument(
        "--epoch",
        type=int,
        default=1,
        metavar="N",
        help="whose training images, of sets that are drawn anew in each; default: 1",
    )
    for command in (fetch, show, written):
        command.add_argument(
            "--data-dir",
            type=Path,
            metavar="DIR",
            help="the only folder to look in and to download to; default: $MINISTN_DATA/mnist "
            "(or plankton, svhn), then the user's cache; downloads go to the cache",
        )
    options = parser.parse_args(arguments)
    options.run(options)
    return 0


def _fetch(options: Namespace) -> None:
    paths = mnist.fetch(options.data_dir)
    print("MNIST is complete and unaltered:", *paths, sep="\n")


def _show(options: Namespace) -> None:
    path = options.out or Path(f"{options.set}.png")
    check_output(path)
    save(contact_sheet(options.set, options.data_dir, options.seed), path)
    print(f"wrote {path}")


def _export(options: Namespace) -> None:
    path = options.out or Path(f"{options.set}.npz")
    check_output(path)
    data = replaced(export.SETS[options.set], "seed", options.seed)
    if options.train_size is not None:
        data = replaced(data, "train_size", options.train_size)
    digest = export.export(data, path, folder=options.data_dir, epoch=options.epoch)
    print(f"wrote {path}: {data}\nSHA-256 of its arrays: {digest}")


if __name__ == "__main__":
    cli.run(main)
