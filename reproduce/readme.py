"""Writes the parts of README.md that come from records and sources, and its figures.

The README shows no number that was typed by hand: tables and times are rendered from
reproduce/records/, and the sampler's backward pass is cut out of ministn/ops/bilinear.py.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import benchmarks.figure
import benchmarks.record
import learning_rate
from benchmarks.record import shown
from papers import colocalisation_report, layout, stn_report, tstn_figures, tstn_report
from papers.claims import Record
from tqdm import tqdm

from ministn import cli, runs
from ministn.errors import UserError
from ministn.files import write_atomically
from ministn.plot import drawing
from ministn.runs import environment

ROOT = Path(__file__).parents[1]
README, FIGURES = ROOT / "README.md", ROOT / "figures"
RECORDS = ROOT / "reproduce" / "records"
TABLE3, QUICK, STUDY = RECORDS / "table3", RECORDS / "quick", RECORDS / "learning-rate"
STN = {
    "stn": RECORDS / "stn-table1",
    "addition": RECORDS / "stn-addition",
    "projection": RECORDS / "stn-projection3d",
}
COLOCALISATION = RECORDS / "stn-colocalisation"
COMMANDS, BENCHMARK = RECORDS / "commands.json", RECORDS / "benchmark-cpu.json"
SAMPLER = ROOT / "ministn" / "ops" / "bilinear.py"

# What the first screen invites to, in the order of see, train, check.
INVITATIONS = {
    "python -m ministn.demo": "see it: where a trained transformer looks",
    "python reproduce/table3.py --quick": "train it: all six networks on embedded digits",
    "python -m ministn.gradcheck": "check it: every backward pass by finite differences",
}

EXAMPLES = """\
examples:
  python reproduce/readme.py           rewrite README.md and figures/ from the records
  python reproduce/readme.py --check   only say whether README.md agrees with them
  python reproduce/readme.py --time    run the first screen's commands and record their times
"""


def core() -> str:
    """The sampler's backward pass: the lines from its first loop to its result."""
    source = SAMPLER.read_text().split("def bilinear_sampler_backward", 1)[1]
    lines = re.search(r"^    for n, .*?^    dgrid = .*?$", source, re.DOTALL | re.MULTILINE)
    assert lines is not None, "ops/bilinear.py no longer has the loop that the README shows"
    return f"```py\n{dedent(lines.group())}\n```"


def commands() -> str:
    """The three commands with their measured times."""
    record = read(COMMANDS)
    width = max(map(len, INVITATIONS))
    lines = [
        f"{command:<{width}}   # {purpose}: {duration(record['seconds'][command])}"
        for command, purpose in INVITATIONS.items()
    ]
    device = record["device"]
    where = f"Times on {device['name']} with {device['cores']} cores."
    return "```bash\n" + "\n".join(lines) + f"\n```\n\n{where}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.1f} minutes"


def benchmark() -> str:
    """A training step beside PyTorch's, and how it grows."""
    record = read(BENCHMARK)
    steps, memory = (_measured(record, prefix) for prefix in ("step/", "memory/"))
    lines = [
        "| network | batch | ours, s | PyTorch eager, s | torch.compile, s "
        "| ours / eager | memory, ours / eager |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in steps.items():
        times = [shown(row[side], 1, 3) for side in ("ours", "torch", "compiled")]
        ratios = [shown(found.get("ratio"), 1, 2) for found in (row, memory.get(name, {}))]
        lines.append(f"| {' | '.join([*name.split('/'), *times, *ratios])} |")
    run = record["runs"][next(iter(steps.values()))["run"]]
    device = run["device"]
    return "\n".join(
        [
            *lines,
            "",
            f"Medians of {run['rounds']} steps of each, on {device['workers']} of "
            f"{device['cores']} cores of {device['name']}, PyTorch {run['versions']['torch']}.",
            *(_growth(record, *what) for what in (("batch", "image"), ("side", "pixel"))),
            "",
            *_parts(record),
        ]
    )


def _parts(record: Any) -> list[str]:
    """Where the time of a step goes, for each image of growing batches."""
    measured = _measured(record, "profile/")
    batches = {int(name.split("/")[1]): row for name, row in measured.items()}
    network = next(iter(measured)).split("/")[0]
    parts = [name for name in next(iter(batches.values())) if name not in ("ours", "run")]
    lines = [[f"{part}, ms for each image"] for part in parts] + [["whole step"]]
    for batch, row in batches.items():
        for line, part in zip(lines, [*parts, "ours"], strict=True):
            line.append(shown(row[part], 1e3 / batch, 2))
    header = [f"where a step of {network} goes", *(f"batch {batch}" for batch in batches)]
    return layout.pipes(header, lines).splitlines()


def _growth(record: Any, what: str, unit: str) -> str:
    """A sentence on how far the time for an image or a pixel is from constant."""
    measured = _measured(record, f"growth/{what}/")
    network = next(name for name in measured if "/" not in name)
    sizes = [int(name.split("/")[1]) for name in measured if "/" in name]
    change = 100 * (measured[network]["variation"] - 1)
    return (
        f"Of {network}, the time for each {unit} differs by at most {change:.0f} % between "
        f"a {what} of {min(sizes)} and one of {max(sizes)}."
    )


def _measured(record: Any, prefix: str) -> dict[str, Any]:
    """The benchmark's rows under this prefix."""
    found = dict(benchmarks.record.rows(record, prefix))
    if not found:
        raise UserError(f"{BENCHMARK} has no {prefix}...: run reproduce/benchmark.py --cpu")
    return found


def table3() -> list[Record]:
    """The runs of the README's table: of the learning-rate study those of its best setting."""
    study = runs.find_records([STUDY])
    return runs.find_records([TABLE3]) + [r for r in study if learning_rate.is_best(r)]


def read(path: Path) -> Any:
    """A committed JSON record."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: make it first") from error


def filled(text: str) -> str:
    """The README with every generated part made anew."""
    parts = {
        "core": core(),
        "commands": commands(),
        "table": tstn_report.report(table3(), markdown=True).strip(),
        "learning-rate": learning_rate.markdown(runs.find_records([STUDY])),
        **{
            name: stn_report.report(runs.find_records([folder]), markdown=True).strip()
            for name, folder in STN.items()
        },
        "colocalisation": colocalisation_report.report(
            runs.find_records([COLOCALISATION]), markdown=True
        ).strip(),
        "quick": tstn_report.report(runs.find_records([QUICK]), markdown=True).strip(),
        "benchmark": benchmark(),
    }
    for name, part in parts.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}{part}\n{end}{after}"
    return text


def draw() -> None:
    """The README's figures."""
    records = table3()
    attending = min(
        (r for r in records if r["best"] and r["best"]["test_overlap"] is not None),
        key=lambda r: -r["best"]["test_overlap"],
    )
    figures = {
        "attention.png": tstn_figures.attention_figure(attending),
        "seeds.png": tstn_figures.seeds_figure(records),
        "overlap.png": tstn_figures.overlap_figure(records),
        "learning-curves.png": tstn_figures.learning_curves(records),
        "benchmark-cpu.png": benchmarks.figure.figure(read(BENCHMARK)),
        learning_rate.FIGURE: learning_rate.figure(runs.find_records([STUDY])),
        "stn-errors.png": stn_report.errors_figure(runs.find_records([STN["stn"]])),
        **{
            f"{name}-transformers.png": stn_report.transformers_figure(runs.find_records([folder]))
            for name, folder in STN.items()
        },
        **colocalisation_report.figures(runs.find_records([COLOCALISATION])),
    }
    for name, figure in figures.items():
        drawing.save(figure, FIGURES / name)
    tstn_figures.attention_gif(attending, FIGURES / "attention.gif")


def measure() -> None:
    """Run the first screen's commands, each in an empty folder, and record how long they took."""
    seconds, commit = {}, environment.commit()  # before records are replaced
    for command in tqdm(INVITATIONS, desc="timing", unit="command"):
        words = [sys.executable, *shlex.split(command)[1:]]
        words = [str(ROOT / word) if word.startswith("reproduce/") else word for word in words]
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            seconds[command] = round(time.perf_counter() - start, 1)
            for path in Path(folder).glob("runs/*/record.json"):
                write_atomically(QUICK / f"{path.parent.name}.json", path.read_bytes())
    record = {
        "command": "python reproduce/readme.py --time",
        **commit,
        "source_sha256": environment.source_sha256(),
        "versions": environment.versions(),
        "device": environment.device(),
        "seconds": seconds,
    }
    write_atomically(COMMANDS, (json.dumps(record, indent=1) + "\n").encode())


def main() -> int:
    parser = cli.Parser(
        prog="python reproduce/readme.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    parser.add_argument("--time", action="store_true", help="measure the first screen's commands")
    arguments = parser.parse_args()
    if arguments.time:
        measure()
    text = README.read_text()
    if arguments.check:
        agrees = filled(text) == text
        print(
            "README.md agrees with the records"
            if agrees
            else "README.md is outdated: run this script without --check"
        )
        return 0 if agrees else 1
    draw()
    write_atomically(README, filled(text).encode())
    return 0


if __name__ == "__main__":
    cli.run(main)
