"""The same warps as PyTorch's, and theta in its default convention."""

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.interop import theta_from_half_pixel, theta_to_half_pixel

PADDING = {"nearest": "border", "zeros": "zeros", "mirror": "reflection"}  # ours: PyTorch's
KERNELS = {"bilinear": {}, "nearest": {}, "bicubic": {"a": -0.75}}
SIZES = [((5, 9), (5, 9)), ((4, 7), (3, 11)), ((2, 2), (8, 5)), ((7, 4), (1, 6)), ((6, 5), (1, 1))]
sizes = pytest.mark.parametrize(("input_size", "output_size"), SIZES, ids=str)


def torch_warp(theta, image, size, align_corners, **options):
    """image (N, H, W, C) sampled by PyTorch at theta's grid, and its gradients for dy = cos."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functional = torch.nn.functional
    theta = torch.tensor(theta, requires_grad=True)
    image = torch.tensor(image, requires_grad=True)
    channels_first = image.permute(0, 3, 1, 2)
    shape = (*channels_first.shape[:2], *size)
    grid = functional.affine_grid(theta, shape, align_corners=align_corners)
    y = functional.grid_sample(channels_first, grid, align_corners=align_corners, **options)
    y = y.permute(0, 2, 3, 1)
    dy = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
    dtheta, dimage = torch.autograd.grad(y, [theta, image], dy)
    return [tensor.detach().numpy() for tensor in (y, dtheta, dimage)]


def our_warp(theta, image, size, kernel="bilinear", **options):
    grid, grid_cache = ops.affine_grid(theta, size)
    y, cache = getattr(ops, f"{kernel}_sampler")(image, grid, **options)
    dy = np.cos(np.arange(y.size)).reshape(y.shape)
    dimage, dgrid = getattr(ops, f"{kernel}_sampler_backward")(dy, cache)
    return y, ops.affine_grid_backward(dgrid, grid_cache), dimage


def random_theta(n, seed=0):
    """Warps that read up to twice as far as the image."""
    return np.random.default_rng(seed).uniform(-1, 1, (n, 2, 3))


@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior has changed")
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("border", PADDING)
@sizes
def test_warps_are_those_of_pytorch_with_aligned_corners(kernel, border, input_size, output_size):
    theta, image = random_theta(4), normal(4, *input_size, 3)
    expected = torch_warp(
        theta, image, output_size, True, mode=kernel, padding_mode=PADDING[border]
    )
    found = our_warp(theta, image, output_size, kernel, border=border, **KERNELS[kernel])
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("border", ["nearest", "zeros"])
@sizes
def test_converted_theta_gives_pytorchs_default_warp(border, input_size, output_size):
    theta, image = random_theta(4, 1), normal(4, *input_size, 3)
    expected, _, _ = torch_warp(
        theta, image, output_size, False, mode="bilinear", padding_mode=PADDING[border]
    )
    converted = theta_from_half_pixel(theta, input_size, output_size)
    got, _, _ = our_warp(converted, image, output_size, border=border)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


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
        ((theta, (5, 5), (0, 3)), r"^size must be at least \(1, 1\), got \(0, 3\)$"),
        ((theta, 5, (3, 3)), "^size must be two whole numbers"),
        ((theta[0], (5, 5), (3, 3)), r"^theta must have shape \(N, 2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            convert(*arguments)
