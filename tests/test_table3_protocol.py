"""``table3.py``: the protocol, so many times faster, and the transformers' factor."""

import pytest
import table3

from ministn import runs
from ministn.models import ClassificationCnn, SmallStn, Tstn


def settings_of(line):
    return table3.EXPERIMENT.parse(line.split())


@pytest.mark.parametrize(
    ("times", "epochs", "every"),
    [("1", [145, 179, 196, 95, 231, 231], 20), ("8", [18, 22, 25, 12, 29, 29], 3),
     ("10", [15, 18, 20, 10, 23, 23], 2), ("2.5", [58, 72, 78, 38, 92, 92], 8),
     ("1000", [1] * 6, 1)],
)  # fmt: skip
def test_a_protocol_so_many_times_faster(times, epochs, every):
    found = settings_of(f"--compress {times}")
    assert [s.training.epochs for s in found] == epochs
    assert {s.training.schedule.every for s in found} == {every}
    if times == "1":
        assert found == settings_of("")


def test_a_cnn_is_the_same_run_whatever_the_transformers_factor():
    found = settings_of("--nets arch1-cnn arch1-tstn small-stn --downsample 1.5 --decay-every 4")
    assert [s.network for s in found] == [ClassificationCnn(1), Tstn(1, 1.5), SmallStn()]
    assert {s.training.schedule.every for s in found} == {4}
    names = [runs.folder_name(s) for s in found]
    assert ["-downsample1.5-" in name for name in names] == [False, True, False]
    assert all("-every4-" in name for name in names)
