"""The README's code runs, its links and tags lead somewhere, its numbers are the records'."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ministn import backend
from ministn.errors import UserError

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = sorted(
    {
        line.split("#")[0].strip()
        for kind, block in BLOCKS
        if kind == "bash"
        for line in block.splitlines()
        if line.startswith("python ") and "venv" not in line
    }
)
# Five minutes of training and two of gradient checks run elsewhere; here they need only start.
SHORTER = {
    "python reproduce/table3.py --quick": "python reproduce/table3.py --plan --nets arch1-cnn",
    "python reproduce/table3.py --plan": "python reproduce/table3.py --plan --nets small-stn",
    "python -m ministn.gradcheck": "python -m ministn.gradcheck relu",
    "python reproduce/table3.py --gpu": "python reproduce/table3.py --gpu --plan --nets arch1-cnn",
}


def test_python_blocks_run_and_print_what_they_say(capsys):
    names: dict[str, object] = {}
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), names)
            said = re.findall(r"^print\(.*?#\s*(.*)$", block, re.MULTILINE)
            assert capsys.readouterr().out.split("\n")[: len(said)] == said
    assert np.isfinite(names["loss"])


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, tmp_path):
    words = SHORTER.get(command, command).split()
    words = [str(ROOT / word) if word.startswith("reproduce/") else word for word in words]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    if "--gpu" in command and not has_gpu():
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    else:
        assert done.returncode == 0, done.stderr


def has_gpu() -> bool:
    try:
        backend.gpu()
    except UserError:
        return False
    return True


def test_links_lead_somewhere():
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert len(links) > 20
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif not link.startswith("https://"):
            assert (ROOT / link).exists(), link


def test_every_tag_of_the_equations_map_is_in_its_file():
    rows = re.findall(r"^\| .* \| `(ministn/[^`]+)` \| `([^`]+)` \|$", TEXT, re.MULTILINE)
    assert len(rows) >= 8
    for file, tag in rows:
        assert tag in (ROOT / file).read_text(), (file, tag)


def test_named_tests_exist():
    sources = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    names = re.findall(r"`(test_\w+)`", TEXT)
    assert len(names) == 3
    for name in names:
        assert f"def {name}(" in sources, name


def test_generated_parts_are_those_of_the_records():
    check = [sys.executable, str(ROOT / "reproduce" / "readme.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
