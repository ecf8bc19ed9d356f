"""What PyTorch makes of networks of Table 3 on the same images, beside what we make of them."""

from typing import Any

import numpy as np

from ministn.metrics.statistics import SeedTest, over_seeds
from ministn.runs import folder_name
from papers import tstn
from papers.claims import Record

Pair = tuple[Record, dict[str, Any]]  # a run of ours and its twin


def pairs(ours: list[Record], theirs: list[dict[str, Any]]) -> list[Pair]:
    """Runs of ours, each with that of reproduce/torch_training.py that began like it."""
    twins = {each["run"]: each for each in theirs}
    names = {folder_name(record["settings"]): record for record in ours if record["best"]}
    return [(record, twins[name]) for name, record in names.items() if name in twins]


def compared(found: list[Pair]) -> SeedTest:
    """Of the test errors, ours less PyTorch's. Raises ValueError for fewer than two pairs."""
    return over_seeds([a["best"]["test_error"] - b["best"]["test_error"] for a, b in found])


def _alike(test: SeedTest) -> bool:
    return test.low <= 0 <= test.high


def sentence(ours: list[Record], theirs: list[dict[str, Any]]) -> str:
    """What the first page says of it."""
    found = pairs(ours, theirs)
    mine, others = (
        np.mean([pair[side]["best"]["test_error"] for pair in found]) for side in (0, 1)
    )
    verdict = "no difference" if _alike(compared(found)) else "a difference"
    return (
        f"Trained in PyTorch on the exported images, the tied network has {others:.2f} % errors, "
        f"here {mine:.2f}, which over {len(found)} seeds is {verdict}"
    )


def report(ours: list[Record], theirs: list[dict[str, Any]]) -> str:
    """The network, the errors of each side, and whether they differ."""
    found = pairs(ours, theirs)
    test, first = compared(found), found[0][0]
    mine, others = (
        ", ".join(f"{pair[side]['best']['test_error']:.2f}" for pair in found) for side in (0, 1)
    )
    verdict = "no difference was found" if _alike(test) else "they differ"
    return (
        f"{', '.join(tstn.label(first))}, {first['settings'].training.epochs} epochs: {mine} % of "
        f"the test images wrong here, {others} % in PyTorch. Over {test.seeds} seeds the "
        f"difference is {test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}] points: "
        f"{verdict}."
    )
