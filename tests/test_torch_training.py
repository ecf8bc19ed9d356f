"""A row of Table 3 in PyTorch: the network that it begins with, its two rates, and the verdict."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ministn.data import Cluttered, as_batch
from ministn.data.export import export
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.models import Tstn
from ministn.optimizers import SGD
from ministn.runs import Settings, find_records, folder_name
from ministn.training.protocol import Training
from ministn.training.trainer import optimized

REPRODUCE = Path(__file__).parents[1] / "reproduce"
DATA = Cluttered(EMBEDDED, 24, 2, 6, 48)
SETTINGS = Settings(DATA, Tstn(1, 2), Training(epochs=2, batch_size=16, loc_lr=0.0), seed=3)


@pytest.fixture
def reports(monkeypatch):
    monkeypatch.syspath_prepend(str(REPRODUCE))
    return import_module("papers.torch_report")


@pytest.fixture
def script(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(REPRODUCE))
    return import_module("torch_training")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "tiny.npz"
    export(DATA, path, bar=False)
    return path


def test_the_file_is_the_set(script, path):
    file, made = script.File(path), DATA.load()
    assert file.sha256 == made.sha256
    for split in ("train", "valid", "test"):
        x, labels = file.splits[split]
        ours = getattr(made, split)
        np.testing.assert_array_equal(x.numpy(), as_batch(ours.images).transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(labels.numpy(), ours.labels)


def test_it_begins_as_ours_and_rates_are_apart(script):
    form = DATA.form
    network, _ = optimized(lambda: SETTINGS.network.build(form), SETTINGS.training, SETTINGS.seed)
    module, optimizer = script.module_of(SETTINGS)
    x = np.random.default_rng(0).random((3, 24, 24, 1), np.float32)
    ours, _ = network.forward(x)
    theirs = module.eval()(script.torch.from_numpy(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(theirs.detach().numpy(), ours, rtol=0, atol=1e-5)
    fast, slow = (sum(p.numel() for p in group["params"]) for group in optimizer.param_groups)
    assert slow == sum(p.size for p in network.localisation_only()) > 0
    assert fast + slow == sum(p.size for p in network.parameters())


def test_training_learns_and_leaves_what_has_no_rate(script, path, monkeypatch):
    kept = []
    made = script.module_of
    monkeypatch.setattr(script, "module_of", lambda s: kept.append(made(s)) or kept[-1])
    twin = script.trained({"settings": SETTINGS}, script.File(path))
    optimizer, others = kept[0][1], made(SETTINGS)[1]
    for group, as_it_was in zip(optimizer.param_groups, others.param_groups, strict=True):
        same = [
            bool((p == q).all()) for p, q in zip(group["params"], as_it_was["params"], strict=True)
        ]
        assert all(same) if group["times"] == 0 else not any(same)
    assert [each["epoch"] for each in twin["epochs"]] == [1, 2]
    assert twin["epochs"][1]["train_loss"] < twin["epochs"][0]["train_loss"]
    assert twin["best"]["test_size"] == len(DATA.load().test.labels)
    assert twin["run"] == folder_name(SETTINGS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training": Training(SGD(), epochs=1)}, "only plain Adam is trained here"),
        ({"training": Training(epochs=1, loc_warm_up=9)}, "only plain Adam is trained here"),
        ({"network": Tstn(1, clip=0.1)}, "only whole gradients are trained with here"),
        ({"network": Tstn(1, stop_gradient=True)}, "only whole gradients are trained with here"),
    ],
)
def test_what_cannot_be_trained_is_refused(script, changes, said):
    with pytest.raises(UserError, match=said):
        script.module_of(replace(SETTINGS, **changes))


def runs_with(errors):
    """Of seeds 0, 1, .. with these test errors, as ours and as PyTorch's."""
    for seed, error in enumerate(errors):
        settings, best = replace(SETTINGS, seed=seed), {"test_error": error}
        yield {"settings": settings, "best": best}, {"run": folder_name(settings), "best": best}


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ([4.9, 5.2, 5.3], "3 seeds the difference is -0.03 [-0.32, +0.25] points: no difference"),
        (
            [6.0, 6.1, 6.0],
            "3 seeds the difference is -0.93 [-1.22, -0.65] points: they differ",
        ),
        ([5.0, 5.1], "5.00, 5.10 % of the test images wrong here, 5.00, 5.10 % in PyTorch. Over 2"),
    ],
)
def test_the_verdict(reports, theirs, said):
    ours = [record for record, _ in runs_with([5.0, 5.1, 5.2])]
    assert said in reports.report(ours, [twin for _, twin in runs_with(theirs)])


def test_the_record_is_of_three_seeds(reports):
    """Of which the first page speaks."""
    runs = json.loads((REPRODUCE / "records" / "torch-training.json").read_text())["runs"]
    ours = find_records([REPRODUCE / "records" / "torch-training"])
    assert [twin["seed"] for _, twin in reports.pairs(ours, runs)] == [0, 1, 2]
    assert reports.sentence(ours, runs).endswith("over 3 seeds is no difference")
