"""The first tests to run: a few seconds, and something from every part of the package."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import trainer_of

from ministn import ops
from ministn.data import Cluttered, Form, Split
from ministn.metrics import attention
from ministn.models import NETWORKS, SmallStn
from ministn.runs import Settings
from ministn.training.protocol import Training

# Mean loss of each of the first three epochs, five steps each. Adam amplifies last bits: between
# seven OpenBLAS kernels, one and two threads and both engines they differ by up to 1.3e-5.
LOSSES = [2.317685, 2.239805, 2.168299]
LOSS_TOLERANCE = 5e-5


def test_sampler_by_hand():
    """One point in a 2x2 image, equations (5) to (7) of the STN paper worked out on paper.

    x = 0.2 and y = -0.4 are pixel coordinates 0.6 and 0.3, and half a pixel is 1 of x or y.
    """
    image = np.array([[1.0, 2.0], [3.0, 5.0]])
    grid = np.array([0.2, -0.4]).reshape(1, 1, 1, 2)
    y, cache = ops.bilinear_sampler(image.reshape(1, 2, 2, 1), grid)
    weights = np.array([[0.7 * 0.4, 0.7 * 0.6], [0.3 * 0.4, 0.3 * 0.6]])
    assert y.item() == pytest.approx((weights * image).sum())
    dimage, dgrid = ops.bilinear_sampler_backward(np.full_like(y, 10.0), cache)
    np.testing.assert_allclose(dimage[0, ..., 0], 10 * weights)
    along_x = 0.7 * (2 - 1) + 0.3 * (5 - 3)
    along_y = 0.4 * (3 - 1) + 0.6 * (5 - 2)
    np.testing.assert_allclose(dgrid.ravel(), [10 * along_x / 2, 10 * along_y / 2])


def test_identity_samples_the_image_itself():
    image = np.random.default_rng(0).random((2, 13, 17, 3), np.float32)
    theta = np.tile(np.float32([[1, 0, 0], [0, 1, 0]]), (2, 1, 1))
    grid, _ = ops.affine_grid(theta, (13, 17))
    np.testing.assert_array_equal(ops.bilinear_sampler(image, grid)[0], image)
    assert not attention.left_image(theta).any()


def test_parameter_counts():
    counts = {
        name: sum(parameter.size for parameter in NETWORKS[name].build(Form((60, 60))).parameters())
        for name in ("arch1-cnn", "arch1-tstn", "small-stn")
    }
    assert counts == {"arch1-cnn": 4_019_557, "arch1-tstn": 9_780_963, "small-stn": 178_018}


def test_small_stn_learns_digits_and_always_the_same_way():
    settings = Settings(
        Cluttered("digits", canvas=32, distractors=0, train_size=320),
        SmallStn(),
        Training(lr=0.002, batch_size=64, epochs=8),
    )
    made = settings.data.load()
    made = replace(made, valid=Split(*(array[:200] for array in vars(made.valid).values())))
    said = []
    trainer = trainer_of(settings, made, say=said.append)
    while not trainer.finished:
        trainer.step()
    losses = [epoch["train_loss"] for epoch in trainer.state.history]
    assert losses[:3] == pytest.approx(LOSSES, abs=LOSS_TOLERANCE)
    assert losses[-1] < 0.7 * losses[0]
    assert trainer.best["valid_error"] < 60  # 90 by chance
    assert len(said) == 8 and said[0].startswith("epoch 1/8: loss 2.3177")
