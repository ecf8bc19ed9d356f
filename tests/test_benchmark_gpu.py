"""reproduce/benchmark.py --gpu at its smallest: what it would measure, and what it writes down.

The CPU shim stands in for our side's GPU and PyTorch on the CPU for PyTorch's, so the times mean
nothing. On a GPU both are real.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ministn import backend, cuda
from ministn.data import Form, Split
from ministn.errors import UserError
from ministn.models import NETWORKS
from ministn.parameter import ParameterBuffer
from ministn.training.protocol import Training

CANVAS, BATCH = 12, 3


@pytest.fixture(autouse=True)
def scripts(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "reproduce"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def theirs(quick_device):
    """PyTorch on the machine that the device is on."""
    torch = pytest.importorskip("torch")
    on_gpu = isinstance(quick_device, backend.CupyDevice) and torch.cuda.is_available()
    module = import_module("benchmarks.pytorch")
    with module.precision("fp32"):
        yield module.TorchDevice("cuda" if on_gpu else "cpu")


@pytest.fixture
def plain_sums(theirs, monkeypatch):
    """cuDNN is to convolve as we do, in float32, and not by what it finds faster on trial: other
    algorithms, such as Winograd's, round more."""
    cudnn = import_module("torch").backends.cudnn
    for flag, value in {"benchmark": False, "deterministic": True, "allow_tf32": False}.items():
        monkeypatch.setattr(cudnn, flag, value)


def test_a_device_tells_time_and_memory(quick_device):
    kept = []
    assert quick_device.elapsed(lambda: kept.append(quick_device.zeros((1000,), np.float32))) > 0
    assert len(kept) == 1

    def work():
        for _ in range(3):  # one after another
            kept[:] = [quick_device.zeros((10**6,), np.float32)]

    before = quick_device.memory(lambda: None)
    assert 4e6 <= quick_device.memory(work) - before < 10e6


# -- both sides do the same ------------------------------------------------------------------------


def as_ours(name, tensor):
    """A result of PyTorch's in our layout: images channels last, weights output last."""
    if tensor.ndim == 4 and name != "dgrid":
        tensor = tensor.permute(2, 3, 1, 0) if name == "dweight" else tensor.permute(0, 2, 3, 1)
    elif name == "dweight":
        tensor = tensor.T
    return tensor.cpu().numpy()


@pytest.mark.usefixtures("plain_sums")
def test_kernels_and_their_counterparts_agree(quick_device, theirs):
    kernels = import_module("benchmarks.kernels")
    rng = np.random.default_rng(0)
    places = kernels.Places(quick_device, theirs, BATCH, CANVAS, rng)
    compared = 0
    for operation in kernels.OPERATIONS:
        for pair in operation(places):
            found, expected = pair.ours(), pair.theirs()
            assert found.keys() == expected.keys()
            assert sum(cost.bytes for cost in pair.costs) > 0
            for name, array in found.items():
                want = as_ours(name, expected[name])
                got = quick_device.to_cpu(array)
                assert got.shape == want.shape, (pair.name, name)
                error = np.abs(got - want).max() / np.abs(want).max()
                assert error < 1e-5, (pair.name, name)  # measured: 1.3e-6
                compared += 1
    assert compared == 6 * 4 + 2 * 4 + 2 * 4 + 2


def noise(count):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (count, CANVAS, CANVAS), np.uint8)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    return Split(images, labels, np.zeros((count, 4), np.int16)), rng.permutation(count)


def trained(theirs, name, split, order):
    """PyTorch's steps of a network, on these images."""
    module, twins = import_module("benchmarks.pytorch"), import_module("torch_twins")
    twin = twins.build(NETWORKS[name], Form((CANVAS, CANVAS)))
    examples = module.Labelled(theirs, split, channels=1)
    training = Training(lr=1e-3, batch_size=BATCH, epochs=1)
    return module.TorchSteps(theirs, twin, examples, order, training, compiled=False)


@pytest.mark.usefixtures("plain_sums")
@pytest.mark.parametrize("name", ["arch1-cnn", "arch1-tstn", "arch2-untied"])
def test_both_compute_the_same_loss_at_equal_parameters(quick_device, theirs, name):
    torch, twins = import_module("torch"), import_module("torch_twins")
    split, order = noise(7)
    steps = trained(theirs, name, split, order)
    network = NETWORKS[name].build(Form((CANVAS, CANVAS)))
    on_cpu = ParameterBuffer(network.parameters(), seed=0)
    on_cpu.data += np.random.default_rng(2).normal(0, 0.02, on_cpu.data.shape).astype(np.float32)
    twins.copy_weights(on_cpu.parameters, steps.network)
    maps = []
    for module in steps.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda module, x, y: maps.append(y))
    steps.network.eval()  # the two draw other dropout masks
    rows = order[:BATCH]
    batch = steps.examples.batch(torch.from_numpy(rows).to(theirs.device))
    loss = float(steps.loss(*batch).detach())
    assert maps and all(y.is_contiguous(memory_format=torch.channels_last) for y in maps)

    buffer = ParameterBuffer(network.parameters(), seed=0, device=quick_device)
    backend.assign(buffer.data, on_cpu.data)
    logits, _ = network.predict(cuda.as_batch(quick_device.to_gpu(split.images[rows])))
    labels = quick_device.to_gpu(split.labels[rows].astype(np.int32))
    ours, _ = cuda.softmax_cross_entropy(logits, labels)
    assert quick_device.to_cpu(ours)[0] == pytest.approx(loss, rel=1e-5)


def test_pytorch_trains_batch_after_batch(theirs):
    torch = import_module("torch")
    split, order = noise(7)
    steps = trained(theirs, "arch1-cnn", split, order)
    taken, batch = [], steps.examples.batch
    steps.examples.batch = lambda rows: taken.append(rows.tolist()) or batch(rows)
    before = [parameter.detach().clone() for parameter in steps.network.parameters()]
    steps.take(0)
    steps.take(1)
    assert taken == [order[:3].tolist(), order[3:6].tolist()]
    after = list(steps.network.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(("name", "allowed"), [("fp32", False), ("tf32", True)])
def test_pytorch_multiplies_as_stated(theirs, name, allowed):
    module = import_module("benchmarks.pytorch")
    before = module.flags()
    with module.precision(name):
        assert module.flags() == {
            "torch.backends.cuda.matmul.allow_tf32": allowed,
            "torch.backends.cudnn.allow_tf32": allowed,
            "torch.backends.cudnn.benchmark": True,
        }
    assert module.flags() == before


# -- whole runs ------------------------------------------------------------------------------------


@pytest.fixture
def smallest_run(quick_device, theirs, monkeypatch, tmp_path):
    """A function that runs the smallest benchmark and returns its record.

    Not called benchmark: a plugin of pytest takes a fixture of that name for its own.
    """
    module = import_module("benchmarks.gpu")
    monkeypatch.setattr(module, "STEPS", 2)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--gpu"])
    out = tmp_path / "records" / "gpu.json"
    out.parent.mkdir()

    def run(**changes):
        arguments = {
            "nets": ["arch1-cnn", "arch1-tstn"],
            "batch_size": BATCH,
            "rounds": 1,
            "out": out,
            "precision": ["fp32", "tf32"],
            "only": ["kernels", "networks"],
        }
        scale = module.Scale(canvas=CANVAS, fill=1000, copy=1000, product=16)
        arguments = argparse.Namespace(**arguments | changes)
        module.Benchmark(arguments, quick_device, theirs, scale).run()
        return json.loads(out.read_text())

    return run


def stand_in_for_compiling(monkeypatch, function):
    torch = import_module("torch")
    monkeypatch.setattr(torch, "compile", function)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)


def measured(record, prefix):
    """{what was measured under the prefix: its row}; all of it with batches of BATCH."""
    found = dict(import_module("benchmarks.record").rows(record, prefix))
    assert all(name.endswith(f"/{BATCH}") for name in found)
    return {name.removesuffix(f"/{BATCH}"): row for name, row in found.items()}


def ratios(record):
    """Every key of a record that speaks of a ratio."""
    if isinstance(record, dict):
        for key, value in record.items():
            if "ratio" in key:
                yield key.rpartition("/")[2]
            yield from ratios(value)


def test_what_a_run_writes(smallest_run, quick_device, monkeypatch, capsys):
    stand_in_for_compiling(monkeypatch, lambda function: function)
    record = smallest_run()
    (run,) = record["runs"].values()
    assert run["command"] == "python reproduce/benchmark.py --gpu"
    assert {"commit", "dirty", "source_sha256"} <= run.keys()
    assert run["device"]["name"] == quick_device.name
    assert {"torch", "torch_cuda", "cudnn", "numpy"} <= run["versions"].keys()
    for name, allowed in (("fp32", False), ("tf32", True)):
        assert run["flags"][name]["torch.backends.cudnn.allow_tf32"] is allowed
        assert record[f"ceiling/{name}/flops_per_second"] > 0
    assert (run["rounds"], run["steps_per_round"]) == (1, 2)
    assert record["ceiling/copy/bytes_per_second"] > 0
    parts = ["ceilings", "kernels fp32", "kernels tf32", "networks fp32", "networks tf32"]
    assert list(run["part_seconds"]) == parts

    out = capsys.readouterr().out
    common = {"ours", "torch_eager", "bytes", "flops", "share_of_ceiling"}
    for name in ("fp32", "tf32"):
        kernels, networks = (
            measured(record, f"kernel/{name}/"),
            measured(record, f"network/{name}/"),
        )
        assert len(kernels) == 6 * 3 + 2 * 2 + 2 * 3 + 3
        assert list(networks) == ["arch1-cnn", "arch1-tstn"]
        for key, row in (kernels | networks).items():
            assert common <= row.keys() and key in out
            assert row["ours"]["median"] >= row["ours"]["minimum"] > 0
            eager = row["torch_eager"]
            assert eager["ratio"] == row["ours"]["median"] / eager["median"]
        for row in networks.values():
            compiled = row["torch_compile"]
            assert compiled["ratio"] == row["ours"]["median"] / compiled["median"]
            assert row["memory"].keys() == {"ours", "torch_eager", "torch_compile"}
            assert row["memory"]["ours"] > 0
    assert set(ratios(record)) == {"ratio"}


def test_without_a_compiler_it_goes_on(smallest_run, monkeypatch, capsys):
    def refuse(function):
        raise RuntimeError("no Triton\nin sight")

    stand_in_for_compiling(monkeypatch, refuse)
    record = smallest_run(only=["networks"], precision=["fp32"], nets=["arch1-cnn"])
    row = measured(record, "network/fp32/")["arch1-cnn"]
    assert row["torch_compile"] is row["memory"]["torch_compile"] is None
    assert row["torch_compile_error"] == "RuntimeError: no Triton in sight"
    assert row["torch_eager"]["ratio"] == row["ours"]["median"] / row["torch_eager"]["median"]
    assert "torch.compile failed: RuntimeError: no Triton in sight" in capsys.readouterr().out
    assert measured(record, "kernel/") == {}


def test_a_second_run_replaces_what_it_measures(smallest_run, quick_device, monkeypatch):
    """One network in one precision is one call, and compares with ceilings measured before."""
    module = import_module("benchmarks.gpu")
    stand_in_for_compiling(monkeypatch, lambda function: function)
    one = {"only": ["networks"], "nets": ["arch1-cnn"]}
    first = smallest_run(**one, precision=["fp32"])
    asked = []
    monkeypatch.setattr(module.Benchmark, "_fastest", lambda self, work: asked.append(work) or 1.0)
    both = smallest_run(**one, precision=["tf32"])
    assert len(asked) == 1  # the product in tf32: the others are there
    old, new = both["runs"]
    assert both.items() >= (first | {"runs": both["runs"]}).items()
    assert both["network/tf32/arch1-cnn/3/run"] == both["ceiling/tf32/run"] == new
    again = smallest_run(**one, precision=["fp32"])
    assert len(asked) == 1 and len(again["runs"]) == 3
    assert again["network/fp32/arch1-cnn/3/run"] not in (old, new)

    smallest_run(only=["ceilings"], precision=["fp32"])
    assert len(asked) == 3
    monkeypatch.setattr(type(quick_device), "describe", lambda self: {"name": "another"})
    smallest_run(**one, precision=["fp32"])
    assert len(asked) == 5  # what another GPU reaches says nothing of this one


def test_an_interrupted_run_keeps_what_it_has(smallest_run, monkeypatch, tmp_path):
    module = import_module("benchmarks.gpu")
    network = module.Benchmark._network

    def interrupted(self, name, *arguments):
        if name == "arch1-tstn":
            raise KeyboardInterrupt
        return network(self, name, *arguments)

    stand_in_for_compiling(monkeypatch, lambda function: function)
    monkeypatch.setattr(module.Benchmark, "_network", interrupted)
    with pytest.raises(KeyboardInterrupt):
        smallest_run(only=["networks"], precision=["fp32"])
    record = json.loads((tmp_path / "records" / "gpu.json").read_text())
    assert list(measured(record, "network/fp32/")) == ["arch1-cnn"]


def test_training_that_stops_is_not_timed(smallest_run, monkeypatch):
    stand_in_for_compiling(monkeypatch, lambda function: function)
    monkeypatch.setattr(import_module("benchmarks.gpu"), "LR", 1e30)
    with pytest.raises(UserError, match=r"arch1-cnn diverged at step \d+"):
        smallest_run(only=["networks"], precision=["fp32"])


# -- the command line ------------------------------------------------------------------------------


def main(monkeypatch, flags):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *flags.split()])
    return import_module("benchmark").main()


def test_it_needs_a_gpu_and_pytorch(monkeypatch, tmp_path):
    def no_gpu():
        raise UserError("no GPU")

    monkeypatch.setattr(backend, "gpu", no_gpu)
    with pytest.raises(UserError, match=r"^no GPU$"):
        main(monkeypatch, "--gpu")
    monkeypatch.setattr(backend, "gpu", object)
    monkeypatch.setattr(import_module("benchmark"), "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install torch"):
        main(monkeypatch, "--gpu")
    assert list(tmp_path.iterdir()) == []
