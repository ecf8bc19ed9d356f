"""``python reproduce/learning_rate.py``: which runs it makes, its table and its figure."""

import importlib
import sys
from pathlib import Path

import pytest
from synthetic import record

from ministn import cli, runs

SCRIPTS = Path(__file__).parents[1] / "reproduce"


@pytest.fixture
def study(monkeypatch):
    """The script, which imports its neighbour."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module("learning_rate")
    for name in ("learning_rate", "table3"):
        sys.modules.pop(name, None)


def collapse(epoch: int, end: int | None = None) -> dict:
    back = None if end is None else {"epoch": end, "step": 9}
    return {"epoch": epoch, "step": 4, "images": 200, "batch": 256, "end": back}


@pytest.mark.parametrize(
    ("collapses", "attending"),
    [
        ([], [True, True, True]),
        ([collapse(1)], [False, False, False]),
        ([collapse(1, 5)], [False, True, True]),
        ([collapse(1, 6)], [False, False, True]),
        ([collapse(1, 2), collapse(7)], [False, True, False]),
        ([collapse(1, 1), collapse(6, 8)], [True, True, True]),
    ],
)
def test_attention_is_judged_at_the_end_of_an_epoch(collapses, attending, study):
    run = record(collapses=collapses, epochs=15)
    assert [study.attends(run, epoch) for epoch in (1, 5, 15)] == attending
    assert not study.attends(record(status="diverged", done=3, epochs=15))


def test_the_table_has_a_line_for_each_network_and_setting(study):
    common = {"epochs": 5, "train_size": 10_000}
    lost = [record("arch1-untied", seed, collapses=[collapse(1)], **common) for seed in (0, 1)]
    back = record("arch1-untied", 2, collapses=[collapse(1, 2)], wrong=range(614), **common)
    longer = record("arch1-tstn", lr=0.001, loc_lr=0.1, epochs=15, train_size=10_000)
    records = [longer, back, *lost]
    rows = study.grouped(records)
    assert [len(row) for row in rows] == [3, 1]
    assert [row["settings"].seed for row in rows[0]] == [0, 1, 2]
    header, first, second, *_ = study.lines(records)
    assert header.split() == " ".join(study.HEADER).split()
    assert first.split("  ") and "3 of 3, 1 came back" in first
    assert "4.1 [3.1, 6.1]" in first and " 0.50 " in first and first.endswith("0.05")
    assert "x0.1" in second and "0 of 1" in second and " 15 " in second
    text = study.markdown(records)
    assert text.count("\n| ") == 3 and "| 3 of 3, 1 came back |" in text
    assert list(map(study.is_best, records)) == [True, False, False, False]
    assert len(study.figure(records).axes) == 3 * 2  # two settings


def test_only_survivors_go_on_and_nothing_is_trained_twice(study, monkeypatch, tmp_path, capsys):
    """On tiny images; that one of the settings collapses is made up."""
    asked = study.flags

    def tiny(network, rate, seeds, epochs):
        small = "--data digits --canvas 20 --distractors 0 --batch-size 32 --workers 1".split()
        return [*asked(network, rate, seeds, epochs), *small]

    for name, value in {
        "flags": tiny,
        "TRAIN_SIZE": 64,
        "FIRST": 1,
        "WHOLE": 2,
        "NETWORKS": ("arch1-tstn",),
        "RATES": ((0.001, 1.0), (0.001, 0.1)),
        "attends": lambda run, epoch=None: run["settings"].training.loc_lr == 0.1,
    }.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(sys, "argv", f"learning_rate.py --seeds 0 1 --out {tmp_path}".split())
    assert study.main() == 0
    records = runs.find_records([tmp_path])
    lengths = [(r["settings"].training.loc_lr, len(r["epochs"])) for r in records]
    assert sorted(lengths) == [(0.1, 2), (0.1, 2), (1.0, 1), (1.0, 1)]
    assert len(records[0]["starts"]) == records[0]["settings"].training.epochs
    assert all(r["settings"].data.train_size == 64 for r in records)
    out = capsys.readouterr().out
    assert "Arch 1 TSTN" in out and (tmp_path / "learning-rate.png").exists()
    assert study.main() == 0
    assert "steps of each network" not in capsys.readouterr().out
    assert runs.find_records([tmp_path]) == records


@pytest.fixture
def said(study, monkeypatch, tmp_path, capsys):
    """Run the command in this process and a folder of its own: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["learning_rate.py", *words])
        with pytest.raises(SystemExit) as end:
            cli.run(study.main)
        return end.value.code, *capsys.readouterr()

    return run


def test_a_report_takes_the_studys_runs_only(said, study):
    """Among Table 3's records are some of the same settings, in which theta was not measured."""
    records = SCRIPTS / "records"
    status, alone, err = said("--report", str(records / "learning-rate"))
    assert (status, err) == (0, "") and "Arch 1 untied STN" in alone and "left out" not in alone
    status, out, err = said("--report", str(records))
    assert (status, err) == (0, "") and "skipped: " in out
    assert "left out: runs of table3.py that this study has not (" in out
    table = alone[: alone.index("wrote")]
    assert "3 of 3" in table and table in out


def test_a_folder_without_a_run_of_the_study_is_one_line(said, tmp_path):
    status, out, err = said("--report", str(SCRIPTS / "records" / "quick"))
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("error: no run under ") and err.endswith(" is of this study\n")
    assert list(tmp_path.iterdir()) == []
