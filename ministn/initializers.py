"""How parameters get their first values: Lasagne's initialisers, in its formulas.

An initialiser is called with a shape and a generator and returns float64 values. The last axis of
a weight is its outputs and all others are its inputs, for convolutions (kh, kw, C, K) and dense
layers (D, K) alike, so fan_in is the product of all axes but the last.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ministn.errors import check_number, check_plain, is_number

Initializer = Callable[[tuple[int, ...], np.random.Generator], np.ndarray]


class HeUniform:
    """U(-a, a) with standard deviation gain / sqrt(fan_in), so a = gain * sqrt(3 / fan_in).

    He et al. 2015. gain is sqrt(2) before a ReLU (TSTN section 2.2: std sqrt(2/n_i)); Lasagne's
    default, which the Recipes notebook uses in most layers, is 1.
    """

    def __init__(self, gain: float = np.sqrt(2.0)) -> None:
        self.gain = check_number("gain", gain, 0)

    def __call__(self, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        bound = self.gain * np.sqrt(3.0 / np.prod(shape[:-1]))
        return generator.uniform(-bound, bound, shape)


class GlorotUniform:
    """U(-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)). Glorot & Bengio 2010.

    fan_out counts a convolution's outputs times the kernel's area, as fan_in does its inputs.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = check_number("gain", gain, 0)

    def __call__(self, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        *kernel, fan_in, fan_out = shape
        bound = self.gain * np.sqrt(6.0 / ((fan_in + fan_out) * np.prod(kernel)))
        return generator.uniform(-bound, bound, shape)


class Uniform:
    """U(-bound, bound). PyTorch's layers begin with bound 1 / sqrt(fan_in), weights and biases."""

    def __init__(self, bound: float) -> None:
        self.bound = check_number("bound", bound, 0)

    def __call__(self, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-self.bound, self.bound, shape)


class Normal:
    """Zero-mean Gaussian with the given standard deviation."""

    def __init__(self, std: float = 0.01) -> None:
        self.std = check_number("std", std, 0)

    def __call__(self, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        return generator.normal(0.0, self.std, shape)


class Constant:
    """The same value everywhere, or one given array. Raises ValueError for no numbers."""

    def __init__(self, value: float | Sequence[float] | np.ndarray) -> None:
        if isinstance(value, np.ndarray):
            check_plain("value", value)
            numeric = value.dtype.kind in "iuf"
        else:
            numeric = all(map(is_number, np.array(value, object).flat))
        if not numeric:
            raise ValueError(f"value must be a number or several, got {type(value).__name__}")
        self.value = value

    def __call__(self, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.value, np.float64), shape)


ZEROS = Constant(0.0)
