"""Every --help reads alike: what each flag takes and its default, in groups, with examples that
are possible."""

import re
import runpy
import shlex
import sys

import pytest
from test_cli import COMMANDS, words

ORDER = ["what to", "data", "how to run", "instead of"]
# Without them the command does nothing, or less.
NO_DEFAULT = {"--minutes", "--gif", "--figure", "--poses"}
SUBCOMMANDS = {"ministn/data/__main__.py": ["fetch", "show", "export"]}
HELPED = [
    [name, *more]
    for name in COMMANDS
    if not name.startswith("reproduce/torch")  # which need PyTorch
    for more in [[], *([command] for command in SUBCOMMANDS.get(name, []))]
]
each = pytest.mark.parametrize("command", HELPED, ids=" ".join)


@pytest.fixture
def said(monkeypatch, capsys, tmp_path):
    """What a command prints and how it ends, run in this process."""
    monkeypatch.chdir(tmp_path)

    def run(command: list[str]) -> tuple[int, str, str]:
        name, *more = command
        module = words(COMMANDS[name])
        monkeypatch.setattr(sys, "argv", [module[-1], *more])
        with pytest.raises(SystemExit) as end:
            if module[0] == "-m":
                monkeypatch.delitem(sys.modules, module[1], raising=False)  # another test has it
                runpy.run_module(module[1], run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(module[0], run_name="__main__")
        assert list(tmp_path.iterdir()) == []
        return end.value.code, *capsys.readouterr()

    return run


def groups(text: str) -> list[str]:
    return re.findall(r"^(\w.*):$", text, re.M)


def entries(text: str) -> dict[str, tuple[str, str]]:
    """{flag: (what it takes, its help)}."""
    found = re.findall(r"^  (--[\w-]+)(.*(?:\n {5,}.*)*)", text, re.M)
    parts = {}
    for flag, rest in found:
        takes, _, words = re.sub(r"\n +", "  ", rest).strip().partition("  ")
        if rest.startswith("  "):
            takes, words = "", " ".join(rest.split())
        parts[flag] = takes, words.strip()
    return parts


@each
def test_each_flag_says_what_it_is_and_its_default(command, said, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = said([*command, "--help"])
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    for flag, (takes, text) in entries(out).items():
        assert text, flag
        if takes and flag not in NO_DEFAULT and command[0] != "reproduce/gpu_check_engine.py":
            assert "default: " in text or "as in table3.py" in text or flag == "--report", flag


@each
def test_what_to_do_comes_before_how(command, said):
    _, out, _ = said([*command, "--help"])
    found = [next((i for i, first in enumerate(ORDER) if group.startswith(first)), None)
             for group in groups(out)]  # fmt: skip
    places = [place for place in found if place is not None]
    assert places == sorted(places)


@each
def test_the_examples_are_possible(command, said):
    """Each is refused for the one flag that is added to it and does not exist."""
    _, out, _ = said([*command, "--help"])
    text = out[out.index("\n", out.index("example")) :] if "\nexample" in out else ""
    lines = re.findall(r"^  (python .*)", text.replace("\\\n", ""), re.M)
    assert lines or command[0] in (
        "reproduce/gpu_check_engine.py", "ministn/data/__main__.py",
    )  # fmt: skip
    for line in lines:
        script, *more = shlex.split(re.split(r"   +\S| &&", line.removeprefix("python "))[0])
        if script == "-m":
            script = next(n for n, path in COMMANDS.items() if words(path)[-1].startswith(more[0]))
            more = more[1:]
        assert said([script, *more, "--no-such-flag"]) == (
            2, "", "error: unrecognized arguments: --no-such-flag; --help lists all flags\n",
        ), line  # fmt: skip


def test_a_name_is_not_cut_at_its_hyphen(said, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = said(["reproduce/table3.py", "--help"])
    assert not re.search(r"\w-$", out, re.M)
