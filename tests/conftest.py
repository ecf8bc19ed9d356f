"""One thread for the linear algebra of the tests and of the processes they start.

Their arrays are tiny, so threads only wait for each other; and with one thread sums are made in
one order. The variables count only before NumPy is imported, which happens after this file.
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import pytest  # noqa: E402

ON_GPU = pytest.param("gpu", marks=pytest.mark.gpu)


@pytest.fixture(scope="session", params=["checked shim", ON_GPU])
def device(request):
    """Where small kernel tests run: the CPU shim with its memory and race checker, or a GPU."""
    import devices

    return devices.real() if request.param == "gpu" else devices.emulated(checked=True)


@pytest.fixture(scope="session", params=["shim", ON_GPU])
def quick_device(request):
    """The same for whole networks: the shim without its checker, 30 times as fast; or a GPU."""
    import devices

    return devices.real() if request.param == "gpu" else devices.emulated(checked=False)
