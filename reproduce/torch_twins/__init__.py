"""The networks of ``ministn.models`` written again in PyTorch, to be compared with.

    twin = build(architecture, form)
    copy_weights([*network.parameters(), *network.fixed_parameters()], twin)
    logits = twin(torch.from_numpy(x.transpose(0, 3, 1, 2)))    # twin.eval(): without dropout
    loss = twin.loss(x, labels)

Written from the papers' tables and not from our layers, so that they can disagree with them. What
the papers leave open is as our models' docstrings have it. Volumes are (N, 1, D, H, W) here.
"""

from collections.abc import Callable
from typing import Any

from ministn.data import Form
from ministn.errors import UserError
from ministn.models import Architecture
from torch_twins import blocks, colocalisation, placement, projection, rnn_spn, stn, tstn
from torch_twins.layers import copy_weights, like_ours

__all__ = ["build", "copy_weights", "like_ours"]

# By the kind of the architecture, see ministn/kinds.py.
TWINS: dict[str, Callable[[Any, Form], Any]] = {
    "classification cnn": tstn.cnn,
    "untied stn": tstn.untied,
    "tstn": tstn.tied,
    "small stn": tstn.small,
    "stn": stn.build,
    "crop encoder": colocalisation.encoder,
    "colocaliser": colocalisation.build,
    "projected": projection.build,
    "rnn-spn": rnn_spn.rnn,
    "ffn-spn": rnn_spn.ffn,
    "sequence cnn": rnn_spn.cnn,
    "placement": placement.placed,
    "placement cnn": placement.cnn,
    "svhn network": blocks.svhn,
    "plankton network": blocks.plankton,
}


def build(architecture: Architecture, form: Form) -> Any:
    """The twin of ``architecture.build(form)``, with weights of its own.

    Raises UserError for a network that has no twin.
    """
    if architecture.kind not in TWINS:
        raise UserError(f"{architecture.name} has no twin in reproduce/torch_twins yet")
    return TWINS[architecture.kind](architecture, form)
