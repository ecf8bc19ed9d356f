"""Digits that only the network with a transformer reads, and whether it turns them upright."""

import json

import numpy as np
import pytest
import readme
from papers import stn_looks
from synthetic import packed, read, stn_written
from test_placement_poses import THETA, weights

from ministn.data import Distorted
from ministn.data.dataset import PosedSplit
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.metrics.pose import FRAME
from ministn.ops import as_batch
from ministn.training.examples import from_text
from ministn.transformer import theta_of
from ministn.transformer.transforms import AFFINE

SIZE = 1000  # test images of the embedded digits
LEFT = 30.0  # degrees by which THETA turns


def run(network, wrong, seed=0):
    """A finished run that misses the test images `wrong`."""
    found = stn_written(network, wrong=wrong, embedded=True, seed=seed)
    correct = ~np.isin(np.arange(SIZE), list(wrong))
    found["best"] |= {"test_correct": packed(correct), "test_size": SIZE}
    return read(found)


def test_a_network_that_turns_all_digits_alike(tmp_path):
    """They are as far from each other as before; those that it has right and the CNN wrong are
    shown. Networks without weights, or of which only another seed has run without, are left out.
    """
    cnn, looking = run("r-cnn", range(10, 40)), run("r-st-cnn-affine", [12, 700, 701])
    alone, absent = run("r-st-fcn-affine", []), run("r-st-cnn-tps", [])
    weights(tmp_path, looking)
    weights(tmp_path, alone)
    found = stn_looks.measured([cnn, looking, alone, absent, run("r-fcn", [], seed=1)], tmp_path)
    (only,) = found
    (net,) = only["networks"]
    assert (net["name"], net["seed"]) == ("st-cnn-affine", 0)
    assert (net["only_right"], net["only_other"]) == (29, 2)
    assert net["degrees"] == pytest.approx(only["degrees"]) and 40 < only["degrees"] < 60
    turned = np.subtract(net["classes"], only["classes"])
    np.testing.assert_allclose(turned, -LEFT, atol=0.11)  # both are rounded
    assert "R, 1 network: no transformer turns them upright; " in stn_looks.verdict(only)
    assert "pixels" not in stn_looks.verdict(only)
    test = Distorted("R", EMBEDDED, 8000).load().test
    rows = [10, 11, *range(13, 17)]
    np.testing.assert_array_equal(from_text(only["drawn"]["digits"]), test.images[rows])
    assert only["drawn"]["digits"]["labels"] == test.labels[rows].tolist()
    np.testing.assert_allclose(only["drawn"]["theta"], [THETA.ravel()] * 6, atol=1e-6)

    text, drawn = stn_looks.section(found), stn_looks.figures(found)
    assert f"| R ST-CNN Aff | 0 | {only['degrees']:.1f} | {only['degrees']:.1f} |" in text
    assert list(drawn) == list(stn_looks.FILES) and all(file in text for file in drawn)
    saved, means = drawn.values()
    assert len(saved.axes) == 6 * 2 and len(means.axes) == 2 * 10
    white = max(image.max() for image in from_text(only["inputs"])) / 255
    mean = test.images[test.labels == 3].mean(axis=0) / white
    assert abs(means.axes[3].images[0].get_array() - mean).max() < 0.6 / white


def test_what_is_left_of_the_digits_own_poses():
    """Nothing where the grids are the true poses, and one angle for all that are turned alike."""
    rng, blank = np.random.default_rng(0), np.zeros((40, 4), np.int16)
    angles, shifts = rng.uniform(-80, 80, 40), rng.uniform(-0.5, 0.5, (40, 2))
    poses, grids = (
        AFFINE.forward(theta_of(each, shift=shifts).reshape(-1, 6), FRAME.shape[:2])[0]
        for each in (angles, angles - 25)
    )
    labels = (np.arange(40) % 3).astype(np.uint8)
    test = PosedSplit(np.zeros((40, 5, 9), np.uint8), labels, blank, poses)
    for grid, mean in ((poses, 0.0), (grids, 25.0)):
        found = stn_looks.left(grid, test)
        assert found.pop("classes") == [mean] * 3
        assert found == pytest.approx({"degrees": 0, "pixels": 0, "log2_area": 0}, abs=1e-6)
    found = stn_looks.left(np.broadcast_to(FRAME, poses.shape), test)
    assert found["degrees"] > 30 and 1 < found["pixels"] < 3


def test_a_set_is_upright_where_less_than_half_is_left():
    nets = [
        {"name": f"st-{n}-affine", "seed": 2, "degrees": d, "pixels": 2.0}
        for n, d in (("fcn", 24.0), ("cnn", 26.0))
    ]
    found = {"data": {"recipe": "RTS"}, "degrees": 50.0, "pixels": 6.0}
    for chosen, words in (
        (nets, "only ST-FCN Aff seed 2 turns them upright; 25.0 of 50.0 degrees are left [24.0, 2"),
        (nets[:1], "all transformers turn them upright; 24.0 of 50.0"),
        (nets[1:], "no transformer turns them upright; 26.0 of 50.0"),
    ):
        said = stn_looks.verdict(found | {"networks": chosen})
        assert words in said
        assert "; 2.0 of 6.0 pixels are left [2.0, 2.0]." in said
    other = {"data": {"recipe": "P"}, "degrees": 9.0, "pixels": 6.0, "networks": nets}
    said = stn_looks.summary([found | {"networks": nets}, other])
    assert said.startswith("1 of 2 networks on digits that are turned")


def test_what_a_network_passes_on_is_what_it_reads(tmp_path):
    record = run("r-st-fcn-affine", [])
    network = weights(tmp_path, record)
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    shown, grid = stn_looks.passed_on(network.front, images)
    assert grid.shape == (3, 4, 4, 2)
    np.testing.assert_array_equal(shown, network.front.forward(as_batch(images))[0][..., 0])


def test_the_papers_transform_of_an_st_cnn_is_drawn():
    """Of a set of which both kinds have weights."""
    models = ["fcn-affine", "cnn-projective", "cnn-affine", "cnn-tps"]
    for name, drawn in (("r", "cnn-affine"), ("rts", "cnn-tps"), ("e", "cnn-tps")):
        looked = [stn_looks.Looked(run(f"{name}-st-{model}", []), None, None) for model in models]
        first = min(looked, key=stn_looks.preferred).record["settings"].network.name
        assert first == f"st-{drawn}"


def test_no_set_has_no_part_and_a_folder_without_weights_is_refused(tmp_path):
    assert stn_looks.section([]) == "" and stn_looks.figures([]) == {}
    with pytest.raises(UserError, match=r"^no record\.json under"):
        readme.look_again(tmp_path)
    (tmp_path / "record.json").write_text(json.dumps(stn_written("r-st-cnn-affine")))
    with pytest.raises(UserError, match=r"^no run to look with has its best\.safetensors under"):
        readme.look_again(tmp_path)
