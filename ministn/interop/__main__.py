"""``python -m ministn.interop``: do PyTorch and onnxruntime compute what our networks do?"""

import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ministn import cli
from ministn.errors import UserError
from ministn.files import check_output, write_atomically
from ministn.interop.check import BOUNDS, IMAGES, MOVED, SOFT, check, networks
from ministn.interop.extras import needed
from ministn.kinds import to_json
from ministn.runs import environment

LIBRARIES = "torch", "onnx", "onnxruntime"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, 1 if a network differs. Raises UserError."""
    parser = cli.Parser(
        prog="python -m ministn.interop",
        description="Export every network of the papers to PyTorch and ONNX, and compare what they "
        "compute. Exits with 1 where outputs differ by more than 1e-5 of the largest in float32, "
        "or 1e-10 in float64.",
        epilog="example:\n  python -m ministn.interop --json networks.json    (minutes)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the differences; default: nothing"
    )
    options = parser.parse_args(arguments)
    versions = {name: needed(name).__version__ for name in LIBRARIES}
    if options.json:
        check_output(options.json)
    rows, wrong = [], 0
    found = list(networks())
    for network, form in tqdm(found, desc="comparing", unit="network"):
        row = {"network": to_json(network), "form": vars(form)}
        try:
            checked = check(network, form)
        except UserError as error:
            rows.append(row | {"refused": str(error)})
            continue
        rows.append(row | {"parameters": checked.parameters, "differences": checked.differences})
        beyond = [name for name, bound in BOUNDS.items() if not checked.differences[name] < bound]
        wrong += bool(beyond)
        for name in beyond:
            tqdm.write(f"{network.kind} {network.name}: {name} {checked.differences[name]:.1e}")
    refused = [row for row in rows if "refused" in row]
    for row in refused:
        print(f"refused: {row['refused']}")
    for name, bound in BOUNDS.items():
        worst = max(row["differences"][name] for row in rows if "differences" in row)
        print(f"{name} differs by at most {worst:.1e}, allowed {bound:g}")
    print(f"{len(rows)} networks, {wrong} beyond, {len(refused)} refused")
    if options.json:
        record = {
            "format": 1,
            "command": "python -m ministn.interop --json FILE",
            **environment.commit(),
            "source_sha256": environment.source_sha256(),
            "versions": environment.versions() | versions,
            "device": environment.device(),
            "settings": {"images": IMAGES, "moved": MOVED, "soft": SOFT},
            "bounds": BOUNDS,
            "networks": rows,
        }
        write_atomically(options.json, (json.dumps(record, indent=1) + "\n").encode())
    return int(wrong > 0)


if __name__ == "__main__":
    cli.run(main)
