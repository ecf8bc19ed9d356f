"""Files that the user names: links are followed, what is no file is left alone, modes are kept."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.record import Record
from matplotlib.figure import Figure

from ministn import demo
from ministn.data import Data
from ministn.data.__main__ import main as data_command
from ministn.errors import UserError
from ministn.files import check_output, read_json, write_atomically
from ministn.plot.__main__ import main as plot_command
from ministn.plot.drawing import save
from ministn.training import checkpoint

ROOT = Path(__file__).parents[1]
RECORD = str(ROOT / "reproduce" / "records" / "demo" / "small-stn.json")

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX's files")

WRITERS = {
    "bytes": lambda path: write_atomically(path, b"new"),
    "picture": lambda path: save(Figure(), path),
    "checkpoint": lambda path: checkpoint.save(path, {}, {}),
    "benchmark": lambda path: Record(path, "now", {}).note("a", {"b": 1.0}),
}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


def command(name: str, monkeypatch, path: Path) -> None:
    """What the user types with a file to be written."""
    if name == "demo":
        monkeypatch.setattr(demo, "load_network", lambda *a: pytest.fail("worked before it looked"))
        demo.main(["--out", str(path)])
    elif name == "data":
        monkeypatch.setattr(
            "ministn.data.__main__.contact_sheet", lambda *a: pytest.fail("worked before it looked")
        )
        data_command(["show", "RTS", "--out", str(path)])
    elif name == "export":
        monkeypatch.setattr(Data, "load", lambda *a: pytest.fail("worked before it looked"))
        data_command(["export", "digits", "--out", str(path)])
    else:
        plot_command([RECORD, name, str(path)])


def in_the_way(kind: str, path: Path) -> None:
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/null")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            here = os.getcwd()
            os.chdir(path.parent)  # the name of a socket must be short
            made.bind(path.name)
            os.chdir(here)


KINDS = ["a folder", "a pipe", "a device", "a socket"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_and_left_alone(kind, write, tmp_path):
    path = tmp_path / "out"
    in_the_way(kind, path)
    before = os.lstat(path)
    with pytest.raises(UserError, match=f"cannot save {path}: it is {kind}, not a regular file"):
        write(path)
    after = os.lstat(path)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["demo", "data", "export", "--gif", "--figure"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_command_says_so_before_it_works(kind, name, monkeypatch, tmp_path):
    in_the_way(kind, tmp_path / "out")
    with pytest.raises(UserError, match=f"it is {kind}, not a regular file; name another"):
        command(name, monkeypatch, tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]


def test_a_pipe_behind_dev_stdout_is_refused():
    code = (
        "from pathlib import Path\nfrom ministn import cli\n"
        "from ministn.files import write_atomically\n"
        "cli.run(lambda: write_atomically(Path('/dev/stdout'), b'x'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot save /dev/stdout: it is a pipe")


@pytest.mark.parametrize("links", [1, 2])
def test_links_are_followed(links, write, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    target, path = folder / "target", tmp_path / "link"
    target.write_bytes(
        b"old" if write is not WRITERS["benchmark"] else b'{"format": 2, "runs": {}}'
    )
    path.symlink_to("other" if links == 2 else Path("elsewhere") / "target")
    if links == 2:
        (tmp_path / "other").symlink_to(target)
    write(path)
    assert path.is_symlink() and path.samefile(target)
    assert target.read_bytes() not in (b"old", b'{"format": 2, "runs": {}}')
    assert os.listdir(folder) == ["target"]


def test_a_link_to_nothing_makes_what_it_leads_to(write, tmp_path):
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").is_file()


def test_a_link_to_itself_is_one_clear_error(write, tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(UserError, match=r"cannot save .*link: Too many levels of symbolic links"):
        write(tmp_path / "link")
    assert os.listdir(tmp_path) == ["link"]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_the_mode_is_kept(mode, tmp_path):
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode and path.read_bytes() == b"new"


def test_a_new_file_has_the_usual_mode(tmp_path):
    write_atomically(tmp_path / "ours", b"")
    (tmp_path / "usual").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_the_owner_is_kept_where_that_is_allowed(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 1234, 2345)
    write_atomically(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


def test_a_protected_file_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, how: False)  # what root would never see
    with pytest.raises(UserError, match=r"cannot save .*file: it is write-protected"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_a_file_called_tmp_is_somebody_elses(tmp_path):
    (tmp_path / "a.tmp").write_bytes(b"mine")
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a.tmp").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["a", "a.tmp"]


def test_of_a_file_with_two_names_one_is_replaced(write, tmp_path):
    """The other, as in a copy of the folder that was made by linking, keeps what it had."""
    path, other = tmp_path / "file", tmp_path / "other"
    old = b'{"format": 2, "runs": {}}' if write is WRITERS["benchmark"] else b"old"
    other.write_bytes(old)
    os.link(other, path)
    write(path)
    assert other.read_bytes() == old != path.read_bytes()


@pytest.mark.parametrize("name", ["demo", "data", "export", "--gif", "--figure"])
def test_a_folder_that_is_missing_is_named_before_a_command_works(name, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=f"cannot save .*: there is no folder {tmp_path}/plots; ma"):
        command(name, monkeypatch, tmp_path / "plots" / "out")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_protected_is_named_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, how: False)  # what root would never see
    with pytest.raises(UserError, match=f"cannot save .*: nothing may be written into {tmp_path}$"):
        check_output(tmp_path / "out")


def test_looking_writes_nothing(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    for name in ("old", "new"):
        check_output(tmp_path / name)
    assert os.listdir(tmp_path) == ["old"] and (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist: make it first"), (b'{"a":', "is damaged"), (b"\xff", "is damaged")],
)
def test_json_that_cannot_be_read_is_one_line(tmp_path, content, message):
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(path)
