"""reproduce/benchmark.py at its smallest, with PyTorch and without."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

REPRODUCE = Path(__file__).parents[1] / "reproduce"


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """The script, to be run in a folder of its own."""
    monkeypatch.syspath_prepend(str(REPRODUCE))
    monkeypatch.chdir(tmp_path)
    flags = "--cpu --nets small-stn --batch-size 4 --rounds 1 --out benchmark-cpu.json"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *flags.split()])
    return import_module("benchmark")


def test_the_readme_can_show_what_it_writes(benchmark, monkeypatch, tmp_path, capsys):
    pytest.importorskip("torch")
    assert benchmark.main() == 0
    ours, theirs, ratio = capsys.readouterr().out.splitlines()[2].split()[1:]
    assert float(ours) > 0 and float(theirs) > 0 and float(ratio) > 0

    readme = import_module("readme")
    monkeypatch.setattr(readme, "BENCHMARK", tmp_path / "benchmark-cpu.json")
    *_, row = readme.benchmark().splitlines()
    assert row.startswith("| small-stn | ") and row.count("|") == 5


def test_without_pytorch_it_says_so(benchmark, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    assert benchmark.main() == 0
    out = capsys.readouterr().out
    _, ours, theirs, ratio = out.splitlines()[2].split()
    assert float(ours) > 0 and (theirs, ratio) == ("-", "-")
    assert "PyTorch is not installed" in out and "pip install torch" in out
    assert list(tmp_path.iterdir()) == []
