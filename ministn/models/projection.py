"""Classifying a volume from one projection: STN appendix A.3.

    volume
    spatial transformer        affine in three dimensions, trilinear; half as large each way
    projection                 mean along the depth
    FCN or CNN                 those of the MNIST tables, models/stn.py

    Localisation net           average pooling 4x4x4 of the volume
                               32 neurons, ReLU   (three times)
                               transform layer, at first the identity

The base networks project the volume as it is. All learn from class labels alone. The paper names
neither the networks' layers nor the output's size, its depth or how it is flattened: those here are
our choice, and all networks have as nearly 400,000 parameters as their widths allow, as in stn.py.
Half the size shows a digit of 28 voxels in 60 as large as it is, once it is attended to. The CNN
reads no less than 24x24.
"""

from ministn.data import Form
from ministn.errors import UserError, check_flags, check_whole
from ministn.kinds import kind
from ministn.layers import AvgPool3d, Projection, Sequential
from ministn.models.architecture import Architecture, check_one_channel
from ministn.models.network import Network
from ministn.models.stn import (
    BASES,
    SMALLEST,
    SMALLEST_READ,
    closest_width,
    cnn,
    fcn,
    localisation_fcn,
)
from ministn.transformer import SpatialTransformer
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import Affine3d, Size

AFFINE_3D = Affine3d()
TRILINEAR = Sampler("trilinear")
POOL = 4


def projection(
    size: Size,
    classes: int,
    *,
    convolutional: bool,
    transformed: bool = False,
    width: int | None = None,
) -> Network:
    """An FCN or a CNN behind a projection, and that behind a transformer if ``transformed``.

    size: (D, H, W) of the volumes. width: as in stn.stn. Raises UserError for volumes that are too
    small, or too large for so few parameters.
    """
    if len(size) != 3 or min(size) < SMALLEST:
        raise UserError(
            "volumes must have at least 28x28x28 voxels for the projection networks, got "
            + "x".join(map(str, size))
        )
    read = tuple(max(side // 2, SMALLEST_READ) for side in size) if transformed else size
    classifier = cnn if convolutional else fcn
    front = _transformer(size, read) if transformed else None

    def network(width: int) -> Network:
        layers = classifier(read[1:], 1, width, classes)
        return Network(Sequential(Projection("classifier/projection"), *layers), front)

    return network(width or closest_width(network, size))


def _transformer(size: Size, output: Size) -> SpatialTransformer:
    depth, height, width = (side // POOL for side in size)
    # A volume's columns are flattened like an image's channels.
    dense = localisation_fcn("localisation", (depth, height), width, AFFINE_3D)
    localisation = Sequential(AvgPool3d("localisation/average", POOL), *dense.layers)
    return SpatialTransformer(localisation, output, transform=AFFINE_3D, sampler=TRILINEAR)


@kind("projected")
class Projected(Architecture):
    """An FCN or a CNN. base: "fcn" or "cnn". transformed, width: see ``projection``."""

    base: str
    transformed: bool = False
    width: int | None = None

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise UserError(f"base must be {' or '.join(BASES)}, got {self.base!r}")
        if self.width is not None:
            check_whole(width=self.width)
        check_flags(transformed=self.transformed)

    @property
    def name(self) -> str:
        return f"projection-{'st-' if self.transformed else ''}{self.base}"

    def build(self, form: Form) -> Network:
        check_one_channel(form)
        return projection(
            form.size,
            form.classes,
            convolutional=self.base == "cnn",
            transformed=self.transformed,
            width=self.width,
        )


PROJECTED = [Projected(base, transformed) for transformed in (False, True) for base in BASES]
