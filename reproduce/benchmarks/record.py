"""The record of ``benchmark.py``: how it is written down, and read again.

In the file it is flat: what was measured, a quantity, and slashes between. With --cpu,

    step/<network>/<batch>/ratio                memory/<network>/<batch>/ratio
    convolution/<paper>/<block>/<batch>/forward/ratio        .../backward/ratio
    growth/batch/<network>/<images>/per_image   growth/side/<network>/<pixels>/per_pixel
    growth/workers/<network>/<workers>/speedup  growth/batch/<network>/variation
    profile/<network>/<batch>/<part>

with the networks of benchmarks/networks.py and the blocks of benchmarks/blocks.py, called
<C>-<K>-<k>x<k>-<H>x<W>[-valid][-pool]... after channels in, channels out, kernel and maps; and with
--gpu, P being fp32 or tf32,

    ceiling/copy/bytes_per_second               kernel/P/<kernel>/<batch>/share_of_ceiling
    ceiling/P/flops_per_second                  network/P/<network>/<batch>/share_of_ceiling

In a program it is a row of quantities for each thing measured. A run of the benchmark replaces the
rows it measures and keeps the others, so parts that were run alone come together in one file; a
row's ``run`` leads to an entry of ``runs``, which says how it was made: command, commit, machine,
the kernel that NumPy's linear algebra ran ("blas") and variables that may have changed it.
"""

import json
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

from ministn.files import check_output, read_json, write_atomically

FORMAT = 3
NOTES = [
    "ours, torch, compiled: wall seconds of one training step or one call, median over the rounds, "
    "of which each is the median of a tenth of a second of them in a row without the first; "
    "_minimum: the least of the rounds. In memory/: bytes, most during a training step, less what "
    "was in use when libraries were loaded and workers started; _whole: all of it",
    "torch: PyTorch eager in the layout that was the faster, which layout names; other_layout: "
    "in the other. compiled: torch.compile in its default mode, channels-last; null if it failed",
    "ratio: ours over torch; ratio_minimum: of the least; compiled_ratio: ours over compiled",
    "per_image: ours over the number of images; per_pixel: over that of all their pixels; "
    "variation: largest per_image, or per_pixel, over the smallest; speedup: ours with one worker "
    "over ours",
    "step, memory, growth: PyTorch has a thread for each core, the experiment's optimiser with "
    "fused=True, and THP_MEM_ALLOC_ENABLE=1; channels-last in memory and growth. We have a worker "
    "for each core; one in co-localisation, whose batches cannot be cut. Volumes are made before",
    "profile: seconds of the parts of a step, ours, in the first of the workers, medians; update: "
    "sum of the workers' gradients and the optimiser; rest: batch, loss, messages, waiting for the "
    "slowest",
    "convolution: convolution, bias, activation and maybe a 2x2 pool, on one thread; backward: "
    "gradients of x, weight and bias. flops: of the direct convolution. counted: seconds of our "
    "way by the constants of ministn/fast/ways.py",
]

Row = dict[str, Any]


class Record:
    """The record at a path, to be added to; nowhere without a path.

    run: how what is added was made. started: its name. notes: what the quantities mean.

    Raises UserError if a damaged file, or what is no file, is in the way. One of an older format is
    replaced.
    """

    def __init__(self, path: Path | None, started: str, run: Row, notes: list[str] = NOTES) -> None:
        self.path, self._started, self._notes = path, started, notes
        if path:
            check_output(path)
        before = read_json(path) if path and path.exists() else {}
        if before.get("format") != FORMAT:
            before = {"runs": {}}
        self._runs = before["runs"] | {started: run}
        self._rows = dict(rows(before, ""))

    def note(self, name: str, row: Row) -> None:
        """Write down what was measured now, after everything that was before."""
        self._rows.pop(name, None)
        self._rows[name] = row | {"run": self._started}
        self.save()

    def found(self, name: str, **run: Any) -> Row | None:
        """What was measured under this name, if it was in a run with these entries."""
        row = self._rows.get(name)
        same = row and all(self._runs[row["run"]].get(key) == run[key] for key in run)
        return row if same else None

    def save(self) -> None:
        """Write the file, without runs of which nothing is left."""
        if self.path is None:
            return
        used = {row["run"] for row in self._rows.values()}
        record = {
            "format": FORMAT,
            "notes": self._notes,
            "runs": {started: run for started, run in self._runs.items() if started in used},
        }
        for name, row in self._rows.items():
            record |= {f"{name}/{quantity}": _short(value) for quantity, value in row.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, (json.dumps(record, indent=1) + "\n").encode())


def rows(record: Row, prefix: str) -> Iterator[tuple[str, Row]]:
    """(name after the prefix, row) of all that was measured under it."""
    found: dict[str, Row] = {}
    for key, value in record.items():
        name, slash, quantity = key.rpartition("/")
        if slash and name.startswith(prefix):
            found.setdefault(name.removeprefix(prefix), {})[quantity] = value
    yield from found.items()


def _short(value: Any) -> Any:
    """Five digits: no more are the same the next time."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def compared(seconds: dict[str, list[float]], layouts: tuple[str, ...] = ()) -> Row:
    """A row from the seconds of every round of ours, torch, compiled, or some of them.

    layouts: two more sides, which are PyTorch eager: the one with the lower median is torch.
    """
    row: Row = {}
    if seconds.keys() >= set(layouts) > set():
        first, other = sorted(layouts, key=lambda layout: median(seconds[layout]))
        row = {"layout": first, "other_layout": median(seconds[other])}
        rest = {side: times for side, times in seconds.items() if side not in layouts}
        seconds = rest | {"torch": seconds[first]}
    for side, times in seconds.items():
        row |= {side: median(times), f"{side}_minimum": min(times)}
    return row | ratios(row)


def ratios(row: Row) -> Row:
    """Ours over the others', as far as there are any."""
    pairs = {
        "ratio": ("ours", "torch"),
        "ratio_minimum": ("ours_minimum", "torch_minimum"),
        "ratio_whole": ("ours_whole", "torch_whole"),
        "compiled_ratio": ("ours", "compiled"),
    }
    return {
        name: row[ours] / row[theirs]
        for name, (ours, theirs) in pairs.items()
        if row.get(ours) is not None and row.get(theirs) is not None
    }


# -- the table -----------------------------------------------------------------------------------

COLUMNS = "{:60}{:>9}{:>9}{:>9}{:>7}{:>9}  {}"
HEADS = ("ours", "torch", "compile", "ratio", "of least", "")


def line(name: str, row: Row, unit: float) -> str:
    """A line of the table, in this unit."""
    return COLUMNS.format(
        name,
        *(shown(row.get(side), unit, 1) for side in ("ours", "torch", "compiled")),
        *(shown(row.get(ratio), 1, 2) for ratio in ("ratio", "ratio_minimum")),
        row.get("layout", ""),
    )


def shown(value: float | None, unit: float, digits: int) -> str:
    """The value times a unit; a dash for one that there is not, or that is no number."""
    return "-" if value is None or isnan(value) else f"{value * unit:.{digits}f}"
