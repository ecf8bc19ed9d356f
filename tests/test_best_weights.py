"""A run's best weights, tested in other networks and on other data than they were trained with."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import toy
from small_runs import SETTINGS, changed, data_set, outcome, run_in, shortened, train, trainer_of

from ministn import runs
from ministn.data import DataSet, Form
from ministn.kinds import replaced
from ministn.models import ClassificationCnn, Tstn
from ministn.runs import sweep

pytestmark = pytest.mark.usefixtures("unchanging_environment")


def shuffled(data: DataSet) -> DataSet:
    """Other labels, by which its images are judged."""
    return replace(data, test=replace(data.test, labels=np.roll(data.test.labels, 1)))


def run_with_tests(out, device=None) -> dict:
    data, run = data_set(), run_in(out, epochs=2)
    run.device = device
    tests = {
        "same": (SETTINGS, data),
        "shuffled": (SETTINGS, shuffled(data)),
        "fewer": (SETTINGS, replace(data, test=shortened(data.test, 11))),
        "elsewhere": (changed(SETTINGS, downsample=1.1), data),
    }
    assert run.train(data, resume=False, bar=False, tests=tests) == "finished"
    return runs.read_record(run.record_path)["best"]


def check(best: dict) -> None:
    found = best["tests"]
    assert list(found) == ["same", "shuffled", "fewer", "elsewhere"]
    known = {name: value for name, value in best.items() if name.startswith("test_")}
    assert found["same"] == known
    assert found["shuffled"]["test_error"] != best["test_error"]
    assert found["shuffled"]["test_overlap"] == best["test_overlap"]
    assert found["fewer"]["test_size"] == 11 and best["test_size"] == 29
    assert found["elsewhere"].keys() == known.keys()


def test_the_same_network_has_the_same_error_and_on_other_labels_another(tmp_path):
    check(run_with_tests(tmp_path))


def test_so_it_is_on_a_gpu(tmp_path, quick_device):
    check(run_with_tests(tmp_path, quick_device))


def test_what_else_is_tested_changes_nothing_in_the_run(tmp_path):
    best = run_with_tests(tmp_path / "tested")
    last, weights, record = outcome(train(tmp_path / "plain", epochs=2))
    assert {name: best[name] for name in best if name != "tests"} == record["best"]
    again = outcome(run_in(tmp_path / "tested", epochs=2))
    assert (last, weights) == again[:2]


def test_it_is_the_best_epochs_weights_that_are_run_with_tests(tmp_path):
    """Though the network holds later ones when it is asked."""
    trainer = trainer_of(SETTINGS, data_set(), say=lambda line: None)
    while not trainer.finished:
        trainer.step()
        if trainer.state.epoch == 1 and trainer.state.batch == 0:
            first = trainer.buffer.data.copy()
    trainer.state.best_epoch, trainer._best[...] = 1, first
    trainer.save(tmp_path)
    build, data = partial(Tstn(1).build, Form((9, 9))), data_set()
    last = trainer.test_with(build, data)
    best = trainer.test_best(tmp_path)
    np.testing.assert_array_equal(trainer.buffer.data, first)
    found = trainer.test_with(build, data)
    assert found["test_overlap"] == best["test_overlap"] != last["test_overlap"]
    np.testing.assert_array_equal(found["correct"], best["correct"])


@pytest.mark.parametrize("network", [ClassificationCnn(1), Tstn(2)], ids=lambda n: n.name)
def test_a_network_with_other_parameters_is_refused(network):
    trainer = trainer_of(SETTINGS, data_set(), say=lambda line: None)
    with pytest.raises(ValueError, match=r"^other parameters: .*classifier/conv1_1|localisation/"):
        trainer.test_with(partial(network.build, Form((9, 9))), data_set())


def test_one_with_other_shapes_is_refused():
    """Nothing is broadcast."""
    trainer = trainer_of(SETTINGS, data_set(), say=lambda line: None)
    build = partial(Tstn(1).build, Form((9, 9), classes=1))
    with pytest.raises(ValueError, match=r"^other parameters: classifier/softmax/bias, classif"):
        trainer.test_with(build, data_set())


# ---- as a script asks for it


def other_bars(settings):
    """The script's: other images, of the same kind."""
    return {"again": settings, "other bars": replaced(settings, "data.seed", 1)}


def test_a_script_says_what_else_is_tested(tmp_path, capsys):
    own = toy.EXPERIMENT
    experiment = sweep.Experiment(
        own.name, own.script, description=None, examples="", flags=own.flags[:-1],
        runs=own._runs, choice=own._choice, report=own.report, tests=other_bars,
    )  # fmt: skip
    words = ["--out", str(tmp_path), "--workers", "1", "--epochs", "2"]
    assert sweep.main(experiment, words) == 0
    (record,) = runs.find_records([tmp_path])
    best = record["best"]
    assert best["tests"]["again"] == {k: v for k, v in best.items() if k.startswith("test_")}
    assert best["tests"]["other bars"]["test_correct"] != best["test_correct"]
