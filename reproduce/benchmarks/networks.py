"""The networks that ``benchmark.py --cpu`` trains: those of the papers' scripts.

A script and the words of a command give runs; they are trained on noise instead of their images.
"""

from typing import NamedTuple

import placement_mnist
import placement_plankton
import placement_svhn
import rnn_spn_table1
import stn_addition
import stn_colocalisation
import stn_projection3d
import stn_table1
import table3

from ministn import models
from ministn.runs import Settings

USUAL_BATCHES = 64, 256

# (paper, script, words of a command, what comes before the network's name)
SCRIPTS = (
    ("tstn", table3, f"--nets {' '.join(models.NETWORKS)}", ""),
    ("stn", stn_table1, "--sets r --models fcn cnn st-cnn-affine --seeds 0", "r-"),
    ("stn", stn_table1, "--sets rts --models fcn cnn st-cnn-affine st-cnn-tps --seeds 0", "rts-"),
    ("stn", stn_addition, "--models cnn st-fcn-affine 2st-fcn-affine --seeds 0", "addition-"),
    ("stn", stn_colocalisation, "--digits 0 --clutter 16", ""),  # and the encoder that it needs
    ("stn", stn_projection3d, "--models cnn st-cnn --seeds 0", ""),
    ("placement", placement_mnist, "--sets r --models cnn stn-sl1 --seeds 0", "r-"),
    ("placement", placement_mnist, "--sets t --models cnn stn-c0 stn-c1 --seeds 0", "t-"),
    ("placement", placement_mnist, "--sets s --models cnn stn-c0 stn-dl1 --seeds 0", "s-"),
    ("plankton", placement_plankton, "--nets c0 sl2 --seeds 0", "plankton-"),
    ("svhn", placement_svhn, "--nets cnn c0-large sl3 --seeds 0", "svhn-"),
    ("rnn-spn", rnn_spn_table1, "--nets rnn-spn-d1 rnn-spn-d2 ffn-spn-d2 --seeds 0", ""),
)
COMPILED = "arch1-tstn", "rts-st-cnn-affine", "rnn-spn-d2", "r-stn-sl1"  # one network of each paper
ASKED_FOR = ("small-stn",)  # in no paper: only where --nets names it


class Benched(NamedTuple):
    """A network to be timed.

    paper: whose. settings: the run that trains it. compiled: whether torch.compile is timed, too.
    """

    paper: str
    settings: Settings
    compiled: bool

    @property
    def batches(self) -> tuple[int, ...]:
        """The usual ones; the experiment's own where it is none of them."""
        own = self.settings.training.batch_size
        return USUAL_BATCHES if own in USUAL_BATCHES else (own,)


def _benched() -> dict[str, Benched]:
    found = {}
    for paper, script, words, before in SCRIPTS:
        for settings in script.EXPERIMENT.parse(words.split()):
            name = before + settings.network.name
            found[name] = Benched(paper, settings, name in COMPILED)
    return found


BENCHED = _benched()
