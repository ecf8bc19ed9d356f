"""What ministn/cuda/README.md says is so: its commands, its numbers, the kernel that it shows."""

from collections import Counter

import pytest
import test_cuda_cases
import test_cuda_compile
import test_cuda_faults
import test_cuda_networks as networks
from pages import ROOT, blocks, commands, dead_links, has_gpu, started

from ministn import backend
from ministn.cuda import choice, launch

PAGE = ROOT / "ministn" / "cuda" / "README.md"
TEXT = PAGE.read_text()
WORDS = " ".join(TEXT.split())
COMMANDS = [line for line in commands(TEXT) if line.startswith("python ")]


def test_it_is_short_and_its_links_lead_somewhere():
    assert len(TEXT.splitlines()) < 100
    assert dead_links(PAGE) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_start(command, tmp_path):
    """Or are refused in one line, which says what is missing."""
    if has_gpu():
        command = f"{command.split(' --')[0]} --help"
    done = started(command, tmp_path)
    if has_gpu():
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ") and "GPU" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_kernel_that_it_shows_is_the_real_one():
    (shown,) = blocks(TEXT, "cuda")
    assert (launch.FOLDER / "relu.cu").read_text().startswith(shown)


def test_what_it_says_of_compilers_and_bounds():
    said = [f"sm_{capability}" for capability in test_cuda_compile.CAPABILITIES]
    assert f"for {said[0]}, {said[1]} and {said[2]}" in WORDS
    assert f"compute capability {choice.TF32_CAPABILITY / 10} on" in WORDS
    assert f"held to {test_cuda_cases.FORWARD[0]:.0e}".replace("e-05", "e-5") in WORDS
    assert f"to {networks.BOUND:.0e} of their norm".replace("e-05", "e-5") in WORDS
    assert f"within {100 * networks.TF32_LOSS:g} % of float64's" in WORDS
    assert f"cosine above {networks.TF32_COSINE}" in WORDS
    assert "more than 150 faults" in WORDS and len(test_cuda_faults.FAULTS) > 150


@pytest.mark.parametrize(
    ("precision", "kernels", "products", "others"), [("fp32", 47, 12, 28), ("tf32", 67, 0, 16)]
)
def test_what_a_step_asks_for(precision, kernels, products, others, quick_device, monkeypatch):
    """Counted on the CPU shim, whose arrays show what else is asked of them."""
    if isinstance(quick_device, backend.CupyDevice):
        pytest.skip("for the CPU shim")
    settings, data = networks.tiny("arch1-tstn", precision=precision)
    trainer = networks.of(settings, data, device=quick_device)
    trainer.step()
    asked, compiled = Counter(), launch._compiled

    def counted(what, right):
        return lambda *given, **how: asked.update([what]) or right(*given, **how)

    monkeypatch.setattr(launch, "_compiled", lambda *which: counted("kernels", compiled(*which)))
    for name in ("__matmul__", "__iadd__", "__add__", "__mul__", "__setitem__", "sum", "fill"):
        what = "products" if name == "__matmul__" else "others"
        right = getattr(quick_device.array, name)
        monkeypatch.setattr(quick_device.array, name, counted(what, right))
    with choice.precision(precision):
        trainer.steps.take(1)
    expected = {"kernels": kernels, "products": products, "others": others}
    assert asked == {what: count for what, count in expected.items() if count}
    assert f"{kernels} kernels of ours" in WORDS or f"{kernels} of ours" in WORDS
    assert (
        f"{products} products of cuBLAS and {others} " in WORDS or f"and {others} of CuPy" in WORDS
    )
    assert f"{sum(asked.values())} pieces of work" in WORDS
