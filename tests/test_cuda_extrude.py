"""Volumes of extruded digits that a GPU makes, against those that NumPy makes."""

import numpy as np
import pytest
from test_cuda_sampler import check_order_does_not_matter
from test_extruded import moved

from ministn import data, ops
from ministn.data import extruded
from ministn.data.extruded import Volumes


def shrunk(patch):
    """Seven volumes with a third of the set's side."""
    patch.setattr(extruded, "CANVAS", 21)
    patch.setattr(extruded, "MIDDLE", 10.0)
    patch.setattr(extruded, "DEPTH", 9)
    return drawn(7, side=8)


def drawn(count, side):
    images = np.random.default_rng(side).integers(0, 256, (count, side, side)).astype(np.uint8)
    return Volumes(images, extruded.draw("train", count, seed=1))


@pytest.fixture
def small(monkeypatch):
    return shrunk(monkeypatch)


def as_bytes(x):
    """Those that a batch (n, D, H, W) was made of, exactly."""
    found = np.rint(x * 255).astype(np.uint8)
    np.testing.assert_array_equal(x, ops.as_batch(found))
    return found


def check_bytes(x, volumes):
    """But for what is rounded the other way: at most 1 of 255."""
    expected = np.asarray(volumes)
    assert expected.any(axis=(1, 2, 3)).all()
    difference = abs(as_bytes(x).astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def test_volumes_are_numpys(device, small):
    check_bytes(device.to_cpu(data.as_batch(small.on(device))), small)


def test_volumes_of_the_sets_size_are_numpys(quick_device):
    volumes = drawn(3, side=28)
    check_bytes(quick_device.to_cpu(data.as_batch(volumes.on(quick_device))), volumes)


def test_digits_that_are_not_turned_are_exact(device, small):
    """At whole voxels, and halves that are no byte upwards; R turns x to y, and s is (x, y, z)."""
    noise = small.images[:1]
    quarter = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    for motions in (
        moved((1.5, -3.5, 5)),
        moved((-6.5, 6.5, 6)),
        moved((0.5, 0.5, 1.5)),
        moved((0.5, 1.5, 2), quarter),
    ):
        volumes = Volumes(noise, motions)
        found = as_bytes(device.to_cpu(data.as_batch(volumes.on(device))))
        np.testing.assert_array_equal(found, np.asarray(volumes))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("label", [(), (3,), (2, 150)], ids=str)
def test_batches_go_through_the_order_again_and_again(device, small, label, dtype):
    """After the last batch, a smaller one, comes the first again."""
    labels = np.random.default_rng(1).normal(size=(7, *label), scale=1e6).astype(dtype)
    order = np.random.default_rng(0).permutation(7).astype(np.int32)
    number = device.zeros((1,), np.uint32)
    on_device = small.on(device), *map(device.to_gpu, (labels, order)), number
    for step in range(4):
        rows = order[step % 3 * 3 :][:3]
        number.fill(step)
        x, x_labels = data.take_batch(*on_device, batches=3, batch_size=3, n=len(rows))
        check_bytes(device.to_cpu(x), small[rows])
        assert x_labels.dtype == dtype
        np.testing.assert_array_equal(device.to_cpu(x_labels), labels[rows])


def test_labels_may_be_larger_than_volumes(device, monkeypatch):
    monkeypatch.setattr(extruded, "CANVAS", 4)
    monkeypatch.setattr(extruded, "MIDDLE", 1.5)
    labels = np.arange(600, dtype=np.int32).reshape(2, 300)
    arrays = labels, np.int32([1, 0]), np.uint32([0])
    volumes = drawn(2, side=8).on(device)
    _, found = data.take_batch(volumes, *map(device.to_gpu, arrays), batches=1, batch_size=2, n=2)
    np.testing.assert_array_equal(device.to_cpu(found), labels[::-1])


def test_labels_of_other_dtypes_are_refused(device, small):
    arrays = np.zeros(7, np.uint8), np.arange(7, dtype=np.int32), np.uint32([0])
    with pytest.raises(TypeError, match="labels must be int32 or float32, got uint8"):
        data.take_batch(small.on(device), *map(device.to_gpu, arrays), batches=1, batch_size=7, n=7)


def test_no_volumes(device, small):
    x = data.as_batch(small[7:].on(device))
    assert x.shape == (0, 21, 21, 21)


def test_volumes_on_a_gpu_are_indexed_like_an_array(device, small):
    on_device = small.on(device)
    assert on_device.shape == small.shape and on_device.dtype == np.uint8
    whole = device.to_cpu(data.as_batch(on_device))
    for rows in (slice(2, 5), slice(5, 99), np.array([6, 0, 3])):
        some = on_device[rows]
        assert isinstance(some, Volumes) and some.shape == small[rows].shape
        np.testing.assert_array_equal(device.to_cpu(data.as_batch(some)), whole[rows])
    before = on_device.arrays
    on_device[...] = small[np.arange(6, -1, -1)].on(device)
    assert all(now is then for now, then in zip(on_device.arrays, before, strict=True))
    np.testing.assert_array_equal(device.to_cpu(data.as_batch(on_device)), whole[::-1])


@pytest.mark.parametrize("order", [1, 2])
def test_order_of_blocks_and_threads_does_not_matter(monkeypatch, order, small):
    def everything(device, to_device):
        return [device.to_cpu(data.as_batch(small.on(device)))]

    check_order_does_not_matter(monkeypatch, order, everything)
