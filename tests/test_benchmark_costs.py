"""What reproduce/benchmark.py --gpu counts of operations and steps, by hand; without PyTorch."""

from importlib import import_module
from pathlib import Path

import pytest

from ministn.cuda.choice import precision
from ministn.data import Form
from ministn.models import ClassificationCnn, SmallStn, Tstn


@pytest.fixture
def costs(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "reproduce"))
    return import_module("benchmarks.costs")


def test_cost_of_a_convolution_block(costs):
    cost, y = costs.convolution((2, 5, 7, 3), 4, pool=True)
    assert y == (2, 2, 3, 4)
    assert cost.flops == 2 * (2 * 4 * 6) * (9 * 3) * 4  # of 4x6 pixels in whole windows
    x_bytes, y_bytes, weight_bytes = 4 * 2 * 5 * 7 * 3, 4 * 2 * 2 * 3 * 4, 4 * (9 * 3 * 4 + 4)
    assert cost.bytes == x_bytes + y_bytes + weight_bytes + 2 * 2 * 3 * 4  # and one for each gate

    cost, y = costs.convolution((1, 9, 8, 20), 20, pool=False, kernel=5, padding="valid")
    assert y == (1, 5, 4, 20) and cost.flops == 2 * (5 * 4) * (25 * 20) * 20


def test_the_rate_is_that_of_the_kernels(costs):
    assert costs.convolution((1, 9, 9, 32), 32, pool=False)[0].rate == "fp32"
    assert costs.dense(1, 9, 9).rate == "fp32"
    with precision("tf32"):
        assert costs.convolution((1, 9, 9, 32), 32, pool=False)[0].rate == "tf32"
        assert costs.convolution((1, 9, 9, 1), 32, pool=False)[0].rate == "fp32"
        assert costs.dense(1, 9, 9).rate == "tf32"


def test_costs_of_the_other_operations(costs):
    assert costs.dense(2, 3, 5)[:2] == (2 * 2 * 3 * 5, 4 * (6 + 15 + 5 + 10))
    image, grid, y = 4 * 2 * 11 * 3, 4 * 2 * 7 * 2, 4 * 2 * 7 * 3
    assert costs.sampler(2, 7, 11, 3, arrays="image grid y").bytes == image + grid + y
    both = costs.sampler(2, 7, 11, 3, arrays="dy image grid dgrid dimage").bytes
    assert both == y + 2 * image + 2 * grid
    assert costs.adam(10).bytes == 280
    assert costs.cross_entropy(2, 10).bytes == 4 * (20 + 2 + 1 + 20)
    assert costs.dropout(2, 5).bytes == 10 * (4 * 4 + 2)


def test_cost_of_a_training_step(costs):
    """Of 60x60 images: forward 2.07, 33.2, 28.9 (14x14 of 15x15 pixels), 7.84 and 0.01 MFLOP."""
    layers = [
        2 * 9 * 32 * 60**2,
        2 * 9 * 32 * 64 * 30**2,
        2 * 9 * 64 * 128 * 14**2,
        2 * 6272 * 625,
        2 * 625 * 10,
    ]
    form = Form((60, 60))
    cnn = costs.training_step(ClassificationCnn(1).build(form), (60, 60), 2)
    assert sum(cost.flops for cost in cnn) == 2 * (3 * sum(layers) - layers[0])  # without dx
    localisation = [*layers[:2], 2 * 9 * 64 * 128 * 15**2, 2 * 28800 * 200, 2 * 200 * 6]
    tied = costs.training_step(Tstn(1).build(form), (60, 60), 2)
    all_flops = 3 * (sum(layers) + sum(localisation)) - localisation[0]
    assert sum(cost.flops for cost in tied) == 2 * all_flops
    assert 28 * 9_780_963 in [cost.bytes for cost in tied]  # Adam

    small = costs.training_step(SmallStn().build(form), (60, 60), 1)
    assert small[0].flops == 2 * (26 * 26) * 25 * 20  # after a pool: 30x30, 5x5 "valid", and pooled


def test_an_entry_of_the_record(costs):
    ceilings = costs.Ceilings(100.0, {"fp32": 10.0, "tf32": 40.0})
    least = [costs.Cost(20, 100), costs.Cost(20, 100, "tf32")]  # 2 s, and 1 s for its bytes
    seconds = {"ours": [6.0, 5.0, 9.0], "torch_eager": [12.0, 11.0, 20.0]}
    row = costs.compared(seconds, least, ceilings)
    assert row["ours"] == {"median": 6.0, "minimum": 5.0}
    assert row["torch_eager"] == {"median": 12.0, "minimum": 11.0, "ratio": 0.5}
    assert (row["bytes"], row["flops"]) == (200, 40)
    assert row["bytes_per_second"] == 200 / 6 and row["flops_per_second"] == 40 / 6
    assert row["share_of_ceiling"] == 0.5
    row = costs.compared({**seconds, "torch_compile": [8.0]}, least, ceilings)
    assert (row["torch_eager"]["ratio"], row["torch_compile"]["ratio"]) == (0.5, 0.75)
