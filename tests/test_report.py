"""Tables, from synthetic records whose answers are known."""

import re
from dataclasses import replace

import numpy as np
import pytest
from papers.claims import correct
from papers.layout import WIDTH
from papers.tstn import label, scope, tables
from papers.tstn_report import report
from synthetic import COLLAPSE, SIDE, record

from ministn.data import Sequences
from ministn.errors import UserError
from ministn.metrics.attention import summary
from ministn.runs.run import _packed
from ministn.tasks import Evaluation

BACK = {**COLLAPSE, "epoch": 2, "step": 400, "end": {"epoch": 5, "step": 900}}


# -- tables ----------------------------------------------------------------------------------------

REDUCED = {"train_size": 10_000, "epochs": 15}


def rows(table):
    return [[r["settings"].seed for r in row] for row in table]


def test_runs_are_grouped_by_all_settings_but_the_seed():
    records = [
        record("arch1-tstn", 1),
        record("arch1-tstn", 0),
        record("arch1-tstn", 0, lr=0.0003),
        record("arch1-tstn", 0, loc_lr=0.1),
        record("arch1-tstn", 0, batch_size=64),
        record("arch1-cnn", 2),
        record("arch1-tstn", 5, **REDUCED),
        record("arch1-tstn", 6, train_size=10_000, epochs=16),
        record("arch1-tstn", 7, data_seed=1, data_sha256="other"),
        record("arch1-tstn", 8, data_sha256="third"),
        record("arch1-tstn", 9, canvas=40),
    ]
    found = tables(records)
    assert sorted(map(rows, found)) == sorted(
        [[[2], [0, 1], [0], [0], [0]], [[5]], [[6]], [[7]], [[8]], [[9]]]
    )
    assert [scope(table) == "" for table in found] == sorted(
        (scope(table) == "" for table in found), reverse=True
    )


def test_runs_of_equal_epochs_share_a_table():
    cnn, tied = record("arch1-cnn", wrong=range(400)), record(epochs=145)
    (table,) = tables([cnn, tied])
    text = report([cnn, tied])
    assert rows(table) == [[0], [0]] and scope(table) == "reduced"
    assert text.startswith("REDUCED: 50,000 of 50,000 images, 145 epochs: compare rows")
    assert "HOLDS          Arch 1: tied < CNN in this run (reduced)" in text

    longer = record("arch1-cnn", epochs=231)
    assert [scope(t) for t in tables([record("arch2-tstn"), longer])] == ["other epochs"]


def test_the_papers_table_keeps_a_run_that_others_lasted_as_long_as():
    runs = [record("arch1-cnn"), record(), record("arch1-tstn", 1, epochs=145)]
    found = [(scope(t), [label(row[0])[0] for row in t], rows(t)) for t in tables(runs)]
    names = ["Arch 1 CNN", "Arch 1 TSTN"]
    assert found == [("", names, [[0], [0]]), ("reduced", names, [[0], [1]])]


@pytest.mark.parametrize(
    ("settings", "own"),
    [({}, "not in the paper"), (REDUCED, "not in the paper, reduced")],
)
def test_networks_not_in_the_paper_have_their_own_table(settings, own):
    settings = {"epochs": 46, **settings}
    found = tables([record("small-stn", **settings), record("arch1-cnn", **settings)])
    assert [scope(table) for table in found] == ["reduced", own]


def test_a_cnn_has_no_localisation_learning_rate():
    both = [record("arch1-cnn", 0, loc_lr=0.1), record("arch1-cnn", 1)]
    assert [rows(table) for table in tables(both)] == [[[0, 1]]]
    assert "loc-lr x0.1" not in report(both).split("Commands")[0]


def test_copies_of_a_run_count_once_and_contradictions_are_refused():
    assert [rows(table) for table in tables([record(), record()])] == [[[0]]]
    with pytest.raises(UserError, match="two records of arch1-tstn with seed 0"):
        tables([record(), record(wrong=range(9))])


def line_with(text, start):
    found = [line for line in text.splitlines() if line.startswith(start)]
    assert len(found) == 1, found
    return found[0].split()


def test_the_row_of_one_seed_has_no_mean():
    text = report([record("arch1-cnn", 3, wrong=range(500), train_error=0.25)])
    assert text.startswith("The paper's data, images and epochs: 50,000 of 50,000 images\n")
    assert line_with(text, "Arch 1 CNN") == [
        *["Arch", "1", "CNN", "9.78", "M", "145", "3", "145", "0.25", "5.00", "5.00"],
        *["4.44", "[4.04-4.86]", "-", "-", "-"],
    ]
    assert "mean of" not in text.split("Errors in percent")[0]


def test_the_mean_is_of_the_finished_runs():
    runs = [
        record("arch1-tstn", 0, wrong=range(300)),
        record("arch1-tstn", 1, wrong=range(400)),
        record("arch1-tstn", 2, wrong=range(9000), status="interrupted", done=7),
        record("arch1-tstn", 3, wrong=range(9000), status="diverged", done=0),
    ]
    text = report(runs)
    (mean,) = re.findall(r"mean of 2/4 +([\d.]+) +([\d.]+) +([\d.]+)", text)
    assert mean == ("1.00", "3.50", "3.50")
    assert "! seed 2 UNFINISHED: 7 of 196 epochs (interrupted)" in text
    assert "! seed 3 DIVERGED in epoch 1, step 97: first non-finite values in" in text
    assert re.search(r"! 3 +- +- +- +-", text)


@pytest.mark.parametrize("status", ["running", "interrupted"])
def test_an_unfinished_run_shows_its_best_epoch_so_far(status):
    run = record("arch1-tstn", status=status, done=4)
    run["best"] = None
    for epoch, valid in zip(run["epochs"], (50, 20.5, 20.5, 30), strict=True):
        epoch.update(valid_error=valid, train_error=10 * epoch["epoch"])
    line = line_with(report([run]), "Arch 1 TSTN")
    assert line[6:12] == ["!", "0", "2", "20.00", "20.50", "-"]
    assert line[12:] == ["3.14", "[2.81-3.50]", "-", "-", "-"]


@pytest.mark.parametrize(
    ("collapses", "words"),
    [
        ([COLLAPSE], "seed 0 COLLAPSED in epoch 1, step 31 (213 of 256 had left the image), did"),
        ([BACK], "back since epoch 5, step 900"),
        ([BACK, {**COLLAPSE, "epoch": 9}], "COLLAPSED 2 times, first in epoch 2"),
    ],
)
@pytest.mark.parametrize("markdown", [False, True])
def test_a_collapse_stands_beside_the_result(collapses, words, markdown):
    text = report([record(collapses=collapses)], markdown=markdown)
    assert words in text.split("claims")[0]
    assert "! 0" in text


@pytest.mark.parametrize(
    ("runs", "title"),
    [
        ([record(**REDUCED)], "REDUCED: 10,000 of 50,000 images, 15 epochs: compare rows, not col"),
        ([record(train_size=500)], "REDUCED: 500 of 50,000 images, the paper's epochs: compare"),
        ([record(data="digits", train_size=60_000)], "REDUCED, OTHER DATA: 60,000 images, the pap"),
        ([record(epochs=300)], "OTHER EPOCHS: 50,000 of 50,000 images, 300 epochs: compare rows"),
        ([record(canvas=42)], "REDUCED, OTHER DATA: 50,000 of 50,000 images, the paper's epochs"),
        ([record("small-stn")], "NOT IN THE PAPER: 50,000 of 50,000 images, 20 epochs\n"),
        ([record("small-stn", **REDUCED)], "NOT IN THE PAPER, REDUCED: 10,000 of 50,000 images"),
    ],
)
def test_titles_say_how_far_from_the_paper(runs, title):
    assert report(runs).startswith(title)
    assert report(runs, markdown=True).startswith(f"**{title}".rstrip("\n"))


def test_the_papers_figure_stands_only_beside_the_papers_data():
    assert "3.14 [2.81-3.50]" in report([record(**REDUCED)])
    assert "2.81" not in report([record(data="digits")])


def test_what_is_not_the_papers_is_marked():
    assert "~3.9 (Recipe)" in report([record("small-stn")])
    assert "not in the paper" in report([record("small-stn")])
    untied = report([record("arch2-untied", wrong=range(9000), train_error=88)])
    assert "not converged" in untied and "231 is our choice" in untied


def test_deviations_from_the_paper_are_labelled_rows():
    runs = [
        record("arch1-untied", wrong=range(8900)),
        record("arch1-untied", lr=0.0003, loc_lr=0.1, batch_size=64),
    ]
    text = report(runs)
    assert re.search(r"Arch 1 untied STN.*\n  lr 0.0003\n  loc-lr x0.1\n  batch 64\n", text)
    name = "| Arch 1 untied STN, lr 0.0003, loc-lr x0.1, batch 64 (9.78 M, 179 epochs) |"
    assert name in report(runs, markdown=True)


def everything():
    return [
        *(record("arch1-cnn", seed, **REDUCED) for seed in range(3)),
        *(record("arch1-untied", s, collapses=[COLLAPSE, BACK], **REDUCED) for s in range(3)),
        *(record("arch1-untied", seed, loc_lr=0.1, **REDUCED) for seed in range(3)),
        record("arch2-untied", 0, status="diverged", done=3, batch_size=64, **REDUCED),
        record("small-stn", 0),
    ]


def test_the_text_fits_a_terminal():
    long = max(report(everything()).splitlines(), key=len)
    assert len(long) <= WIDTH, long


def test_markdown_tables_are_whole():
    for block in re.findall(r"(?:^\|.*\n)+", report(everything(), markdown=True), re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_commands_are_printed_once_with_their_hours():
    text = report([record(seed=4), record("arch1-cnn", 4), record(seed=5)])
    commands = text.split("Commands\n")[1].split("\n\n")[0].splitlines()
    assert [" ".join(line.split()) for line in commands] == [
        "python reproduce/table3.py --seeds 4 "
        "(commit 01234567; A processor, 1 of 2 cores; 1.00 hours)",
        "python reproduce/table3.py --seeds 5 "
        "(commit 01234567; A processor, 1 of 2 cores; 0.50 hours)",
    ]


def test_nothing_to_report():
    with pytest.raises(UserError, match="no records to report"):
        report([])


def test_a_damaged_record_is_named():
    run = record(seed=2)
    assert correct(run).sum() == 10_000 - 314
    run["best"]["test_size"] = 9_000
    with pytest.raises(UserError, match="arch1-tstn, seed 2, is damaged"):
        correct(run)


def test_an_image_with_several_answers_counts_as_a_whole():
    """As McNemar's test wants it, of what a run writes."""
    answers = np.random.default_rng(0).random((10_000, 3)) < 0.9
    found = Evaluation(0.5, answers, [])
    run = record(seed=2)
    run["settings"] = replace(run["settings"], data=Sequences())
    run["best"] = _packed({**found.errors("test"), "correct": answers})
    assert run["best"]["test_size"] == 30_000
    right = correct(run)
    np.testing.assert_array_equal(right, answers.all(axis=1))
    assert run["best"]["test_sequence_error"] == 100 * (~right).mean() > run["best"]["test_error"]


def test_attention_of_older_records_is_that_of_their_six_images():
    old = record()
    text = report([old])
    boxes = np.array(old["examples"]["boxes"])
    theta = np.array(old["epochs"][-1]["theta"]).reshape(6, 2, 3)
    few = summary(theta, boxes, (SIDE, SIDE))
    wander = few["widths_out"] / few["widths_in"]
    assert line_with(text, "Arch 1 TSTN")[-2:] == [f"({few['correlation']:.2f})", f"({wander:.2f})"]
    old["best"] |= {"test_correlation": 0.875, "test_widths_in": 0.5, "test_widths_out": 0.25}
    assert line_with(report([old]), "Arch 1 TSTN")[-3:] == ["0.50", "0.88", "0.50"]
