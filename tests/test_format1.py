"""Records of format 1: they are read for ever, and a run that was begun in it is found again."""

import json
from pathlib import Path

import pytest
import table3
from small_runs import SETTINGS, data_set, run_in

from ministn import runs
from ministn.data import Addition, Cluttered, Crops, Distorted, Extruded, OneDigit
from ministn.errors import UserError
from ministn.kinds import from_json, replaced, to_json
from ministn.models import (
    ClassificationCnn,
    Colocaliser,
    CropEncoder,
    Projected,
    SmallStn,
    Stn,
    Tstn,
    UntiedStn,
)
from ministn.optimizers import SGD, Adam
from ministn.runs import Run, Settings, format1
from ministn.schedules import StepDecay
from ministn.tasks import Classification, Colocalisation
from ministn.training.protocol import Training
from ministn.training.trainer import BEST

RECORDS = Path(table3.__file__).parent / "records"
COMMITTED = sorted(
    path
    for path in RECORDS.glob("*/*.json")
    if '"format": 1' in path.read_text()[:100]
    and path.parent.name not in ("conformance", "interop")
)
QUICK = RECORDS / "quick"
NAME = "arch1-tstn-mnist9-clutter6x8-data0-n53-batch16-lr0.003-loc1-seed4"
COMMIT = "0e09497b63ed196aaede6c2703541e1f87823d8d"


# ---- what they mean


def test_committed_records_are_those_of_their_networks():
    """Each settings is a value, and its network has as many parameters as were trained."""
    scripts = {"table3", "stn_table1", "stn_addition", "stn_projection3d", "stn_colocalisation"}
    assert len(COMMITTED) > 80
    counts = {}
    for path in COMMITTED:
        record = runs.read_record(path)
        settings = record["settings"]
        assert record["format"] == 1 and from_json(to_json(settings)) == settings
        assert record["experiment"] in scripts
        built = settings.network, settings.data.form
        if built not in counts:
            counts[built] = settings.network.build(settings.data.form).count
        assert counts[built] == record["parameters"], path.name
    assert len(counts) > 20


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("arch2-cnn", ClassificationCnn(2)),
        ("arch1-untied", UntiedStn(1)),
        ("arch1-tstn", Tstn(1)),
        ("small-stn", SmallStn()),
        ("r-fcn", Stn("fcn")),
        ("rts-st-cnn-tps", Stn("cnn", "tps", halved="pooled")),
        ("tc-st-fcn-affine", Stn("fcn", "affine", halved="pooled")),
        ("e-st-cnn-projective", Stn("cnn", "projective")),
        ("addition-2st-fcn-affine", Stn("fcn", "affine", 2, halved="sampled")),
        ("projection-st-cnn", Projected("cnn", transformed=True)),
        ("encoder", CropEncoder()),
        ("colocalisation", Colocaliser()),
    ],
)
def test_names_of_networks(name, network):
    found = format1.settings({"network": name, "epochs": 3})
    assert found.network == network and found.training == Training(epochs=3)
    assert found.task == (Colocalisation() if name == "colocalisation" else Classification())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("mnist", Cluttered("mnist", 60, 6, 8, 700, 2)),
        ("digits", Cluttered("digits", 60, 6, 8, 700, 2)),
        ("rts", Distorted("RTS", "mnist", 700, 2)),
        ("tc-digits", Distorted("TC", "digits", 700, 2)),
        ("addition", Addition("mnist", 700, 2)),
        ("extruded-digits", Extruded("digits", 700, 2)),
        ("crops", Crops("mnist", 700, 2)),
    ],
)
def test_names_of_data_sets(name, data):
    """With what a record says of them; lengths count only where they can be chosen."""
    flat = {"network": "arch1-cnn", "iterations": 9, "data": name, "data_seed": 2}
    assert format1.settings(flat | {"train_size": 700}).data == data


def test_every_setting_has_its_place():
    found = format1.settings({
        "network": "arch2-untied", "epochs": None, "iterations": 9, "data": "digits",
        "data_seed": 1, "canvas": 36, "distractors": 3, "patch": 6, "train_size": 2000,
        "batch_size": 16, "lr": 0.02, "loc_lr": 0.1, "seed": 5, "precision": "tf32",
        "optimizer": "sgd", "momentum": 0.8, "weight_decay": 0.01, "decay": 0.1, "decay_every": 3,
        "encoder": "", "downsample": 1.5,
    })  # fmt: skip
    assert found == Settings(
        Cluttered("digits", 36, 3, 6, 2000, 1),
        UntiedStn(2, 1.5),
        Training(SGD(0.8, 0.01), 0.02, StepDecay(0.1, 3), 16, None, 9, 0.1),
        seed=5,
        precision="tf32",
    )
    assert format1.settings({"network": "arch1-cnn", "epochs": 1}).training.optimizer == Adam()


def test_an_encoder_is_known_by_its_folder():
    (path,) = (path for path in COMMITTED if path.name.startswith("encoder-"))
    flat = {"network": "colocalisation", "iterations": 9, "data": "colocalisation-7"}
    flat |= {"train_size": 9900, "distractors": 0, "encoder": path.stem}
    found = format1.settings(flat)
    assert found.data == OneDigit(7, 0) and found.pretrained == runs.read_record(path)["settings"]
    with pytest.raises(UserError, match="no encoder was called other"):
        format1.settings(flat | {"encoder": "other"})


@pytest.mark.parametrize(
    "change",
    [
        {"friction": 1}, {"network": "arch3-cnn"}, {"data": "fashion"}, {"optimizer": "rmsprop"},
        {"lr": -1}, {"lr": "fast"}, {"epochs": None},
    ],
)  # fmt: skip
def test_what_was_no_record_is_none(change, tmp_path):
    record = begun(tmp_path)
    record["settings"] |= change
    path = tmp_path / NAME / "record.json"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="not a record of a run"):
        runs.read_record(path)
    assert run_in(tmp_path).folder.name != NAME, "it is nobody's"


# ---- runs that were begun in it


def begun(out: Path, status: str = "finished", **changes) -> dict:
    """A folder as format 1 left it: the small run's, otherwise as a committed record has it."""
    record = json.loads(next(QUICK.glob("arch1-tstn*")).read_text())
    record |= {"status": status, "commit": COMMIT} | changes
    record["settings"] |= {
        "epochs": 3, "data": "mnist", "canvas": 9, "distractors": 6, "patch": 8, "train_size": 53,
        "batch_size": 16, "lr": 0.003, "loc_lr": 1.0, "seed": 4,
    }  # fmt: skip
    (out / NAME).mkdir()
    (out / NAME / "record.json").write_text(json.dumps(record))
    return record


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "run.lock"}


def test_a_run_is_found_by_its_settings_epochs_apart(tmp_path):
    assert run_in(tmp_path).folder.name == runs.folder_name(SETTINGS)
    begun(tmp_path)
    assert run_in(tmp_path).folder.name == NAME == run_in(tmp_path, epochs=9).folder.name
    for changes in ({"lr": 0.1}, {"seed": 5}, {"canvas": 10}, {"network": UntiedStn(1)}):
        assert run_in(tmp_path, **changes).folder.name != NAME
    (tmp_path / runs.folder_name(SETTINGS)).mkdir()
    assert run_in(tmp_path).folder.name == runs.folder_name(SETTINGS)


@pytest.mark.parametrize("status", ["finished", "diverged"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_ended_is_skipped(status, resume, tmp_path):
    begun(tmp_path, status, diverged={"epoch": 2, "step": 7, "layer": "loss"})
    before, run = content(tmp_path / NAME), run_in(tmp_path)
    assert run.already_finished(resume) == f"{run.folder} is {status}: skipped"
    assert run.train(data_set(), resume=resume, bar=False) == status
    assert content(run.folder) == before


@pytest.mark.parametrize(
    ("status", "epochs"), [("interrupted", 3), ("running", 3), ("finished", 4)]
)
@pytest.mark.parametrize("resume", [False, True])
def test_one_that_has_not_is_refused_and_its_commit_named(status, epochs, resume, tmp_path):
    begun(tmp_path, status)
    before, run = content(tmp_path / NAME), run_in(tmp_path, epochs=epochs)
    for refused in (
        lambda: run.already_finished(resume),
        lambda: run.train(data_set(), resume=resume, bar=False),
    ):
        with pytest.raises(UserError) as error:
            refused()
        assert str(error.value) == (
            f"{run.folder} was begun by an earlier version: end it at the commit that began it, "
            "0e09497b, or choose another --out"
        )
    assert content(run.folder) == before


def test_without_a_commit_none_is_named(tmp_path):
    begun(tmp_path, "running", commit=None)
    with pytest.raises(UserError, match=r"at the commit that began it, or choose another --out$"):
        run_in(tmp_path).already_finished(resume=True)


def test_the_script_says_so(tmp_path, capsys):
    words = "--nets arch1-tstn --canvas 9 --train-size 53 --batch-size 16 --lr 0.003 --seeds 4"
    line = [*words.split(), "--resume", "--out", str(tmp_path), "--epochs"]
    begun(tmp_path)
    assert table3.main([*line, "3"]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / NAME} is finished: skipped" in said and "\nCommands\n" in said
    with pytest.raises(UserError, match="begun by an earlier version"):
        table3.main([*line, "4"])


def test_a_run_starts_from_weights_of_format_1(tmp_path):
    (path,) = (path for path in COMMITTED if path.name.startswith("encoder-"))
    before = runs.read_record(path)["settings"]
    folder = tmp_path / path.stem
    folder.mkdir()
    (folder / "record.json").write_text(path.read_text())
    training = Training(lr=0.01, batch_size=8, iterations=6)
    settings = Settings(
        OneDigit(7, 0), Colocaliser(), training, Colocalisation(), 0, "fp32", before
    )
    run = Run(tmp_path, settings, "stn_colocalisation", "test")
    with pytest.raises(UserError, match=f"{folder / BEST} is missing: train the encoder first"):
        run._pretrained()
    (folder / BEST).touch()
    assert run._pretrained() == folder / BEST
    other = replaced(settings, "pretrained.seed", 1)
    with pytest.raises(UserError, match="is missing: train the encoder first"):
        Run(tmp_path, other, "stn_colocalisation", "test")._pretrained()
