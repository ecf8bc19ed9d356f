"""Tables III and IV of Finnveden, Jansson & Lindeberg 2020: house numbers (SVHN).

Trains a convolutional network alone, and with spatial transformers before, behind and among its
blocks of convolutions: of feature maps (C), of the image with localisation networks of their own
(DL), or with ones that share the classifier's blocks (SL); some look twice. Each of those is tested
with one look more as well. Prints the paper's tables beside ours.
"""

from dataclasses import replace

from papers import placement_sets_runs
from papers.placement_sets import one_more
from papers.placement_sets_runs import Quick
from papers.placement_svhn import STUDY, TRAINING, epochs

from ministn import cli
from ministn.data import Svhn, svhn
from ministn.data.sources import EMBEDDED
from ministn.runs import sweep
from ministn.runs.flags import DATA, Flag

QUICK = Quick(
    ("cnn", "c0", "c3", "sl3", "sl3x2"),
    Svhn(EMBEDDED, train_size=1000),
    epochs(replace(TRAINING, batch_size=20, lr=0.01), 10),
    width=0.1,
)

RAMP = Flag(
    "--dropout-ramp", "training.dropout_ramp",
    f"epochs with less than all dropout, rising from none; default: {TRAINING.dropout_ramp}",
    int, metavar="N",
)  # fmt: skip

SIZE = Flag(
    "--size", "data.side",
    "of the images each way in pixels, 64 or 128; larger ones show more round the digits and are "
    f"made of SVHN as it is published, or are in svhn128_*.zip; default: {svhn.SIDE}",
    int, metavar="PIXELS", group=DATA,
)  # fmt: skip

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/placement_svhn.py --quick
      five narrow networks on scikit-learn's digits, nothing to download: about four minutes, in
      which they run but do not learn to read
  python reproduce/placement_svhn.py --nets cnn c0 sl3 --width 0.25 --epochs 30 --batch-size 32 \\
      --seeds 0
      three networks, a quarter as wide, on the house numbers at hand: about an hour; smaller
      batches make up for fewer epochs
  python reproduce/placement_svhn.py --plan
      how long the whole protocol would take on this machine
  python reproduce/placement_svhn.py --gpu
      the whole protocol on a GPU
"""


EXPERIMENT = placement_sets_runs.experiment(
    STUDY,
    QUICK,
    RAMP,
    SIZE,
    description=__doc__,
    examples=EXAMPLES,
    smaller="--nets cnn c0 sl3 --width 0.25 --epochs 30 --batch-size 32 --seeds 0",
    tests=one_more,
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
