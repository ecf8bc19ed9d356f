"""A classifier, with or without spatial transformers in front of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import numpy as np

from ministn.backend import to_cpu
from ministn.errors import UserError, check_arrays, check_kind
from ministn.layers import Sequential
from ministn.parameter import Parameter, unique
from ministn.randomness import Step
from ministn.shapes import Shape, met, table
from ministn.transformer import Attended, Front, SpatialTransformer


class NetworkCache(NamedTuple):
    """transformer: of what is in front, with its theta; None without."""

    transformer: Any
    classifier: Any


class Network:
    """Images (N, H, W, C) -> logits (N, classes), through what is in ``front`` if anything is.

    front: a transformer, several in parallel, or one that hands theta on or looks several times.
    There may be more among the classifier's layers. shape: of the images, (H, W, C), if layers are
    to be told at once, see ``meet``. Raises TypeError for anything else, and as ``meet`` does.

    turns: after how many steps training comes back to the same part of it, see ``at``.
    """

    turns = 1

    def __init__(
        self, classifier: Sequential, front: Front | None = None, shape: Shape | None = None
    ) -> None:
        check_kind("classifier", classifier, Sequential)
        if front is not None:
            check_kind("front", front, *get_args(Front))
        self.classifier = classifier
        self.front = front
        self.shape: Shape | None = None  # of the images that it has met
        self.outputs: dict[str, Shape] = {}  # then, by the layers' paths
        self.fitted: Any = None  # what fit came to, with which another call goes on
        if shape is not None:
            self.meet(shape)

    def meet(self, shape: Shape) -> None:
        """Tell layers that do not know it what their input is like, for images of shape (H, W, C).

        Raises ValueError, with the layer's path, where a layer cannot have what the one before
        makes; for a shape as check_size does.
        """
        self.outputs = dict(met(self._all(), shape))
        self.shape = tuple(shape)

    def __repr__(self) -> str:
        """A table of the layers, with their outputs where the images' shape is known."""
        images = "" if self.shape is None else f", images {'x'.join(map(str, self.shape))}"
        return table(self._all(), self.outputs, type(self).__name__ + images)

    def at(self, number: int) -> "Network":
        """What the step of this number, from 0, trains: all of it."""
        return self

    @property
    def transformer(self) -> SpatialTransformer | None:
        """The first transformer in front."""
        return None if self.front is None else self.front.at_input[0]

    @property
    def transformers(self) -> Sequence[SpatialTransformer]:
        """All of them, those among the classifier's layers too."""
        return self._all().transformers

    def thetas(self, cache: NetworkCache) -> Sequence[np.ndarray]:
        """theta (N, 2, 3) of each of them, as the call's cache has it: what training watches."""
        front = [] if self.front is None else self.front.thetas(cache.transformer)
        return [*front, *self.classifier.thetas(cache.classifier)]

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, NetworkCache | None]:
        check_arrays(x=(x, "N H W C"))
        transformer_cache: Any = None
        if self.front is not None:
            x, transformer_cache = self.front.forward(x, step)
        logits, classifier_cache = self.classifier.forward(x, step)
        return logits, None if step is None else NetworkCache(transformer_cache, classifier_cache)

    def backward(self, dlogits: np.ndarray, cache: NetworkCache) -> None:
        """Add to every parameter's gradient. The images' own gradient is not wanted."""
        if self.front is None:
            self.classifier.backward(dlogits, cache.classifier, need_dx=False)
        else:
            dwarped = self.classifier.backward(dlogits, cache.classifier)
            assert dwarped is not None
            self.front.backward(dwarped, cache.transformer, need_dx=False)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Attended]]:
        """Logits (N, classes), and where each of ``transformers`` looked; in evaluation mode."""
        return self._all().predict(x)

    def at_work(self, x: np.ndarray) -> list[tuple[Front, np.ndarray]]:
        """Its transformers as they are arranged, in order, and what each arrangement is given."""
        return list(self._all().at_work(x))

    def parameters(self) -> list[Parameter]:
        """Every parameter once; the classifier's first, so it names what both networks share."""
        parameters = self.classifier.parameters()
        if self.front is not None:
            parameters = parameters + self.front.parameters()
        return unique(parameters)

    def fixed_parameters(self) -> list[Parameter]:
        """What it needs and does not learn, to be laid out in a buffer of its own."""
        return self._all().fixed_parameters()

    @property
    def count(self) -> int:
        """Numbers to be learned."""
        return sum(parameter.size for parameter in self.parameters())

    def localisation_only(self) -> list[Parameter]:
        """The parameters that only localisation networks have: what --loc-lr multiplies."""
        shared = {id(parameter) for parameter in self._all().outside_localisation()}
        return [p for p in self.parameters() if id(p) not in shared]

    def first_non_finite(self, x: np.ndarray, step: Step) -> str | None:
        """Path of the first layer whose output for ``x`` is not finite, in order of execution."""
        for path, y in self._all().outputs(x, step):
            if not np.isfinite(to_cpu(y)).all():
                return path
        return None

    def _all(self) -> Sequential:
        """What is in front, if anything is, and the classifier's layers."""
        return Sequential(*([] if self.front is None else [self.front]), *self.classifier.layers)


def weights_of(network: Network) -> list[Parameter]:
    """All parameters of a network, learned and fixed.

    Raises TypeError for what is no network, UserError for one that has no weights yet.
    """
    check_kind("network", network, Network)
    parameters = [*network.parameters(), *network.fixed_parameters()]
    for parameter in parameters:
        if not hasattr(parameter, "data"):
            raise UserError(
                f"the network has no weights yet, {parameter.name} for one: fit or load it first"
            )
    return parameters
