"""tests/README.md: what it names exists, and it has a list for whatever test_complete.py knows."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import test_complete
from pages import ROOT, commands, dead_links

PAGE = ROOT / "tests" / "README.md"
TEXT = PAGE.read_text()
LISTS = dict(re.findall(r"^\*\*An? ([\w ]+?)\*\*(.*?)(?=^\*\*An? |^\[|\Z)", TEXT, re.M | re.S))
NAMES = re.findall(r"`([^`\n]+)`", TEXT)
# As the page calls them.
CALLED = {"function": "function without backward pass"}


def test_it_is_short_and_its_links_lead_somewhere():
    assert len(TEXT.splitlines()) < 150
    assert dead_links(PAGE) == []


def test_every_file_that_it_names_exists():
    named = {name for name in NAMES if re.fullmatch(r"[\w/]+(\.\w+|/)", name)}
    files = {name for name in named if "NAME" not in name}
    assert len(files) > 40
    for name in files:
        assert (ROOT / name).exists() or (PAGE.parent / name).exists(), name
    for folder in {Path(name).parent for name in named - files}:
        assert (ROOT / folder).is_dir(), folder


def test_every_test_that_it_names_exists():
    sources = "".join(path.read_text() for path in PAGE.parent.glob("test_*.py"))
    for name in NAMES:
        if re.fullmatch(r"test_\w+", name):
            assert f"def {name}(" in sources, name


def test_every_table_that_it_names_is_in_its_file():
    """`TABLE` of `file`, also where another table stands between them."""
    found = re.findall(r"((?:`[A-Z_]+`[, (and)]*)+)\s+of\s+`([\w/]+\.py)`", TEXT)
    assert len(found) >= 12
    for tables, file in found:
        module = import_module(".".join(Path(file.removeprefix("tests/")).with_suffix("").parts))
        for table in re.findall(r"`(\w+)`", tables):
            assert hasattr(module, table), (table, file)


@pytest.mark.parametrize("kind", test_complete.KINDS)
def test_every_kind_of_thing_has_its_list(kind):
    """Which names every file that test_complete.py asks for, and every table in it."""
    told = LISTS[CALLED.get(kind, kind)]
    if kind in ("function", "sampler kernel"):  # which lean on the operation's
        told += LISTS["operation"]
    existing, places = test_complete.KINDS[kind]
    for place in places(next(iter(existing()))):
        for file in re.findall(r"[\w/]+\.py", place):
            said = [file, file.removeprefix("tests/")]
            if file.endswith("__init__.py"):
                said.append(f"`{file.removesuffix('__init__.py')}`")
            assert any(name in told for name in said), (place, kind)
        for table in re.findall(r"\b[A-Z]{3,}\b", place):
            assert f"`{table}`" in told or table == "GPU", (place, kind)


def test_its_commands_are_those_of_ci():
    run = (ROOT / ".ci" / "run").read_text()
    for line in commands(TEXT):
        for command in line.split(" && "):
            assert f"\n{command}\n" in run, command


def test_a_list_that_is_taken_out_is_missed(monkeypatch):
    import test_pages_of_tests as page

    monkeypatch.setattr(page, "LISTS", {**LISTS, "layer": LISTS["task"]})
    with pytest.raises(AssertionError):
        test_every_kind_of_thing_has_its_list("layer")
