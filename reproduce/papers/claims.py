"""What papers' claims have in common: two networks compared on the same test images, over seeds.

Runs that differ in nothing but the seed are one row of a table. Nothing else is ever averaged.
"""

import base64
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from ministn.data import digits, distorted
from ministn.data.sources import EMBEDDED, MNIST
from ministn.errors import UserError
from ministn.metrics.statistics import PairedTest, SeedTest, over_seeds, paired_test

Record = dict[str, Any]
Row = list[Record]  # one run per seed
Table = list[Row]

# A claim is about methods: it holds, or does not, by a test over at least so many seeds. What one
# or two seeds say is said of their runs only, where they say the same.
SEEDS = 3
SIGNIFICANT = 0.05  # level of the tests
# "About equal" and "no worse", in percentage points, where a study has no margin of its own: about
# the 95 % interval of an error on 10,000 images, which is all that the TSTN's paper has.
MARGIN = 0.5
# Test images of several passes show these, one after the other and again from the first.
TEST_DIGITS = {MNIST: distorted.SIZES[MNIST].test, EMBEDDED: digits.TEST}
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


class Verdict(NamedTuple):
    claim: str
    verdict: str  # HOLDS, FAILS or UNDECIDED
    seeds: int  # of which there are results
    details: list[str]  # one line per seed, one over them
    collapses: bool = False  # whether the attention of a run that voted collapsed at any time


def by_seed(row: list[Record]) -> Row:
    """One record per seed. Copies of one run are one.

    Raises UserError for different results of one run.
    """
    runs: dict[int, Record] = {}
    for record in row:
        seed = record["settings"].seed
        if runs.setdefault(seed, record)["best"] != record["best"]:
            raise UserError(
                f"two records of {record['settings'].network.name} with seed {seed} have different "
                "results: report only one of them"
            )
    return [runs[seed] for seed in sorted(runs)]


def grouped(records: list[Record], key: Callable[[Record], Any]) -> Iterator[tuple[Any, Row]]:
    """The records of each value that a key has, in the order of the values."""
    for value, group in groupby(sorted(records, key=key), key=key):
        yield value, list(group)


def _points(names: tuple[str, str], test: PairedTest | SeedTest) -> str:
    p_value = f"= {test.p_value:.2g}" if test.p_value > 1e-300 else "< 1e-300"
    return (
        f"{names[0]} - {names[1]} = {test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}] "
        f"points, p {p_value}"
    )


def smaller(test: PairedTest | SeedTest) -> str:
    if test.p_value >= SIGNIFICANT:
        return UNDECIDED
    return HOLDS if test.difference < 0 else FAILS


def about_equal(test: PairedTest | SeedTest, margin: float = MARGIN) -> str:
    """margin: in percentage points. It tells something only where effects are larger than that."""
    if -margin <= test.low and test.high <= margin:
        return HOLDS
    return FAILS if test.low > margin or test.high < -margin else UNDECIDED


def no_worse(test: PairedTest | SeedTest) -> str:
    if test.high <= MARGIN:
        return HOLDS
    return FAILS if test.low > MARGIN else UNDECIDED


def compared(
    claim: str,
    runs: dict[str, Row],
    names: tuple[str, str],
    vote: Callable[[PairedTest | SeedTest], str],
) -> Verdict:
    """Compare two networks, seed by seed and over the seeds; runs: of each name, one for each seed.

    vote: what a test says of the claim. From SEEDS seeds on the test over them decides, unless
    that of a seed says the opposite; before, all seeds must say the same. A run that diverged
    blocks a verdict; one that is missing or unfinished does not count.
    """
    first, second = ({r["settings"].seed: r for r in runs.get(name, [])} for name in names)
    tests, details, collapses, blocked = [], [], False, False
    for seed in sorted(first.keys() | second.keys()):
        pair = dict(zip(names, (first.get(seed), second.get(seed)), strict=True))
        states = {name: state(record) for name, record in pair.items()}
        trouble = [f"{name} {state}" for name, state in states.items() if state != "finished"]
        if trouble:
            details.append(f"seed {seed}: {', '.join(trouble)}")
            blocked = blocked or "diverged" in states.values()
            continue
        test = of_one_seed(*(record for record in pair.values() if record))
        tests.append(test)
        fallen = [name for name, record in pair.items() if record and record["collapses"]]
        collapses = collapses or bool(fallen)
        details.append(
            f"seed {seed}: {_points(names, test)}"
            + "".join(f"; {name} collapsed" for name in fallen)
        )
    votes = {vote(test) for test in tests}
    verdict = votes.pop() if len(votes) == 1 else UNDECIDED
    if len(tests) >= SEEDS:
        over = over_seeds([test.difference for test in tests])
        details.append(f"over {over.seeds} seeds: {_points(names, over)} (paired t test)")
        verdict = UNDECIDED if {HOLDS, FAILS} <= {vote(over), *map(vote, tests)} else vote(over)
    absent = [name for name in names if not runs.get(name)]
    details = [f"{name} not run" for name in absent] or details
    return Verdict(claim, UNDECIDED if blocked else verdict, len(tests), details, collapses)


def of_one_seed(first: Record, second: Record) -> PairedTest | SeedTest:
    """The test of two runs: of their images, or of the digits where each is in several images.

    Images of one digit are not independent, as McNemar's test wants them, so the digits are what
    counts. Of each it is known how many of its images either network has wrong, and a paired t test
    is of these differences, as `over_seeds` makes of those of seeds.
    """
    a, b = correct(first), correct(second)
    data = first["settings"].data
    if getattr(data, "passes", 1) == 1:
        return paired_test(a, b)
    count = TEST_DIGITS[data.source]
    more = np.bincount(np.arange(len(a)) % count, b.astype(int) - a.astype(int), count)
    return over_seeds((100 * count / len(a) * more).tolist())  # their mean is that of the images


def missing(runs: Iterable[Record], seeds: Iterable[int]) -> list[int]:
    """Of the seeds of a protocol, those with which no run has come to its end, or diverged."""
    done = {r["settings"].seed for r in runs if state(r) in ("finished", "diverged")}
    return [seed for seed in seeds if seed not in done]


def state(record: Record | None) -> str:
    if record is None:
        return "not run"
    if record["status"] == "diverged":
        return "diverged"
    return "finished" if record["status"] == "finished" and record["best"] else "unfinished"


def correct(record: Record) -> np.ndarray:
    """(n,) bool: which test images the run's best weights classify rightly.

    One with several answers counts once, as a whole: they are not independent. Raises UserError
    when the record does not hold as many as it says.
    """
    best = record["best"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(best["test_correct"]), np.uint8))
    if not best["test_size"] <= len(bits) < best["test_size"] + 8:
        raise UserError(
            f"the record of {record['settings'].network.name}, seed {record['settings'].seed}, is "
            f"damaged: {len(bits)} bits for {best['test_size']} answers; make the run again"
        )
    answers = bits[: best["test_size"]].astype(bool)
    return np.all(answers.reshape(record["settings"].data.test_size, -1), axis=1)
