"""The grid generator and the samplers on the GPU, against ops."""

from itertools import product

import devices
import numpy as np
import pytest
from cudacpu.device import EmulatedDevice
from cudacpu.module import Module
from helpers import GRADIENT_TOLERANCE, TOLERANCE, as_view, compare, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fast import far_outside, not_finite, whole_and_half_pixels

from ministn import backend, cuda, ops
from ministn.cuda.affine_grid import affine_grid, affine_grid_backward
from ministn.cuda.bicubic import bicubic_sampler, bicubic_sampler_backward
from ministn.cuda.bilinear import bilinear_sampler, bilinear_sampler_backward
from ministn.cuda.launch import source
from ministn.cuda.nearest import nearest_sampler, nearest_sampler_backward
from ministn.transformer.samplers import KERNELS

FORWARD, GRADIENT = TOLERANCE[np.float32], GRADIENT_TOLERANCE[np.float32]
# A sum over channels, of the order of 10. Largest difference beyond 1e-5 of it: bilinear 8e-7,
# bicubic 2.6e-6 from float32, 3.6e-6 from float64.
DGRID = (1e-5, 1e-5)
quick = settings(max_examples=25, deadline=None, derandomize=True, database=None)
IDENTITY = np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)


def float32(*shape):
    return normal(*shape).astype(np.float32)


def on(device, arrays):
    return [device.to_gpu(array) for array in arrays]


# ---- grid generator

GRIDS = [
    (4, (3, 5)),
    (1, (1, 6)),
    (2, (4, 1)),
    (3, (1, 1)),
    (5, (17, 31)),
    (0, (3, 4)),
    (1, (60, 61)),
]


@pytest.mark.parametrize(("n", "size"), GRIDS, ids=str)
def test_affine_grid_is_numpys_to_the_last_bit(device, n, size):
    theta = float32(n, 2, 3)
    grid, _ = affine_grid(device.to_gpu(theta), size)
    np.testing.assert_array_equal(device.to_cpu(grid), ops.affine_grid(theta, size)[0])


@pytest.mark.parametrize(("n", "size"), GRIDS, ids=str)
def test_affine_grid_backward_agrees_with_ops(device, n, size):
    """Largest difference 9.2e-6, from a sum of 3660 terms whose magnitudes add up to 2900."""
    theta, dgrid = float32(n, 2, 3), float32(n, *size, 2)
    _, ops_cache = ops.affine_grid(theta.astype(np.float64), size)
    _, cache = affine_grid(device.to_gpu(theta), size)
    dtheta = affine_grid_backward(device.to_gpu(dgrid), cache)
    expected = ops.affine_grid_backward(dgrid.astype(np.float64), ops_cache)
    compare("dtheta", device.to_cpu(dtheta), expected, 1e-6, 2e-5)


# ---- sampler: values, cells, borders

SAMPLERS = {  # on the GPU, and in ops
    kernel: tuple(
        (getattr(engine, f"{kernel}_sampler"), getattr(engine, f"{kernel}_sampler_backward"))
        for engine in (cuda, ops)
    )
    for kernel in KERNELS
}
samplers = pytest.mark.parametrize("sampler", SAMPLERS)
BORDERS = [("nearest", 0.0), ("zeros", 0.0), ("zeros", 1.5), ("mirror", 0.0), ("wrap", 0.0)]
IMAGES = [  # image, size of the output
    ((3, 7, 5, 1), (6, 4)),
    ((1, 4, 6, 3), (5, 7)),
    ((2, 1, 8, 1), (3, 4)),
    ((2, 5, 1, 2), (4, 3)),
    ((2, 1, 1, 5), (3, 5)),
    ((2, 6, 5, 6), (9, 11)),  # with 8 lanes for each point: 4 blocks for each image
    ((2, 3, 4, 7), (3, 2)),
    ((1, 9, 7, 1), (17, 19)),  # 2 blocks
    ((2, 4, 5, 32), (3, 7)),
    ((1, 3, 4, 67), (2, 5)),
]


def check_sampler(device, image, grid, dtype=np.float32, sampler="bilinear", **options):
    """Against ops in a dtype: in float32, where points on a kink must be given the same cell."""
    (forward, backward), (ops_forward, ops_backward) = SAMPLERS[sampler]
    dy = np.random.default_rng(5).normal(size=(*grid.shape[:3], image.shape[3])).astype(np.float32)
    reference = [array.astype(dtype) for array in (image, grid, dy)]
    expected, ops_cache = ops_forward(*reference[:2], **options)
    y, cache = forward(*on(device, (image, grid)), **options)
    compare("y", device.to_cpu(y), expected, *FORWARD)
    want_dimage, want_dgrid = ops_backward(reference[2], ops_cache)
    dimage, dgrid = backward(device.to_gpu(dy), cache)
    compare("dimage", device.to_cpu(dimage), want_dimage, *GRADIENT)
    compare("dgrid", device.to_cpu(dgrid), want_dgrid, *DGRID)
    nothing, alone = backward(device.to_gpu(dy), cache, False)
    assert nothing is None
    np.testing.assert_array_equal(device.to_cpu(alone), device.to_cpu(dgrid))


@pytest.mark.parametrize("grid", [whole_and_half_pixels, far_outside, not_finite])
@pytest.mark.parametrize(("border", "fill"), BORDERS)
@pytest.mark.parametrize(("image", "size"), IMAGES, ids=str)
@samplers
def test_sampler_agrees_with_ops(device, image, size, border, fill, grid, sampler):
    n, height, width, _ = image
    points = grid(n, size, (height, width))
    check_sampler(device, float32(*image), points, sampler=sampler, border=border, fill=fill)


@pytest.mark.parametrize("a", [-1.0, -0.75, 0.0])
@pytest.mark.parametrize(("border", "fill"), BORDERS)
def test_bicubic_with_another_slope_agrees_with_ops(device, a, border, fill):
    points = whole_and_half_pixels(2, (9, 11), (6, 5))
    options = {"border": border, "fill": fill, "a": a}
    check_sampler(device, float32(2, 6, 5, 3), points, sampler="bicubic", **options)


@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(*[st.integers(1, 6)] * 3, st.integers(1, 10)),
    size=st.tuples(*[st.integers(1, 9)] * 2),
    border=st.sampled_from(BORDERS),
    sampler=st.sampled_from(list(SAMPLERS)),
)
def test_sampler_agrees_with_ops_in_float64_at_any_shape(
    device, seed, shape, size, border, sampler
):
    """Points up to 3 pixels outside, and at least 0.1 from where V bends or jumps."""
    n, height, width, _ = shape
    rng = np.random.default_rng(seed)
    grid = np.zeros((n, *size, 2), np.float32)
    for axis, length in enumerate((width, height)):
        pixel = rng.integers(-3, length + 2, grid.shape[:3]) + rng.uniform(0.1, 0.9, grid.shape[:3])
        pixel += 0.5 * (sampler == "nearest")
        grid[..., axis] = pixel / ((length - 1) / 2) - 1 if length > 1 else pixel
    image = rng.normal(size=shape).astype(np.float32)
    check_sampler(device, image, grid, np.float64, sampler, border=border[0], fill=border[1])


@pytest.mark.parametrize(
    "shapes", [((0, 4, 5, 3), (3, 2)), ((2, 4, 5, 3), (0, 2)), ((2, 4, 5, 0), (3, 2))]
)
@samplers
def test_sampler_of_nothing(device, shapes, sampler):
    image, size = shapes
    grid = np.zeros((image[0], *size, 2), np.float32)
    check_sampler(device, float32(*image), grid, sampler=sampler)


@samplers
def test_sampler_reads_nan_and_inf_only_where_they_are(device, sampler):
    """A pixel without weight counts as in ops: 0 inf is NaN."""
    image = float32(2, 5, 6, 2)
    image[0, 1, 2, 0], image[0, 3, 3, 1], image[1, 4, 5, 0] = np.nan, np.inf, -np.inf
    grid = whole_and_half_pixels(2, (6, 7), (5, 6))
    with np.errstate(invalid="ignore"):
        for border, _ in BORDERS:
            check_sampler(device, image, grid, sampler=sampler, border=border)


# ---- cells at the identity


def zigzag(length, axis):
    """An image 2 pixels wide across the axis (0 is x), that goes up and down by 1 along it."""
    image = np.tile(np.arange(length, dtype=np.float32) % 2, (1, 2, 1))[..., None]
    return image if axis == 0 else np.ascontiguousarray(image.transpose(0, 2, 1, 3))


def lengths_with_wrong_cells(device, axis):
    """Where the identity does not give the slope of the cell to the right, or below."""
    wrong = []
    for length in range(2, 257):
        image = zigzag(length, axis)
        grid, _ = affine_grid(device.to_gpu(IDENTITY), image.shape[1:3])
        y, cache = bilinear_sampler(device.to_gpu(image), grid)
        compare("y", device.to_cpu(y), image, 0, 1e-4)  # the points are to within some 1e-5 pixels
        _, dgrid = bilinear_sampler_backward(device.to_gpu(np.ones_like(image)), cache, False)
        slopes = device.to_cpu(dgrid)[..., axis] / ((length - 1) / 2)
        last = np.take(image, [-1], 2 - axis)
        right = np.diff(image, axis=2 - axis, append=last)[..., 0]
        if abs(slopes - right).max() > 0.01:
            wrong.append(length)
    return wrong


@pytest.mark.parametrize("axis", [0, 1])
def test_identity_lies_in_the_cell_to_the_right_and_below(quick_device, axis):
    assert lengths_with_wrong_cells(quick_device, axis) == []


WITHOUT_INTRINSICS = """
#define __fmul_rn(a, b) ((a) * (b))
#define __fadd_rn(a, b) ((a) + (b))
"""


def emulated(monkeypatch, module=Module, options=()):
    """A device of its own, whose kernels are compiled by ``module`` with options for g++."""
    devices.emulated(checked=False)  # or a skip
    monkeypatch.setattr("cudacpu.device.Module", module)
    device = EmulatedDevice(options=options)
    backend.register(device)
    return device


def test_fused_multiply_add_would_move_the_identity_into_other_cells(monkeypatch):
    """The intrinsics keep the compiler from it, though it is told to fuse what it may."""
    fusing = ("-ffp-contract=fast", "-mfma")
    assert lengths_with_wrong_cells(emulated(monkeypatch, options=fusing), 0) == []
    monkeypatch.setattr(
        "ministn.cuda.launch.source", lambda file: WITHOUT_INTRINSICS + source(file)
    )
    assert lengths_with_wrong_cells(emulated(monkeypatch, options=fusing), 0) != []


# ---- the gradient of the image


def image_gradient(device, shape, grid, dy, sampler="bilinear", **options):
    (forward, backward), _ = SAMPLERS[sampler]
    _, cache = forward(*on(device, (np.zeros(shape, np.float32), grid)), **options)
    return device.to_cpu(backward(device.to_gpu(dy), cache)[0])


def scattered(n, h, w, channels):
    """A grid up to a little outside, and dy."""
    grid = np.random.default_rng([n, h, w]).uniform(-1.1, 1.1, (n, h, w, 2)).astype(np.float32)
    return grid, float32(n, h, w, channels)


@pytest.mark.parametrize("scale", [1, 2.0**-40, 2.0**100, 2.0**-100])
@samplers
def test_image_gradient_is_within_the_bound(device, scale, sampler):
    """Against the exact sum of what each point adds, which ops finds one point at a time."""
    shape, (grid, dy) = (1, 5, 5, 3), scattered(1, 16, 15, 3)
    dy *= np.float32(scale)
    # On eighths of pixels all weights are exact. With "zeros" a point adds to as many different
    # pixels as it reads, so that ops rounds nothing but the parts.
    grid, count = np.round(grid * 16) / 16, {"nearest": 1, "bilinear": 4, "bicubic": 16}[sampler]
    got = image_gradient(device, shape, grid, dy, sampler, border="zeros")
    apart = np.zeros((240, 5, 5, 3), np.float32), grid.reshape(240, 1, 1, 2)
    forward, backward = SAMPLERS[sampler][1]
    _, cache = forward(*apart, border="zeros")
    parts, _ = backward(dy.reshape(240, 1, 1, 3), cache)
    exact = parts.sum(axis=0, dtype=np.float64)
    bound = count / 2 * max(240**2 * float(abs(dy).max()) * 2.0**-60, 240 * 2.0**-126)
    error = abs(got[0].astype(np.float64) - exact)
    assert (error <= np.spacing(abs(got[0])).astype(np.float64) / 2 + bound).all()


CORNER = {  # what a point half a pixel outside of a corner, in both directions, gives the 2x2 there
    "nearest": [[1, 0], [0, 0]],
    "bilinear": [[1, 0], [0, 0]],
    "bicubic": np.outer([9, -1], [9, -1]) / 64,  # with a = -1
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (16, 17)])
@samplers
def test_largest_sum_there_can_be(device, size, sign, sampler):
    """All points in one place, with the largest dy: one bit more and bicubic would not fit."""
    value = sign * np.nextafter(np.float32(2), np.float32(0))
    grid, dy = np.full((1, *size, 2), -1.5, np.float32), np.full((1, *size, 1), value, np.float32)
    options = {"a": -1.0} if sampler == "bicubic" else {}
    got = image_gradient(device, (1, 3, 3, 1), grid, dy, sampler, **options)
    expected = np.pad(CORNER[sampler], ((0, 1), (0, 1))).reshape(1, 3, 3, 1)
    compare("dimage", got / (value * np.prod(size)), expected, 0, 2e-7)


def test_small_parts_survive_large_ones_that_cancel(device):
    grid, dy = np.full((1, 16, 16, 2), -1e9, np.float32), np.zeros((1, 16, 16, 1), np.float32)
    dy[0, 0, 0], dy[0, 3, 4], dy[0, 15, 15] = 1, 2.0**-50, -1
    assert image_gradient(device, (1, 3, 4, 1), grid, dy)[0, 0, 0, 0] == 2.0**-50


def test_image_gradient_of_no_gradient(device):
    grid, dy = scattered(2, 5, 7, 3)
    dy[0] = 0
    dimage = image_gradient(device, (2, 4, 5, 3), grid, dy)
    assert not dimage[0].any() and dimage[1].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@samplers
def test_image_gradient_of_a_gradient_that_is_not_finite(device, value, sampler):
    """All of that image, and nothing of the others, whose sums are not even rounded otherwise."""
    grid, dy = scattered(3, 5, 7, 3)
    expected = image_gradient(device, (3, 4, 5, 3), grid, dy, sampler)
    dy[1, 2, 3, 0] = value
    expected[1] = np.nan
    got = image_gradient(device, (3, 4, 5, 3), grid, dy, sampler)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("images", [1, 2, 3])
def test_images_at_a_time_do_not_matter(device, monkeypatch, images):
    shape, (grid, dy) = (5, 4, 5, 3), scattered(5, 5, 7, 3)
    grid[3, 1, 1], dy[1, 0, 0, 2] = np.nan, 1e10
    together = image_gradient(device, shape, grid, dy)
    monkeypatch.setattr("ministn.cuda.sampling.SUMS_BYTES", images * 8 * 4 * 5 * 3 + 1)
    np.testing.assert_array_equal(image_gradient(device, shape, grid, dy), together)


# ---- all of it


def everything(device, to_device):
    """Every result, forward and backward, for one channel and for many, as NumPy arrays."""
    results = []
    theta = to_device(float32(3, 2, 3) / 2)
    grid, grid_cache = affine_grid(theta, (9, 7))
    for channels, (forward, backward) in product((1, 20), (gpu for gpu, _ in SAMPLERS.values())):
        y, cache = forward(to_device(float32(3, 5, 6, channels)), grid)
        dimage, dgrid = backward(to_device(float32(3, 9, 7, channels)), cache)
        results += [y, dimage, dgrid, affine_grid_backward(dgrid, grid_cache)]
    return [device.to_cpu(result) for result in results]


def test_same_bits_again(device):
    first = everything(device, device.to_gpu)
    for got, expected in zip(everything(device, device.to_gpu), first, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_views_give_the_results_of_their_copies(device):
    copies = everything(device, device.to_gpu)
    views = everything(device, lambda array: as_view(device, array))
    for got, expected in zip(views, copies, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_bad_arguments(device):
    image, grid, theta = on(device, (float32(2, 4, 5, 3), float32(2, 6, 7, 2), float32(2, 2, 3)))
    for call, message in (
        (lambda: bilinear_sampler(image, grid[:1]), "^grid must have shape"),
        (lambda: bilinear_sampler(image, grid, border="reflect"), "^border must be one of"),
        (lambda: nearest_sampler(image, grid, border="reflect"), "^border must be one of"),
        (lambda: nearest_sampler(image, grid[:1]), "^grid must have shape"),
        (lambda: bicubic_sampler(image, grid[:1]), "^grid must have shape"),
        (lambda: bicubic_sampler(image, grid, a=-1.1), "^a must be a finite number of at least -1"),
        (
            lambda: bicubic_sampler(image, grid, a=np.nan),
            "^a must be a finite number of at least -1",
        ),
        (lambda: bicubic_sampler_backward(image, bicubic_sampler(image, grid)[1]), "^dy must"),
        (lambda: nearest_sampler_backward(image, nearest_sampler(image, grid)[1]), "^dy must"),
        (lambda: bilinear_sampler(image, grid, fill=1.0), "^fill needs border 'zeros'"),
        (lambda: bilinear_sampler(image[:, :0], grid), "^image must have at least one pixel"),
        (lambda: bilinear_sampler_backward(image, bilinear_sampler(image, grid)[1]), "^dy must"),
        (lambda: affine_grid(theta[0], (3, 4)), "^theta must have shape"),
        (lambda: affine_grid(theta, (3, 0)), "^size must be at least"),
        (lambda: affine_grid(theta, (3.5, 2)), "^size must be two whole numbers"),
        (lambda: affine_grid_backward(grid, affine_grid(theta, (6, 6))[1]), "^dgrid must have"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_float64_is_refused(device):
    image, grid, theta = on(device, (normal(2, 4, 5, 3), normal(2, 6, 7, 2), normal(2, 2, 3)))
    for call in (
        lambda: bilinear_sampler(image, grid),
        lambda: nearest_sampler(image, grid),
        lambda: bicubic_sampler(image, grid),
        lambda: affine_grid(theta, (3, 4)),
    ):
        with pytest.raises(TypeError, match="must be float32, got float64"):
            call()


def check_order_does_not_matter(monkeypatch, order, everything):
    """Of blocks and threads; 1 is backwards, more are shuffles. everything: all that is computed,
    on a device, of what its second argument brings there.
    """
    modules = []

    def reordered(*arguments, **options):
        modules.append(Module(*arguments, **options))
        modules[-1].config(order, threads=1)
        return modules[-1]

    in_order = devices.emulated(checked=False)
    expected = everything(in_order, in_order.to_gpu)
    device = emulated(monkeypatch, reordered)
    found = everything(device, device.to_gpu)
    for module in modules:  # a library is loaded once, whoever asks for it
        module.config(0)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_order_of_blocks_and_threads_does_not_matter(monkeypatch, order):
    check_order_does_not_matter(monkeypatch, order, everything)
