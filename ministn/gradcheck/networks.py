"""The whole networks as problems for the checker, in a perturbed state."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ministn.data import Form
from ministn.data.colocalisation import Compared
from ministn.gradcheck.check import GradientError, Problem, Report, written
from ministn.initializers import Constant, Normal
from ministn.layers import (
    AvgPool2d,
    AvgPool3d,
    Bounded,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    Projection,
    ReLU,
    Reshape,
    Sequential,
    Standardised,
    Tanh,
)
from ministn.models import NETWORKS, Architecture, Colocaliser, Network
from ministn.models.controls import NextImage
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.recurrent import GRU, Mean
from ministn.tasks import Classification, Colocalisation
from ministn.transformer import (
    Apart,
    Glimpses,
    HandOn,
    Iterated,
    Parallel,
    Resize,
    SpatialTransformer,
    Towers,
    transforms,
    windows,
)
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import AFFINE, Size, Transform

STEP = Step(seed=1, number=2)  # training mode, with this one dropout mask
CLASSES = 5
TRANSFORMS: dict[str, Callable[[Size], Transform]] = {
    "attention": lambda output: transforms.Attention(),
    "translation": lambda output: transforms.Translation(),
    "translation at a scale": lambda output: transforms.Translation(0.6),
    "similarity": lambda output: transforms.Similarity(),
    "projective": lambda output: transforms.Projective(),
    "thin plate spline": lambda output: transforms.ThinPlateSpline(),
    "piecewise affine": lambda output: transforms.PiecewiseAffine(3, 2),
    "general": lambda output: transforms.General("transform", transforms.Attention(), output),
}
TIED = {"arch1-tstn": "arch1-untied", "arch2-tstn": "arch2-untied"}


def network_problem(
    network: Architecture,
    size: tuple[int, ...],
    channels: int = 1,
    labels: tuple[int, ...] = (),
    turn: int = 0,
) -> Problem:
    """The loss of a network for images of this size, (H, W), or volumes, (D, H, W).

    labels: shape of an image's labels, () for one. turn: of what is trained by turns.
    """
    shape = (*size, channels) if len(size) == 2 else size
    built = network.build(Form(size, channels, CLASSES, labels))
    return loss_problem(built.at(turn), shape, labels)


def colocalisation_problem() -> Problem:
    """The loss of some pairs, through the encoder that describes what the transformer cuts out."""
    network, task = Colocaliser().build(Form((33, 31))), Colocalisation()
    buffer = perturbed(ParameterBuffer(network.parameters(), 0, np.float64))
    ParameterBuffer(network.fixed_parameters(), 0, np.float64)
    images = generator(1, "gradcheck images").uniform(0, 1, (4, 33, 31, 1))
    pairs = np.array([[0, 1], [1, 2], [2, 0], [3, 1]], np.int32)
    labels = Compared(pairs, np.zeros((4, 4)), (33, 31))

    def forward() -> tuple[float, Callable[[], None]]:
        y, cache = network.forward(images, STEP)
        loss, loss_cache = task.loss(y, labels)

        def backward() -> None:
            assert cache is not None  # it is None in evaluation only
            network.backward(task.loss_backward(loss_cache), cache)

        return loss, backward

    return _problem(forward, buffer)


def loss_problem(
    network: Network, shape: tuple[int, ...], labels_shape: tuple[int, ...] = ()
) -> Problem:
    """The loss on two random images or volumes of this shape, as a function of every parameter."""
    buffer = perturbed(ParameterBuffer(network.parameters(), 0, np.float64))
    rng = generator(1, "gradcheck images")
    images = rng.uniform(0, 1, (2, *shape))
    labels = rng.integers(0, CLASSES, (2, *labels_shape))
    task = Classification()

    def forward() -> tuple[float, Callable[[], None]]:
        logits, cache = network.forward(images, STEP)
        loss, loss_cache = task.loss(logits, labels)

        def backward() -> None:
            assert cache is not None  # it is None in evaluation only
            network.backward(task.loss_backward(loss_cache), cache)

        return loss, backward

    return _problem(forward, buffer)


def transformer_problem(build: Callable[[Size], Transform] = lambda output: AFFINE) -> Problem:
    """A transformer whose input's gradient is wanted: it is looked at and it is sampled."""
    return layer_problem(_transformer("", (5, 7), (3, 4), build((3, 4))))


def parallel_problem(*made: Transform) -> Problem:
    """Transformers of one input, whose gradient is the sum of all uses."""
    each = [_transformer(f"{k}/", (5, 7), (3, 4), transform) for k, transform in enumerate(made)]
    return layer_problem(Parallel(*each))


def series_problem() -> Problem:
    """Feature maps through a transformer, a convolution and another transformer."""
    first = _transformer("first/", (5, 7), (6, 5), transforms.ThinPlateSpline())
    second = _transformer("second/", (6, 5), (3, 4), AFFINE)
    return layer_problem(Sequential(Conv2d("a", 2, 2), first, Conv2d("b", 2, 2), second))


def hand_on_problem() -> Problem:
    """theta used twice: for the grid, and beside what the layers make of V."""
    transformer = _transformer("", (5, 7), (3, 4), transforms.Similarity())
    handing = HandOn(transformer, Conv2d("conv", 2, 3), Flatten("flatten"))
    return layer_problem(Sequential(handing, Dense("dense", 3 * 4 * 3 + 4, 2)))


def glimpses_problem(transform: Transform, **sampled: Any) -> Problem:
    """Three glimpses of feature maps, all through the same layers. sampled: how, see Sampler."""
    localisation = Sequential(
        Flatten("flatten"), GRU("gru", 5 * 7 * 2, 4, 3), Dense("theta", 4, len(transform.identity))
    )
    transformer = SpatialTransformer(
        localisation, (3, 4), transform=transform, sampler=Sampler(**sampled)
    )
    layers = Conv2d("conv", 2, 3, activation=None), Flatten("read"), Dense("dense", 36, 2)
    return layer_problem(Sequential(Conv2d("a", 2, 2), Glimpses(transformer, *layers, glimpses=3)))


def windows_problem(count: int, scale: float, **sampled: Any) -> Problem:
    """Windows of feature maps that one localisation network moves, each read by its own tower."""
    looking = [Conv2d("looking", 2, 2), Flatten("flatten")]
    front = windows(looking, 5 * 7 * 2, count, (3, 4), scale=scale, sampler=Sampler(**sampled))
    towers = [
        Sequential(Conv2d(f"conv {k}", 2, k + 1, activation=None), Flatten(f"flatten {k}"))
        for k in range(count)
    ]
    return layer_problem(Sequential(Conv2d("a", 2, 2), front, Towers(*towers)), moved=True)


def iterated_problem(looks: str, order: str, **sampled: Any) -> Problem:
    """Several looks at feature maps: "aab" is the network a twice, then b. sampled: see Sampler.

    All share a convolution, with each other and with what reads V.
    """
    shared = Conv2d("shared", 2, 2, activation=None)
    networks = {
        one: Sequential(
            shared,
            Dropout("dropout", 0.2),
            Flatten("flatten"),
            Dense(f"theta {one}", 5 * 7 * 2, 6, initial_bias=Constant(AFFINE.identity)),
        )
        for one in sorted(set(looks))
    }
    sampler = Sampler(**sampled)
    localisation = Iterated(*(networks[one] for one in looks), order=order, sampler=sampler)
    transformer = SpatialTransformer(localisation, (3, 4), sampler=sampler)
    return layer_problem(Sequential(Conv2d("a", 2, 2), transformer, shared))


def volume_problem() -> Problem:
    """A transformer of volumes."""
    theta = Dense("theta", 5 * 4 * 6, 12)
    layer = SpatialTransformer(
        Sequential(Flatten("flatten"), theta),
        (3, 2, 4),
        transform=transforms.Affine3d(),
        sampler=Sampler("trilinear"),
    )
    return layer_problem(layer, (5, 4, 6))


def _transformer(owner: str, size: Size, output: Size, transform: Transform) -> SpatialTransformer:
    """Of images (*size, 2); its localisation network is one dense layer."""
    theta = Dense(f"{owner}theta", size[0] * size[1] * 2, len(transform.identity))
    localisation = Sequential(Flatten(f"{owner}flatten"), theta)
    return SpatialTransformer(localisation, output, transform=transform)


def layer_problem(
    layer: Any, shape: tuple[int, ...] = (5, 7, 2), *, moved: bool = False
) -> Problem:
    """A product with what a layer makes of two images or volumes, by parameters and these.

    moved: whether the parameters are moved off their start.
    """
    buffer = ParameterBuffer(layer.parameters(), 0, np.float64)
    buffer = perturbed(buffer) if moved else buffer
    rng = generator(1, "gradcheck images")
    x = rng.uniform(-0.5, 0.5, (2, *shape))
    dx = np.zeros_like(x)
    dy = rng.normal(size=layer.forward(x)[0].shape)

    def forward() -> tuple[float, Callable[[], None]]:
        y, cache = layer.forward(x, STEP)

        def backward() -> None:
            assert cache is not None
            dx[...] = layer.backward(dy, cache)

        return float(np.sum(y * dy)), backward

    return _problem(forward, buffer, x=(x, dx))


LAYERS: dict[str, Callable[[], Problem]] = {
    "Conv2d": lambda: layer_problem(Conv2d("conv", 2, 3, pool=True)),
    "Conv2d, leaky ReLU, no bias": lambda: layer_problem(
        Conv2d("conv", 2, 3, pool=True, activation="leaky_relu", bias=False)
    ),
    "Dense": lambda: layer_problem(Dense("dense", 6, 5), (6,)),
    "GRU": lambda: layer_problem(GRU("gru", 6, 5, 3, initial=Normal(1)), (6,)),
    "Mean": lambda: layer_problem(Mean("mean"), (3, 5)),
    "ReLU": lambda: layer_problem(ReLU("relu")),
    "LeakyReLU": lambda: layer_problem(LeakyReLU("leaky", 0.1)),
    "Tanh": lambda: layer_problem(Tanh("tanh")),
    "Bounded": lambda: layer_problem(Bounded("bounded", [-1, 0, 2], [0.5, 1, 5]), (3,)),
    "Standardised": lambda: layer_problem(Standardised("standardised", 0.1, 0.3)),
    "MaxPool2d": lambda: layer_problem(MaxPool2d("pool")),
    "MaxPool2d, overlapping": lambda: layer_problem(MaxPool2d("pool", 3, 2)),
    "AvgPool2d": lambda: layer_problem(AvgPool2d("pool", 3)),
    "AvgPool3d": lambda: layer_problem(AvgPool3d("pool"), (5, 7, 4)),
    "Projection": lambda: layer_problem(Projection("projection"), (5, 7, 4)),
    "Dropout": lambda: layer_problem(Dropout("dropout"), (6,)),
    "Dropout, images": lambda: layer_problem(Dropout("dropout")),
    "Flatten": lambda: layer_problem(Flatten("flatten")),
    "Reshape": lambda: layer_problem(Reshape("reshape", 3, 2), (6,)),
    "Apart": lambda: layer_problem(Apart("apart", 3), (6,)),
    "Towers": lambda: layer_problem(
        Towers(Sequential(Flatten("a"), Dense("b", 24, 3)), Flatten("c")), (2, 3, 4, 2)
    ),
    "NextImage": lambda: layer_problem(NextImage("next")),
    "Resize": lambda: layer_problem(Resize("resize", (3, 4))),
}


def perturbed(buffer: ParameterBuffer) -> ParameterBuffer:
    """Move every value off its start.

    There theta is the identity for every image: all samples sit on whole pixels, where the
    sampler has kinks, and the localisation network's gradients are zero.
    """
    for parameter in buffer.parameters:
        rng = generator(0, "gradcheck perturbation of " + parameter.name)
        parameter.data += rng.uniform(-0.05, 0.05, parameter.shape)
    return buffer


def check_tied_sum(tied: str, untied: str, tolerance: float = 1e-12) -> Report:
    """The gradient of shared weights is the sum of the gradients of their two uses.

    The untied network gets the tied one's values, the shared ones twice. So it computes the same
    loss, but has the gradient of each use by itself. Raises GradientError where the sum differs
    by more than ``tolerance`` of the array's largest gradient, or where a use has none.
    """
    together, apart = (network_problem(NETWORKS[name], (13, 17)) for name in (tied, untied))
    owner = {
        name: name if name in together.arrays else name.replace("localisation", "classifier")
        for name in apart.arrays
    }
    for name, array in apart.arrays.items():
        array[...] = together.arrays[owner[name]]
    wholes, uses = together.gradients(), apart.gradients()
    error, where, points = 0.0, "nowhere", 0
    for name in (name for name in uses if owner[name] != name):
        whole, use, other = wholes[owner[name]], uses[name], uses[owner[name]]
        difference = abs(whole - (use + other)) / abs(whole).max()
        index = tuple(int(i) for i in np.unravel_index(difference.argmax(), difference.shape))
        place = owner[name] + written(index)
        if not (difference[index] < tolerance and use.any() and other.any()):
            raise GradientError(
                f"{place}: the shared gradient is {whole[index]:.9g}, "
                f"its two uses give {other[index]:.9g} + {use[index]:.9g}",
                owner[name],
                index,
                whole[index],
                use[index] + other[index],
                difference[index],
            )
        points += whole.size
        if difference[index] >= error:
            error, where = difference[index], place
    return Report(float(error), where, points, ())


def _problem(
    forward: Callable[[], tuple[float, Callable[[], None]]],
    buffer: ParameterBuffer,
    **inputs: tuple[np.ndarray, np.ndarray],
) -> Problem:
    """forward() -> value and its backward pass, which adds to the buffer's gradients.

    inputs: further arrays, each with the array that the backward pass writes its gradient to.
    """

    def gradients() -> dict[str, Any]:
        buffer.zero_grad()
        _, backward = forward()
        backward()
        found = {name: dx for name, (_, dx) in inputs.items()}
        found |= {parameter.name: parameter.grad for parameter in buffer.parameters}
        return {name: gradient.copy() for name, gradient in found.items()}

    arrays = {name: x for name, (x, _) in inputs.items()}
    arrays |= {parameter.name: parameter.data for parameter in buffer.parameters}
    return Problem(lambda: forward()[0], arrays, gradients)
