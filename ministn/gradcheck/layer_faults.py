"""Ways to get the backward pass of layers, transforms and networks wrong: see faults.py."""

import numpy as np

from ministn.gradcheck.breaking import (
    Function,
    How,
    arriving,
    channels_first,
    first,
    first_use_only,
    incoming,
    last_use_only,
    nothing_arrives,
    nothing_returned,
    only,
    other_border,
    passed_on,
    result,
    run_twice,
    skipped,
    truncated,
)
from ministn.layers import WithoutParameters


def column_major(dtheta: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(N, P) as of matrices that were written down by columns."""
    return dtheta.reshape(-1, rows, columns).swapaxes(1, 2).reshape(dtheta.shape)


def without_last(dy: np.ndarray, count: int) -> np.ndarray:
    """(N, D) with zeros in the last columns."""
    return np.concatenate([dy[:, :-count], 0 * dy[:, -count:]], axis=1)


def exchanged(right: Function) -> Function:
    """Two gradients change places."""
    return lambda *arguments: right(*arguments)[::-1]


def at_height(height: int, position: int) -> How:
    """Where dy is so many rows high, the gradient at ``position`` of several is lost."""
    lost = only(position, incoming(np.zeros_like))
    return lambda right: (
        lambda dy, *rest: (lost(right) if dy.shape[1] == height else right)(dy, *rest)
    )


# (the check, what is broken): {the mistake: how it is made}
LAYER_FAULTS: dict[tuple[str, str], dict[str, How]] = {
    ("layer ReLU", "layers.WithoutParameters.backward"): {"the operation is skipped": passed_on},
    ("layer LeakyReLU", "layers.WithoutParameters.backward"): {
        "the operation is skipped": passed_on,
    },
    ("layer Tanh", "layers.WithoutParameters.backward"): {"the operation is skipped": passed_on},
    ("layer Conv2d, leaky ReLU, no bias", "layers.Conv2d.backward"): {
        "the layer goes backward twice": run_twice,
    },
    ("layer Bounded", "layers.Bounded.backward"): {
        "the factor high - low is forgotten": lambda right: WithoutParameters.backward,
    },
    ("layer Standardised", "layers.Standardised.backward"): {
        "the deviation is forgotten": passed_on,
    },
    ("layer Reshape", "layers.Reshape.backward"): {
        "labels and scores are exchanged": arriving(lambda dy: dy.swapaxes(1, 2).reshape(dy.shape)),
    },
    ("layer Mean", "recurrent.Mean.backward"): {
        "the operation is skipped": lambda right: lambda one, dy, *more: dy[:, None].repeat(3, 1),
        "steps and scores are exchanged": result(lambda dx: dx.swapaxes(1, 2).reshape(dx.shape)),
    },
    ("layer Resize", "transformer.resize.Resize.backward"): {
        "height and width are exchanged": arriving(lambda dy: dy.swapaxes(1, 2).reshape(dy.shape)),
    },
    ("layer NextImage", "models.controls.NextImage.backward"): {
        "dx is that of the image itself": passed_on,
    },
    ("layer GRU", "recurrent.GRU.backward"): {
        "the rows are taken for all images' first states, then the next": arriving(
            lambda dy: dy.reshape(3, 2, 5).swapaxes(0, 1).reshape(dy.shape)
        ),
        "the layer goes backward twice": run_twice,
    },
    ("spatial transformers in series", "layers.Sequential.backward"): {
        "the layers go backward twice": run_twice,
    },
    ("spatial transformer", "transformer.spatial.SpatialTransformer.backward"): {
        "dx of what is looked at and sampled is halved": result(lambda dx: dx / 2),
    },
    ("spatial transformer", "layers.Flatten.backward"): {
        "what is looked at gets no gradient": nothing_returned,
    },
    ("spatial transformer", "ops.bilinear_sampler_backward"): {
        "what is sampled gets no gradient": result(lambda dimage: 0 * dimage),
    },
    ("spatial transformer", "transformer.transforms.Affine.backward"): {
        "theta is column-major": result(lambda dtheta: column_major(dtheta, 2, 3)),
    },
    ("spatial transformer of volumes", "transformer.transforms.Affine3d.backward"): {
        "theta is column-major": result(lambda dtheta: column_major(dtheta, 3, 4)),
    },
    ("spatial transformer, projective", "transformer.transforms.Projective.backward"): {
        "theta begins with p_8": result(lambda dtheta: np.roll(dtheta, 1, axis=1)),
    },
    ("spatial transformer, attention", "transformer.transforms.Linear.backward"): {
        "theta is taken for (t_x, t_y, s)": result(lambda dtheta: np.roll(dtheta, 1, axis=1)),
    },
    ("spatial transformer, thin plate spline", "transformer.transforms.Linear.backward"): {
        "offsets in x and y exchanged": result(lambda dtheta: np.roll(dtheta, 16, axis=1)),
    },
    ("spatial transformer, general", "transformer.transforms.General.backward"): {
        "the gradient of B is added twice": run_twice,
    },
    ("spatial transformer, theta handed on", "transformer.spatial.SpatialTransformer.backward"): {
        "theta's other use is forgotten": lambda right: lambda *given: right(*given[:4]),
    },
    ("spatial transformer, theta handed on", "transformer.arrangements.parted"): {
        "theta is looked for in front": lambda right: (
            lambda y, widths: right(y, widths[::-1])[::-1]
        ),
    },
    ("spatial transformer, theta handed on", "transformer.arrangements.HandOn.backward"): {
        "what is handed on gets no gradient": arriving(lambda dy: without_last(dy, 4)),
    },
    ("spatial transformers, 2 in parallel", "transformer.arrangements.Parallel.backward"): {
        "the last one's channels come first": arriving(lambda dy: np.roll(dy, 2, axis=-1)),
    },
    ("spatial transformer, 3 glimpses", "transformer.arrangements.Glimpses.backward"): {
        "the layers' last use alone is counted": arriving(lambda dy: dy * [[[0], [0], [1]]]),
        "the first glimpses of all images come first": arriving(
            lambda dy: dy.swapaxes(0, 1).reshape(dy.shape)
        ),
    },
    ("spatial transformer, 3 glimpses", "transformer.transforms.Affine.backward"): {
        "theta gets the gradient of the glimpse before": result(
            lambda dtheta: np.roll(dtheta, 1, axis=0)
        ),
    },
    ("spatial transformer, 3 glimpses", "ops.bilinear_sampler_backward"): {
        "what is sampled has the gradient of its first use": only(0, first(1, 3)),
    },
    ("spatial transformer, 3 glimpses", "ops.gru_backward"): {
        "each glimpse forgets the one before": truncated,
    },
    ("layer Apart", "transformer.parts.Apart.backward"): {
        "all first things come first": arriving(
            lambda dy: dy.reshape(3, 2, 2).swapaxes(0, 1).reshape(dy.shape)
        ),
    },
    ("layer Towers", "transformer.parts.Towers.backward"): {
        "the last tower's features come first": arriving(lambda dy: np.roll(dy, 24, axis=1)),
        "the crops change places": result(lambda dx: dx[:, ::-1]),
    },
    ("spatial transformers, 2 windows", "transformer.parts.Apart.backward"): {
        "each window gets the other's gradient": arriving(
            lambda dy: dy.reshape(-1, 2, 2)[:, ::-1].reshape(dy.shape)
        ),
    },
    ("spatial transformers, 2 windows", "transformer.transforms.Linear.backward"): {
        "theta is taken for (t_y, t_x)": result(lambda dtheta: dtheta[:, ::-1].copy()),
    },
    ("spatial transformers, 4 windows, averaged", "transformer.parts.Towers.backward"): {
        "a window gets the next one's gradient": result(lambda dx: np.roll(dx, 1, axis=1)),
    },
    ("spatial transformer, 3 looks", "transformer.iterated.Iterated.backward"): {
        "the looks go backward twice": run_twice,
        "dx of what is looked at and sampled is halved": result(lambda dx: dx / 2),
    },
    ("spatial transformer, 3 looks", "ops.compose_backward"): {
        "theta and what one more look predicts change places": exchanged,
    },
    ("spatial transformer, 3 looks from the left", "ops.compose_backward"): {
        "theta and what one more look predicts change places": exchanged,
    },
    ("spatial transformer, 3 looks", "ops.bilinear_sampler_backward"): {
        "what is sampled to be looked at gets no gradient": at_height(5, 0),
        "what is looked at does not depend on theta": at_height(5, 1),
    },
    ("spatial transformer, 3 looks", "layers.Dense.backward"): {
        "of a network's two looks the first is dropped": last_use_only,
        "of a network's two looks the second is dropped": first_use_only,
    },
    ("spatial transformer, 3 looks from the left", "layers.Conv2d.backward"): {
        "only what reads V is learned by the shared layer": first_use_only,
    },
    ("spatial transformer, 3 looks", "ops.dropout_backward"): {
        "dropout is forgotten": skipped,
    },
    ("rnn-spn-d2", "recurrent.GRU.backward"): {
        "only the last glimpse moves the one before": arriving(
            lambda dy: dy * (np.arange(len(dy)) % 3 == 2)[:, None]
        ),
    },
    ("rnn-spn-d2", "ops.dropout_backward"): {"dropout is forgotten": skipped},
    ("rnn-spn-d2", "transformer.arrangements.Glimpses.backward"): {
        "the digits are read in the order of the images": arriving(
            lambda dy: dy.swapaxes(0, 1).reshape(dy.shape)
        ),
    },
    ("ffn-spn-d2", "layers.Reshape.backward"): {
        "the softmax layers' scores are mixed up": arriving(
            lambda dy: dy.swapaxes(1, 2).reshape(dy.shape)
        ),
    },
    ("colocalisation", "models.colocalisation.Description.backward"): {
        "the scores get no gradient": arriving(lambda dy: without_last(dy, 10)),
    },
    ("arch1-cnn", "ops.dropout_backward"): {"dropout is forgotten": skipped},
    ("arch1-cnn", "layers.Flatten.backward"): {"flattened channels first": channels_first},
    ("arch1-cnn", "layers.Dense.backward"): {"a layer goes backward twice": run_twice},
    ("arch1-untied", "transformer.spatial.SpatialTransformer.backward"): {
        "the classifier's dx is not handed on": nothing_arrives,
    },
    ("arch2-untied", "ops.conv2d_backward"): {
        "dweight of the first image only": only(1, first(0)),
    },
    ("arch1-tstn", "layers.Conv2d.backward"): {
        "the tied weights' first use is dropped": last_use_only,
        "the tied weights' second use is dropped": first_use_only,
    },
    ("arch1-trstn", "layers.Conv2d.backward"): {
        "the tied weights' first use is dropped": last_use_only,
        "the tied weights' second use is dropped": first_use_only,
    },
    ("arch2-tstn", "layers.Conv2d.backward"): {
        "the tied weights' first use is dropped": last_use_only,
        "the tied weights' second use is dropped": first_use_only,
    },
    ("small-stn", "ops.bilinear_sampler_backward"): {
        "the border is 'zeros'": other_border,
    },
}
