"""ministn/README.md: its exercises fail as it says, its links and tags lead somewhere, its minutes
are those of the words."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "ministn" / "README.md"
TEXT = PAGE.read_text()
CODE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROSE = CODE.sub("", TEXT)
STEP = r"^### \d+\. [^\n]*: (\d+) minutes\n\nRead (.*?)\n\n"
STEPS = re.findall(STEP, TEXT, re.DOTALL | re.MULTILINE)
COPIED = "ministn", "tests", "reproduce"


class Exercise(NamedTuple):
    """One line of a file to be replaced, and the commands to run then, each with what it prints."""

    file: str
    old: str
    new: str
    commands: list[tuple[str, list[str]]]


def exercises() -> list[Exercise]:
    """Every diff with the console that follows it."""
    blocks = [block for block in CODE.findall(TEXT) if block[0] in ("diff", "console")]
    assert [kind for kind, _ in blocks] == ["diff", "console"] * (len(blocks) // 2)
    found = []
    for (_, diff), (_, console) in zip(blocks[::2], blocks[1::2], strict=True):
        file, old, new = re.fullmatch(r"--- (\S+)\n-(.*)\n\+(.*)\n", diff).groups()
        each = [part.splitlines() for part in console.split("$ ")[1:]]
        found.append(Exercise(file, old, new, [(command, said) for command, *said in each]))
    return found


EXERCISES = exercises()


def environment(**variables: str) -> dict[str, str]:
    """Without what a surrounding git or pytest has set for itself."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PYTEST_XDIST"))}
    return kept | variables


def git(folder: Path, *arguments: str) -> str:
    """What git says, whatever its user has configured."""
    own = environment(GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1")
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=own, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The checkout as somebody has it who takes the course: committed and unchanged."""
    if shutil.which("git") is None:
        pytest.skip("the course needs git")
    folder = tmp_path_factory.mktemp("course")
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "records")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    person = "-c", "user.name=reader", "-c", "user.email=reader@localhost"
    git(folder, *person, "commit", "--quiet", "--message", "the course")
    return folder


def run(command: str, folder: Path) -> tuple[int, str]:
    """Status and output of python or pytest, with the package that lies in the folder."""
    first, *words = shlex.split(command)
    start = {"python": [sys.executable], "pytest": [sys.executable, "-m", "pytest"]}[first]
    # Bytecode is told apart by second and length: too coarse for an edit that is undone at once.
    own = environment(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run([*start, *words], cwd=folder, env=own, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def pattern(line: str) -> str:
    """Of a line: "..." stands for anything, and spaces for any number of them."""
    parts = [r"\s+".join(map(re.escape, part.split(" "))) for part in line.split("...")]
    return ".*".join(parts).replace(r"\s+\s+", r"\s+")


@pytest.mark.parametrize(
    "exercise", EXERCISES, ids=[f"{k}-{Path(e.file).stem}" for k, e in enumerate(EXERCISES, 1)]
)
def test_an_exercise_prints_what_it_says_and_is_undone(exercise, copy):
    path = copy / exercise.file
    lines = path.read_text().split("\n")
    assert lines.count(exercise.old) == 1
    lines[lines.index(exercise.old)] = exercise.new
    path.write_text("\n".join(lines))
    try:
        statuses = []
        for command, said in exercise.commands:
            status, output = run(command, copy)
            assert said
            for line in said:
                assert re.search(pattern(line), output), f"{line}\n\n{output}"
            assert (status != 0) == any("FAILED" in line for line in said), output
            # A gradient is wrong or a value is, but nothing crashes.
            assert not re.search(r"\b(?!Assertion)[A-Z]\w+Error\b", output), output
            statuses.append(status)
        assert statuses[-1] != 0
    finally:
        git(copy, "checkout", ".")
    assert git(copy, "status", "--porcelain") == ""


def test_every_step_has_an_exercise_on_a_file_that_it_lists():
    sections = re.split(r"^### \d+\. ", TEXT, flags=re.MULTILINE)[1:]
    assert len(sections) == len(STEPS) == 13
    for section, (_, listed) in zip(sections, STEPS, strict=True):
        files = re.findall(r"^--- ministn/(\S+)$", section, re.MULTILINE)
        assert files and set(files) <= set(re.findall(r"\]\((\S+?)\)", listed))
    assert re.search(r"^```bash\ngit checkout \.\n```$", TEXT, re.MULTILINE)


def test_minutes_are_those_of_the_words():
    """A word is what spaces separate, in code and docstrings alike."""
    said = r"have ([\d,]+) words, .* at (\d+) words a\s+minute makes (\d+) minutes"
    found = re.search(said, TEXT, re.DOTALL).groups()
    words, speed, total = (int(number.replace(",", "")) for number in found)
    counted = 0
    for minutes, listed in STEPS:
        files = [PAGE.parent / file for file in re.findall(r"\((\S+)\)", listed)]
        count = sum(len(file.read_text().split()) for file in files)
        assert int(minutes) == pytest.approx(count / speed, rel=0.15, abs=0.5), listed
        counted += count
    assert words == pytest.approx(counted, rel=0.15)
    assert total == pytest.approx(counted / speed, rel=0.15)
    assert total == sum(int(minutes) for minutes, _ in STEPS)


def test_links_lead_somewhere():
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", PROSE, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)]+)\)", PROSE)
    assert len(links) > 60
    for link in links:
        assert link[1:] in headings if link[0] == "#" else (PAGE.parent / link).exists(), link


def test_every_tag_of_the_map_is_in_its_file():
    rows = re.findall(r"^\| (.*?) \| .* \| \[`(.+)`\]\((.+)\) \| `(.+)` \|$", TEXT, re.MULTILINE)
    assert (
        len(rows)
        == len(re.findall(r"^\| (?:STN|TSTN|RNN-SPN|placement|blog) ", TEXT, re.MULTILINE))
        > 30
    )
    for _, shown, file, tag in rows:
        assert shown == file and tag in (PAGE.parent / file).read_text(), (file, tag)
    places = {equation: place for equation, _, *place in rows}
    for number in range(1, 8):
        assert places[f"blog ({number})"] == places[f"STN ({number})"]


def test_named_tests_exist():
    sources = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    names = re.findall(r"`(test_\w+)`", TEXT) + re.findall(r"::(test_\w+)", TEXT)
    assert len(names) >= 10
    for name in names:
        assert f"def {name}(" in sources, name


def test_code_fits_the_page():
    """830 pixels on GitHub, where a letter of code has 8.2 and the margins have 32."""
    for _, block in CODE.findall(TEXT):
        assert max(map(len, block.splitlines())) <= 97, block
