"""Writes the parts of the pages that come from records and sources, and their figures.

The pages README.md and reproduce/README.md show no result that was typed by hand: tables and
times are rendered from reproduce/records/, and the sampler's backward pass is cut out of
ministn/ops/bilinear.py. The minutes in ministn/README.md are those of the files' words.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

import benchmarks.figure
import benchmarks.page
import learning_rate
from papers import (
    birds_report,
    colocalisation_report,
    placement,
    placement_figures,
    placement_plankton,
    placement_poses,
    placement_sets_figures,
    placement_sets_report,
    placement_svhn,
    placement_theory,
    rnn_spn_figures,
    rnn_spn_report,
    stn_looks,
    stn_report,
    torch_report,
    tstn,
    tstn_attending,
    tstn_figures,
    tstn_report,
)
from papers.claims import Record
from papers.placement_sets import Study
from tqdm import tqdm

from ministn import cli, runs
from ministn.conformance import report as conformance
from ministn.errors import UserError
from ministn.files import read_json, write_atomically
from ministn.plot import drawing
from ministn.runs import environment
from ministn.training.trainer import BEST

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "figures"
RECORDS = ROOT / "reproduce" / "records"
TABLE3, QUICK, STUDY = RECORDS / "table3", RECORDS / "quick", RECORDS / "learning-rate"
ATTENDING = RECORDS / "attending"
STN = {
    "stn": RECORDS / "stn-table1",
    "addition": RECORDS / "stn-addition",
    "projection": RECORDS / "stn-projection3d",
}
COLOCALISATION, BIRDS = RECORDS / "stn-colocalisation", RECORDS / "stn-birds"
RNN_SPN = RECORDS / "rnn-spn-table1"
PLACEMENT, THEORY = RECORDS / "placement-mnist", RECORDS / "placement-theory.json"
# What transformers show by the weights that runs leave in their folders, see look_again.
POSES, LOOKS = RECORDS / "placement-poses.json", RECORDS / "stn-looks.json"
PLACED = placement_svhn.STUDY, placement_plankton.STUDY
COMMANDS, BENCHMARK = RECORDS / "commands.json", RECORDS / "benchmark-cpu.json"
ORACLE = RECORDS / "torch-oracle.json"
CONFORMANCE = RECORDS / "conformance" / "libraries.json"
EXPORTED = RECORDS / "interop" / "networks.json"
IN_TORCH, IN_BOTH = RECORDS / "torch-training.json", RECORDS / "torch-training"
COURSE, WORDS_A_MINUTE = ROOT / "ministn" / "README.md", 130
SAMPLER = ROOT / "ministn" / "ops" / "bilinear.py"

# What the first screen invites to, in the order of see, train, check.
INVITATIONS = {
    "python -m ministn.demo": "see it: where one looks (or stn, tstn, rnn-spn, placement)",
    "python reproduce/table3.py --quick": "train it: all six networks on embedded digits",
    "python -m ministn.gradcheck": "check it: every backward pass by finite differences",
}

EXAMPLES = """\
examples:
  python reproduce/readme.py           rewrite the pages and figures/ from the records
  python reproduce/readme.py --check   only say whether the pages agree with them
  python reproduce/readme.py --time    run the first screen's commands and record their times
  python reproduce/readme.py --poses runs
      look with the best weights of runs under runs/: do transformers turn digits upright?
"""


def core() -> str:
    """The sampler's backward pass: the lines from its first loop to its result."""
    source = SAMPLER.read_text().split("def bilinear_sampler_backward", 1)[1]
    lines = re.search(r"^    for n, .*?^    dgrid = .*?$", source, re.DOTALL | re.MULTILINE)
    assert lines is not None, "ops/bilinear.py no longer has the loop that the README shows"
    return f"```py\n{dedent(lines.group())}\n```"


def commands() -> str:
    """The three commands with their measured times."""
    record = read_json(COMMANDS)
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


def table3() -> list[Record]:
    """The runs of the README's table: of the learning-rate study those of its best setting."""
    return of(TABLE3) + [record for record in of(STUDY) if learning_rate.is_best(record)]


def attending() -> Record:
    """The run of Table 3 whose transformer covers its digits best."""
    found = (r for r in table3() if r["best"] and r["best"]["test_overlap"] is not None)
    return max(found, key=lambda record: record["best"]["test_overlap"])


def look() -> str:
    """What the README's first picture shows."""
    record = attending()
    settings = record["settings"]
    (transformer,) = settings.network.build(settings.data.form).front.at_input
    height, width = transformer.size
    return (
        "Above: unseen digits among clutter, in yellow the frame where "
        f"{tstn.TABLE3[settings.network.name].name} looks after {record['best']['epoch']} epochs "
        f"({', '.join(tstn.label(record)[1:])}), and dashed the digit's own box. Below: the "
        f"{width}x{height} pixels that it passes on, which is all that the classifier sees. Nobody "
        "told it where the digits are."
    )


def oracle() -> str:
    """How far the losses are from PyTorch's."""
    record = read_json(ORACLE)
    found = [row["largest_relative_difference"] for row in record["networks"].values()]
    steps = record["settings"]["steps"]
    return (
        f"* Over {steps} steps of Adam from the same weights, PyTorch has the same losses as ours "
        f"for all {len(found)} networks of Table 3: they differ by "
        f"{max(found):.0e} at most, relative, in float64 "
        "([`torch_oracle.py`](reproduce/torch_oracle.py)). "
        f"{torch_report.sentence(of(IN_BOTH), read_json(IN_TORCH)['runs'])} "
        "([how](reproduce/README.md#the-same-network-in-pytorch))."
    )


def exported() -> str:
    """How far PyTorch and onnxruntime are from the papers' networks once they are exported."""
    record = read_json(EXPORTED)
    refused = [row for row in record["networks"] if "refused" in row]
    rows = [row["differences"] for row in record["networks"] if "differences" in row]
    most = {name: max(row[name] for row in rows) for name in record["bounds"]}
    text = (
        f"{len(rows)} networks of the papers, exported with weights off their initial values: of "
        f"the largest output, PyTorch's differ from ours by {most['torch']:.0e} at most and "
        f"onnxruntime's by {most['onnxruntime']:.0e}, in float32; in float64 PyTorch's by "
        f"{most['torch float64']:.0e} (`python -m ministn.interop`)."
    )
    return " ".join([text, *(f"Refused: {row['refused']}." for row in refused)])


def of(folder: Path) -> list[Record]:
    """The records under a folder, each with the command that gives just it."""
    found = runs.find_records([folder])
    return [import_module(each["experiment"]).EXPERIMENT.with_command(each) for each in found]


def some(folder: Path) -> list[Record]:
    """The records under a folder, if there are any yet."""
    return of(folder) if folder.exists() else []


def runs_of(study: Study) -> list[Record]:
    """The runs of SVHN or plankton in the placement paper, if there are any yet."""
    return some(RECORDS / study.title)


def study_section(study: Study) -> str:
    """Its part of the page."""
    return placement_sets_report.section(study, runs_of(study))


def looks(path: Path) -> list[dict[str, Any]]:
    """Of POSES or LOOKS, what is recorded of each data set; nothing yet without the file."""
    found: list[dict[str, Any]] = read_json(path)["sets"] if path.exists() else []
    return found


def stn_table(folder: Path) -> str:
    """One of the STN paper's tables."""
    return stn_report.section(of(folder))


PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    ROOT / "README.md": {
        "look": look,
        "core": core,
        "commands": commands,
        "summary": lambda: tstn_report.summary(table3()),
        "oracle": oracle,
        "speed": lambda: benchmarks.page.speed(BENCHMARK),
    },
    ROOT / "reproduce" / "README.md": {
        "table": lambda: tstn_report.report(table3(), markdown=True).strip(),
        "learning-rate": lambda: learning_rate.markdown(of(STUDY)),
        "attending": lambda: tstn_attending.section(some(ATTENDING), of(TABLE3)),
        **{name: partial(stn_table, folder) for name, folder in STN.items()},
        "stn-looks": lambda: stn_looks.section(looks(LOOKS)),
        "colocalisation": lambda: colocalisation_report.report(
            of(COLOCALISATION), markdown=True
        ).strip(),
        "birds": lambda: birds_report.report(of(BIRDS), markdown=True).strip(),
        "rnn-spn": lambda: rnn_spn_report.section(some(RNN_SPN)),
        "placement-theory": lambda: placement_theory.report(read_json(THEORY), markdown=True),
        "placement": lambda: placement.section(some(PLACEMENT)),
        **{
            Path(file).stem: partial(lambda file: placement_poses.section(looks(POSES), file), file)
            for file in placement_poses.FIGURES
        },
        **{study.title: partial(study_section, study) for study in PLACED},
        "quick": lambda: tstn_report.report(of(QUICK), markdown=True).strip(),
        "conformance": lambda: conformance.table(read_json(CONFORMANCE)),
        "exported": exported,
        "torch-training": lambda: torch_report.report(of(IN_BOTH), read_json(IN_TORCH)["runs"]),
        "benchmark": lambda: benchmarks.page.page(BENCHMARK),
    },
}


def filled(page: Path) -> str:
    """A page with every generated part made anew. Raises UserError where one has no place."""
    text = page.read_text()
    for name, part in PAGES[page].items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise UserError(f"{page} has no place for {name}: {begin.strip()} ... {end}")
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = f"{before}{begin}{part()}\n{end}{after}"
    return text


def with_minutes(course: str) -> str:
    """The course with the minutes that each step's files take to read, code and docstrings."""
    words = []

    def step(found: re.Match[str]) -> str:
        title, listed = found.groups()
        files = [COURSE.parent / file for file in re.findall(r"\]\((\S+\.py)\)", listed)]
        words.append(sum(len(file.read_text().split()) for file in files))
        return f"{title}: {minutes(words[-1])} minutes\n\n{listed}\n\n"

    steps = r"^(### \d+\. [^\n]*): \d+ minutes\n\n(Read .*?)\n\n"
    course = re.sub(steps, step, course, flags=re.DOTALL | re.MULTILINE)
    total = sum(map(minutes, words))
    course = re.sub(r"have [\d,]+ words", f"have {round(sum(words), -2):,} words", course)
    return re.sub(r"minute makes \d+ minutes", f"minute makes {total} minutes", course)


def minutes(words: int) -> int:
    return max(1, round(words / WORDS_A_MINUTE))


def draw() -> None:
    """The pages' figures."""
    records, best = table3(), attending()
    figures = {
        "look.png": tstn_figures.look_figure(best),
        "attention.png": tstn_figures.attention_figure(best),
        "seeds.png": tstn_figures.seeds_figure(records),
        "overlap.png": tstn_figures.overlap_figure(records),
        "learning-curves.png": tstn_figures.learning_curves(records),
        "benchmark-cpu.png": benchmarks.figure.figure(read_json(BENCHMARK)),
        learning_rate.FIGURE: learning_rate.figure(of(STUDY)),
        **tstn_attending.figures(some(ATTENDING), of(TABLE3)),
        "stn-errors.png": stn_report.errors_figure(of(STN["stn"])),
        **{
            f"{name}-transformers.png": stn_report.transformers_figure(of(folder))
            for name, folder in STN.items()
        },
        **stn_looks.figures(looks(LOOKS)),
        **(placement_figures.figures(some(PLACEMENT)) if some(PLACEMENT) else {}),
        **placement_poses.figures(looks(POSES)),
        "placement-theory.png": placement_theory.figure(read_json(THEORY)),
        **colocalisation_report.figures(of(COLOCALISATION)),
        **birds_report.figures(of(BIRDS)),
        **(rnn_spn_figures.figures(some(RNN_SPN)) if some(RNN_SPN) else {}),
        **{
            name: figure
            for study in PLACED
            for name, figure in placement_sets_figures.figures(study, runs_of(study)).items()
        },
    }
    for name, figure in figures.items():
        drawing.save(figure, FIGURES / name)
    tstn_figures.attention_gif(best, FIGURES / "attention.gif")
    if glimpsing := [record for record in some(RNN_SPN) if rnn_spn_report.has_glimpses(record)]:
        gif = FIGURES / "rnn-spn-glimpses.gif"
        rnn_spn_figures.glimpses_gif(rnn_spn_figures.best_of(glimpsing), gif)


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
    write(COMMANDS, "--time", commit, {"device": environment.device(), "seconds": seconds})


def look_again(folder: Path) -> None:
    """Record what the best weights of runs under a folder show.

    Of the STN paper's Table 1 the runs need no record but that in their folder. What is recorded of
    other data sets stays, and a record of which nothing is new. Raises UserError where no run has
    its weights there.
    """
    placed = [*some(PLACEMENT), *runs_of(placement_plankton.STUDY)]
    distorted = [*some(STN["stn"]), *runs.find_records([folder], "stn_table1")]
    found = {
        POSES: placement_poses.measured(placed, folder),
        LOOKS: stn_looks.measured(distorted, folder),
    }
    if not any(found.values()):
        raise UserError(f"no run to look with has its {BEST} under {folder}")
    commit = environment.commit()  # before records are replaced
    for path, sets in found.items():
        new = [each["data"] for each in sets]
        kept = [each for each in looks(path) if each["data"] not in new]
        if sets and [*kept, *sets] != looks(path):
            write(path, "--poses runs", commit, {"sets": [*kept, *sets]})


def write(path: Path, words: str, commit: dict[str, Any], content: dict[str, Any]) -> None:
    """A record of what this script with these words has made."""
    made_by = {
        "command": f"python reproduce/readme.py {words}",
        **commit,
        "source_sha256": environment.source_sha256(),
        "versions": environment.versions(),
    }
    write_atomically(path, (json.dumps(made_by | content, indent=1) + "\n").encode())


def main() -> int:
    parser = cli.Parser(
        prog="python reproduce/readme.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if outdated")
    parser.add_argument("--time", action="store_true", help="measure the first screen's commands")
    parser.add_argument(
        "--poses",
        type=Path,
        metavar="FOLDER",
        help="record what transformers of runs under FOLDER show",
    )
    arguments = parser.parse_args()
    if arguments.time:
        measure()
    if arguments.poses:
        look_again(arguments.poses)
    if arguments.check:
        outdated = [page for page in PAGES if filled(page) != page.read_text()]
        for page in PAGES:
            name = page.relative_to(ROOT)
            if page in outdated:
                print(f"{name} is outdated: run this script without --check")
            else:
                print(f"{name} agrees with the records")
        return 1 if outdated else 0
    draw()
    for page in PAGES:
        write_atomically(page, filled(page).encode())
    # Not for --check: they may lag behind the files a little, see tests/test_course.py.
    write_atomically(COURSE, with_minutes(COURSE.read_text()).encode())
    return 0


if __name__ == "__main__":
    cli.run(main)
