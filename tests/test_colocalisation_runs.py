"""Training to co-localise: what a step does, what a run needs and leaves, the script, the table."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from loops import triplet_hinge
from ministn.settings import Settings
from ministn.training.pairs import APART
from small_runs import outcome, shortened
from synthetic import found_in

from ministn import backend, cli, data, models
from ministn.data.colocalisation import CROP, draw_crops, found
from ministn.data.dataset import DataSet
from ministn.errors import UserError
from ministn.models.colocalisation import HIGH, LOW, Description
from ministn.ops import as_batch, triplet_hinge_backward
from ministn.ops.triplet_hinge import Cache
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.plot import attention_figure
from ministn.randomness import Step, generator
from ministn.runs import Run, folder_name, planning, read_record
from ministn.training import checkpoint
from ministn.training.trainer import BEST, Trainer

SCRIPTS = Path(__file__).parents[1] / "reproduce"

ENCODER = Settings(
    "encoder",
    iterations=3,
    data="crops-digits",
    canvas=CROP,
    distractors=0,
    patch=0,
    train_size=40,
    batch_size=16,
    optimizer="sgd",
)
# An epoch has 30 pairs of 6 images, in steps of 8, 8, 8 and 6.
SETTINGS = Settings(
    "colocalisation",
    iterations=6,
    data="colocalisation-7-digits",
    distractors=0,
    train_size=30,
    batch_size=8,
    lr=0.01,
    seed=4,
    encoder=folder_name(ENCODER),
)

pytestmark = pytest.mark.usefixtures("unchanging_environment")


@pytest.fixture(scope="module")
def made() -> DataSet:
    """The first six images of a set."""
    whole = data.load("colocalisation-7-digits", distractors=0)
    return replace(whole, train=shortened(whole.train, 6), test=shortened(whole.test, 6))


@pytest.fixture
def encoder(tmp_path) -> Path:
    """Where a run looks for its encoder; this one has learned nothing."""
    description = Description()
    folder = tmp_path / folder_name(ENCODER)
    folder.mkdir()
    checkpoint.save(folder / BEST, description.buffer.views(description.buffer.data), {})
    return folder / BEST


def trained(made, encoder, device=None, **changes) -> Trainer:
    settings = replace(SETTINGS, **changes)
    trainer = Trainer(settings, made, lambda line: None, device=device, encoder=encoder)
    while not trainer.finished:
        trainer.step()
    return trainer


# -- networks --------------------------------------------------------------------------------------


def test_parameters_are_those_of_the_appendix():
    localisation = 648 * 32 + 32 + 32 * 32 + 32 + 32 * 3 + 3
    assert models.build("colocalisation", (84, 84)).count == (81 + 1) * 8 + localisation
    assert models.build("encoder", (CROP, CROP)).count == (81 + 1 + 49 * 32 + 1 + 10) * 32 + 10


def test_a_transformer_begins_where_it_says_and_keeps_its_bounds():
    network = models.build("colocalisation", (60, 52))
    buffer = ParameterBuffer(network.parameters(), 0)
    x = as_batch(np.random.default_rng(0).integers(0, 256, (3, 60, 52), np.uint8))
    np.testing.assert_allclose(network.transformer.theta(x), [[0.9, 0, 0]] * 3, atol=1e-6)
    assert network.transformer.start == (0.9, 0, 0)
    for sign, bounds in ((1, HIGH), (-1, LOW)):
        buffer.views(buffer.data)["localisation/theta/bias"][...] = 100 * sign
        np.testing.assert_allclose(network.transformer.theta(x), [bounds] * 3, atol=1e-6)


def test_a_description_is_maps_and_scores_and_does_not_learn():
    description = Description(np.float64)
    description.scales = 2.0, 0.5
    x = generator(0, "crops").uniform(0, 1, (2, CROP, CROP, 1))
    encoder = models.build("encoder", (CROP, CROP))
    own = ParameterBuffer(encoder.parameters(), 0, np.float64)
    own.data[...] = description.buffer.data
    conv1, conv2, *_ = encoder.classifier.layers
    maps = conv2.forward(conv1.forward(x)[0])[0]
    assert maps.shape == (2, 1, 1, 32)
    described, _ = description.forward(x)
    np.testing.assert_array_equal(described[:, :32], 2 * maps[:, 0, 0])
    np.testing.assert_array_equal(described[:, 32:], encoder.forward(x)[0] / 2)

    before = description.buffer.data.copy()
    _, cache = description.forward(x, Step(0, 0))
    description.backward(np.ones((2, 42)), cache)
    assert description.parameters() == [] and not description.buffer.grad.any()
    assert np.array_equal(before, description.buffer.data)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("encoder", (22, 21), "images must be at least 22x22 for the encoder, got 22x21"),
        ("colocalisation", (12, 40), "images must be at least 13x13 for co-localisation, got"),
    ],
)
def test_images_too_small(name, size, message):
    with pytest.raises(UserError, match=message):
        models.build(name, size)


# -- steps -----------------------------------------------------------------------------------------


def test_the_steps_restated(made, encoder):
    network = models.build("colocalisation", (60, 60))
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
            attended, cache = network.forward(x[images], Step(4, number))
            random = described(x[images], 1 + number)
            loss = triplet_hinge(attended.astype(np.float64), random.astype(np.float64), local)
            losses.append(loss)
            h = [((attended[n] - attended[m]) ** 2).sum() - ((attended[n] - random[n]) ** 2).sum()
                 for n, m in local]  # fmt: skip
            active = Cache(attended, random, local[np.array(h) + 1 > 0], len(local))
            dattended, _ = triplet_hinge_backward(active)
            adam.buffer.zero_grad()
            network.backward(dattended, cache)
            adam.step(0.01)
            number += 1
    trainer = trained(made, encoder)
    assert number == trainer.state.steps == 6
    np.testing.assert_allclose(trainer.buffer.data, adam.buffer.data, rtol=0, atol=2e-5)
    history = trainer.state.history
    assert len(history) == 2
    assert np.mean(losses[:4]) == pytest.approx(history[0]["train_loss"], rel=0.05)
    theta = network.predict(x)[1].theta
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
    looked = trainer.steps.predict(made.test.images)
    right = looked[0], looked[1]._replace(theta=theta)
    monkeypatch.setattr(trainer.steps, "predict", lambda images: right)
    assert trainer.steps.evaluate(made.test).error == 0
    theta[:2, 0, 2] += 1
    assert trainer.steps.evaluate(made.test).error == pytest.approx(100 / 3)


@pytest.mark.parametrize("stop", [2, 4])
def test_a_resumed_run_ends_with_the_same_bits(made, encoder, stop, tmp_path):
    whole = Run(tmp_path, SETTINGS, "test")
    whole.train(made, resume=False, bar=False)
    (tmp_path / "parts").mkdir()
    encoder.parent.rename(tmp_path / "parts" / encoder.parent.name)
    parts = Run(tmp_path / "parts", SETTINGS, "test")
    path = tmp_path / "parts" / encoder.parent.name / BEST
    first = Trainer(SETTINGS, made, lambda line: None, encoder=path)
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
    half = Trainer(SETTINGS, made, lambda line: None, device=quick_device, encoder=encoder)
    for _ in range(3):
        half.step()
    half.save(tmp_path)
    resumed = Trainer(SETTINGS, made, lambda line: None, device=quick_device, encoder=encoder)
    resumed.load(tmp_path)
    while not resumed.finished:
        resumed.step()
    assert resumed.state == whole.state
    np.testing.assert_array_equal(*(quick_device.to_cpu(t.buffer.data) for t in (resumed, whole)))


def test_without_an_encoder(made, tmp_path):
    with pytest.raises(UserError, match=r"best.safetensors is missing: train the encoder first"):
        Run(tmp_path, SETTINGS, "test").train(made, resume=False, bar=False)


def test_with_the_weights_of_another_network(made, encoder):
    checkpoint.save(encoder, {"classifier/conv1/weight": np.zeros(3, np.float32)}, {})
    with pytest.raises(UserError, match="is of another network"):
        Trainer(SETTINGS, made, encoder=encoder)


@pytest.mark.parametrize("batch", [8, 9900])
def test_its_time_can_be_planned(batch):
    cost = planning.costs([replace(SETTINGS, train_size=9900, batch_size=batch)])["colocalisation"]
    assert cost.step > 0 and cost.image > 0 and cost.parameters > 10_000


def test_a_set_with_other_clutter_has_another_folder():
    other = replace(SETTINGS, distractors=16)
    assert folder_name(other) != folder_name(SETTINGS) != folder_name(replace(other, seed=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_size": 100}, "of the set colocalisation-7-digits only distractors can be chosen"),
        ({"distractors": -1}, "distractors must be at least 0, got -1"),
    ],
)
def test_impossible_sets(changes, message):
    with pytest.raises(UserError, match=message):
        data.load("colocalisation-7-digits", **changes)


# -- the script ------------------------------------------------------------------------------------


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Run it in this process and a folder of its own: (status, stdout, stderr)."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("stn_colocalisation")
    monkeypatch.setitem(module.ENCODER, "iterations", 2)
    monkeypatch.setitem(module.ENCODER, "batch_size", 4)

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stn_colocalisation.py", *line.split()])
        with pytest.raises(SystemExit) as end:
            cli.run(module.main)
        return end.value.code, *capsys.readouterr()

    yield run
    sys.modules.pop("stn_colocalisation", None)


def test_the_encoder_comes_first(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("stn_colocalisation")
    first, *others = module.settings_of(module.parser().parse_args([]))
    assert first.network == "encoder" and first.data == "crops" and len(others) == 20
    assert {s.encoder for s in others} == {folder_name(first)}
    assert [s.distractors for s in others] == [0] * 10 + [16] * 10
    assert [s.data for s in others[:10]] == [f"colocalisation-{digit}" for digit in range(10)]
    assert len({folder_name(s) for s in others}) == 20


TINY = "--quick --digits 7 --iterations 3 --batch-size 4"


def test_a_run_and_its_report(script, tmp_path):
    status, out, _ = script(TINY)
    assert status == 0 and "without clutter" in out and "stn_colocalisation.py" in out
    records = sorted(tmp_path.glob("runs/*/record.json"))
    assert [json.loads(path.read_text())["status"] for path in records] == ["finished"] * 2
    pictures = {path.relative_to(tmp_path / "runs").name for path in tmp_path.glob("runs/**/*.png")}
    assert {"attention.png", "progress.png", "stn-colocalisation.png"} <= pictures
    status, out, _ = script("--report")
    assert status == 0 and "encoder with a test error of" in out
    status, out, _ = script(f"{TINY} --resume")
    assert status == 0 and out.count("is finished: skipped") == 2


def test_gpu_is_the_same_program_with_the_other_engine(quick_device, script, monkeypatch):
    monkeypatch.setattr(backend, "gpu", lambda: quick_device)
    few = data.RECIPES["crops-digits"]._replace(train_size=40, test_size=20)
    monkeypatch.setitem(data.RECIPES, "crops-digits", few)
    losses = []
    for out, flag in (("cpu", ""), ("gpu", "--gpu")):
        status, _, err = script(f"{TINY} --out {out} {flag}")
        assert status == 0, err
        records = [read_record(path) for path in sorted(Path(out).glob("*/record.json"))]
        assert {r["device"]["engine"] for r in records} == {"cuda" if flag else "numpy"}
        losses.append([r["epochs"][-1]["test_loss"] for r in records])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_shard_trains_the_encoder_that_it_needs(script, tmp_path):
    status, _, _ = script(f"{TINY} --shard 2/2")
    assert status == 0 and len(list(tmp_path.glob("runs/*/record.json"))) == 2


def test_a_shard_waits_for_the_encoder_that_another_trains(script, tmp_path, monkeypatch):
    """It is finished at the moment when the waiting shard says so."""
    script(TINY)
    (record,) = tmp_path.glob("runs/encoder*/record.json")
    folder, finished, said = record.parent, record.read_text(), []
    record.write_text(finished.replace('"finished"', '"running"'))
    lock = FileLock(folder / "run.lock").acquire()

    def write(line: str) -> None:
        said.append(line)
        record.write_text(finished)
        lock.lock.release()

    monkeypatch.setattr("ministn.runs.run.tqdm.write", write)
    status, out, _ = script(f"{TINY} --digits 0")
    assert status == 0 and f"{folder.name} is finished: skipped" in out
    assert said[0] == f"waiting for another process to finish runs/{folder.name}"
    assert record.read_text() == finished


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--workers 2", "trains in one process: for several at a time, give each a part of the"),
        ("--precision tf32", "precision tf32 needs --gpu: the CPU computes in fp32"),
        ("--digits 3 3", "--digits names one twice: 3 3"),
        ("--iterations 0", "iterations must be at least 1, got 0"),
    ],
)
def test_impossible_flags_are_one_line(flags, message, script, tmp_path):
    status, _, err = script(flags)
    assert status == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_table_has_a_mean_and_the_papers_numbers(script):
    report = importlib.import_module("papers.colocalisation_report").report
    records = [found_in(3, 0, 2.0), found_in(3, 0, 6.0, seed=1), found_in(8, 0, 1.0)]
    records.append(found_in(8, 16, 20.0))
    lines = [line.split("|")[1:-1] for line in report(records, markdown=True).splitlines()]
    rows = {cells[0].strip(): [c.strip() for c in cells[1:]] for cells in lines if cells}
    assert rows["3"] == ["96 [94, 98]", "0.70", "-", "-"]
    assert rows["8"] == ["99", "0.70", "80", "0.70"]
    assert rows["mean"] == ["97.0", "0.70", "80.0", "0.70"]
    assert rows["paper"] == ["100", "-", "75 to 93", "-"]
    slow = found_in(3, 0, 9.0)
    slow["settings"]["loc_lr"] = 0.1
    assert "; loc-lr x0.1" in report([*records, slow])
    assert "| 3 | 96 [94, 98] |" in report([*records, slow], markdown=True)
    with pytest.raises(UserError, match="no records of co-localisation"):
        report([])
