"""What the samplers share: where the points lie in pixels, and what lies outside the image.

A sampler is STN equation (3) with a kernel k of its own, the same along both axes: for every
point i = (x^s, y^s) in pixels and every channel c

    V_i^c = sum_n sum_m U_nm^c k(x^s_i - m) k(y^s_i - n)

U is the image, n its row, m its column, V the output y. k is 0 but for a few pixels around a point.

Convention: images (N, H, W, C); grid pairs are (x, y), x horizontal, normalised: -1 and +1 are
the centres of the first and the last pixel, so that in pixels, counted from 0,

    x^s = g half + half,    half = (W - 1) / 2        (y likewise with H)

and a coordinate on an axis of length 1 is always 0.

The sums run over all whole numbers. What U_nm is outside the image, border says:

    "nearest"  the edge pixels                            a a a | a b c d | d d d
    "zeros"    the value fill, which is 0 if not given    0 0 0 | a b c d | 0 0 0
    "mirror"   the image reflected about its edge pixels  d c b | a b c d | c b a
    "wrap"     the image once more                        b c d | a b c d | a b c

"mirror" and "wrap" are those of Lasagne's layer, with periods of 2 (W - 1) and W pixels.

A coordinate that is not finite reads no memory outside, and gives NaN in y and dgrid (and where all
points belong to some pixel, as they do unless border is "zeros", in the image's gradient at its
first pixel).
"""

import numpy as np

from ministn.errors import check_arrays, check_number

BORDERS = ("nearest", "zeros", "mirror", "wrap")


def check_sampler(image: np.ndarray, grid: np.ndarray, border: str, fill: float) -> dict[str, int]:
    """The size of every letter in image (N, H, W, C) and grid (N, h, w, 2).

    Raises TypeError for a wrong dtype, ValueError for a wrong shape, border or fill.
    """
    sizes = check_arrays(image=(image, "N H W C"), grid=(grid, "N h w 2"))
    check_border(border, fill)
    if sizes["H"] == 0 or sizes["W"] == 0:
        raise ValueError(f"image must have at least one pixel, got shape {image.shape}")
    return sizes


def check_volume_sampler(volume: np.ndarray, grid: np.ndarray, border: str, fill: float) -> None:
    """The same of volume (N, D, H, W) and grid (N, d, h, w, 3)."""
    check_arrays(volume=(volume, "N D H W"), grid=(grid, "N d h w 3"))
    check_border(border, fill)
    if 0 in volume.shape[1:]:
        raise ValueError(f"volume must have at least one voxel, got shape {volume.shape}")


def check_border(border: str, fill: float) -> None:
    """Raises ValueError for a border that there is not, a fill not finite or where none is used."""
    if border not in BORDERS:
        raise ValueError(f"border must be one of {', '.join(map(repr, BORDERS))}, got {border!r}")
    # Finite: the weight 0 of a point on the edge would make it NaN.
    if check_number("fill", fill) != 0 and border != "zeros":
        raise ValueError(f"fill needs border 'zeros', got fill {fill} with border {border!r}")


def to_pixels(grid: np.ndarray, *lengths: int) -> list[np.ndarray]:
    """grid (N, h, w, 2) -> xs, ys (N, h, w) in pixels; both NaN if one of them is not finite.

    lengths: H and W. Of a volume D, H and W: then points are triples, and zs comes last.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # 1e38 * 20, inf * 0
        points = [
            grid[..., axis] * ((length - 1) / 2) + (length - 1) / 2
            for axis, length in enumerate(reversed(lengths))
        ]
    finite = np.isfinite(points).all(axis=0)
    return [np.where(finite, point, np.nan) for point in points]


def framed(image: np.ndarray, border: str, fill: float) -> np.ndarray:
    """The images as pixel_at counts: with border "zeros" in a frame of fill.

    One pixel is enough, as all that is further outside is the same. Volumes are (N, D, H, W, 1).
    """
    if border != "zeros":
        return image
    frame = [(0, 0), *[(1, 1)] * (image.ndim - 2), (0, 0)]
    return np.pad(image, frame, constant_values=fill)


def unframed(image: np.ndarray, border: str) -> np.ndarray:
    """The images, or their gradients, without that frame."""
    if border != "zeros":
        return image
    return image[:, *[slice(1, -1)] * (image.ndim - 2)]


def pixel_at(position: np.ndarray, size: int, border: str) -> np.ndarray:
    """The index, in a framed image, of what lies at whole-number positions along one axis.

    Folding and clipping come before the conversion to integers, which large numbers do not
    survive: both are exact in floats. fmax turns NaN into an index that exists.
    """
    if border == "mirror":
        period = max(1, 2 * (size - 1))
        position = np.mod(position, period)
        position = np.minimum(position, period - position)
    elif border == "wrap":
        position = np.mod(position, size)
    margin = int(border == "zeros")
    return np.fmin(np.fmax(position, -margin), size - 1 + margin).astype(np.intp) + margin
