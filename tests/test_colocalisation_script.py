"""``reproduce/stn_colocalisation.py``: the encoder first, shards, the other engine, the table."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from synthetic import found_in, read

from ministn import backend, cli
from ministn.data import Crops, OneDigit, distorted
from ministn.data.sources import Sizes
from ministn.errors import UserError
from ministn.kinds import replaced
from ministn.models import Colocaliser, CropEncoder
from ministn.runs import Settings, folder_name, read_record
from ministn.tasks import Colocalisation

SCRIPTS = Path(__file__).parents[1] / "reproduce"


@pytest.fixture
def script(monkeypatch, tmp_path, capsys):
    """Run it in this process and a folder of its own: (status, stdout, stderr)."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("stn_colocalisation")
    paper = module.SETTINGS[module.PAPER]
    short = paper._replace(encoder=replace(paper.encoder, iterations=2, batch_size=4))
    monkeypatch.setitem(module.SETTINGS, module.PAPER, short)

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["stn_colocalisation.py", *line.split()])
        with pytest.raises(SystemExit) as end:
            cli.run(module.main)
        return end.value.code, *capsys.readouterr()

    yield run
    sys.modules.pop("stn_colocalisation", None)


def test_the_encoder_comes_first(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("stn_colocalisation")
    first, *others = module.EXPERIMENT.parse([])
    assert first == Settings(Crops(), CropEncoder(), module.ENCODER) and len(others) == 20
    assert {s.pretrained for s in others} == {first}
    assert [s.data for s in others] == [OneDigit(d, n) for n in (0, 16) for d in range(10)]
    assert {(s.network, s.task) for s in others} == {(Colocaliser(), Colocalisation())}
    assert len({folder_name(s) for s in others}) == 20
    among, *others = module.EXPERIMENT.parse(["--settings", "clutter", "--clutter", "16"])
    assert (among.data.side, among.data.distractors) == (others[0].network.crop, 16) == (36, 16)
    assert {s.pretrained for s in others} == {among} and len(others) == 10
    assert {s.data for s in others} == {OneDigit(d) for d in range(10)}


TINY = "--quick --digits 7 --iterations 3 --batch-size 4"


def test_a_run_and_its_report(script, tmp_path):
    status, out, _ = script(TINY)
    assert status == 0 and "without clutter" in out and "stn_colocalisation.py" in out
    records = sorted(tmp_path.glob("runs/*/record.json"))
    assert [json.loads(path.read_text())["status"] for path in records] == ["finished"] * 2
    pictures = {path.relative_to(tmp_path / "runs").name for path in tmp_path.glob("runs/**/*.png")}
    assert {"attention.png", "progress.png", "stn-colocalisation.png"} <= pictures
    status, out, _ = script("--report")
    assert status == 0 and "encoder with a test error of" in out
    status, out, _ = script(f"{TINY} --resume")
    assert status == 0 and out.count("is finished: skipped") == 2


def test_gpu_is_the_same_program_with_the_other_engine(quick_device, script, monkeypatch):
    monkeypatch.setattr(backend, "gpu", lambda: quick_device)
    monkeypatch.setitem(distorted.SIZES, "digits", Sizes(40, 0, 20))
    losses = []
    for out, flag in (("cpu", ""), ("gpu", "--gpu")):
        status, _, err = script(f"{TINY} --out {out} {flag}")
        assert status == 0, err
        records = [read_record(path) for path in sorted(Path(out).glob("*/record.json"))]
        assert {r["device"]["engine"] for r in records} == {"cuda" if flag else "numpy"}
        losses.append([r["epochs"][-1]["test_loss"] for r in records])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_shard_trains_the_encoder_that_it_needs(script, tmp_path):
    status, _, _ = script(f"{TINY} --shard 2/2")
    assert status == 0 and len(list(tmp_path.glob("runs/*/record.json"))) == 2


def test_a_shard_waits_for_the_encoder_that_another_trains(script, tmp_path, monkeypatch):
    """It is finished at the moment when the waiting shard says so."""
    script(TINY)
    (record,) = tmp_path.glob("runs/encoder*/record.json")
    folder, finished, said = record.parent, record.read_text(), []
    record.write_text(finished.replace('"finished"', '"running"'))
    lock = FileLock(folder / "run.lock").acquire()

    def write(line: str) -> None:
        said.append(line)
        record.write_text(finished)
        lock.lock.release()

    monkeypatch.setattr("ministn.runs.run.tqdm.write", write)
    status, out, _ = script(f"{TINY} --digits 0")
    assert status == 0 and f"{folder.name} is finished: skipped" in out
    assert said[0] == f"waiting for another process to finish runs/{folder.name}"
    assert record.read_text() == finished


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--precision tf32", "precision tf32 needs --gpu: the CPU computes in fp32"),
        ("--digits 3 3", "--digits names one twice: 3 3"),
        ("--iterations 0", "iterations must be at least 1, got 0"),
    ],
)
def test_impossible_flags_are_one_line(flags, message, script, tmp_path):
    status, _, err = script(flags)
    assert status == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_table_has_a_mean_and_the_papers_numbers(script):
    report = importlib.import_module("papers.colocalisation_report").report
    written = [(3, 0, 2.0), (3, 0, 6.0, 1), (8, 0, 1.0), (8, 16, 20.0)]
    records = [read(found_in(*one)) for one in written]
    lines = [line.split("|")[1:-1] for line in report(records, markdown=True).splitlines()]
    rows = {cells[0].strip(): [c.strip() for c in cells[1:]] for cells in lines if cells}
    assert rows["3"] == ["96 [94, 98]", "0.70", "-", "-"]
    assert rows["8"] == ["99", "0.70", "80", "0.70"]
    assert rows["mean"] == ["97.0", "0.70", "80.0", "0.70"]
    assert rows["paper"] == ["100", "-", "75 to 93", "-"]
    slow = read(found_in(3, 0, 9.0))
    slow["settings"] = replaced(slow["settings"], "training.loc_lr", 0.1)
    assert "; loc-lr x0.1" in report([*records, slow])
    assert "| 3 | 96 [94, 98] |" in report([*records, slow], markdown=True)
    ours = read(found_in(3, 16, 30.0))
    for path, value in {
        "network.crop": 36, "task.drawn": 0.3, "pretrained.data.distractors": 16,
    }.items():  # fmt: skip
        ours["settings"] = replaced(ours["settings"], path, value)
    tables = importlib.import_module("papers.colocalisation_report").tables
    papers, own = tables([*records, ours])
    assert "NOT" not in papers and own.startswith("NOT THE PAPER'S SETTING: crops of 36x36 pixels")
    with pytest.raises(UserError, match="no records of co-localisation"):
        report([])
