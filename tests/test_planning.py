"""The plan: what runs will cost, measured in a few steps, and in words."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from small_runs import SETTINGS, changed

from ministn.data import Distorted
from ministn.models import NETWORKS
from ministn.runs import planning


@pytest.mark.parametrize("network", [name for name in NETWORKS if name.startswith("arch1")])
@pytest.mark.parametrize("batch_size", [1, 16, 10**9])
def test_costs_are_measured_at_any_batch_size(network, batch_size):
    """A batch is at most all the training images: nothing of the size of ``batch_size`` is made."""
    settings = changed(SETTINGS, network=NETWORKS[network], batch_size=batch_size)
    costs = planning.costs([settings, replace(settings, seed=9), changed(settings, lr=0.1)])
    assert list(costs) == [planning.alike(settings)]
    (cost,) = costs.values()
    assert cost.step > 0 and cost.image > 0
    once, twice = (changed(settings, epochs=n) for n in (1, 2))
    test = 10_000 * cost.image
    epoch = cost.seconds(once) - test
    assert cost.seconds(twice) == pytest.approx(2 * epoch + test)
    assert planning.total([once, twice], costs) == pytest.approx(3 * epoch + 2 * test)
    text = planning.describe([once], costs)
    assert text.startswith(f"  {network}") and "1 run of   1 epochs" in text
    megabytes = cost.parameters * 16 / 1e6
    assert "together 1 run, " in text and f"{megabytes:.0f} MB of checkpoints" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 seconds"), (89, "89 seconds"), (90, "2 minutes"), (5399, "90 minutes"),
     (5400, "1.5 hours"), (360_000, "100.0 hours")],
)  # fmt: skip
def test_hours_as_people_say_them(seconds, text):
    assert planning.hours(seconds) == text


def test_one_network_on_two_kinds_of_images_has_a_line_for_each():
    """Steps on images of one size take as long, whatever the images are."""
    first = replace(SETTINGS, data=Distorted("P"))
    runs = [first, replace(first, data=Distorted("E")), replace(first, data=Distorted("R"))]
    keys = list(map(planning.alike, runs))
    assert keys[0] == keys[1] != keys[2]
    costs = {
        key: SimpleNamespace(step=1.0, seconds=lambda settings: 60.0, parameters=0) for key in keys
    }
    lines = [line.split(" of ")[0] for line in planning.describe(runs, costs).splitlines()]
    assert lines[:2] == ["  arch1-tstn on p, e  2 runs", "  arch1-tstn on r     1 run"]
    assert lines[2].startswith("  together 3 runs, 3 minutes")
