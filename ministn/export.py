"""``python -m ministn.export``: a recorded run's network for PyTorch or as an ONNX file."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from ministn import cli
from ministn.data import Form
from ministn.demo import load_network
from ministn.errors import UserError
from ministn.files import check_output, write_atomically
from ministn.interop import to_onnx, to_torch
from ministn.interop.extras import needed
from ministn.models import Network
from ministn.runs import Settings
from ministn.training.trainer import BEST

ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}

EXAMPLES = """\
examples:
  python -m ministn.export runs/NAME/record.json
      the best epoch's network as an ONNX file
  python -m ministn.export runs/NAME/best.safetensors --to torch --out stn.pt2
      for torch.export.load("stn.pt2").module(), where ministn need not be installed
"""


def load(path: Path) -> tuple[Network, Settings]:
    """The network of a run, at its best epoch, from its record, its folder or its weights.

    Raises UserError where they are not, and for a network that needs more than the file has.
    """
    if path.is_dir():
        path = path / BEST
    elif path.suffix == ".json":
        path = path.parent / BEST
        if not path.exists():
            raise UserError(f"{path} does not exist: name a record in the folder of its run")
    network, settings = load_network(path)
    if fixed := network.fixed_parameters():
        raise UserError(
            f"{path} lacks {fixed[0].name} and what else {settings.network.name} has from the run "
            "that it began with: use to_onnx or to_torch of ministn.interop"
        )
    return network, settings


def write_torch(network: Network, path: Path, form: Form) -> None:
    """Write the network as a program that PyTorch loads without ministn.

    Raises UserError where PyTorch is missing or nothing can be written, and as to_torch does.
    """
    torch = needed("torch")
    images = torch.zeros(2, *([1] if len(form.size) == 3 else [form.channels]), *form.size)
    batch = {0: torch.export.Dim("N")}
    program = torch.export.export(to_torch(network, form), (images,), dynamic_shapes=(batch,))
    content = BytesIO()
    torch.export.save(program, content)
    write_atomically(path, content.getvalue())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status. Raises UserError."""
    parser = cli.Parser(
        prog="python -m ministn.export",
        description="Write a recorded run's network, at its best epoch, for other software: images "
        "(N, C, H, W) of values from 0 to 1 -> scores.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's record.json, best.safetensors or folder"
    )
    parser.add_argument(
        "--to", choices=list(ENDINGS), default="onnx",
        help="onnx: an ONNX file of opset 20; torch: a program for torch.export.load; "
        "default: onnx",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, metavar="FILE",
        help="where to write it; default: the network's name here, with .onnx or .pt2",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    network, settings = load(options.run)
    out = options.out or Path(settings.network.name + ENDINGS[options.to])
    check_output(out)
    write = to_onnx if options.to == "onnx" else write_torch
    write(network, out, settings.data.form)
    print(f"wrote {out}: {settings.network.name}, {network.count:,} parameters")
    return 0


if __name__ == "__main__":
    cli.run(main)
