"""Parameters, and the flat buffer that holds a network's parameters and gradients.

One rule: a backward pass *adds* its gradient, ``parameter.add(gradient)``; to begin anew before
each step, ``zero_grad``, is the caller's job. So a parameter that is used twice ends with the sum
of both gradients, which is all that weight tying is.

Nothing is zeroed for that: the first gradient after ``zero_grad`` is written, later ones are
added, and what nobody has written is zero once somebody reads it. Most weights are used once in a
step; to zero them first, and then add, would move five times as much memory.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np

from ministn.backend import Device, assign
from ministn.errors import FLOATS, UserError, check_arrays, check_index, check_kind, is_whole
from ministn.initializers import Initializer
from ministn.randomness import generator


class Parameter:
    """A named array to be learned. ``data`` and ``grad`` exist once a ParameterBuffer lays it out.

    name: its path, "classifier/conv1/weight". shape: with None for a length that follows from what
    its layer is given, until ``meet``. lr_multiplier: factor on the learning rate. every: it
    learns in the first of so many steps, and in the others is left as it is, moments and all.
    warm_up: over so many steps in which it learns, its rate rises evenly to what it is to be. All
    three are read when a ParameterBuffer is made.

    A copy, or what comes out of a pickle, has the values and no gradient: it computes, and learns
    once a ParameterBuffer lays it out, or where its buffer was copied along with it.

    Raises TypeError for a name or an initial that is none, ValueError for such a shape.
    """

    data: np.ndarray
    _grad: np.ndarray

    def __init__(self, name: str, shape: tuple[Any, ...], initial: Initializer) -> None:
        check_kind("name", name, str)
        known = isinstance(shape, tuple) and [n for n in shape if n is not None]
        if known is False or not all(is_whole(n) and n >= 0 for n in known):
            raise ValueError(f"shape must be whole numbers of at least 0, got {shape!r}")
        if not callable(initial):
            raise TypeError(f"initial must be an initializer, got {type(initial).__name__}")
        self.name = name
        self.shape = shape
        self.initial = initial
        self.lr_multiplier = 1.0
        self.every = 1
        self.warm_up = 1
        self._unused = False  # in this step: then what _grad holds is of an earlier one

    @property
    def grad(self) -> np.ndarray:
        """The sum of what was added since ``zero_grad``."""
        self.settle()
        return self._grad

    @grad.setter
    def grad(self, array: np.ndarray) -> None:
        """Where it lies from now on; ``parameter.grad += gradient`` comes by here, too."""
        self._grad, self._unused = array, False

    def add(self, gradient: np.ndarray) -> None:
        """What a use of the parameter adds to ``grad``.

        Raises TypeError for no float32 or float64, ValueError for another shape.
        """
        check_arrays(gradient=(gradient, " ".join(map(str, self.shape))))
        if self._unused:
            if gradient is not self._grad:
                self._grad[...] = gradient
            self._unused = False
        else:
            self._grad += gradient

    def room(self) -> np.ndarray | None:
        """Where the next gradient may be written before it is added; None if it may not."""
        return self._grad if self._unused else None

    def forget(self) -> None:
        """Begin anew."""
        self._unused = True

    def settle(self) -> None:
        """Zero, if nothing was added."""
        if self._unused:
            self._grad.fill(0)
            self._unused = False

    def meet(self, length: int) -> None:
        """Let a length that is not known be this one, with room for values if it was not."""
        if None in self.shape:
            self.shape = tuple(length if n is None else n for n in self.shape)
            self.data = np.zeros(self.shape, np.float32)

    @property
    def size(self) -> int:
        """Numbers in it. Raises UserError where the shape is not known yet."""
        if None in self.shape:
            raise UserError(
                f"parameter {self.name!r} {self.shape} does not know its layer's input yet: "
                "network.meet(shape), with that of an image, tells it"
            )
        return int(np.prod(self.shape))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_grad"}

    def __getattr__(self, name: str) -> NoReturn:
        """Of what is missing."""
        if name in ("data", "grad", "_grad"):
            raise AttributeError(
                f"parameter {self.__dict__.get('name')!r} has no {name.strip('_')}: make a "
                "ParameterBuffer of the network's parameters, or copy a network together with its "
                "optimizer"
            )
        raise AttributeError(f"a Parameter has no {name!r}")

    def __repr__(self) -> str:
        return f"Parameter({self.name!r}, {self.shape})"


def unique(parameters: Iterable[Parameter]) -> list[Parameter]:
    """The parameters in order, each once: a shared one counts at its first place.

    Raises TypeError for what is no Parameter, ValueError when two different ones have one name.
    """
    try:
        each = iter(parameters)
    except TypeError:
        raise TypeError(f"parameters must be several, got {type(parameters).__name__}") from None
    by_name: dict[str, Parameter] = {}
    for parameter in each:
        check_kind("each of parameters", parameter, Parameter)
        if by_name.setdefault(parameter.name, parameter) is not parameter:
            raise ValueError(f"two different parameters are named {parameter.name!r}")
    return list(by_name.values())


# Every parameter begins at a multiple of so many values: a GPU reads four floats at a time.
ALIGNMENT = 4


class Group(NamedTuple):
    """Parameters that are updated alike, and where they lie in the flat arrays."""

    part: slice
    lr_multiplier: float
    every: int
    warm_up: int


class ParameterBuffer:
    """All of a network's data and gradients, each in one flat array, with zeros in the gaps.

    Every Parameter's ``data`` and ``grad`` become views of ``data`` and ``grad`` here, and from
    then on are written in place only. Parameters that are updated alike are contiguous: ``groups``.

    A copy or pickle of it ties the parameters that were copied along to its own arrays.

    parameters: of one network, shared ones in any number. seed: initial values are drawn from
    (seed, name), so networks with equally named layers start equal. dtype: float32 to train,
    float64 to check gradients. device: the GPU that trains, None for the CPU.

    Raises TypeError for parameters or a dtype that are none, ValueError for such a seed.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        seed: int,
        dtype: type[np.floating] = np.float32,
        device: Device | None = None,
    ) -> None:
        if dtype not in FLOATS:
            raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
        check_index("seed", seed)
        self.parameters = sorted(
            unique(parameters), key=lambda p: (-p.lr_multiplier, p.every, p.warm_up)
        )
        initial = np.zeros(sum(_aligned(parameter.size) for parameter in self.parameters), dtype)
        self._data = initial if device is None else device.empty(initial.shape, initial.dtype)
        self.device = device
        self.groups: list[Group] = []
        drawn = self.views(initial)
        start = 0
        for parameter in self.parameters:
            stop = start + _aligned(parameter.size)
            drawn[parameter.name][...] = parameter.initial(
                parameter.shape, generator(seed, "initial values of " + parameter.name)
            )
            how = parameter.lr_multiplier, parameter.every, parameter.warm_up
            if self.groups and self.groups[-1][1:] == how:
                self.groups[-1] = Group(slice(self.groups[-1].part.start, stop), *how)
            else:
                self.groups.append(Group(slice(start, stop), *how))
            start = stop
        assign(self.data, initial)
        self.move(self.data, self.zeros())

    def move(self, data: np.ndarray, grad: np.ndarray) -> None:
        """Let data and gradients lie in these flat arrays, with the values that they hold."""
        self._data, self._grad = data, grad
        values, gradients = self.views(data), self.views(grad)
        for parameter in self.parameters:
            parameter.data, parameter.grad = values[parameter.name], gradients[parameter.name]
        self._tied = [(p, p.data, p.grad) for p in self.parameters]

    def check_tied(self) -> None:
        """Raise UserError unless each parameter's data and gradient still lie here."""
        for parameter, data, grad in self._tied:
            if vars(parameter).get("data") is not data or vars(parameter).get("_grad") is not grad:
                raise UserError(
                    f"parameter {parameter.name!r} does not lie in this ParameterBuffer any more: "
                    "another has been made of the network, or its data or grad was replaced; make "
                    "a new optimizer, and write into data and grad in place"
                )

    def check_has(self, parameters: Iterable[Parameter]) -> None:
        """Raise UserError unless all these lie here."""
        own = set(map(id, self.parameters))
        for parameter in parameters:
            if id(parameter) not in own:
                raise UserError(
                    f"the optimizer has not got parameter {parameter.name!r} of this network: it "
                    "is another network's, or one of the two has been copied without the other"
                )

    def _state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_tied"}

    def __getstate__(self) -> dict[str, Any]:
        if self.device is not None:
            raise TypeError(
                "a network on a GPU cannot be pickled: checkpoint.save takes its arrays"
            )
        return self._state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.move(self.data, self._grad)

    def __copy__(self) -> NoReturn:
        raise TypeError("a ParameterBuffer is what parameters lie in: copy.deepcopy copies both")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self.device)] = self.device  # there is one GPU, however many networks
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__setstate__(deepcopy(self._state(), memo))
        return made

    @property
    def data(self) -> np.ndarray:
        """All values. Raises UserError for another array in its place: parameters lie in this."""
        return self._data

    @data.setter
    def data(self, array: np.ndarray) -> None:
        if array is not self._data:  # it is where ``buffer.data += values`` has been done in place
            raise UserError("data of a ParameterBuffer cannot be replaced: write into data[...]")

    @property
    def grad(self) -> np.ndarray:
        """All gradients."""
        self.settle()
        return self._grad

    def settle(self) -> None:
        """Make the gradients of parameters that were not used zero, where others read the array."""
        for parameter in self.parameters:
            parameter.settle()

    @property
    def count(self) -> int:
        """Numbers to be learned."""
        return sum(parameter.size for parameter in self.parameters)

    def views(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """A flat array like ``data`` as the parameters' names and their parts of it."""
        check_arrays(flat=(flat, f"{self.data.size}"))
        found, start = {}, 0
        for parameter in self.parameters:
            part = flat[start : start + parameter.size]
            found[parameter.name] = part.reshape(parameter.shape)
            start += _aligned(parameter.size)
        return found

    def zeros(self) -> np.ndarray:
        """A new array like ``data``."""
        if self.device is not None:
            return self.device.zeros(self.data.shape, self.data.dtype)
        return np.zeros_like(self.data)

    def zero_grad(self) -> None:
        """Begin a step: all gradients are zero, see above."""
        for parameter in self.parameters:
            parameter.forget()


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
