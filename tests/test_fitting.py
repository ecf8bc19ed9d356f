"""Training one's own network: by the trainer's loop, to the best weights, and on from there."""

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import normal
from test_fit import network

from ministn.data import DataSet
from ministn.data.dataset import PlainSplit
from ministn.errors import UserError
from ministn.fit import fit
from ministn.fit.fitting import Fitted
from ministn.layers import Conv2d, Dense, Dropout, Flatten, Sequential
from ministn.models import Network
from ministn.ops import as_batch
from ministn.tasks import Classification
from ministn.training.protocol import Training
from ministn.training.trainer import Trainer
from ministn.transformer import SpatialTransformer, regression_layer

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 44)
IMAGES = (80 * abs(normal(4, 8, 9))[LABELS] + RNG.integers(0, 99, (44, 8, 9))).astype(np.uint8)
TRAINING = Training(epochs=3, batch_size=16, lr=0.01, loc_lr=0.3)
VALID = IMAGES[32:], LABELS[32:]


def weights(made: Network) -> dict[str, np.ndarray]:
    return {p.name: p.data.copy() for p in made.parameters()}


def fitted(made: Network | None = None, training=TRAINING, **how) -> tuple[Network, Fitted]:
    made = made or fresh()
    return made, fit(made, IMAGES[:32], LABELS[:32], training, **{"valid": VALID} | how)


def fresh() -> Network:
    """Without values yet."""
    looks = Sequential(Flatten("flat"), regression_layer("theta", 72))
    reads = Sequential(
        Conv2d("conv", 1, 3, pool=True), Flatten("flatten"), Dropout("drop"), Dense("dense", 36, 4)
    )
    return Network(reads, SpatialTransformer(looks, (6, 8)))


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_it_is_the_trainers_loop_and_ends_with_the_best_weights(capsys):
    made, found = fitted(seed=5)
    lines = capsys.readouterr().out.splitlines()
    train, valid = (
        PlainSplit(images, labels, np.zeros((len(images), 4), np.int16))
        for images, labels in ((IMAGES[:32], LABELS[:32]), VALID)
    )
    said: list[str] = []
    data = DataSet(train, valid, valid)
    trainer = Trainer(fresh, TRAINING, data, Classification(), seed=5, say=said.append)
    while not trainer.finished:
        trainer.step()
    assert lines == said and len(lines) == 3 and "valid" in lines[0] and "left image" in lines[0]
    assert found.epochs == trainer.state.history and found.best == trainer.best
    assert same(weights(made), trainer.buffer.views(trainer._best))
    assert f"weights of epoch {trainer.best['epoch']}" in repr(found)
    y = made.predict(as_batch(VALID[0]))[0]
    error = 100 * np.mean(y.argmax(1) != VALID[1])
    assert error == pytest.approx(found.best["valid_error"])


@pytest.mark.parametrize("workers", [1, 2])
def test_two_calls_are_one_twice_as_long(workers):
    """Also with the weights of a best epoch that was not the last one in between."""
    how = {"seed": 1, "workers": workers, "quiet": True}
    long, whole = fitted(training=replace(TRAINING, epochs=6), **how)
    made, first = fitted(**how)
    _, second = fitted(made, **how)
    assert len(first.epochs) == 3 and second.epochs == whole.epochs
    assert same(weights(made), weights(long)) and same(second.kept.arrays, whole.kept.arrays)
    assert first.best["epoch"] < 3


def test_another_call_may_have_other_rates_but_not_other_images():
    made, _ = fitted(quiet=True)
    before = weights(made)
    _, other = fitted(made, replace(TRAINING, lr=0.0), quiet=True)
    assert len(other.epochs) == 6 and other.epochs[-1]["lr"] == 0
    made, _ = fitted(quiet=True)
    found = fit(made, IMAGES, LABELS, replace(TRAINING, lr=0.0, epochs=1), quiet=True)
    assert len(found.epochs) == 1 and same(weights(made), before)  # it began with these weights
    made.parameters()[0].data += 1  # what has been changed is not lost
    changed = weights(made)
    found = fit(made, IMAGES, LABELS, replace(TRAINING, lr=0.0, epochs=1), quiet=True)
    assert len(found.epochs) == 1 and same(weights(made), changed)


def test_some_images_are_kept_apart():
    made, found = fresh(), {}
    for share, seed in ((0.25, 1), (0.25, 1), (0.25, 2), (0.001, 1), (0.999, 1)):
        made = fresh()
        fit(made, IMAGES, LABELS, replace(TRAINING, epochs=1), valid=share, seed=seed, quiet=True)
        found.setdefault((share, seed), []).append(weights(made))
    one, again = found[0.25, 1]
    assert same(one, again) and not same(one, found[0.25, 2][0])


def test_images_may_be_floats_and_grey_without_an_axis():
    found = [
        weights(fitted(training=replace(TRAINING, epochs=1), quiet=True)[0]),
        *(weights(made) for made in map(trained_on, (as_batch, lambda u: as_batch(u)[..., 0]))),
    ]
    assert same(found[0], found[1]) and same(found[0], found[2])


def test_a_gpu_trains_alike_and_the_network_comes_back(quick_device):
    """Also with what it has trained before; largest difference 2e-6."""
    made, alone = fresh(), fresh()
    for epochs in (1, 2):
        training = replace(TRAINING, epochs=epochs)
        _, found = fitted(made, training, device=quick_device, quiet=True)
        _, expected = fitted(alone, training, quiet=True)
        for one, other in zip(found.epochs, expected.epochs, strict=True):
            assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
            assert one["valid_error"] == other["valid_error"]
    for name, array in weights(alone).items():
        np.testing.assert_allclose(weights(made)[name], array, atol=1e-4)
    with pytest.raises(UserError, match=r"^images must be bytes, uint8, for a GPU, got float32$"):
        fit(made, as_batch(IMAGES), LABELS, TRAINING, device=quick_device)
    with pytest.raises(TypeError, match=r"^device must be backend.gpu\(\) or None, got str$"):
        fit(made, IMAGES, LABELS, TRAINING, device="cuda")


def trained_on(change) -> Network:
    made, valid = fresh(), (change(VALID[0]), VALID[1])
    training = replace(TRAINING, epochs=1)
    fit(made, change(IMAGES[:32]), LABELS[:32], training, valid=valid, quiet=True)
    return made


def test_a_call_that_is_cut_off_keeps_its_whole_epochs(monkeypatch):
    whole, _ = fitted(quiet=True)
    steps, right = [], Trainer.step

    def step(trainer):
        steps.append(trainer)
        if len(steps) == 6:  # in the third epoch of two steps
            right(trainer)
            raise KeyboardInterrupt
        right(trainer)

    made = fresh()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", step)
        fitted(made, quiet=True)
    assert len(made.fitted.epochs) == 2 and same(weights(made), made.fitted.kept.best)
    fitted(made, replace(TRAINING, epochs=1), quiet=True)
    assert same(weights(made), weights(whole)) and len(made.fitted.epochs) == 3


def test_a_loss_that_is_not_finite_is_an_error_and_leaves_the_network_as_it_was():
    made = fresh()
    with pytest.raises(UserError, match=r"^the loss of step \d+ is not finite: .*; try a lower lr"):
        fitted(made, replace(TRAINING, lr=1e30), quiet=True)
    assert not any(hasattr(p, "data") for p in made.parameters()) and made.fitted is None


def test_lost_attention_is_said_with_what_to_do(capsys):
    colour = np.random.default_rng(1).integers(0, 256, (40, 6, 7, 3), np.uint8)
    looks = Sequential(Flatten("flat"), regression_layer("theta", 6 * 7 * 3))
    made = Network(
        Sequential(Flatten("flatten"), Dense("dense", 5 * 4 * 3, 2)),
        SpatialTransformer(looks, (5, 4)),
    )
    training = Training(epochs=5, batch_size=8, loc_lr=300.0)
    fit(made, colour, np.arange(40) % 2, training)
    said = capsys.readouterr().out.splitlines()
    (lost,) = [line for line in said if line.startswith("COLLAPSE")]
    assert "of 8 images has left the image" in lost and lost.endswith("a lower loc_lr helps")
    assert said[-1].endswith(
        "train it with a lower loc_lr, such as 1e+02, or a lower lr than 0.001"
    )


def test_a_training_that_stopped_early_says_so():
    made, _ = fitted(training=replace(TRAINING, epochs=40, lr=0.0, patience=2), quiet=True)
    before = weights(made)
    with pytest.raises(UserError, match=r"2 epochs in a row brought nothing better; a higher pat"):
        fitted(made, replace(TRAINING, patience=2), quiet=True)
    assert same(weights(made), before) and len(made.fitted.epochs) == 3
    fitted(made, replace(TRAINING, patience=9), quiet=True)
    assert len(made.fitted.epochs) == 6


class Series:
    """What another library's array has in common with NumPy's."""

    def __init__(self, values: np.ndarray) -> None:
        self.dtype, self.shape, self.size = values.dtype, values.shape, values.size


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"valid": 1}, ValueError, "^valid must be a share of .* got 1$"),
        ({"valid": (IMAGES,)}, ValueError, "^valid must be a share of"),
        ({"valid": (IMAGES, LABELS[:3])}, ValueError, "the labels of valid for each of 44 images"),
        ({"valid": (IMAGES[:, :7], LABELS)}, ValueError, r"of valid must be uint8 \(8, 9\) each"),
        ({"valid": (as_batch(IMAGES), LABELS)}, ValueError, r"must be uint8 .*, got float32"),
        ({"labels": np.eye(4)[LABELS]}, ValueError, r"^labels must .*, labels.argmax\(-1\) makes"),
        (
            {"labels": Series(LABELS)},
            TypeError,
            "^labels must be an array, got Series: np",
        ),
        (
            {"images": 255 * as_batch(IMAGES)},
            ValueError,
            "of floats must be about 0 to 1, .* / 255",
        ),
        ({"images": np.stack([IMAGES] * 3, 1)}, ValueError, r"channels .*transpose\(0, 2, 3, 1\)"),
        ({"labels": list(LABELS)}, TypeError, r"^labels must be an array, got a list: np.array"),
        ({"valid": (IMAGES, LABELS + 1)}, ValueError, "^labels must lie between 0 and K-1 = 3"),
        ({"images": IMAGES[:1], "labels": LABELS[:1]}, ValueError, "^images must be at least 2"),
        ({"images": np.stack([IMAGES] * 3, -1)}, ValueError, "^theta: .*D=72.* got .*216"),
        ({"training": 3}, TypeError, "^training must be a Training, got int"),
        ({"workers": 0}, ValueError, "^workers must be a whole number of at least 1"),
        ({"workers": 17}, ValueError, "^workers must be at most 16, a batch's images, got 17"),
    ],
)
def test_what_cannot_be_trained_on_is_said_before_it_begins(change, error, message):
    made = fresh()
    arguments = {"images": IMAGES, "labels": LABELS, "training": TRAINING} | change
    with pytest.raises(error, match=message) as caught:
        fit(made, **arguments)
    assert "\n" not in str(caught.value)
    assert not any(hasattr(p, "data") for p in made.parameters())


def test_what_was_there_before_a_refused_call_is_there_afterwards():
    made, optimizer = network()
    before = optimizer.buffer.data.copy()
    with pytest.raises(ValueError, match=r"^labels must lie"):
        fit(made, IMAGES, LABELS + 1, TRAINING)
    np.testing.assert_array_equal(optimizer.buffer.data, before)
    optimizer.buffer.check_tied()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "notebook", "drawn"),
    [(Terminal, False, True), (io.StringIO, True, True), (io.StringIO, False, False)],
)
def test_a_bar_is_drawn_on_a_terminal_and_in_a_notebook(stream, notebook, drawn, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
    for quiet in (False, True):
        monkeypatch.setattr(sys, "stderr", stream())
        fitted(training=replace(TRAINING, epochs=1), quiet=quiet)
        assert ("training" in sys.stderr.getvalue()) == (drawn and not quiet)
