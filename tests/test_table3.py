"""``python reproduce/table3.py``: flags, folders, shards, reports, interruption."""

import importlib.util
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import written

from ministn import backend, cli, runs
from ministn.runs import sweep

SCRIPT = Path(__file__).parents[1] / "reproduce" / "table3.py"
TINY = "--data digits --train-size 64 --epochs 1 --batch-size 32 --nets small-stn --threads 1"


def load_script():
    specification = importlib.util.spec_from_file_location("table3", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


TABLE3 = load_script()
parse = TABLE3.EXPERIMENT.parse
FOLDER, OTHER_SEED = (runs.folder_name(*parse(f"{TINY} --seeds {seed}".split())) for seed in (0, 1))


@pytest.fixture
def table3(tmp_path, monkeypatch, capsys):
    """Run the command in this process and a folder of its own: (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["table3.py", *line.split()])
        with pytest.raises(SystemExit) as end:
            cli.run(TABLE3.main)
        return end.value.code, *capsys.readouterr()

    return run


def started(line: str, folder: Path, **options) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *line.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


# -- flags -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--precision tf32", "precision tf32 needs --gpu: the CPU computes in fp32"),
        ("--epochs 0", "epochs must be at least 1, got 0"),
        ("--epochs -1", "--epochs must be a whole number or 'paper', got '-1'"),
        ("--epochs x", "--epochs must be a whole number or 'paper', got 'x'"),
        ("--epochs 1.5", "--epochs must be a whole number or 'paper', got '1.5'"),
        ("--epochs ²", "--epochs must be a whole number or 'paper', got '²'"),
        ("--lr nan", "lr must be a number from 0 up, got nan"),
        ("--lr -1", "lr must be a number from 0 up, got -1.0"),
        ("--lr 1e999", "lr must be a number from 0 up, got inf"),
        ("--lr fast", "argument --lr: invalid float value: 'fast'; --help lists all flags"),
        ("--loc-lr -0.1", "loc_lr must be a number from 0 up, got -0.1"),
        ("--loc-lr nan", "loc_lr must be a number from 0 up, got nan"),
        ("--compress 0.5", "--compress must be a number from 1 up, got 0.5"),
        ("--compress nan", "--compress must be a number from 1 up, got nan"),
        ("--compress 8 --epochs 3", "--compress says how many epochs: leave out --epochs or --com"),
        (
            "--compress 8 --decay-every 3",
            "--compress says how many epochs: leave out --decay-every",
        ),
        ("--decay-every 0", "decay_every must be at least 1, got 0"),
        ("--downsample 0", "downsample must be a number above 0, got 0.0"),
        ("--downsample nan", "downsample must be a number above 0, got nan"),
        (
            "--data digits --downsample 5",
            "downsample 5 makes 7x7 of 36x36 pixels, which must be at least 8x8 for three poolings",
        ),
        (
            "--nets arch1-cnn small-stn --downsample 3",
            "--downsample is not for classification cnn",
        ),
        ("--nets arch1-cnn --stop-gradient", "--stop-gradient is not for classification cnn"),
        (
            "--glimpses 2",
            "--glimpses is not for classification cnn, untied stn, tstn: leave it out",
        ),
        ("--nets arch1-trstn --glimpses 0", "glimpses must be at least 1, got 0"),
        ("--nets arch1-trstn --loc-dropout 0.5", "--loc-dropout is not for trstn: leave it out"),
        ("--loc-dropout 1", "dropout must be at least 0 and below 1, got 1.0"),
        ("--nets arch1-tstn --width 9", "--width is not for tstn: leave it out"),
        ("--nets arch1-tstn --share 0", "share must be a number from"),
        ("--width 0", "width must be at least 1, got 0"),
        ("--crop 1", "side must be at least 2, got 1"),
        ("--data digits --crop 7", "images must be at least 8x8 for three poolings, got 7x7"),
        ("--batch-size 0", "batch_size must be at least 1, got 0"),
        ("--train-size 0", "train_size must be at least 1, got 0"),
        ("--train-size -5", "train_size must be at least 1, got -5"),
        ("--train-size 50001", "--train-size must be at most 50000"),
        ("--data digits --train-size 1000000000", "--train-size must be at most 8000"),
        ("--shard 0/3", "--shard must be I/N with I from 1 to N, got '0/3'"),
        ("--shard 4/3", "--shard must be I/N with I from 1 to N, got '4/3'"),
        ("--shard 3", "--shard must be I/N with I from 1 to N, got '3'"),
        ("--shard 1/2/3", "--shard must be I/N with I from 1 to N, got '1/2/3'"),
        ("--shard ²/³", "--shard must be I/N with I from 1 to N, got '²/³'"),
        ("--threads 0", "--threads must be at least 1, got 0"),
        ("--workers 0", "--workers must be at least 1, got 0"),
        ("--gpu --workers 2", "--workers is for the CPU, --gpu trains in one process"),
        ("--nets arch3-cnn", "argument --nets: invalid choice: 'arch3-cnn'"),
        ("--nets", "argument --nets: expected at least one argument"),
        ("--nets arch1-cnn arch1-cnn", "--nets names one twice: arch1-cnn arch1-cnn"),
        ("--seeds 0 1 0", "--seeds names one twice: 0 1 0"),
        ("--seeds -1", "seed must be from 0 to 2^64 - 1, got -1"),
        ("--seeds x", "argument --seeds: invalid int value: 'x'"),
        ("--data-seed -1", "data_seed must be from 0 to 2^64 - 1, got -1"),
        ("--data cifar", "argument --data: invalid choice: 'cifar'"),
        ("--data-dir nowhere", "nowhere has no train-images-idx3-ubyte"),
        ("--data digits --data-dir .", "the embedded digits need no data_dir"),
        ("--canvas -1", "canvas must be at least 1, got -1"),
        ("--data digits --canvas 19", "canvas must be at least 20"),
        ("--data digits --canvas 30 --nets small-stn", "images must be at least 32x32"),
        ("--data digits --patch 21", "patch must be at most 20"),
        ("--distractors -1", "distractors must be at least 0, got -1"),
        ("--report nowhere", "no record.json under nowhere: nothing to report"),
        ("--report", "no record.json under runs: nothing to report"),
        ("--momentum 0.9", "unrecognized arguments: --momentum 0.9; --help lists all flags"),
        ("quick", "unrecognized arguments: quick; --help lists all flags"),
    ],
)
def test_impossible_flags_are_one_line_and_create_nothing(flags, message, table3, tmp_path):
    status, out, err = table3(flags)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("out", ["file", "file/below", "/proc/none"])
@pytest.mark.parametrize("flags", [TINY, "--report"])
def test_out_that_cannot_be_written(out, flags, table3, tmp_path):
    (tmp_path / "file").touch()
    status, _, err = table3(f"{flags} --out {out}")
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1
    assert out in err
    assert os.listdir(tmp_path) == ["file"]


def test_altered_data_are_refused(table3, tmp_path):
    (tmp_path / "mnist").mkdir()
    path = tmp_path / "mnist" / "train-images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 7]))
    status, out, err = table3("--data-dir mnist --nets small-stn")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("error: mnist/train-images-idx3-ubyte is not MNIST's: expected SHA-256")
    assert os.listdir(tmp_path) == ["mnist"] and os.listdir(tmp_path / "mnist") == [path.name]


def test_help_names_all_flags_and_ends_with_examples(table3):
    status, out, _ = table3("--help")
    assert status == 0
    flags = (
        "quick nets epochs compress train-size batch-size lr loc-lr decay-every downsample seeds "
        "glimpses width share stop-gradient loc-dropout crop "
        "data data-dir data-seed out resume shard threads gpu precision plan report"
    ).split()
    assert not [flag for flag in flags if not re.search(rf"^  --{flag}\b", out, re.MULTILINE)]
    assert all(network in out for network in TABLE3.NETS)
    examples = out[out.index("\nexamples") :]
    commands = re.findall(r"^  (python reproduce/table3.py .*?)(?: && \\)?$", examples, re.M)
    times = re.findall(r"^      .*", examples, re.M)
    assert len(times) == 8 and examples.rstrip().endswith(times[-1].strip())
    for command in commands:
        parse(command.split()[2:])


def test_without_flags_it_is_the_papers_protocol():
    settings = parse([])
    assert {s.network.name: s.training.epochs for s in settings} == {
        "arch1-cnn": 145, "arch1-untied": 179, "arch1-tstn": 196,
        "arch2-cnn": 95, "arch2-untied": 231, "arch2-tstn": 231,
    }  # fmt: skip
    for s in settings:
        data, training = s.data, s.training
        assert (data.source, data.canvas, data.distractors, data.patch) == ("mnist", 60, 6, 8)
        assert (data.train_size, training.batch_size) == (50_000, 256)
        assert (training.lr, training.loc_lr, training.schedule.every) == (0.001, 1, 20)
        assert (s.seed, data.seed) == (0, 0)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--quick", {"source": "digits", "canvas": 36, "epochs": 4}),
        ("--quick --epochs 3 --lr 0.1 --canvas 44", {"epochs": 3, "lr": 0.1, "canvas": 44}),
        ("--quick --data mnist", {"source": "mnist", "canvas": 60, "distractors": 6}),
        ("--quick --epochs paper", {"source": "digits", "epochs": 231, "train_size": 2000}),
        ("--data digits", {"source": "digits", "train_size": 8000, "patch": 6, "batch_size": 256}),
        ("--lr 0 --loc-lr 0 --distractors 0", {"lr": 0, "loc_lr": 0, "distractors": 0}),
        ("--epochs paper --nets small-stn", {"epochs": 46}),
    ],
)
def test_flags_become_settings(flags, expected):
    settings = parse(flags.split())
    found = vars(settings[-1].data) | vars(settings[-1].training)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("count", [1, 2, 5, 12, 40])
def test_shards_cover_every_run_exactly_once(count):
    flags = ["--seeds", "0", "3", "--epochs", "7"]
    everything = parse(flags)
    assert len(everything) == 12
    shards = [sweep.shard(everything, f"{i}/{count}") for i in range(1, count + 1)]
    assert sorted(map(str, itertools.chain(*shards))) == sorted(map(str, everything))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert sweep.shard(everything, None) == everything


def test_a_shard_without_runs_has_nothing_to_do(table3, tmp_path):
    status, out, _ = table3(TINY + " --shard 3/3")
    assert (status, out) == (0, "--shard 3/3 has no run: there are fewer runs than shards\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("epochs", "smaller"), [("1", False), ("9000000", True)])
def test_plan_only_plans(epochs, smaller, table3, tmp_path):
    status, out, err = table3(f"{TINY} --epochs {epochs} --seeds 0 1 --plan")
    assert (status, err) == (0, "")
    first, network, together, *more = out.splitlines()
    assert first == "plan, from a few timed steps of each network:"
    assert re.match(rf"  small-stn +2 runs of +{epochs} epochs, +\d+\.\d\d\d s a step: \d", network)
    assert re.match(r"  together 2 runs, [\d.]+ \w+, \d MB of checkpoints", together)
    assert bool(more) == smaller
    if smaller:
        command = re.match(r"  a smaller one: (python reproduce/table3.py .*)", *more)[1]
        assert parse(command.split()[2:])
    assert os.listdir(tmp_path) == []


# -- runs --------------------------------------------------------------------------------------


def test_workers_are_the_cores_and_a_resumed_run_keeps_its_own(table3, tmp_path, monkeypatch):
    def went_on(flags: str) -> list[tuple[int, int]]:
        assert table3(f"{TINY.removesuffix('--threads 1')} {flags}")[0] == 0
        starts = runs.read_record(tmp_path / "runs" / FOLDER / "record.json")["starts"]
        return [(start["device"]["workers"], start["device"]["threads"]) for start in starts]

    monkeypatch.setattr(sweep, "CORES", 2)
    assert went_on("") == [(2, 1)]
    monkeypatch.setattr(sweep, "CORES", 1)
    assert went_on("--resume --epochs 2") == [(2, 1)] * 2
    assert went_on("--resume --epochs 3 --workers 1 --threads 2") == [(2, 1)] * 2 + [(1, 2)]


def test_a_run_from_its_start_to_more_epochs(table3, tmp_path):
    with started(TINY, tmp_path) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.startswith("plan, from a few timed steps of each network:\n")
    assert "epoch 1/1: loss" in out and "Traceback" not in err
    folder = tmp_path / "runs" / FOLDER
    made = {path.name for path in folder.iterdir()}
    assert made >= {
        "record.json", "last.safetensors", "best.safetensors",
        "learning-curves.png", "attention.png",
    }  # fmt: skip
    beside = {path.name for path in folder.parent.iterdir()} - {FOLDER}
    assert beside == {"seeds.png", "overlap.png", "figures.lock"}
    saved = runs.read_record(folder / "record.json")
    assert saved["command"] == (
        "python reproduce/table3.py --nets small-stn --data digits --seeds 0 --epochs 1 "
        f"--train-size 64 --batch-size 32 --workers {sweep.CORES}"
    )
    assert f"{saved['best']['test_error']:.2f}" in out
    assert saved["command"] in " ".join(out.split())
    assert "REDUCED" in out and "64 of 8,000 images" in out

    weights = (folder / "last.safetensors").read_bytes()
    for flags in (TINY, TINY + " --resume"):
        status, out, err = table3(flags)
        assert (status, err) == (0, "")
        assert out.startswith(f"runs/{FOLDER} is finished: skipped\n") and "plan" not in out
        assert f"{saved['best']['test_error']:.2f}" in out
    assert runs.read_record(folder / "record.json") == saved

    more = TINY.replace("--epochs 1", "--epochs 2")
    for line, message in [
        (more, "exists and is finished (epoch 1 of 1): add --resume to go on"),
        (more + " --resume --seeds 1 0", None),
        (TINY + " --resume", "was started for 2 epochs: --epochs may grow, not shrink to 1"),
    ]:
        status, out, err = table3(line)
        if message:
            assert (status, out) == (2, "") and err.count("\n") == 1
            assert err.startswith(f"error: runs/{FOLDER} {message}")
        else:
            assert status == 0 and "epoch 2/2" in out and "mean" in out
            assert f"\nruns/{OTHER_SEED}\n" in out and f"\nruns/{FOLDER}\n" in out
    assert (folder / "last.safetensors").read_bytes() != weights

    edited = json.loads((folder / "record.json").read_text())
    edited["settings"]["training"]["batch_size"] = 16
    (folder / "record.json").write_text(json.dumps(edited))
    status, out, err = table3(more + " --resume")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert "record.json has other settings (training.batch_size): found [16], expected [32]" in err


@pytest.mark.parametrize("each", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_by_a_signal(each, table3, tmp_path):
    """Once the first epoch is over; a pipe gets its line when it ends, not at the end."""
    line = TINY.replace("--epochs 1", "--epochs 100000")
    with started(line, tmp_path) as process:
        for text in process.stdout:
            if text.startswith("epoch 1/100000: loss"):
                break
        process.send_signal(each)
        out, err = process.communicate()
    assert process.returncode == 130, err
    assert "stopping after this step; the run will be saved\n" in out
    assert out.endswith(f"interrupted: the same command with --resume goes on with runs/{FOLDER}\n")
    assert "Traceback" not in err
    saved = runs.read_record(tmp_path / "runs" / FOLDER / "record.json")
    assert saved["status"] == "interrupted" and len(saved["epochs"]) >= 1
    status, out, err = table3(line)
    assert (status, out) == (2, "") and "is interrupted (epoch" in err and "--resume" in err


def test_a_diverged_run_does_not_stop_the_others(table3, tmp_path):
    status, out, _ = table3(TINY + " --lr 1e20 --nets small-stn arch1-cnn")
    assert status == 0
    records = runs.find_records([tmp_path])
    assert [r["status"] for r in records] == ["diverged", "diverged"]
    assert out.count("DIVERGED in epoch 1, step") >= 2
    status, out, _ = table3(TINY + " --lr 1e20 --nets small-stn arch1-cnn")
    assert status == 0 and out.count("is diverged: skipped") == 2


# -- reports -----------------------------------------------------------------------------------


def put(folder: Path, *records: dict) -> None:
    for made in records:
        path = folder / f"{made['settings']['network']}-{made['settings']['seed']}"
        path.mkdir(parents=True)
        (path / "record.json").write_text(json.dumps(made))


def test_report_merges_the_folders_of_shards(table3, tmp_path):
    put(tmp_path / "a", written(seed=0), written("arch1-cnn", seed=1))
    put(tmp_path / "b", written("arch1-cnn", seed=0), written(seed=1, wrong=range(333)))
    status, out, err = table3("--report a b --out merged")
    assert (status, err) == (0, "")
    assert (
        out.count("mean of 2") == 2
        and "3.33" in out
        and "tied < CNN" in out.replace("TSTN", "tied")
    )
    merged = {path.name for path in (tmp_path / "merged").iterdir()}
    assert merged == {"seeds.png", "overlap.png", "figures.lock"}
    status, same, _ = table3("--report b a b --out merged")
    assert status == 0 and same == out
    status, only, _ = table3("--report --out a")
    assert status == 0 and "mean" not in only.split("Errors in percent")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not a record of a run"), ('{"format": 9}', "has record format 9"),
     ('{"format": 1}', "is not a record of a run")],
)  # fmt: skip
def test_report_names_a_damaged_record(content, message, table3, tmp_path):
    put(tmp_path / "runs", written())
    (tmp_path / "runs" / "arch1-tstn-0" / "record.json").write_text(content)
    status, out, err = table3("--report")
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(f"error: runs/arch1-tstn-0/record.json {message}")


def test_report_draws_what_there_is(table3, tmp_path):
    """Only networks without a transformer, only unfinished runs."""
    put(tmp_path / "runs", written("arch1-cnn"), written("arch2-cnn", status="running", done=0))
    status, out, err = table3("--report")
    assert (status, err) == (0, "") and "UNFINISHED: 0 of 95 epochs" in out


# -- on a GPU ----------------------------------------------------------------------------------


def test_gpu_is_the_same_program_with_the_other_engine(quick_device, table3, monkeypatch):
    """One epoch each way: the same steps, the same table, nearly the same errors."""
    monkeypatch.setattr(backend, "gpu", lambda: quick_device)
    errors = []
    for out, flag in (("cpu", ""), ("gpu", "--gpu")):
        status, said, err = table3(f"{TINY} --out {out} {flag}")
        assert status == 0, err
        assert "small-stn" in said
        record = runs.read_record(Path(out) / FOLDER / runs.RECORD)
        assert record["device"]["engine"] == ("cuda" if flag else "numpy")
        elsewhere = record["best"]["tests"]["theta of another image"]
        assert elsewhere["test_correct"] != record["best"]["test_correct"]
        both = record["best"]["test_error"], elsewhere["test_error"]
        errors.append((record["epochs"][0]["valid_loss"], *both))
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)
