"""What tests and the processes that they start have in common; which tests run on a GPU.

One thread for linear algebra: the arrays of tests are tiny, so threads only wait for each other;
and with one thread sums are made in one order. The variables count only before NumPy is imported,
which happens after that. The package need not be installed: processes find it where the tests do.
"""

import os
import sys

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))

import devices  # noqa: E402
import pytest  # noqa: E402

from ministn import backend  # noqa: E402
from ministn.errors import UserError  # noqa: E402
from ministn.runs import environment  # noqa: E402

ON_GPU = pytest.param("gpu", marks=pytest.mark.gpu)


@pytest.fixture(scope="session", params=["checked shim", ON_GPU])
def device(request):
    """Where small kernel tests run: the CPU shim with its memory and race checker, or a GPU."""
    return backend.gpu() if request.param == "gpu" else devices.emulated(checked=True)


@pytest.fixture(scope="session", params=["shim", ON_GPU])
def quick_device(request):
    """The same for whole networks: the shim without its checker, 30 times as fast; or a GPU."""
    return backend.gpu() if request.param == "gpu" else devices.emulated(checked=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Without a GPU its tests are skipped, and say why."""
    if item.get_closest_marker("gpu"):
        try:
            backend.gpu()
        except UserError as error:
            pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter):
    """How many tests ran on a GPU."""
    ran = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if "gpu" in report.keywords and report.when == "call"
    ]
    where = f"on {backend.gpu().name}" if ran else "on a GPU"
    terminalreporter.write_line(f"{len(ran)} tests ran {where}")


@pytest.fixture(scope="module")
def unchanging_environment():
    """Records name the code they were made with, which may be edited while the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "commit", lambda: {"commit": "c0de", "dirty": False})
        patch.setattr(environment, "source_sha256", lambda: "5a")
        yield
