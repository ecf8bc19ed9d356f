"""The record of reproduce/benchmark.py --cpu, and what page and figure make of it."""

import pytest
from benchmarks.figure import figure
from benchmarks.page import page, speed
from benchmarks.record import Record, compared, rows
from benchmarks.sides import LAYOUTS

from ministn.errors import UserError
from ministn.files import read_json


def test_a_row_from_times():
    seconds = {
        "ours": [3.0, 1.0, 2.0],
        "channels_last": [5.0, 4.0, 9.0],
        "contiguous_format": [4.0, 3.0, 8.0],
        "compiled": [8.0, 7.0, 9.0],
    }
    assert compared(seconds, LAYOUTS) == {
        "ours": 2.0,
        "ours_minimum": 1.0,
        "torch": 4.0,
        "torch_minimum": 3.0,
        "layout": "contiguous_format",
        "other_layout": 5.0,
        "compiled": 8.0,
        "compiled_minimum": 7.0,
        "ratio": 0.5,
        "ratio_minimum": 1 / 3,
        "compiled_ratio": 0.25,
    }
    assert compared({"ours": [1.0]}, LAYOUTS) == {"ours": 1.0, "ours_minimum": 1.0}


def test_a_run_replaces_what_it_measures_and_keeps_the_rest(tmp_path):
    path = tmp_path / "record.json"
    path.write_text('{"format": 1, "networks": {}}')
    first = Record(path, "one", {"command": "first"})
    first.note("step/a/64", {"ours": 1 / 3, "compiled": None, "compiled_error": "no"})
    first.note("step/b/64", {"ours": 2.0})
    second = Record(path, "two", {"command": "second"})
    second.note("step/a/64", {"ours": 3.0})
    record = read_json(path)
    assert record["format"] == 3 and record["step/b/64/ours"] == 2.0
    assert record["runs"] == {"one": {"command": "first"}, "two": {"command": "second"}}
    assert dict(rows(record, "step/")) == {
        "a/64": {"ours": 3.0, "run": "two"},
        "b/64": {"ours": 2.0, "run": "one"},
    }
    second.note("step/b/64", {"ours": 4.0})
    assert read_json(path)["runs"] == {"two": {"command": "second"}}

    path.write_text('{"format": 3, "runs"')
    with pytest.raises(UserError, match="is damaged: move it away"):
        Record(path, "three", {})


def test_half_a_record(tmp_path):
    """Figure and README leave out what was not measured."""
    path = tmp_path / "record.json"
    run = {
        "rounds": 3,
        "device": {"name": "x", "cores": 1, "workers": 1, "blas": "openblas Zen"},
        "versions": {"torch": "2"},
    }
    record = Record(path, "one", run)
    row = compared({"ours": [1.0], "torch": [2.0]}) | {"flops": 8e9, "counted": 0.5}
    record.note("convolution/a/1-2-3x3-4x4/5/forward", row)
    record.note("convolution/a/1-2-3x3-4x4/5/backward", row)
    record.note("convolution/b/1-2-3x3-4x4/5/forward", compared({"ours": [1.0], "torch": [3.0]}))
    with pytest.raises(UserError, match=r"has no step/...: run reproduce/benchmark.py --cpu"):
        page(path)
    row = compared({"ours": [1.0], "torch": [2.0], "compiled": [4.0]})
    record.note("step/arch1-cnn/128", row)
    record.note("step/r-fcn/64", compared({"ours": [1.0], "torch": [0.5]}))
    axes, *_, empty = figure(read_json(path)).axes
    eager, compiled, *_ = (line.get_xdata()[0] for line in axes.lines)
    assert (eager, compiled) == (0.5, 0.25)
    assert not any(len(line.get_xdata()) for line in empty.lines)
    text = page(path).splitlines()
    assert text.pop(7).startswith("Convolution blocks on one thread")
    assert text[2:] == [
        "| r-fcn | 64 | 1000.0 | 500.0 | - | 2.00 | - |",
        "| arch1-cnn | 128 | 1000.0 | 2000.0 | 4000.0 | 0.50 | - |",
        "",
        "Medians of 3 steps of each, on 1 of 1 cores of x, NumPy with openblas Zen, PyTorch 2.",
        "",
        "",
        "| paper | convolution | images | ours, ms | PyTorch eager, ms | ours / eager "
        "| ours, GFLOP/s | PyTorch's | ours as counted, ms |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| a | 1-2-3x3-4x4 | 5 | 2000.0 | 4000.0 | 0.50 | 8 | 4 | 1000.0 |",
        "| b | 1-2-3x3-4x4 | 5 | 1000.0 | 3000.0 | 0.33 | - | - | - |",
    ]


def test_the_worst_convolutions_are_shown_first(tmp_path):
    path, run = tmp_path / "record.json", {"rounds": 1, "versions": {"torch": "2"}}
    run["device"] = {"name": "x", "cores": 1, "workers": 1}
    record = Record(path, "one", run)
    record.note("step/r-fcn/64", compared({"ours": [1.0], "torch": [2.0]}))
    for n in range(1, 13):
        row = compared({"ours": [float(n)], "torch": [1.0]})
        record.note(f"convolution/a/{n}-2-3x3-4x4/5/forward", row)
    first, shut = page(path).split("<details><summary>The other 2 convolutions</summary>")
    shown = [line.split(" | ")[5] for line in first.splitlines() if line.startswith("| a |")]
    assert shown == [f"{n}.00" for n in range(12, 2, -1)]
    assert "| 2.00 | - | - | - |\n| a | 1-2-3x3-4x4" in shut and shut.endswith("</details>")


def test_the_first_screens_table_has_what_there_is(tmp_path):
    path = tmp_path / "record.json"
    record = Record(path, "one", {})
    record.note("step/arch2-tstn/256", compared({"ours": [1.0], "torch": [2.0]}))
    record.note("step/arch1-tstn/64", compared({"ours": [1.0], "torch": [2.0]}))
    assert speed(path).splitlines()[2:] == ["| arch2-tstn | 1.00 | 2.00 | - | 0.50 |"]
