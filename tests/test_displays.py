"""Training depends on no display or backend, and a picture that cannot be drawn costs no run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import child
from test_table3 import SCRIPT, TABLE3, TINY, table3  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[1]
BACKENDS = ["nonsense", "module://matplotlib_inline.backend_inline", "module://none", "TkAgg"]
TWO = TINY.replace("--nets small-stn", "--nets small-stn arch1-cnn --workers 1")


def finished(folder: Path) -> list[str]:
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("runs/*/record.json"))]
    assert all(record["status"] == "finished" for record in records)
    return [record["settings"]["network"]["kind"] for record in records]


def environment(backend: str) -> dict[str, str]:
    without = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    return without | {"MPLBACKEND": backend}


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_every_run_is_trained_and_drawn(backend, tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *TWO.split()],
        cwd=tmp_path, env=environment(backend), capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert finished(tmp_path) == ["classification cnn", "small stn"]
    drawn = {path.name for path in tmp_path.glob("runs/**/*.png")}
    assert drawn == {"learning-curves.png", "attention.png", "seeds.png", "overlap.png"}


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "reproduce").glob("*.py")))
def test_every_script_can_be_asked_for_help(script):
    if "torch" in script:
        pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, str(ROOT / "reproduce" / script), "--help"],
        env=environment("nonsense"), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_package_draws_and_leaves_the_choice_to_the_user(backend):
    code = (
        "import os, ministn.plot\n"
        "from io import BytesIO\n"
        "from ministn.plot.drawing import Figure\n"
        "figure = Figure(layout='constrained')\n"
        "figure.subplots().plot([1, 2])\n"
        "figure.savefig(BytesIO(), format='png')\n"
        "import matplotlib\n"
        "print(os.environ['MPLBACKEND'], matplotlib.rcParams._get('backend'))"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=environment(backend), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    named, chosen = done.stdout.split(maxsplit=1)
    assert named == backend
    if backend in ("TkAgg", "module://none"):
        assert chosen.strip().lower() == backend.lower()


def test_without_matplotlib_runs_are_trained(tmp_path):
    """As where it cannot be imported for whatever reason."""
    code = f"""
import os, sys
sys.modules["matplotlib"] = None
sys.path.insert(0, {str(SCRIPT.parent)!r})
os.chdir({str(tmp_path)!r})
import table3
from ministn import cli
cli.run(lambda: table3.main({TWO.split()!r}))
"""
    done = child(code)
    assert (done.returncode, done.stderr) == (0, "")
    assert finished(tmp_path) == ["classification cnn", "small stn"]
    assert done.stdout.count("could not be drawn (ModuleNotFoundError: ") == 3


def broken(*records):
    raise ValueError("no\nfont")


def test_what_cannot_be_drawn_is_one_line(table3, tmp_path, monkeypatch):  # noqa: F811
    with monkeypatch.context() as patch:
        patch.setattr(TABLE3.EXPERIMENT, "run_figures", broken)
        patch.setattr(TABLE3.EXPERIMENT, "figures", broken)
        status, out, err = table3(TWO)
        assert (status, err) == (0, "") and out.count("(ValueError: no font); the records") == 3
        assert finished(tmp_path) == ["classification cnn", "small stn"]
        status, out, err = table3("--report")
        assert (status, err) == (1, "") and out.count("figures in runs could not be drawn (") == 1
    (tmp_path / "runs" / "seeds.png").mkdir()
    status, out, err = table3("--report")
    assert (status, err) == (1, "") and "seeds.png in runs could not be drawn (UserError: " in out
    (tmp_path / "runs" / "seeds.png").rmdir()
    status, out, err = table3("--report")
    assert (status, err) == (0, "") and "wrote runs/seeds.png" in out
