"""Transforms: theta -> where in the input each output pixel is sampled, and back (STN section 3.2).

    grid, cache = transform.forward(theta, size)    theta (N, P), size (h, w) -> grid (N, h, w, 2)
    dtheta = transform.backward(dgrid, cache)

``transform.identity``, P numbers, is the theta that changes nothing: what a localisation network's
last layer begins with (transformer.regression_layer). All transforms map output to input, in the
coordinates of ops/affine_grid.py: x to the right, -1 and +1 the centres of the first and the last
pixel. At the identity the grid is the pixel centres to the last bit.

transform.py         what all transforms are
linear.py            Affine, Attention, Translation, Similarity: a 2x3 matrix, of 6, 3, 2, 4
                     parameters; what is linear in theta
projective.py        Projective: 8 parameters
control_points.py    ThinPlateSpline, PiecewiseAffine: offsets of a regular grid of control points
general.py           General: M_theta B, with B learned
volumes.py           Affine3d: a 3x4 matrix, for volumes

Where theta is not finite neither is the grid, and the sampler gives NaN there.
"""

from ministn.transformer.transforms.control_points import (
    ControlPoints,
    PiecewiseAffine,
    ThinPlateSpline,
)
from ministn.transformer.transforms.general import General
from ministn.transformer.transforms.linear import (
    AFFINE,
    Affine,
    Attention,
    Linear,
    OfMatrix,
    Similarity,
    Translation,
)
from ministn.transformer.transforms.projective import Projective
from ministn.transformer.transforms.transform import Size, Transform, regular_grid
from ministn.transformer.transforms.volumes import Affine3d

__all__ = [
    "AFFINE",
    "Affine",
    "Affine3d",
    "Attention",
    "ControlPoints",
    "General",
    "Linear",
    "OfMatrix",
    "PiecewiseAffine",
    "Projective",
    "Similarity",
    "Size",
    "ThinPlateSpline",
    "Transform",
    "Translation",
    "regular_grid",
]
