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
from ministn.fit import train
from ministn.layers import Conv2d, Dense, Flatten, Sequential
from ministn.models import Network
from ministn.ops import as_batch

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
OWN_NETWORK = re.search(r"^### Your own network$.*?^```python\n(.*?)^```", TEXT, re.DOTALL | re.M)
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
    "python reproduce/stn_table1.py --quick": "python reproduce/stn_table1.py --quick --plan",
    "python reproduce/stn_table1.py --plan": "python reproduce/stn_table1.py --plan --models fcn",
    "python -m ministn.gradcheck": "python -m ministn.gradcheck relu",
    "python reproduce/table3.py --gpu": "python reproduce/table3.py --gpu --plan --nets arch1-cnn",
}


def test_python_blocks_run_and_print_what_they_say(capsys):
    names: dict[str, object] = {}
    for kind, block in BLOCKS:
        if kind == "python" and block != OWN_NETWORK[1]:  # which runs below, by itself
            exec(compile(block, "README.md", "exec"), names)
            said = re.findall(r"^print\(.*?#\s*(.*)$", block, re.MULTILINE)
            assert capsys.readouterr().out.split("\n")[: len(said)] == said
    assert np.isfinite(names["loss"])


def test_own_network_learns_where_to_look():
    """It has ten lines, and what the text says of its errors holds: measured 24 and 51 %.

    Without the transformer the last layer sees 9x9 pixels instead of 4x4.
    """
    names: dict[str, object] = {}
    exec(compile(OWN_NETWORK[1], "README.md", "exec"), names)
    lines = [line for line in OWN_NETWORK[1].splitlines() if line and not line.startswith("from ")]
    assert len(lines) <= 10
    digits = names["digits"]
    assert errors(names["network"], digits) < 30
    middle = (digits.test.boxes[:, :2] + digits.test.boxes[:, 2:]) / 2
    for axis in (0, 1):  # it looks where the digit is
        assert np.corrcoef(names["looks"][0].theta[:, axis, 2], middle[:, axis])[0, 1] > 0.8

    alone = Network(
        Sequential(
            Conv2d("conv1", 1, 8, pool=True),
            Conv2d("conv2", 8, 16, pool=True),
            Flatten("flatten"),
            Dense("softmax", 9 * 9 * 16, 10),
        )
    )
    few = digits.train.images[:2000], digits.train.labels[:2000]
    train(alone, *few, steps=300, batch_size=50, lr=0.003)
    assert errors(alone, digits) > 40


def errors(network: Network, digits) -> float:
    """In percent of the test images."""
    logits, _ = network.predict(as_batch(digits.test.images))
    return 100 * float((logits.argmax(1) != digits.test.labels).mean())


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
