"""What the pages say of the record of ``benchmark.py --cpu``."""

from math import nan
from pathlib import Path

from papers import layout

from benchmarks.record import Row, rows, shown
from ministn.errors import UserError
from ministn.files import read_json

WORST = 10  # convolutions that are shown at once
SHOWN = "arch1-cnn", "arch1-tstn", "arch2-tstn"  # on the README's first screens


def page(path: Path) -> str:
    """Steps and convolutions beside PyTorch's, how a step grows, and where its time goes: of all
    this as much as was measured.
    """
    record = _read(path)
    parts = (_steps(record), _convolutions(record), _growths(record), _profiles(record))
    return "\n\n".join(part for part in parts if part)


def _steps(record: Row) -> str:
    """The networks' training steps, the worst beside PyTorch first."""
    steps, memory = (dict(rows(record, prefix)) for prefix in ("step/", "memory/"))
    header = ["network", "batch", "ours, ms", "PyTorch eager, ms", "torch.compile, ms"]
    header += ["ours / eager", "memory, ours / eager"]
    lines = []
    for name, row in _worst_first(steps):
        times = [shown(row.get(side), 1e3, 1) for side in ("ours", "torch", "compiled")]
        ratios = [shown(found.get("ratio"), 1, 2) for found in (row, memory.get(name, {}))]
        lines.append([*name.split("/"), *times, *ratios])
    made = dict.fromkeys(_made(record["runs"][row["run"]]) for row in steps.values())
    return "\n\n".join([layout.pipes(header, lines), *made])


def _worst_first(measured: dict[str, Row]) -> list[tuple[str, Row]]:
    """(name, row), that with the highest ratio to PyTorch first."""
    return sorted(measured.items(), key=lambda item: -item[1].get("ratio", 0))


def _made(run: Row) -> str:
    """How steps were measured in a run."""
    device = run["device"]
    blas = f", NumPy with {device['blas']}" if "blas" in device else ""
    return (
        f"Medians of {run['rounds']} steps of each, on {device['workers']} of "
        f"{device['cores']} cores of {device['name']}{blas}, PyTorch {run['versions']['torch']}."
    )


def _convolutions(record: Row) -> str:
    """Blocks on one thread, forward and backward together, the worst first, and most of them
    folded away.
    """
    header = ["paper", "convolution", "images", "ours, ms", "PyTorch eager, ms", "ours / eager"]
    header += ["ours, GFLOP/s", "PyTorch's", "ours as counted, ms"]
    blocks: dict[str, Row] = {}
    for name, row in rows(record, "convolution/"):
        block = blocks.setdefault(name.rpartition("/")[0], {})
        for side in ("ours", "torch", "flops", "counted"):
            block[side] = block.get(side, 0.0) + row.get(side, nan)
    for block in blocks.values():
        block["ratio"] = block["ours"] / block["torch"]
    lines = []
    for name, row in _worst_first(blocks):
        rates = [row["flops"] / row[side] for side in ("ours", "torch")]
        lines.append([
            *name.split("/"), *(shown(row[side], 1e3, 1) for side in ("ours", "torch")),
            shown(row["ratio"], 1, 2), *(shown(rate, 1e-9, 0) for rate in rates),
            shown(row["counted"], 1e3, 1),
        ])  # fmt: skip
    shut = lines[WORST:]
    words = (
        "Convolution blocks on one thread, forward and backward with all gradients, by channels in "
        "and out, kernel and size of the maps; without *valid* the padding is *same*. GFLOP/s are "
        "those of the direct convolution, so Winograd's method may show more than the core can do:"
    )
    parts = [words, layout.pipes(header, lines[:WORST])] if lines else []
    if shut:
        summary = f"<details><summary>The other {len(shut)} convolutions</summary>"
        parts += [summary, layout.pipes(header, shut), "</details>"]
    return "\n\n".join(parts)


def _profiles(record: Row) -> str:
    """Where the time of a step goes, for each image, folded away."""
    steps = dict(rows(record, "profile/"))
    parts = list(dict.fromkeys(part for row in steps.values() for part in row))
    parts = [part for part in parts if part not in ("ours", "run")]
    lines = []
    for name, row in steps.items():
        network, batch = name.split("/")
        each = [shown(row.get(part), 1e3 / int(batch), 3) for part in [*parts, "ours"]]
        lines.append([network, batch, *each])
    header = ["ms for each image", "batch", *parts, "whole step"]
    summary = "<details><summary>Where the time of a step goes</summary>"
    return "\n\n".join([summary, layout.pipes(header, lines), "</details>"]) if lines else ""


def _growths(record: Row) -> str:
    """How far the time for an image or a pixel is from constant, in sentences."""
    found = []
    for what, unit in (("batch", "image"), ("side", "pixel")):
        measured = dict(rows(record, f"growth/{what}/"))
        sizes = [int(name.split("/")[1]) for name in measured if "/" in name]
        for network in (name for name in measured if "/" not in name):
            change = 100 * (measured[network]["variation"] - 1)
            found.append(
                f"Of {network}, the time for each {unit} differs by at most {change:.0f} % between "
                f"a {what} of {min(sizes)} and one of {max(sizes)}."
            )
    return "\n".join(found)


def _read(path: Path) -> Row:
    """The record, which must have a step or two. Raises UserError if it has not."""
    record = read_json(path)
    if not dict(rows(record, "step/")):
        raise UserError(f"{path} has no step/...: run reproduce/benchmark.py --cpu")
    return record


def speed(path: Path) -> str:
    """Three networks' steps beside PyTorch's."""
    steps = dict(rows(_read(path), "step/"))
    lines = []
    for network in SHOWN:
        if row := steps.get(f"{network}/256"):
            times = [shown(row.get(side), 1, 2) for side in ("ours", "torch", "compiled")]
            lines.append([network, *times, shown(row.get("ratio"), 1, 2)])
    header = ["step of 256 images", "ours, s", "PyTorch eager, s", "torch.compile, s"]
    header.append("ours / eager")
    return layout.pipes(header, lines)
