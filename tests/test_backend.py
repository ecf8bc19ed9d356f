"""Finding a GPU, and CupyDevice on a stand-in for CuPy that notes what it is asked for."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from test_table3 import started

from ministn import backend
from ministn.errors import UserError

# ---- finding a GPU


class Refused(RuntimeError):
    """CuPy's CUDARuntimeError."""


def find_gpu(monkeypatch, cp):
    """backend.gpu() with this in CuPy's place, past its cache."""
    monkeypatch.setattr(backend, "_devices", {})
    monkeypatch.setattr(backend, "cp", cp)
    return backend.gpu.__wrapped__()


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    with pytest.raises(UserError, match=r"needs CuPy: pip install -e '\.\[gpu\]' for CUDA 12"):
        find_gpu(monkeypatch, None)


def test_without_a_driver_the_error_says_so(monkeypatch):
    cp = FakeCupy(count=Refused("cudaErrorInsufficientDriver: CUDA driver version is too old"))
    with pytest.raises(UserError, match=r"^no GPU: cudaErrorInsufficientDriver.*install NVIDIA's"):
        find_gpu(monkeypatch, cp)


def test_without_a_visible_gpu_the_error_says_so(monkeypatch):
    with pytest.raises(UserError, match=r"^no GPU is visible"):
        find_gpu(monkeypatch, FakeCupy(count=0))


def test_without_cudas_libraries_the_error_says_what_to_install(monkeypatch):
    message = r"CUDA's libraries \(no libcublas.so.12\): pip install 'cupy-cuda12x\[ctk\]' for"
    with pytest.raises(UserError, match=message):
        find_gpu(monkeypatch, FakeCupy(missing_library="no libcublas.so.12"))


def test_rounding_by_cupy_is_refused(monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "1")
    with pytest.raises(UserError, match=r"^unset CUPY_TF32"):
        find_gpu(monkeypatch, FakeCupy())


def test_the_first_gpu_is_registered(monkeypatch):
    cp = FakeCupy()
    device = find_gpu(monkeypatch, cp)
    assert (device.name, device.capability, device.array) == ("A GPU", 86, cp.ndarray)
    assert backend.device_of(cp.ndarray()) is device and backend.device_of(np.zeros(3)) is None
    assert device.describe() == {
        "name": "A GPU", "capability": 86, "driver": 13000, "cuda": 12090, "nvrtc": [12, 9],
        "cublas": 120900, "cupy": "14.0",
    }  # fmt: skip
    assert cp.current is cp.stream


def test_asking_for_a_gpu_that_is_not_there_is_one_line(tmp_path):
    try:
        backend.gpu()
    except UserError:
        pass
    else:
        pytest.skip("there is a GPU")
    process = started("--quick --gpu", tmp_path)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.startswith("error: ") and stderr.endswith("\n") and stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# ---- CupyDevice


class FakeCupy:
    """As much of CuPy as CupyDevice uses. events: what was asked of it, in order. current: the
    stream that work goes to.

    broken_capture: what end_capture raises, as it does after a call that a graph cannot hold.
    missing_library: what CuPy says of one of CUDA's.
    """

    __version__ = "14.0"

    def __init__(self, count=1, broken_capture=None, missing_library=None):
        self.events = events = []
        self.ndarray = FakeArray
        self.modules = []
        self.default_stream = self.current = FakeStream(self)

        def device_count():
            if isinstance(count, Exception):
                raise count
            return count

        self.stream = FakeStream(self, broken_capture)
        self.pool = SimpleNamespace(malloc=lambda size: None)  # of graphs
        self.default_pool = SimpleNamespace(malloc=lambda size: None)
        properties = {"name": b"A GPU", "major": 8, "minor": 6}

        @contextmanager
        def using_allocator(allocator):
            assert allocator is self.pool.malloc
            events.append("pool")
            try:
                yield
            finally:
                events.append("no pool")

        def cublas_handle():
            if missing_library:
                raise ImportError(missing_library)

        def stream(non_blocking):
            assert non_blocking
            return self.stream

        self.cuda = SimpleNamespace(
            Device=lambda: SimpleNamespace(id=0),
            Stream=stream,
            Event=lambda: SimpleNamespace(
                record=lambda stream: events.append(("time", stream)),
                synchronize=lambda: None,
            ),
            get_elapsed_time=lambda begin, end: 5000.0,
            MemoryPool=lambda allocator: self.pool,
            device=SimpleNamespace(get_cublas_handle=cublas_handle),
            nvrtc=SimpleNamespace(getVersion=lambda: (12, 9)),
            cublas=SimpleNamespace(getVersion=lambda handle: 120900),
            using_allocator=using_allocator,
            runtime=SimpleNamespace(
                CUDARuntimeError=Refused,
                getDeviceCount=device_count,
                getDeviceProperties=lambda number: properties,
                driverGetVersion=lambda: 13000,
                runtimeGetVersion=lambda: 12090,
            ),
        )

    def RawKernel(self, code, name):
        return SimpleNamespace(compile=lambda: None)

    def RawModule(self, *, code, options):
        assert options == ("--std=c++17",)
        self.modules.append(code)
        return SimpleNamespace(get_function=lambda name: FakeKernel(name, self))

    def ascontiguousarray(self, array):
        return FakeArray()

    def asnumpy(self, array):
        """What is not contiguous is first made so, in a block that leaves the default stream."""
        with self.current if not array.flags.c_contiguous else nullcontext():
            return np.zeros(3)


class FakeArray:
    def __init__(self, contiguous=True):
        self.flags = SimpleNamespace(c_contiguous=contiguous)


class FakeStream:
    """After its block the default one is current, whichever was before, as in CuPy.

    launched: names of kernels, of a capture while there is one.
    """

    def __init__(self, cp, broken_capture=None):
        self.cp, self.broken_capture = cp, broken_capture
        self.launched = []

    def use(self):
        self.cp.current = self

    def __enter__(self):
        self.use()

    def __exit__(self, *error):
        self.cp.default_stream.use()

    def begin_capture(self):
        self.cp.events.append("begin")
        self.launched = []

    def end_capture(self):
        self.cp.events.append("end")
        graph, self.launched = self.launched, []
        if self.broken_capture:
            raise self.broken_capture
        return SimpleNamespace(launch=lambda stream: self.cp.events.append((stream, graph)))


class FakeKernel:
    def __init__(self, name, cp):
        self.__dict__.update(name=name, cp=cp)

    def __setattr__(self, attribute, value):
        if attribute == "preferred_shared_memory_carveout":
            self.cp.events.append((self.name, "takes of the cache", value))
        else:
            assert attribute == "max_dynamic_shared_size_bytes"
            self.cp.events.append((self.name, "may have", value))

    def __call__(self, grid, block, arguments, shared_mem):
        self.cp.current.launched.append(self.name)
        self.cp.events.append((self.name, grid, block, arguments, shared_mem))


@pytest.fixture
def cupy(monkeypatch):
    """A stand-in for CuPy, and a CupyDevice on it."""
    cp = FakeCupy()
    monkeypatch.setattr(backend, "cp", cp)
    device = backend.CupyDevice()
    cp.events.clear()
    return cp, device


def test_a_source_is_one_module(cupy):
    cp, device = cupy
    for source, name in (("one", "a"), ("two", "b"), ("one", "c")):
        device.kernel(source, name)((1,), (32,), (), 0)
    assert cp.modules == ["one", "two"]
    assert [name for name, *_ in cp.events] == ["a", "b", "c"]


def test_more_shared_memory_than_48_kib_is_asked_for_when_it_grows(cupy):
    cp, device = cupy
    kernel = device.kernel("source", "k")
    sizes = 0, 49152, 49153, 49153, 50000, 49153, 60000, 100
    for size in sizes:
        kernel((2, 3), (128,), ("x", 5), size)
    assert [event[-1] for event in cp.events if event[1] == "may have"] == [49153, 50000, 60000]
    assert [event[-1] for event in cp.events if event[1] == (2, 3)] == list(sizes)
    for i, (_, what, size, *_) in enumerate(cp.events):
        if what == "may have":  # and as many blocks at once as fit
            assert cp.events[i + 1 : i + 3] == [
                ("k", "takes of the cache", 100),
                ("k", (2, 3), (128,), ("x", 5), size),
            ]


def test_what_one_kernel_may_have_another_may_not(cupy):
    cp, device = cupy
    for name in ("a", "b"):
        device.kernel("source", name)((1,), (32,), (), 50000)
    assert [event[0] for event in cp.events if event[1] == "may have"] == ["a", "b"]


def launching(device, name):
    """Work that launches one kernel, and the event of that."""
    kernel, arguments = device.kernel("source", name), ((1,), (32,), (), 0)
    return lambda: kernel(*arguments), (name, *arguments)


def test_work_is_done_once_then_captured_then_launched(cupy):
    cp, device = cupy
    work, done = launching(device, "work")
    step = device.repeating(work)
    launched = (cp.stream, ["work"])
    for expected in (
        ["pool", done, "no pool"],
        ["pool", "begin", done, "end", "no pool", launched],
        [launched],
        [launched],
    ):
        cp.events.clear()
        step()
        assert cp.events == expected


def test_two_works_have_a_graph_each(cupy):
    cp, device = cupy
    works, events = zip(*(launching(device, name) for name in ("first", "second")), strict=True)
    first, second = map(device.repeating, works)
    for step in (first, first, second, second, first):
        step()
    assert [cp.events.count(event) for event in events] == [2, 2]
    assert [event for event in cp.events if event[0] is cp.stream] == [
        (cp.stream, [name]) for name in ("first", "second", "first")
    ]


def test_a_copied_view_does_not_change_the_stream(cupy):
    cp, device = cupy
    for contiguous in (True, False):
        device.to_cpu(FakeArray(contiguous))
        assert cp.current is cp.stream


def test_whatever_stream_was_current_work_is_repeated_and_timed_on_the_devices(cupy):
    cp, device = cupy
    work, _ = launching(device, "work")
    step = device.repeating(work)
    for _ in range(3):
        with cp.default_stream:
            step()
    with cp.default_stream:
        assert device.elapsed(work) == 5.0
    assert cp.default_stream.launched == []
    assert cp.events.count((cp.stream, ["work"])) == 2
    assert cp.events[-3][:2] == cp.events[-1][:2] == ("time", cp.stream)


def test_work_that_launches_nothing_is_not_repeated(cupy):
    """A graph of it would do nothing, each time, and nobody would notice."""
    cp, device = cupy
    step = device.repeating(lambda: cp.events.append("work"))
    step()
    with pytest.raises(RuntimeError, match="launched no kernel"):
        step()
    assert cp.events[-5:] == ["pool", "begin", "work", "end", "no pool"]


class Trouble(Exception):
    """What goes wrong in the work."""


@pytest.mark.parametrize("broken_capture", [None, Refused("cudaErrorStreamCaptureInvalidated")])
@pytest.mark.parametrize("error", [Trouble, KeyboardInterrupt])
def test_an_error_during_capture_ends_it_and_is_raised(monkeypatch, error, broken_capture):
    """No half a graph is ever launched: the next call captures anew."""
    cp = FakeCupy(broken_capture=broken_capture)
    monkeypatch.setattr(backend, "cp", cp)
    fails = [False, True, True]

    def work():
        if fails.pop(0):
            raise error("in the work")

    step = backend.CupyDevice().repeating(work)
    step()
    for _ in range(2):
        cp.events.clear()
        with pytest.raises(error, match="in the work"):
            step()
        assert cp.events == ["pool", "begin", "end", "no pool"]


def test_a_capture_that_fails_at_its_end_is_an_error(monkeypatch):
    cp = FakeCupy(broken_capture=Refused("cudaErrorStreamCaptureUnjoined"))
    monkeypatch.setattr(backend, "cp", cp)
    device = backend.CupyDevice()
    step = device.repeating(launching(device, "work")[0])
    step()
    with pytest.raises(Refused, match="Unjoined"):
        step()


def test_an_error_in_the_first_call_leaves_it_to_be_done(cupy):
    cp, device = cupy
    fails = [True, False, False]
    launch, done = launching(device, "work")

    def work():
        launch()
        if fails.pop(0):
            raise Trouble

    step = device.repeating(work)
    with pytest.raises(Trouble):
        step()
    for expected in (["pool", done, "no pool"], ["pool", "begin", done, "end", "no pool"]):
        cp.events.clear()
        step()
        assert cp.events[: len(expected)] == expected
