"""What came of gpu_check.py's parts: read from their records, packed, and shown in one table."""

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import benchmark_record
import gpu_check_engine as engine

from ministn.files import write_atomically

# pytest -v, in one process and in several.
OUTCOME = "(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)"
ALONE = re.compile(rf"^(tests/\S+?::.*?) {OUTCOME}\b")
SHARED = re.compile(rf"^\[gw\d+\] \[ *\d+%\] {OUTCOME} (tests/.*?) *$")
NAMED = 5  # failed tests, and slow kernels, that the table names

Lines = list[str]


def of(part: str, name: str, out: Path, faults: Callable[[], Lines]) -> Lines:
    """What a call came to, in lines for the table."""
    match part:
        case "check":
            return faults() + check(engine.read(out / "check.json"))
        case "tests":
            return counted(tests(out / "tests.log"))
        case "kernels":
            return kernels(rows(out, f"kernel/{name.split()[1]}/"))
        case "networks":
            _, net, precision = name.split()
            return [network(row) for row in rows(out, f"network/{precision}/{net}/").values()]
        case "table3":
            return trained(out / "table3.tar", name.partition(" ")[2])
    return ["see output.log"]


def check(record: engine.Record) -> Lines:
    """The numbers of the check."""
    compiled = record.get("compile", {})
    found = [f"{len(compiled)} files compiled in {sum(compiled.values()):.0f} s"]
    for key, what in (("off", "loss"), ("gradient_off", "gradient")):
        off = worst(record.get("agreement", {}), key)
        found.append(f"{what} off by at most " + ", ".join(f"{v:.1e} {p}" for p, v in off.items()))
    products = record.get("products", {})
    found.append("product off by " + ", ".join(f"{v:.1e} {p}" for p, v in products.items()))
    if record.get("stream", {}).get("kept") is False:
        found.append("after a copy of a view, training goes on otherwise: the stream is lost")
    found += [
        f"step of {name}: {row['gpu_ms']:.3f} ms, {row['host_ms']:.3f} ms of the host's"
        for name, row in record.get("steps", {}).items()
    ]
    return found


def worst(agreement: dict[str, Any], key: str) -> dict[str, float]:
    """The largest difference in each precision."""
    found: dict[str, float] = {}
    for name, row in agreement.items():
        precision = name.split()[1]
        found[precision] = max(found.get(precision, 0.0), row[key])
    return found


def tests(log: Path) -> dict[str, str]:
    """{test: what came of it last}, of a log that may have been cut off anywhere."""
    found: dict[str, str] = {}
    text = log.read_text(errors="replace") if log.exists() else ""
    for line in text.splitlines():
        if alone := ALONE.match(line):
            found[alone[1]] = alone[2]
        elif shared := SHARED.match(line):
            found[shared[2]] = shared[1]
    return found


def counted(outcomes: dict[str, str]) -> Lines:
    """How many tests passed and failed, and the first that failed."""
    count = Counter(outcomes.values())
    failed = [name for name, what in outcomes.items() if what in ("FAILED", "ERROR")]
    return [
        ", ".join(f"{n} {what.lower()}" for what, n in count.most_common()) or "none ran",
        *failed[:NAMED],
    ]


def rows(out: Path, prefix: str) -> dict[str, Any]:
    """What the benchmark's record has under a prefix."""
    path = out / "benchmark.json"
    return dict(benchmark_record.rows(benchmark_record.read(path), prefix)) if path.exists() else {}


def kernels(found: dict[str, Any]) -> Lines:
    """Beside PyTorch: the median, and the slowest."""
    if not found:
        return []
    ratios = {name: row["torch_eager"]["ratio"] for name, row in found.items()}
    slowest = sorted(ratios, key=lambda name: -ratios[name])[:NAMED]
    return [
        f"{len(found)} kernels take {median(ratios.values()):.2f} of PyTorch's time (median)",
        *(f"{name}: {ratios[name]:.2f}" for name in slowest),
    ]


def network(row: dict[str, Any]) -> str:
    """A training step beside PyTorch's."""
    sides = {"eager": row["torch_eager"], "compiled": row["torch_compile"]}
    theirs = [
        f"{side} {1e3 * times['median']:.3f} (ratio {times['ratio']:.2f})"
        for side, times in sides.items()
        if times is not None
    ]
    return ", ".join([f"ours {1e3 * row['ours']['median']:.3f} ms", *theirs])


def trained(tar: Path, net: str) -> Lines:
    """How far each run has come, and its test error."""
    found = []
    for content in unpacked(tar).values():
        record = json.loads(content)
        if net and record["settings"]["network"] != net:
            continue
        text = (
            f"{record['status']}, {len(record['epochs'])} of {record['settings']['epochs']} epochs"
        )
        if best := record["best"]:
            text += f", test error {best['test_error']:.2f} % (epoch {best['epoch']})"
            if best["test_overlap"] is not None:
                text += f", overlap {best['test_overlap']:.2f}"
        elif record["epochs"]:
            text += f", validation error {record['epochs'][-1]['valid_error']:.2f} %"
        found.append(text)
    return found


def pack(runs: Path, tar: Path) -> None:
    """Put the runs' records into one file, and keep those of runs that are elsewhere now."""
    records = {f"{path.parent.name}/{path.name}": path for path in runs.glob("*/record.json")}
    if not records:
        return
    contents = unpacked(tar) | {name: path.read_bytes() for name, path in records.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in sorted(contents.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    write_atomically(tar, packed.getvalue())


def unpacked(tar: Path) -> dict[str, bytes]:
    """{name: content} of all files in it; of none where there is none."""
    if not tar.exists():
        return {}
    with tarfile.open(tar) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


def table(record: dict[str, Any]) -> str:
    """Everything that was done or left out."""
    lines = ["", f"{'on ' + record['device']['name']:32}{'seconds':>8}  result"]
    for name, entry in record["calls"].items():
        lines.append(f"{name:32}{entry['seconds']:8.1f}  {entry['status']}")
        lines += [f"{'':42}{line}" for line in entry.get("result", [])]
    lines += [f"{name:40}  left out: {reason}" for name, reason in record["left_out"].items()]
    return "\n".join(lines)
