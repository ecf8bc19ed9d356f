"""What PyTorch makes of networks of Table 3 on the same images, beside what we make of them."""

from typing import Any

from ministn.runs import folder_name
from papers import tstn
from papers.claims import Row, Verdict, about_equal, compared


def verdict(ours: Row, theirs: list[dict[str, Any]]) -> Verdict:
    """Whether the errors are about equal, seed by seed and over the seeds.

    theirs: the runs of reproduce/torch_training.py; those of which there is no record of ours do
    not count.
    """
    twins = {each["run"]: each["best"] for each in theirs}
    named = [(folder_name(record["settings"]), record) for record in ours]
    trained = [
        {**record, "best": twins[name], "status": "finished", "collapses": []}
        for name, record in named
        if name in twins
    ]
    rows = {"ministn": ours, "PyTorch": trained}
    return compared("ministn = PyTorch", rows, ("ministn", "PyTorch"), about_equal)


def report(ours: Row, theirs: list[dict[str, Any]]) -> str:
    """The network, the errors of each side, and the verdict."""
    found = verdict(ours, theirs)
    epochs = ours[0]["settings"].training.epochs
    mine = ", ".join(f"{record['best']['test_error']:.2f}" for record in ours)
    others = ", ".join(f"{each['best']['test_error']:.2f}" for each in theirs)
    return "\n".join(
        [
            f"{', '.join(tstn.label(ours[0]))}, {epochs} epochs, trained in PyTorch on the file of "
            "`python -m ministn.data export mnist`, with PyTorch's functions, gradients, dropout, "
            f"order of images and Adam: {others} % of the test images wrong; here {mine} %. About "
            f"equal, within half a point: {found.verdict}.",
            "",
            *(f"* {line}" for line in found.details),
        ]
    )
