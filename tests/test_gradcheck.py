"""The gradient checker itself, everything it checks, and everything it has to catch."""

import subprocess
import sys

import numpy as np
import pytest

from ministn import models, ops
from ministn.errors import UserError
from ministn.gradcheck import GradientError, KinkError, check_gradients, check_operation, kinks
from ministn.gradcheck import __main__ as command
from ministn.gradcheck.breaking import last_use_only, replaced, result
from ministn.gradcheck.faults import FAULTS, Fault
from ministn.gradcheck.networks import TIED, check_tied_sum
from ministn.gradcheck.suite import AMONG_KINKS, CHECKS, PROBLEMS, check_problem
from ministn.layers import Conv2d, Weighted
from ministn.ops.projective_grid import NEAR
from ministn.ops.sampling import BORDERS
from ministn.transformer.samplers import KERNELS, VOLUME_KERNELS

NETWORKS = [name for name, (_, options) in PROBLEMS.items() if options is AMONG_KINKS]
LAYERS = [name for name in PROBLEMS if name not in NETWORKS]


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2.0, shape)


def power_sum(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, tuple]:
    return x**3 @ weight, (x, weight)


def power_sum_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray]:
    x, weight = cache
    return 3 * x**2 * (dy @ weight.T), (x**3).T @ dy


SMOOTH = {
    "exp": (np.exp, np.exp),
    "sin": (np.sin, np.cos),
    "log": (np.log, np.reciprocal),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "fifth power": (lambda x: x**5, lambda x: 5 * x**4),
}


@pytest.mark.parametrize("elements", [1000, 0], ids=["each element", "random directions"])
@pytest.mark.parametrize("name", SMOOTH)
def test_right_gradients_pass_with_little_error(name: str, elements: int) -> None:
    function, derivative = SMOOTH[name]
    x = values(3, 5)
    before = x.copy()
    report = check_gradients(
        lambda: function(x).sum(), {"x": x}, {"x": derivative(x)}, elements=elements
    )
    assert report.error < 1e-9
    assert report.kinks == ()
    assert report.points == (15 if elements else 6)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("elements", [1000, 0], ids=["each element", "random directions"])
@pytest.mark.parametrize("index", [(0, 0), (2, 1), (4, 6)])
def test_one_element_wrong_by_a_ten_thousandth_is_found(
    index: tuple[int, int], elements: int
) -> None:
    x = values(5, 7)
    gradient = np.cos(x)
    right = gradient[index]
    gradient[index] *= 1 + 1e-4
    with pytest.raises(GradientError) as caught:
        check_gradients(lambda: np.sin(x).sum(), {"x": x}, {"x": gradient}, elements=elements)
    error = caught.value
    assert not isinstance(error, KinkError)
    assert (error.name, error.index) == ("x", index)
    assert error.analytic == pytest.approx(gradient[index], rel=1e-12)
    assert error.numeric == pytest.approx(right, rel=1e-8)
    assert error.error > 1e-6
    assert f"x[{index[0]}, {index[1]}]: the backward pass gives {gradient[index]:.9g}" in str(error)


def test_operation_pairs_pass_and_name_the_wrong_argument() -> None:
    arrays = {"x": values(2, 3), "weight": values(3, 5, seed=1)}
    assert check_operation(power_sum, power_sum_backward, arrays).error < 1e-9

    def transposed(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray]:
        dx, dweight = power_sum_backward(dy, cache)
        return dx, dweight.T.reshape(dweight.shape)

    with pytest.raises(GradientError, match=r"^weight\[") as caught:
        check_operation(power_sum, transposed, arrays)
    assert caught.value.name == "weight"


def test_array_without_influence_passes_only_with_a_zero_gradient() -> None:
    x, unused = values(3), values(2, seed=1)
    check_gradients(
        lambda: np.sin(x).sum(), {"x": x, "unused": unused}, {"x": np.cos(x), "unused": [0.0, 0.0]}
    )
    with pytest.raises(GradientError, match=r"unused\[1\]"):
        check_gradients(
            lambda: np.sin(x).sum(),
            {"x": x, "unused": unused},
            {"x": np.cos(x), "unused": [0.0, 1e-3]},
        )


@pytest.mark.parametrize("at", [0.0, 3e-6, -3e-6, 1.2e-5, -1.9e-5])
def test_kink_is_reported_and_left_out(at: float) -> None:
    """|x|, with the kink at the middle point of the five or anywhere between the outer two."""
    x = values(12)
    x[4] = at
    report = check_gradients(lambda: np.abs(x).sum(), {"x": x}, {"x": np.sign(x)})
    assert report.kinks == ("x[4]",)
    assert report.points == 12


def test_jump_is_reported_as_a_kink() -> None:
    x = values(12)
    x[4] = 1e-6
    report = check_gradients(lambda: (x + (x > 0)).sum(), {"x": x}, {"x": np.ones(12)})
    assert report.kinks == ("x[4]",)


def test_wrong_gradient_at_a_smooth_place_is_not_called_a_kink() -> None:
    """Sharply curved is not kinked: the third derivative here is 1e6."""
    x = values(4)
    check_gradients(lambda: np.sin(100 * x).sum(), {"x": x}, {"x": 100 * np.cos(100 * x)})
    for factor in (1 + 1e-5, 0.0, -1.0, 2.0):
        with pytest.raises(GradientError) as caught:
            check_gradients(
                lambda: np.sin(100 * x).sum(), {"x": x}, {"x": factor * 100 * np.cos(100 * x)}
            )
        assert not isinstance(caught.value, KinkError)


def test_wrong_gradient_beside_a_small_kink_is_not_excused() -> None:
    x = values(12)
    x[4] = 0.0
    gradient = np.cos(x) + 1e-3 * np.sign(x)
    value = lambda: (np.sin(x) + 1e-3 * np.abs(x)).sum()  # noqa: E731
    assert check_gradients(value, {"x": x}, {"x": gradient}).kinks == ("x[4]",)
    gradient[4] *= -1
    with pytest.raises(GradientError, match=r"x\[4\]"):
        check_gradients(value, {"x": x}, {"x": gradient})


def test_kinks_are_no_way_out() -> None:
    x = values(12)
    x[3:6] = 0.0
    with pytest.raises(KinkError, match="3 of 12 places are kinks, at most 10% may be"):
        check_gradients(lambda: np.abs(x).sum(), {"x": x}, {"x": np.sign(x)})
    x, kinked = values(40), np.zeros(2)
    with pytest.raises(KinkError, match="kinked: every place tried is a kink"):
        check_gradients(
            lambda: np.sin(x).sum() + np.abs(kinked).sum(),
            {"x": x, "kinked": kinked},
            {"x": np.cos(x), "kinked": np.zeros(2)},
        )


def test_whole_pixels_are_kinks_of_the_sampler() -> None:
    """Where every network starts: at the identity."""
    image = np.random.default_rng(0).normal(size=(2, 5, 9, 3))
    grid, _ = ops.affine_grid(np.array([[[1.0, 0, 0], [0, 1, 0]]] * 2), (5, 9))
    arrays = {"image": image, "grid": grid}
    with pytest.raises(KinkError, match="grid: every place tried is a kink"):
        check_operation(ops.bilinear_sampler, ops.bilinear_sampler_backward, arrays)
    grid += 0.03
    report = check_operation(ops.bilinear_sampler, ops.bilinear_sampler_backward, arrays)
    assert report.kinks == ()


@pytest.mark.parametrize("kernel", KERNELS + VOLUME_KERNELS)
@pytest.mark.parametrize("border", BORDERS)
def test_points_on_pixels_and_borders(kernel: str, border: str) -> None:
    report = kinks.check_kinks(kernel, border)
    assert bool(report.kinks) == (kernel != "bicubic")
    assert report.error < 1e-6


def test_kinks_missing_or_too_many_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinks, "is_kink", lambda *place: False)
    with pytest.raises(GradientError, match=r"^grid\[0, 0, 10, 0\]: a kink is none$"):
        kinks.check_kinks("bilinear", "nearest")
    monkeypatch.setattr(kinks, "is_kink", lambda *place: True)
    with pytest.raises(GradientError, match=r"^grid\[0, 0, 0, 0\]: a kink is not found$"):
        kinks.check_kinks("bilinear", "nearest")


@pytest.mark.parametrize("divisor", [0.0, NEAR, -NEAR])
def test_the_horizon_and_what_is_kept_away_from_it_are_kinks(divisor: float) -> None:
    """d = p_7 + 1 in the last column of one row. p_8 counts for nothing there."""
    theta = np.array([[0.2, -0.1, 0.3, 0.1, -0.2, 0.4, divisor - 1, 0.0]])
    report = check_operation(
        lambda theta: ops.projective_grid(theta, (1, 4)),
        ops.projective_grid_backward,
        {"theta": theta},
        max_kinks=0.2,
    )
    assert report.kinks == ("theta[0, 6]",)


def test_not_a_number_fails() -> None:
    x = values(3)
    with pytest.raises(GradientError, match="gives nan"):
        check_gradients(lambda: x.sum(), {"x": x}, {"x": np.full(3, np.nan)})
    with pytest.raises(GradientError, match="finite differences nan"):
        check_gradients(lambda: np.nan, {"x": x}, {"x": np.ones(3)})


def test_unusable_arguments_are_refused() -> None:
    x = values(3)
    with pytest.raises(TypeError, match="x must be a float64"):
        check_gradients(lambda: 0.0, {"x": x.astype(np.float32)}, {"x": x})
    with pytest.raises(ValueError, match="gradients must be given for"):
        check_gradients(lambda: 0.0, {"x": x}, {"y": x})
    with pytest.raises(GradientError, match=r"must have shape \(3,\), got \(3, 1\)"):
        check_gradients(lambda: 0.0, {"x": x}, {"x": x[:, None]})
    masked = np.ma.masked_array(x, [True, False, False])
    with pytest.raises(TypeError, match=r"^x must be a plain array, got MaskedArray"):
        check_gradients(lambda: 0.0, {"x": masked}, {"x": x})
    with pytest.raises(TypeError, match="the gradient of x must be a plain array"):
        check_gradients(lambda: 0.0, {"x": x}, {"x": masked})
    with pytest.raises(TypeError, match="the gradient of x must be real numbers, got complex128"):
        check_gradients(lambda: (x**2).sum(), {"x": x}, {"x": 2 * x + 1j})
    for nothing in ({}, {"x": np.zeros((0, 3))}):
        with pytest.raises(ValueError, match="arrays have no element to check"):
            check_gradients(lambda: 0.0, nothing, nothing)
    for name in ("eps", "tolerance"):
        for number in (0, -1e-5, np.nan, np.inf, 1e-300):
            with pytest.raises(UserError, match=f"^{name} must be a number from .* got {number}"):
                check_gradients(lambda: 0.0, {"x": x}, {"x": 0 * x}, **{name: number})


@pytest.mark.parametrize("constant", [1e10, 1e12, 1e16, 1e300])
@pytest.mark.parametrize("factor", [0, 7])
def test_a_difference_that_drowns_in_rounding_is_refused(constant: float, factor: int) -> None:
    x = values(3)
    with pytest.raises(GradientError):
        check_gradients(lambda: float(constant + (x**2).sum()), {"x": x}, {"x": factor * x})
    if constant > 1e10:  # there the right one cannot be told either
        with pytest.raises(GradientError, match="the difference drowns in rounding, which hides"):
            check_gradients(lambda: float(constant + (x**2).sum()), {"x": x}, {"x": 2 * x})


def test_no_slope_at_a_minimum_is_right() -> None:
    x = np.zeros(3)
    check_gradients(lambda: float((x**2).sum()), {"x": x}, {"x": 0 * x})


def test_arrays_are_restored_when_the_function_raises() -> None:
    x = values(3)
    before = x.copy()
    with pytest.raises(ZeroDivisionError):
        check_gradients(lambda: 1 / 0, {"x": x}, {"x": x})
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", LAYERS)
def test_operation(name: str) -> None:
    report = check_problem(name)
    assert report.error < 1e-8
    assert report.kinks == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_network(name: str) -> None:
    assert check_problem(name).error < 1e-6


def test_every_check_is_run_by_a_test_above_or_below() -> None:
    """All problems are, by now; those at kinks and those of tied weights have tests of their own.

    Their number, since a check of another kind would need another test.
    """
    assert len(CHECKS) == len(PROBLEMS) + len(KERNELS + VOLUME_KERNELS) * len(BORDERS) + len(TIED)


@pytest.mark.parametrize("tied", TIED)
def test_tied_gradient_is_the_sum_of_both_uses(tied: str) -> None:
    report = check_tied_sum(tied, TIED[tied])
    assert report.error < 1e-14
    assert report.points == {"arch1-tstn": 92_672, "arch2-tstn": 286_432}[tied]
    with (
        replaced("layers.Conv2d.backward", last_use_only),
        pytest.raises(GradientError, match=r"its two uses give .* \+ "),
    ):
        check_tied_sum(tied, TIED[tied])


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=[pytest.mark.slow] * (fault.check in models.NETWORKS))
        for fault in FAULTS
    ],
    ids=lambda fault: f"{fault.check}: {fault.what}",
)
def test_fault_is_caught(fault: Fault) -> None:
    error = fault.caught()
    assert error is not None
    assert error.error > 1e-3


def test_fault_that_changes_nothing_is_refused() -> None:
    fault = Fault("relu", "ops.relu_backward", "nothing", result(lambda dx: dx))
    with pytest.raises(RuntimeError, match="this changes no gradient"):
        fault.caught()


def test_right_function_is_put_back() -> None:
    right = ops.conv2d_backward
    block = sys.modules["ministn.ops.conv_block"]
    with replaced("ops.conv2d_backward", result(np.negative)):
        assert ops.conv2d_backward is block.conv2d_backward is not right
    assert ops.conv2d_backward is block.conv2d_backward is right
    with replaced("layers.Conv2d.backward", last_use_only):  # which it inherits
        assert Conv2d.backward is not Weighted.backward
    assert Conv2d.backward is Weighted.backward and "backward" not in vars(Conv2d)


def test_command_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["affine_grid", "relu"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["check", "relu", *["affine_grid"] * 2]
    assert total.startswith("3 of 3 checks passed, largest relative error ")


def test_command_selects_whole_words() -> None:
    names = ["relu", "leaky_relu", "relu6", "arch1-relu", "theta, relu"]
    assert command.selected(names, ["relu"]) == ["relu", "arch1-relu", "theta, relu"]
    assert command.selected(names, ["leaky_relu", "theta, relu"]) == ["leaky_relu", "theta, relu"]
    assert command.selected(names, []) == names


def test_command_fails_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    with replaced("ops.dense_backward", result(lambda dweight: dweight * (1 + 1e-4), 1)):
        assert command.main(["dense", "relu"]) == 1
    output = capsys.readouterr().out
    assert "FAILED  weight[0, 0]: the backward pass gives" in output
    assert "1 of 2 checks passed" in output
    with replaced("ops.dense_backward", result(lambda dweight: dweight @ dweight, 1)):
        assert command.main(["dense", "relu"]) == 1
    output = capsys.readouterr().out
    assert "FAILED  ValueError: matmul" in output
    assert "1 of 2 checks passed" in output


def test_command_counts_faults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(["--faults", "relu"]) == 0
    assert "3 of 3 faults caught" in capsys.readouterr().out
    monkeypatch.setattr(Fault, "caught", lambda fault: None)
    assert command.main(["--faults", "relu"]) == 1
    output = capsys.readouterr().out
    assert "ESCAPED relu: the gate is forgotten" in output
    assert "0 of 3 faults caught" in output


def test_command_refuses_an_unknown_name() -> None:
    with pytest.raises(UserError, match="no check's name has the word 'nothing'"):
        command.main(["nothing"])


def test_module_runs() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ministn.gradcheck", "dropout"], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "2 of 2 checks passed" in ended.stdout
