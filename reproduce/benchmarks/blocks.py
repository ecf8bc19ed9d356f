"""Every shape of convolution block in the papers' networks, of those still to come as well.

The blocks of networks that exist are what these do: tests/test_benchmark.py compares. Those of the
others are counted from the papers' tables, and where a paper has none from its authors' code. A
pool of 3x3 pixels, as plankton's networks have, is a layer of its own, and so is dropout.
"""

from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from benchmarks.record import Row
from ministn.fast import ways
from ministn.ops.conv2d import checked_margin, convolved_size
from ministn.randomness import generator

Shape = tuple[int, int, int, int]


class Block(NamedTuple):
    """A convolution, bias and activation, maybe with a 2x2 pool, on maps of side x side pixels.

    paper: whose. batch: images. The rest is as in layers.Conv2d.
    """

    paper: str
    batch: int
    side: int
    channels: int
    kernels: int
    kernel: int = 3
    pool: bool = False
    padding: str = "same"
    stride: int = 1
    activation: str = "relu"

    @property
    def name(self) -> str:
        """In the record: what is not usual has a word at its end."""
        words = {
            "valid": self.padding == "valid",
            f"stride{self.stride}": self.stride > 1,
            "leaky": self.activation == "leaky_relu",
            "pool": self.pool,
        }
        shape = f"{self.channels}-{self.kernels}-{self.kernel}x{self.kernel}"
        size = f"{self.side}x{self.side}"
        more = [word for word, is_so in words.items() if is_so]
        return f"{self.paper}/{'-'.join([shape, size, *more])}/{self.batch}"

    @property
    def options(self) -> dict[str, str | int | bool]:
        """What ``conv_block`` is told."""
        return {name: getattr(self, name) for name in ("padding", "stride", "pool", "activation")}

    def least(self) -> dict[str, Row]:
        """By pass, what it takes: flops, two for each product of the convolution itself and its
        addition; counted, the seconds of our way by the constants of fast/ways.py, which are of one
        machine: products, copies and additions, no more.
        """
        x, weight, size = self._shapes()
        window = 1 + self.pool
        size = size[0] // window * window, size[1] // window * window
        flops = 2 * self.batch * prod(size) * prod(weight)
        forward = ways.forward_costs(size, weight, self.stride)
        backward = ways.backward_costs(size, x[1:3], weight, self.stride)
        return {
            "forward": {"flops": flops, "counted": 1e-9 * self.batch * min(forward.values())},
            "backward": {"flops": 2 * flops, "counted": 1e-9 * self.batch * min(backward.values())},
        }

    def _shapes(self) -> tuple[Shape, Shape, tuple[int, int]]:
        """Of x, of the weight, and (h, w) before a pool."""
        x = self.batch, self.side, self.side, self.channels
        weight = self.kernel, self.kernel, self.channels, self.kernels
        sizes = dict(zip(("H", "W", "kh", "kw"), (*x[1:3], *weight[:2]), strict=True))
        margin = checked_margin(sizes, self.padding)
        return x, weight, convolved_size(x, weight, margin, self.stride)

    def arrays(self) -> dict[str, np.ndarray]:
        """x, weight, bias and dy in our layout."""
        normal = generator(0, "benchmark").standard_normal
        x, weight, size = self._shapes()
        out = [side // (1 + self.pool) for side in size]
        scale = np.float32(np.sqrt(self.kernel**2 * self.channels))
        return {
            "x": normal(x, np.float32),
            "weight": normal(weight, np.float32) / scale,
            "bias": normal(self.kernels, np.float32),
            "dy": normal((self.batch, *out, self.kernels), np.float32),
        }


tstn = partial(Block, "tstn", 64)
stn = partial(Block, "stn", 64, padding="valid")
rnn_spn = partial(Block, "rnn-spn", 100, padding="valid")
placement = partial(Block, "placement", 64, padding="valid", pool=True)
plankton = partial(Block, "plankton", 128, activation="leaky_relu")
svhn = partial(Block, "svhn", 128, kernel=5)

BLOCKS = [
    # The six networks at 60x60: the classifiers' with a pool, the last of a layer, then the
    # localisation networks', whose last pool is off. 15x15 with a pool drops a row and a column.
    tstn(60, 1, 32, pool=True),
    tstn(60, 1, 32),
    tstn(60, 32, 32, pool=True),
    tstn(30, 32, 64, pool=True),
    tstn(30, 32, 64),
    tstn(30, 64, 64, pool=True),
    tstn(15, 64, 128, pool=True),
    tstn(15, 64, 128),
    tstn(15, 128, 128, pool=True),
    tstn(15, 128, 128),
    # The notebook's: localisation network, classifier.
    tstn(30, 1, 20, 5, pool=True, padding="valid"),
    tstn(13, 20, 20, 5, padding="valid"),
    tstn(20, 1, 32, pool=True, padding="valid"),
    tstn(9, 32, 32, pool=True, padding="valid"),
    # Set R: the CNN, the ST-CNN and its localisation network.
    stn(28, 1, 89, 9, pool=True),
    stn(10, 89, 89, 7, pool=True),
    stn(28, 1, 88, 9, pool=True),
    stn(10, 88, 88, 7, pool=True),
    stn(14, 1, 20, 5, pool=True),
    stn(5, 20, 20, 5),
    # RTS: likewise.
    stn(42, 1, 87, 9, pool=True),
    stn(17, 87, 87, 7, pool=True),
    stn(24, 1, 87, 9, pool=True),
    stn(8, 87, 87, 7, pool=True),
    stn(21, 1, 20, 5, pool=True),
    stn(8, 20, 20, 5),
    # Addition: the CNN.
    stn(42, 2, 84, 9, pool=True),
    stn(17, 84, 84, 7, pool=True),
    # Co-localisation: the encoder, then the localisation network.
    stn(22, 1, 32, 9, pool=True),
    stn(7, 32, 32, 7),
    stn(84, 1, 8, 9, pool=True, stride=4),
    # Projection: the CNN, then that behind a transformer.
    stn(60, 1, 80, 9, pool=True),
    stn(26, 80, 80, 7, pool=True),
    stn(30, 1, 76, 9, pool=True),
    stn(11, 76, 76, 7, pool=True),
    # RNN-SPN appendix 6.1, 'valid' as in its code: the localisation network of 100x100 pixels,
    # whose first pool comes before all else, then the classifier of a crop, d = 1 and d = 2.
    rnn_spn(50, 1, 20, pool=True),
    rnn_spn(24, 20, 20, pool=True),
    rnn_spn(11, 20, 20),
    rnn_spn(100, 1, 32, pool=True),
    rnn_spn(49, 32, 32, pool=True),
    rnn_spn(23, 32, 32),
    rnn_spn(50, 1, 32, pool=True),
    rnn_spn(24, 32, 32, pool=True),
    rnn_spn(11, 32, 32),
    # Its appendix 6.2, FFN-SPN d = 2: the classifier; the localisation network is the same.
    rnn_spn(50, 1, 96, pool=True),
    rnn_spn(24, 96, 96, pool=True),
    rnn_spn(11, 96, 96),
    # Finnveden et al. 2020 on MNIST: 9x9 and 7x7 as in STN, localisation networks of 5x5. It has no
    # numbers of maps: these keep its networks within the numbers of parameters that it states.
    # R, 28x28: all STNs, then the CNN. Localisation networks are fully connected.
    placement(28, 1, 16, 9),
    placement(10, 16, 32, 7),
    placement(28, 1, 24, 9),
    placement(10, 24, 44, 7),
    # T, 60x60: the classifier of 30x30, C0's localisation network, what C1 and SL1 look at with
    # theirs, C1's 13x13 maps, the CNN.
    placement(30, 1, 16, 9),
    placement(11, 16, 32, 7),
    placement(60, 1, 14, 5),
    placement(28, 14, 14, 5),
    placement(60, 1, 16, 9),
    placement(26, 16, 16, 5),
    placement(11, 16, 16, 5, pool=False),
    placement(13, 16, 32, 7),
    placement(60, 1, 21, 9),
    placement(26, 21, 32, 7),
    # S, 112x112: the classifier, C0's localisation network at half the size, C1's and SL1's, the
    # CNN, whose first block is the classifier's.
    placement(112, 1, 16, 9),
    placement(52, 16, 12, 7),
    placement(56, 1, 20, 5),
    placement(26, 20, 20, 5),
    placement(52, 16, 20, 5),
    placement(24, 20, 20, 5),
    placement(52, 16, 22, 7),
    # Its PlanktonSet, 95x95, ten layers as in its code: 2, 2, 3 and 3 with a pool behind each.
    plankton(95, 1, 32),
    plankton(95, 32, 32),
    plankton(47, 32, 64),
    plankton(47, 64, 64),
    plankton(23, 64, 128),
    plankton(23, 128, 128),
    plankton(11, 128, 256),
    plankton(11, 256, 256),
    # STN appendix A.5 and Finnveden et al.: SVHN, 64x64 in colour, eight layers; then the large
    # localisation network.
    svhn(64, 3, 48, pool=True),
    svhn(32, 48, 64),
    svhn(32, 64, 128, pool=True),
    svhn(16, 128, 160),
    svhn(16, 160, 192, pool=True),
    svhn(8, 192, 192),
    svhn(8, 192, 192, pool=True),
    svhn(4, 192, 192),
    svhn(64, 3, 32, pool=True),
    svhn(32, 32, 32),
]
PAPERS = tuple(dict.fromkeys(block.paper for block in BLOCKS))
