"""Every command line of the package and of reproduce/ ends an impossible flag with one line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = {
    path.relative_to(ROOT).as_posix(): path
    for folder in ("ministn", "reproduce")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if '\nif __name__ == "__main__":' in path.read_text()
}
FLAGS = [(name, ["--no-such-flag"]) for name in COMMANDS]
FLAGS.append(("ministn/data/__main__.py", ["fetch", "--data-dir"]))  # the sub-command's own


def words(path: Path) -> list[str]:
    """What follows ``python``: a script's path, or -m and a module of the package."""
    if path.parent.name == "reproduce":
        return [str(path)]
    return ["-m", ".".join(path.relative_to(ROOT).with_suffix("").parts)]


@pytest.mark.parametrize(("name", "flags"), FLAGS, ids=lambda value: str(value))
def test_an_impossible_flag_is_one_line(name, flags, tmp_path):
    if name.startswith("reproduce/torch"):
        pytest.importorskip("torch")
    ended = subprocess.run(
        [sys.executable, *words(COMMANDS[name]), *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert ended.stderr.endswith("; --help lists all flags\n")
    assert list(tmp_path.iterdir()) == []
