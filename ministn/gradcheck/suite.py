"""Everything that ``python -m ministn.gradcheck`` checks, by name."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ministn import models
from ministn.gradcheck.check import GradientError, Problem, Report, check_gradients
from ministn.gradcheck.kinks import check_kinks
from ministn.gradcheck.networks import (
    LAYERS,
    TIED,
    TRANSFORMS,
    check_tied_sum,
    colocalisation_problem,
    glimpses_problem,
    hand_on_problem,
    iterated_problem,
    network_problem,
    parallel_problem,
    series_problem,
    transformer_problem,
    volume_problem,
    windows_problem,
)
from ministn.gradcheck.operations import OPERATIONS, TOGETHER
from ministn.models import Stn, projection, stn
from ministn.ops.sampling import BORDERS
from ministn.transformer.samplers import KERNELS, VOLUME_KERNELS
from ministn.transformer.transforms import AFFINE, Projective

# Operations are checked away from kinks, so there may be none.
AWAY_FROM_KINKS = {"max_kinks": 0.0}

# Several layers, so more to compute at each place.
SEVERAL = AWAY_FROM_KINKS | {"elements": 100}

# A network has ReLUs and samples near their kinks wherever one looks. The smaller the step, the
# fewer are met, and the more of the loss is rounding: 2e-7 leaves errors of about 1e-8.
AMONG_KINKS = {"eps": 1e-6, "elements": 10, "directions": 4}

PAIR = AFFINE, Projective()

# Every network with few neurons or maps, by name; those of STN's tables once: pooled, sampled at
# half, and neither.
NETWORKS: dict[str, Callable[[], Problem]] = {
    name: partial(network_problem, network, (33, 35) if name == "small-stn" else (13, 17))
    for name, network in models.NETWORKS.items()
}
NETWORKS |= {
    f"{special}-{network.name}": partial(
        network_problem, replace(network, halved=halved, width=6), (31, 28), channels
    )
    for special, halved, channels, networks in (
        ("rts", "pooled", 1, stn.TABLE),
        ("p", "", 1, [Stn("fcn", "projective")]),
        ("e", "", 1, [Stn("cnn", "tps")]),
        ("addition", "sampled", 2, stn.ADDITION),
    )
    for network in networks
}
NETWORKS |= {
    network.name: partial(network_problem, replace(network, width=6), (28, 29, 31))
    for network in projection.PROJECTED
}
NETWORKS |= {
    network.name: partial(network_problem, network, (36, 39), labels=(3,))
    for network in (
        models.RnnSpn(2, dropout=0.2, units=20),
        models.FfnSpn(2),
        models.SequenceCnn(dropout=0.2, convolutions=4),
    )
}
NETWORKS |= {
    network.name: partial(network_problem, network, (24, 25))
    for network in (
        models.PlacementCnn("R"),
        models.Placement("C", "R", (0, 1)),
        models.Placement("DL", "R"),
        models.Placement("SL", "R", (1, 1)),
    )
}
NETWORKS["arch1-trstn"] = partial(network_problem, models.Trstn(1, 1.5, glimpses=3), (13, 17))
NETWORKS |= {
    f"arch1-alternating, step {turn}": partial(
        network_problem, models.Alternating(1, 1.5), (13, 17), turn=turn
    )
    for turn in (0, 1)
}
NETWORKS["arch1-tstn, shuffled"] = partial(
    network_problem, models.Shuffled(models.Tstn(1, 1.5, dropout=0.2)), (13, 17)
)
NETWORKS["svhn"] = partial(
    network_problem, models.SvhnNetwork("C", (2,), 0.05, "large"), (16, 19), 2, (2,)
)
NETWORKS["plankton"] = partial(network_problem, models.PlanktonNetwork("DL", (2,), 0.1), (33, 31))
NETWORKS |= {
    f"parts-{network.name}": partial(network_problem, network, (17, 21), 2)
    for network in (models.PartNetwork(2), models.PartNetwork(0))
}
NETWORKS["encoder"] = partial(network_problem, models.CropEncoder(), (22, 25))
NETWORKS["colocalisation"] = colocalisation_problem

PROBLEMS: dict[str, tuple[Callable[[], Problem], dict[str, Any]]] = (
    {
        f"{operation} {special}".strip(): (build, AWAY_FROM_KINKS)
        for operation, problems in OPERATIONS.items()
        for special, build in problems.items()
    }
    | {name: (build, AWAY_FROM_KINKS) for name, build in TOGETHER.items()}
    | {f"layer {name}": (build, AWAY_FROM_KINKS) for name, build in LAYERS.items()}
    | {"spatial transformer": (transformer_problem, AWAY_FROM_KINKS)}
    | {
        f"spatial transformer, {name}": (partial(transformer_problem, build), AWAY_FROM_KINKS)
        for name, build in TRANSFORMS.items()
    }
    | {
        "spatial transformers, 2 in parallel": (partial(parallel_problem, *PAIR), SEVERAL),
        "spatial transformers, 4 in parallel": (partial(parallel_problem, *PAIR, *PAIR), SEVERAL),
        "spatial transformers in series": (series_problem, SEVERAL),
        "spatial transformer, theta handed on": (hand_on_problem, SEVERAL),
        "spatial transformer, 3 glimpses": (partial(glimpses_problem, AFFINE), SEVERAL),
        "spatial transformer, 3 glimpses by homographies, averaged": (
            partial(glimpses_problem, Projective(), border="zeros", supersampling=2),
            SEVERAL,
        ),
        "spatial transformers, 2 windows": (partial(windows_problem, 2, 0.5), SEVERAL),
        "spatial transformers, 4 windows, averaged": (
            partial(windows_problem, 4, 0.6, border="zeros", supersampling=2),
            SEVERAL,
        ),
        "spatial transformer, 3 looks": (partial(iterated_problem, "aab", "right"), SEVERAL),
        "spatial transformer, 3 looks from the left": (
            partial(iterated_problem, "aba", "left", border="zeros", supersampling=2),
            SEVERAL,
        ),
        "spatial transformer of volumes": (volume_problem, AWAY_FROM_KINKS),
    }
    | {name: (build, AMONG_KINKS) for name, build in NETWORKS.items()}
)


def check_problem(name: str) -> Report:
    """Check one of PROBLEMS. Raises GradientError, also where a whole gradient is zero."""
    build, options = PROBLEMS[name]
    problem = build()
    gradients = problem.gradients()
    report = check_gradients(problem.value, problem.arrays, gradients, **options)
    for array, gradient in gradients.items():
        if not np.any(gradient):
            raise GradientError(f"{array}: its gradient is zero, so nothing was checked", array)
    return report


CHECKS: dict[str, Callable[[], Report]] = {}
CHECKS |= {name: partial(check_problem, name) for name in PROBLEMS}
CHECKS |= {
    f"{kernel}_sampler {border}, points on pixels": partial(check_kinks, kernel, border)
    for kernel in KERNELS + VOLUME_KERNELS
    for border in BORDERS
}
CHECKS |= {
    f"{tied}, tied = both uses": partial(check_tied_sum, tied, untied)
    for tied, untied in TIED.items()
}
