"""The same warps as PyTorch's, and theta in its default convention."""

import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.interop import theta_from_half_pixel, theta_to_half_pixel

REPRODUCE = Path(__file__).parents[1] / "reproduce"
RECORD = json.loads((REPRODUCE / "records" / "torch-warps.json").read_text())
KERNELS = {"bilinear": {}, "nearest": {}, "bicubic": {"a": -0.75}}
SIZES = [((5, 9), (5, 9)), ((4, 7), (3, 11)), ((2, 2), (8, 5)), ((7, 4), (1, 6)), ((6, 5), (1, 1))]
sizes = pytest.mark.parametrize(("input_size", "output_size"), SIZES, ids=str)
kernels = pytest.mark.parametrize("kernel", KERNELS)
quiet = pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior has changed")


@pytest.fixture
def torch_warp(monkeypatch):
    """PyTorch's side, in float64."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.syspath_prepend(str(REPRODUCE))
    return import_module("torch_warps").warp


def our_warp(theta, image, size, *, align_corners, kernel, border):
    """The same warp, with theta and its gradient in PyTorch's convention."""
    ours = theta
    if not align_corners:
        ours = theta_from_half_pixel(theta, image.shape[1:3], size)
    grid, grid_cache = ops.affine_grid(ours, size)
    sample, backward = (getattr(ops, f"{kernel}_sampler{way}") for way in ("", "_backward"))
    y, cache = sample(image, grid, border=border, **KERNELS[kernel])
    dimage, dgrid = backward(np.cos(np.arange(y.size)).reshape(y.shape), cache)
    dtheta = ops.affine_grid_backward(dgrid, grid_cache)
    if not align_corners:  # d theta / d theta' is the same factor as theta / theta'
        dtheta = theta_from_half_pixel(dtheta, image.shape[1:3], size)
    return {"y": y, "dtheta": dtheta, "dimage": dimage}


def check_same(found, expected):
    for name in ("y", "dtheta", "dimage"):
        np.testing.assert_allclose(found[name], expected[name], 1e-10, 1e-10, err_msg=name)


def random_theta(n, seed=0):
    """Warps that read up to twice as far as the image."""
    return np.random.default_rng(seed).uniform(-1, 1, (n, 2, 3))


@pytest.mark.parametrize(
    "case", RECORD["cases"], ids=lambda c: f"{c['kernel']} {c['border']} {c['align_corners']}"
)
def test_warps_and_gradients_are_those_that_pytorch_gave(case):
    """Without PyTorch, from the record of reproduce/torch_warps.py."""
    arrays = np.array(RECORD["theta"]), np.array(RECORD["image"]), tuple(RECORD["output_size"])
    options = {name: case[name] for name in ("align_corners", "kernel", "border")}
    check_same(our_warp(*arrays, **options), case)


def test_the_record_has_every_pair_of_kernels_and_borders_that_agree():
    found = {(case["align_corners"], case["kernel"], case["border"]) for case in RECORD["cases"]}
    borders = {True: ("nearest", "zeros", "mirror"), False: ("nearest", "zeros")}
    assert found == {(a, k, b) for a, names in borders.items() for k in KERNELS for b in names}


@quiet
@kernels
@pytest.mark.parametrize("border", ["nearest", "zeros", "mirror"])
@sizes
def test_warps_are_those_of_pytorch_with_aligned_corners(
    torch_warp, kernel, border, input_size, output_size
):
    arrays = random_theta(4), normal(4, *input_size, 3), output_size
    options = {"align_corners": True, "kernel": kernel, "border": border}
    check_same(our_warp(*arrays, **options), torch_warp(*arrays, **options))


@kernels
@pytest.mark.parametrize("border", ["nearest", "zeros"])
@sizes
def test_converted_theta_gives_pytorchs_default_warp(
    torch_warp, kernel, border, input_size, output_size
):
    arrays = random_theta(4, 1), normal(4, *input_size, 3), output_size
    options = {"align_corners": False, "kernel": kernel, "border": border}
    check_same(our_warp(*arrays, **options), torch_warp(*arrays, **options))


@pytest.mark.parametrize("border", ["nearest", "zeros"])
def test_at_whole_pixels_the_slopes_are_pytorchs_but_on_the_first_ones(torch_warp, border):
    """There PyTorch's "border" has slope 0 already, ours still that of the first cell."""
    identity = np.array([[[1.0, 0, 0], [0, 1, 0]]])
    image = normal(1, 5, 9, 1)
    options = {"align_corners": True, "kernel": "bilinear", "border": border}
    arrays = identity, image, (5, 9)
    alike = our_warp(*arrays, **options), torch_warp(*arrays, **options)
    np.testing.assert_allclose(*(found["y"] for found in alike), rtol=0, atol=1e-12)
    same = np.allclose(*(found["dtheta"] for found in alike), rtol=1e-10)
    assert same == (border == "zeros")
    framed = np.pad(normal(1, 3, 7, 1), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    arrays = identity, framed, (5, 9)
    check_same(our_warp(*arrays, **options), torch_warp(*arrays, **options))


def test_half_way_between_two_pixels_pytorch_takes_the_even_one(torch_warp):
    """Rounding to even; ours is floor(x + 1/2), equation (4)."""
    image = np.tile(np.arange(5.0), 2).reshape(1, 2, 5, 1)
    theta = np.array([[[1.0, 0, 0.25], [0, 1, 0]]])  # half a pixel to the right
    options = {"align_corners": True, "kernel": "nearest", "border": "nearest"}
    arrays = theta, image, (2, 5)
    assert torch_warp(*arrays, **options)["y"].ravel().tolist() == [0, 2, 2, 4, 4] * 2
    assert our_warp(*arrays, **options)["y"].ravel().tolist() == [1, 2, 3, 4, 4] * 2


@sizes
def test_converted_theta_reads_the_same_pixels(input_size, output_size):
    """Without PyTorch: its documented formulas, (2 j + 1) / w - 1 and ((g + 1) W - 1) / 2."""
    theta = random_theta(3, 2)
    (height, width), (h, w) = input_size, output_size
    grid, _ = ops.affine_grid(theta_from_half_pixel(theta, input_size, output_size), output_size)
    ours = (grid + 1) * (np.array([width, height]) - 1) / 2
    x, y = np.meshgrid((2 * np.arange(w) + 1) / w - 1, (2 * np.arange(h) + 1) / h - 1)
    targets = np.stack([x, y, np.ones_like(x)], axis=-1)
    theirs = ((np.einsum("nrc,hwc->nhwr", theta, targets) + 1) * [width, height] - 1) / 2
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@sizes
def test_there_and_back(dtype, input_size, output_size):
    theta = random_theta(3).astype(dtype)
    ours = theta_from_half_pixel(theta, input_size, output_size)
    assert ours.dtype == dtype and not np.allclose(ours, theta)
    back = theta_to_half_pixel(ours, input_size, output_size)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, theta, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("convert", [theta_from_half_pixel, theta_to_half_pixel])
def test_gpu_arrays_are_converted_alike(quick_device, convert):
    theta = random_theta(3).astype(np.float32)
    found = convert(quick_device.to_gpu(theta), (4, 7), (3, 11))
    assert type(found) is quick_device.array
    np.testing.assert_array_equal(quick_device.to_cpu(found), convert(theta, (4, 7), (3, 11)))


def test_the_identity_keeps_its_numbers_only_where_the_size_stays():
    """Elsewhere PyTorch's two conventions read different points, as its documentation warns."""
    identity = np.array([[[1.0, 0, 0], [0, 1, 0]]])
    np.testing.assert_allclose(theta_from_half_pixel(identity, (5, 7), (5, 7)), identity, 1e-15)
    halved = theta_from_half_pixel(identity, (8, 8), (4, 4))
    np.testing.assert_allclose(halved, identity * (8 / 7) * (3 / 4), 1e-15)


@pytest.mark.parametrize("convert", [theta_from_half_pixel, theta_to_half_pixel])
def test_bad_arguments(convert):
    theta = random_theta(2)
    for arguments, message in (
        ((theta, (1, 5), (3, 3)), r"^input_size must be at least \(2, 2\), got \(1, 5\)$"),
        ((theta, (5, 5), (0, 3)), r"^output_size must be at least \(1, 1\), got \(0, 3\)$"),
        ((theta, 5, (3, 3)), "^input_size must be two whole numbers"),
        ((theta[0], (5, 5), (3, 3)), r"^theta must have shape \(N, 2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(*arguments)
