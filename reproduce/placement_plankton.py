"""Table V of Finnveden, Jansson & Lindeberg 2020: plankton (PlanktonSet).

Trains a convolutional network with a spatial transformer before, behind or among its blocks of
convolutions: of feature maps (C), of the image with a localisation network of its own (DL), or with
one that shares the classifier's blocks (SL); some look twice, one three times. Prints the paper's
table beside ours. The pictures are those that Kaggle has.
"""

from dataclasses import replace

from papers import placement_sets_runs
from papers.placement_plankton import STUDY, TRAINING, epochs
from papers.placement_sets_runs import Quick

from ministn import cli
from ministn.data import Plankton
from ministn.data.sources import EMBEDDED
from ministn.runs import sweep
from ministn.runs.flags import DATA, Flag

QUICK = Quick(
    ("c0", "c2", "dl2", "sl2", "sl2x2"),
    Plankton(33, EMBEDDED, train_size=1400),
    epochs(replace(TRAINING, batch_size=20, lr=0.01), 10),
    width=0.25,
)

SIDE = Flag(
    "--side", "data.side",
    f"of the images in pixels; the paper's are {STUDY.data.form.size[0]}, the least is 31; "
    f"default: {STUDY.data.form.size[0]}",
    int, metavar="N", group=DATA,
)  # fmt: skip

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/placement_plankton.py --quick
      five networks on scikit-learn's digits, nothing to download: about four minutes
  python reproduce/placement_plankton.py --nets c0 c2 sl2 --side 48 --epochs 15 --lr 0.01 --seeds 0
      three networks on half as large pictures: about an hour and a half; in so few epochs
      0.01 learns more than the usual 0.003
  python reproduce/placement_plankton.py --plan
      how long the whole protocol would take on this machine
  python reproduce/placement_plankton.py --gpu
      the whole protocol on a GPU
"""


EXPERIMENT = placement_sets_runs.experiment(
    STUDY,
    QUICK,
    SIDE,
    description=__doc__,
    examples=EXAMPLES,
    smaller="--nets c0 c2 sl2 --side 48 --epochs 15 --lr 0.01 --seeds 0",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
