"""Cluttered digits cut out by their true boxes: what perfect attention would leave to classify."""

from pathlib import Path

import numpy as np

from ministn.data.batch import as_batch
from ministn.data.cluttered import CHUNK, Cluttered
from ministn.data.dataset import DataSet, Form, Map, Split
from ministn.data.sources import SUFFIX
from ministn.data.warping import ON_BLACK, as_bytes
from ministn.errors import check_whole
from ministn.kinds import kind
from ministn.transformer.transforms import AFFINE


@kind("cropped to digit")
class CroppedToDigit(Cluttered):
    """Each image is the smallest square that has all of the digit's ink, with it in the middle.

    side: of the images, in pixels. All else as in Cluttered, whose images they are cut from. A
    classifier of these is the bound for one behind a transformer: to attend is then all done.
    Raises UserError for what cannot be.
    """

    side: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(2, side=self.side)

    @property
    def name(self) -> str:
        return "cropped" + SUFFIX[self.source]

    @property
    def form(self) -> Form:
        return Form((self.side, self.side))

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        made = super().load(folder, map)
        assert isinstance(made.train, Split) and made.valid is not None
        return DataSet(
            *(cropped(split, self.side) for split in (made.train, made.valid, made.test))
        )


def cropped(split: Split, side: int) -> Split:
    """Squares round the boxes, side x side pixels, read bilinearly; outside the image it is black.

    The outermost pixels' centres lie where those of the ink did. Boxes are moved along, rounded.
    """
    boxes = split.boxes.astype(np.float64)
    middle, extent = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    half = np.maximum(extent.max(axis=1, keepdims=True), 1) / 2
    whole = (np.array(split.size[::-1]) - 1) / 2
    zoom, shift = half / whole, middle / whole - 1
    none = np.zeros(len(boxes))
    theta = np.stack([zoom[:, 0], none, shift[:, 0], none, zoom[:, 1], shift[:, 1]], axis=1)
    images = np.empty((len(split), side, side), np.uint8)
    for start in range(0, len(split), CHUNK):
        some = slice(start, start + CHUNK)
        # In float64, where there is one implementation: the images are the same on every machine.
        grid, _ = AFFINE.forward(theta[some], (side, side))
        x = as_batch(split.images[some]).astype(np.float64)
        images[some] = as_bytes(ON_BLACK.forward(x, grid)[0][..., 0])
    moved = (boxes - np.tile(middle - half, 2)) / (2 * half) * (side - 1)
    return Split(images, split.labels, np.rint(moved).astype(np.int16))
