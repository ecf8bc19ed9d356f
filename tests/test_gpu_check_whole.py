"""reproduce/gpu_check.py on the CPU shim, killed in one part after another."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from gpu_check_parts import trained, unpacked
from test_gpu_check import ON_SHIM, SCRIPT, statuses, surroundings

from ministn import backend
from ministn.cuda import launch


class OnShim:
    """The command at its smallest size, in a session of its own."""

    def __init__(self, folder):
        self.folder, self.out = folder, folder / "out"

    def start(self):
        flags = ["--minutes", "4", "--out", "out", "--runs", "runs", "--small", "--parts"]
        parts = ["check", "tests", "kernels", "table3"]
        return subprocess.Popen(
            [sys.executable, str(ON_SHIM), str(SCRIPT), *flags, *parts],
            cwd=self.folder, env=surroundings(), start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # Where the tests run in the background, Ctrl-C may be ignored: not by this.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def stop_once(self, ready, how):
        """Send a signal as soon as ``ready`` is true: the status, and what was said."""
        process = self.start()
        while not ready():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        os.killpg(process.pid, how)
        said = process.communicate()
        assert "Traceback" not in "".join(said), said
        return process.returncode, said[0]

    def read(self, name):
        path = self.out / name
        return json.loads(path.read_text()) if path.exists() else {}


@pytest.mark.slow
def test_killed_in_any_part_it_goes_on(quick_device, tmp_path):
    if isinstance(quick_device, backend.CupyDevice):
        pytest.skip("for the CPU shim")
    shim = OnShim(tmp_path)
    status, _ = shim.stop_once(lambda: "agreement" in shim.read("check.json"), signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert statuses(shim.read("gpu-check.json")) == {"check": "running"}
    compiled = shim.read("check.json")["compile"]
    assert compiled.keys() == {path.stem for path in launch.FOLDER.glob("*.cu")}

    log = shim.out / "tests.log"
    status, said = shim.stop_once(
        lambda: log.exists() and " PASSED " in log.read_text(), signal.SIGTERM
    )
    assert status == 130 and "on the CPU shim" in said
    assert statuses(shim.read("gpu-check.json")) == {"check": "done", "tests": "interrupted"}
    assert shim.read("check.json")["compile"] == compiled  # not again

    def an_epoch_is_over():
        return any('"valid_error"' in p.read_text() for p in tmp_path.glob("runs/*/record.json"))

    status, said = shim.stop_once(an_epoch_is_over, signal.SIGINT)
    assert status == 130 and "check: done before" in said
    found = statuses(shim.read("gpu-check.json"))
    assert found.pop("table3") == "interrupted" and set(found.values()) == {"done"}
    (line,) = trained(shim.out / "table3.tar", "")
    assert line.startswith("interrupted, ") and "of 16 epochs, validation error" in line

    process = shim.start()
    said, err = process.communicate()
    assert process.returncode == 0, err
    assert "tests: done before" in said and "finished, 16 of 16 epochs, test error" in said
    assert " 9 passed" in said
    left_out = shim.read("gpu-check.json")["left_out"]
    assert not left_out or left_out == {"kernels": "PyTorch is not installed"}
    (content,) = unpacked(shim.out / "table3.tar").values()
    assert len(json.loads(content)["starts"]) == 2  # it went on
    files = list(shim.out.iterdir())
    assert len(files) <= 8 and all(path.is_file() for path in files)

    said, _ = shim.start().communicate()
    assert said.count("done before") >= 3 and ": at most" not in said
