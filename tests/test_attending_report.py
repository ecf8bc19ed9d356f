"""What the page says of what makes a transformer attend, from as many records as there are."""

from pathlib import Path

import pytest
from papers import tstn_attending as attending
from synthetic import record

from ministn import runs
from ministn.kinds import replaced

RECORDS = Path(__file__).parents[1] / "reproduce" / "records"


def run(network="arch1-tstn", seed=0, epochs=attending.EPOCHS, *, loc_lr=0.3, path="", value=None,
        **more):  # fmt: skip
    """A run of the study with one more setting, measured as all new records are."""
    made = record(network, seed, epochs=epochs, loc_lr=loc_lr, decay_every=3, **more)
    for entry in made["epochs"]:
        entry |= {"correlation": 0.1 * entry["epoch"], "widths_in": 0.5,
                  "widths_out": 0.5 - 0.05 * entry["epoch"]}  # fmt: skip
    settings = replaced(made["settings"], path, value) if path else made["settings"]
    return made | {"settings": settings}


def collapse(step, end=None, epoch=1):
    back = None if end is None else {"epoch": 1 + (end - 1) // 196, "step": end}
    return {"epoch": epoch, "step": step, "images": 200, "batch": 256, "end": back}


def lines(records, beside=()):
    text = attending.section(list(records), list(beside))
    rows = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == attending.HEADER
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def test_without_records_nothing_is_said():
    assert attending.section([], [run()]) == "" and attending.figures([], [run()]) == {}


def test_a_line_for_each_run_with_what_was_changed():
    found = lines(
        [
            run(path="network.zoom", value=0.7),
            run(loc_lr=1.0, collapses=[collapse(20)]),
            run("arch1-untied", path="training.loc_warm_up", value=196),
            run(epochs=2, path="network.pool", value=True),
        ],
        beside=[run(epochs=25), run("arch1-untied", 1, 25, collapses=[collapse(86, 93)])],
    )
    assert [(line["network"], line["setting"], line["epochs"]) for line in found] == [
        ("Arch 1 untied STN", "loc-lr x0.3", "8"),
        ("Arch 1 untied STN", "loc-lr x0.3, loc. warm-up 196", "8"),
        ("Arch 1 TSTN", "loc-lr x0.3", "8"),
        ("Arch 1 TSTN", "loc-lr x1", "8"),
        ("Arch 1 TSTN", "loc-lr x0.3, loc. pooling kept", "2"),
        ("Arch 1 TSTN", "loc-lr x0.3, theta begins at 0.7", "8"),
    ]
    absent = [line["left the image"] for line in found]
    assert absent == ["from 86 to 93", "-", "-", "from 20 on", "-", "-"]
    zoomed, longer = found[-1], found[2]
    assert (zoomed["follows"], zoomed["wander"], zoomed["test"]) == ("0.80", "0.50 to 0.10", "3.14")
    # The one that went on is measured at the eighth epoch, when it was not tested.
    assert (longer["follows"], longer["test"], longer["valid"]) == ("0.80", "-", "62.20")


def test_what_comes_after_the_first_epochs_is_none_of_it():
    late = run(epochs=25, collapses=[collapse(1900, 1950, epoch=10)])
    never = run(epochs=25, seed=1, collapses=[collapse(1500, 1900, epoch=8)])
    assert [line["left the image"] for line in lines([late, never])] == ["-", "from 1500 on"]


@pytest.mark.parametrize(
    "other",
    [
        run("arch2-tstn"),
        run(path="network.downsample", value=3.0),
        run(path="network.stop_gradient", value=True),
        run(path="data.train_size", value=10_000),
        run(path="training.schedule.every", value=4),
        run(path="training.lr", value=0.0005),
        run(loc_lr=0.0),
        record("arch1-cnn"),
        run() | {"epochs": []},
    ],
    ids=lambda each: runs.folder_name(each["settings"]),
)
def test_other_runs_of_table_3_are_left_out(other):
    assert attending.studied([other, run()]) == [run()]


def test_the_figure_has_a_row_for_each_setting_and_a_mark_for_each_run():
    collapsed = run("arch1-untied", collapses=[collapse(20)])
    for entry in collapsed["epochs"]:
        entry["widths_out"] = 9.0
    records = [run(), run(seed=1), collapsed, run(path="network.scale", value=0.1)]
    (drawn,) = attending.figures(records, []).values()
    assert len(drawn.axes) == 3
    for axes, crosses in zip(drawn.axes, (1, 1, 1), strict=True):
        marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
        assert len(marks) == len(records) + crosses
        assert all(abs(line.get_xdata()[0]) <= 100 for line in marks)
    rows = [text.get_text() for text in drawn.axes[0].get_yticklabels()]
    assert rows == ["loc-lr x0.3", "loc-lr x0.3, loc. scale 0.1"]
    widths = [line.get_xdata()[0] for line in drawn.axes[1].lines]
    assert max(widths) == attending.FARTHEST


def test_what_is_recorded_for_the_study_is_of_it():
    folder = RECORDS / "attending"
    found = runs.find_records([folder], "table3") if folder.exists() else []
    assert len(attending.studied(found)) == len(found)
