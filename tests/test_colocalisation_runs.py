"""Training to co-localise: what a step does, what a run needs and what it leaves."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from loops import triplet_hinge
from small_runs import changed, outcome, shortened, trainer_of

from ministn import parallel
from ministn.data import Crops, DataSet, Form, OneDigit
from ministn.data.colocalisation import CROP, draw_crops, found
from ministn.errors import UserError
from ministn.models import Colocaliser, CropEncoder
from ministn.models.colocalisation import HIGH, LOW, Description
from ministn.ops import as_batch, triplet_hinge_backward
from ministn.ops.triplet_hinge import Cache
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.plot import attention_figure
from ministn.randomness import Step, generator
from ministn.runs import Run, Settings, folder_name, planning, read_record
from ministn.tasks import Classification, Colocalisation
from ministn.tasks.colocalisation import APART
from ministn.training import checkpoint
from ministn.training.protocol import Training
from ministn.training.steps import PlainSteps
from ministn.training.trainer import BEST, Trainer

ENCODER = Settings(
    Crops("digits", train_size=40), CropEncoder(), Training(SGD(), batch_size=16, iterations=3)
)
# An epoch has 30 pairs of 6 images, in steps of 8, 8, 8 and 6.
SETTINGS = Settings(
    OneDigit(7, 0, "digits"),
    Colocaliser(),
    Training(lr=0.01, batch_size=8, iterations=6),
    Colocalisation(),
    seed=4,
    pretrained=ENCODER,
)

pytestmark = pytest.mark.usefixtures("unchanging_environment")


@pytest.fixture(scope="module")
def made() -> DataSet:
    """The first six images of a set."""
    whole = SETTINGS.data.load()
    return replace(whole, train=shortened(whole.train, 6), test=shortened(whole.test, 6))


@pytest.fixture
def encoder(tmp_path) -> Path:
    """Where a run looks for its encoder; this one has learned nothing."""
    buffer = ParameterBuffer(CropEncoder().build(ENCODER.data.form).parameters(), 0)
    folder = tmp_path / folder_name(ENCODER)
    folder.mkdir()
    checkpoint.save(folder / BEST, buffer.views(buffer.data), {})
    return folder / BEST


def trainer(made, encoder, settings=SETTINGS, **how) -> Trainer:
    return trainer_of(settings, made, say=lambda line: None, pretrained=encoder, **how)


def finished(trainer: Trainer) -> Trainer:
    while not trainer.finished:
        trainer.step()
    return trainer


def trained(made, encoder, device=None, **changes) -> Trainer:
    return finished(trainer(made, encoder, changed(SETTINGS, **changes), device=device))


# -- networks --------------------------------------------------------------------------------------


def test_parameters_are_those_of_the_appendix():
    localisation = 648 * 32 + 32 + 32 * 32 + 32 + 32 * 3 + 3
    network = Colocaliser().build(Form((84, 84)))
    encoder = CropEncoder().build(Form((CROP, CROP)))
    assert network.count == (81 + 1) * 8 + localisation
    assert encoder.count == (81 + 1 + 49 * 32 + 1 + 10) * 32 + 10
    assert sum(p.size for p in network.fixed_parameters()) == encoder.count


def test_an_encoder_that_lacks_some_weights_is_refused(made, encoder):
    """They would keep random values for good, since they are not learned."""
    arrays, _ = checkpoint.load(encoder)
    name, *rest = sorted(arrays)
    checkpoint.save(encoder, {each: arrays[each] for each in rest}, {})
    with pytest.raises(UserError, match=f"is of another network: it lacks array '{name}'"):
        trainer(made, encoder)


def test_a_transformer_begins_where_it_says_and_keeps_its_bounds():
    network = Colocaliser().build(Form((60, 52)))
    buffer = ParameterBuffer(network.parameters(), 0)
    x = as_batch(np.random.default_rng(0).integers(0, 256, (3, 60, 52), np.uint8))
    np.testing.assert_allclose(network.transformer.theta(x), [[0.9, 0, 0]] * 3, atol=1e-6)
    assert network.transformer.start == (0.9, 0, 0)
    for sign, bounds in ((1, HIGH), (-1, LOW)):
        buffer.views(buffer.data)["localisation/theta/bias"][...] = 100 * sign
        np.testing.assert_allclose(network.transformer.theta(x), [bounds] * 3, atol=1e-6)


def test_a_description_is_maps_and_scores_and_does_not_learn():
    description = Description()
    fixed = ParameterBuffer(description.fixed_parameters(), 0, np.float64)
    description.scales = 2.0, 0.5
    x = generator(0, "crops").uniform(0, 1, (2, CROP, CROP, 1))
    encoder = CropEncoder().build(Form((CROP, CROP)))
    own = ParameterBuffer(encoder.parameters(), 0, np.float64)
    own.data[...] = fixed.data
    conv1, conv2, *_ = encoder.classifier.layers
    maps = conv2.forward(conv1.forward(x)[0])[0]
    assert maps.shape == (2, 1, 1, 32)
    described, _ = description.forward(x)
    np.testing.assert_array_equal(described[:, :32], 2 * maps[:, 0, 0])
    np.testing.assert_array_equal(described[:, 32:], encoder.forward(x)[0] / 2)

    before = fixed.data.copy()
    _, cache = description.forward(x, Step(0, 0))
    description.backward(np.ones((2, 42)), cache)
    assert description.parameters() == [] and not fixed.grad.any()
    assert np.array_equal(before, fixed.data)


def test_scores_alone_describe_larger_crops():
    """And what maps say of them counts for nothing, in the gradient too."""
    crops = generator(0, "crops").uniform(0, 1, (3, 27, 27, 1))
    encoder = CropEncoder(pooled=True)
    whole, alone = (Description(encoder, 27, maps) for maps in (True, False))
    for each in (whole, alone):
        ParameterBuffer(each.fixed_parameters(), 0, np.float64)
    (described, cache), (scores, own) = (each.forward(crops, Step(0, 0)) for each in (whole, alone))
    assert described.shape == (3, 32 + 10) and whole.widths == (32, 10)
    np.testing.assert_array_equal(scores, described[:, -10:])
    dy = np.zeros_like(described)
    dy[:, -10:] = generator(1, "dy").normal(size=(3, 10))
    arrived = alone.backward(dy[:, -10:].copy(), own)
    assert arrived.any()
    np.testing.assert_array_equal(arrived, whole.backward(dy, cache))


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (CropEncoder(), (22, 21), "images must be at least 22x22 for the encoder, got 22x21"),
        (CropEncoder(pooled=True), (30, 23), "images must be at least 24x24 for the encoder, got"),
        (Colocaliser(), (12, 40), "images must be at least 13x13 for co-localisation, got"),
    ],
)
def test_images_too_small(network, size, message):
    with pytest.raises(UserError, match=message):
        network.build(Form(size))


# -- steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("drawn", [1.0, 0.25])
def test_the_steps_restated(made, encoder, drawn):
    network = Colocaliser().build(Form((60, 60)))
    ParameterBuffer(network.fixed_parameters(), 0)  # the values of the encoder that was saved
    adam = Optimizer(Adam(), ParameterBuffer(network.parameters(), 4))
    (description,) = network.classifier.layers
    x = as_batch(made.test.images)

    def described(images, draw):
        theta = draw_crops(len(images), seed=4, step=draw)
        return description.forward(network.transformer.warp(images, theta))[0]

    judged = described(x, 0).astype(np.float64)
    maps, scores = (
        np.mean([np.sum((e[part] - f[part]) ** 2) for e in judged for f in judged])
        for part in (slice(32), slice(32, None))
    )
    assert maps > 0 and scores > 0  # of so few random crops all may be black
    description.scales = float(np.sqrt(APART / maps)), float(np.sqrt(APART / scores))
    number, losses = 0, []
    for epoch in (1, 2):
        order = generator(4, "shuffle", epoch).permutation(30)
        for rows in np.split(order, [8, 16, 24])[: 6 - number]:
            pairs = made.train.pairs(rows)
            images = sorted({*pairs.ravel().tolist()})
            local = np.array([[images.index(n), images.index(m)] for n, m in pairs.tolist()])
            y, cache = network.forward(x[images], Step(4, number))
            attended, random = np.split(y, 2, axis=1)
            np.testing.assert_array_equal(random, described(x[images], 1 + number))
            loss = triplet_hinge(attended.astype(np.float64), random.astype(np.float64), local)
            losses.append(loss)
            h = [((attended[n] - attended[m]) ** 2).sum() - ((attended[n] - random[n]) ** 2).sum()
                 for n, m in local]  # fmt: skip
            active = Cache(attended, random, local[np.array(h) + 1 > 0], len(local))
            dattended, _ = triplet_hinge_backward(active, drawn=drawn)
            adam.buffer.zero_grad()
            # What is said of the random crops does not count: they have no gradient.
            network.backward(np.concatenate([dattended, random + 9], axis=1), cache)
            adam.step(0.01)
            number += 1
    trainer = trained(made, encoder, task=Colocalisation(drawn))
    assert number == trainer.state.steps == 6
    np.testing.assert_allclose(trainer.buffer.data, adam.buffer.data, rtol=0, atol=2e-5)
    history = trainer.state.history
    assert len(history) == 2
    assert np.mean(losses[:4]) == pytest.approx(history[0]["train_loss"], rel=0.05)
    theta = network.predict(x)[1][0].theta
    share = found(theta, made.test.boxes, (60, 60)).mean()
    assert history[1]["test_error"] == pytest.approx(100 * (1 - share))
    assert history[1]["overlap"] > 0


def test_digits_are_found(made, encoder, monkeypatch):
    """A theta that is right for all images makes no error, and counts as such."""
    trainer = trained(made, encoder, iterations=1)
    middle = (made.test.boxes[:, :2] + made.test.boxes[:, 2:]) / 2
    theta = np.zeros((6, 2, 3), np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = 19 / 59
    theta[:, :, 2] = (middle - 29.5) / 29.5
    y, (looked,) = trainer.steps.predict(made.test.images)
    right = y, [looked._replace(theta=theta)]
    monkeypatch.setattr(trainer.steps, "predict", lambda images: right)
    assert trainer.steps.evaluate(made.test).error == 0
    theta[:2, 0, 2] += 1
    assert trainer.steps.evaluate(made.test).error == pytest.approx(100 / 3)


def test_its_weights_can_be_tested_again(made, encoder, quick_device):
    """The encoder's are among them."""
    for device in (None, quick_device):
        found = trained(made, encoder, device=device)
        again = found.test_with(partial(Colocaliser().build, Form((60, 60))), made)
        assert again["test_error"] == found.state.history[-1]["test_error"]
        assert again["test_overlap"] == pytest.approx(found.state.history[-1]["overlap"], rel=1e-6)


@pytest.mark.parametrize("stop", [2, 4])
def test_a_resumed_run_ends_with_the_same_bits(made, encoder, stop, tmp_path):
    whole = Run(tmp_path, SETTINGS, "stn_colocalisation", "test")
    whole.train(made, resume=False, bar=False)
    (tmp_path / "parts").mkdir()
    encoder.parent.rename(tmp_path / "parts" / encoder.parent.name)
    parts = Run(tmp_path / "parts", SETTINGS, "stn_colocalisation", "test")
    path = tmp_path / "parts" / encoder.parent.name / BEST
    first = trainer(made, path)
    for _ in range(stop):
        first.step()
    parts.folder.mkdir(parents=True)
    first.save(parts.folder)
    parts.train(made, resume=True, bar=False)
    assert outcome(parts) == outcome(whole)
    assert attention_figure(read_record(parts.record_path)).axes


def test_a_gpu_learns_the_same(made, encoder, quick_device):
    mine, theirs = trained(made, encoder, device=quick_device), trained(made, encoder)
    assert mine.state.steps == theirs.state.steps == 6
    assert mine.state.collapses == theirs.state.collapses
    for ours, expected in zip(mine.state.history, theirs.state.history, strict=True):
        for key, value in expected.items():
            if key != "theta" and value is not None:
                assert ours[key] == pytest.approx(value, rel=2e-4), key


def test_a_run_resumed_on_a_gpu_ends_with_the_same_bits(made, encoder, quick_device, tmp_path):
    whole = trained(made, encoder, device=quick_device)
    half = trainer(made, encoder, device=quick_device)
    for _ in range(3):
        half.step()
    half.save(tmp_path)
    resumed = trainer(made, encoder, device=quick_device)
    resumed.load(tmp_path)
    finished(resumed)
    assert resumed.state == whole.state
    np.testing.assert_array_equal(*(quick_device.to_cpu(t.buffer.data) for t in (resumed, whole)))


def test_without_an_encoder(made, tmp_path):
    with pytest.raises(UserError, match=r"best.safetensors is missing: train the encoder first"):
        Run(tmp_path, SETTINGS, "x", "test").train(made, resume=False, bar=False)


@pytest.mark.parametrize("name", ["classifier/conv1/weight", "classifier/conv9/weight"])
def test_with_the_weights_of_another_network(name, made, encoder):
    arrays, _ = checkpoint.load(encoder)
    checkpoint.save(encoder, arrays | {name: np.zeros(3, np.float32)}, {})
    with pytest.raises(UserError, match="is of another network"):
        trainer(made, encoder)


def test_a_run_begins_with_the_weights_that_it_starts_from(made, encoder):
    """On either engine; what the encoder does not name is as its seed has it."""
    arrays, _ = checkpoint.load(encoder)
    for name, array in arrays.items():
        array[...] = generator(0, name).normal(size=array.shape)
    checkpoint.save(encoder, arrays, {})
    begun = trainer(made, encoder)
    fixed = {p.name: p.data for p in begun.network.fixed_parameters()}
    assert fixed.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(fixed[name], array)
    own = ParameterBuffer(Colocaliser().build(Form((60, 60))).parameters(), SETTINGS.seed)
    np.testing.assert_array_equal(begun.buffer.data, own.data)


def test_on_a_gpu_its_steps_are_plain_ones(made, encoder, quick_device):
    assert isinstance(trainer(made, encoder, device=quick_device).steps, PlainSteps)


@pytest.mark.parametrize(("workers", "batch_size"), [(2, 8), (3, 8), (3, 1)])
def test_workers_share_images_that_are_compared(workers, batch_size, made, encoder):
    """A pair may have its images at two of them; of one pair, two images, one has none."""
    one_step = changed(SETTINGS, iterations=1, batch_size=batch_size)
    alone = finished(trainer(made, encoder, one_step))
    with parallel.team(workers) as team:
        shared = finished(trainer(made, encoder, one_step, team=team))
        assert shared.steps.team.size == workers
    m, wanted = (each.optimizer.moments["m"] for each in (shared, alone))
    assert wanted.any()
    np.testing.assert_allclose(m, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    for key in ("train_loss", "test_loss", "test_error", "overlap"):
        want = alone.state.history[0][key]
        assert shared.state.history[0][key] == pytest.approx(want, rel=1e-5), key


def test_a_loss_of_compared_images_that_is_not_finite_changes_nothing(made, encoder):
    with parallel.team(2) as team:
        begun = trainer(made, encoder, team=team)
        begun.buffer.data[...] = np.nan
        begun.step()
        assert begun.state.diverged and not begun.optimizer.moments["m"].any()


def test_only_its_own_networks_can_be_prepared(made, encoder):
    task = Colocalisation()
    with pytest.raises(TypeError, match="the network must be a Comparing"):
        task.prepare(CropEncoder().build(Form((60, 60))), made.train, 0)
    with pytest.raises(NotImplementedError, match="prepare the task first"):
        task.judge((np.zeros((6, 42)), []), made.test)
    assert isinstance(Classification().prepare(None, made.train, 0), Classification)


@pytest.mark.parametrize("batch", [8, 9900])
def test_its_time_can_be_planned(batch):
    settings = changed(SETTINGS, batch_size=batch)
    cost = planning.costs([settings])[planning.alike(settings)]
    assert cost.step > 0 and cost.image > 0 and cost.parameters > 10_000


def test_a_set_with_other_clutter_has_another_folder():
    other = changed(SETTINGS, distractors=16)
    assert folder_name(other) != folder_name(SETTINGS) != folder_name(replace(other, seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_size": 100}, "train_size must be all 9900 pairs, got 100"),
        ({"distractors": -1}, "distractors must be at least 0, got -1"),
        ({"digit": 10}, "the digit must be one of 0 to 9, got 10"),
    ],
)
def test_impossible_sets(changes, message):
    with pytest.raises(UserError, match=message):
        replace(SETTINGS.data, **changes)
