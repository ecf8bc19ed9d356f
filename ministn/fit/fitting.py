"""Training for networks of your own, by the loop that trains the papers' (training/trainer.py)."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ministn.backend import Device, to_cpu
from ministn.data import DataSet, as_batch
from ministn.data.dataset import PlainSplit
from ministn.errors import UserError, check_count, check_flags, check_kind, is_number
from ministn.fast.threads import limited
from ministn.fit.arguments import check_met, checked_images, checked_labels
from ministn.models import Network
from ministn.ops.batch import with_channels
from ministn.parallel import team
from ministn.parameter import Parameter, ParameterBuffer
from ministn.randomness import generator
from ministn.tasks import Classification, Task
from ministn.training.protocol import Training
from ministn.training.state import Kept, State
from ministn.training.trainer import Trainer

CLASSIFICATION = Classification()


@dataclass(frozen=True, eq=False, repr=False)
class Fitted:
    """What ``fit`` came to, and all that another call needs to go on.

    epochs: the results of each so far, the errors in percent. best: those of the epoch with the
    lowest validation error, whose weights the network has.
    """

    epochs: list[dict[str, Any]]
    best: dict[str, Any]
    kept: Kept
    identity: tuple[Any, ...]  # what must be the same in another call for it to go on

    def __repr__(self) -> str:
        best = self.best
        return (
            f"{len(self.epochs)} epochs; the network has the weights of epoch {best['epoch']}, "
            f"validation error {best['valid_error']:.2f} %"
        )


@limited()
def fit(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    training: Training,
    task: Task = CLASSIFICATION,
    *,
    valid: float | tuple[np.ndarray, np.ndarray] = 0.1,
    seed: int = 0,
    workers: int = 1,
    device: Device | None = None,
    quiet: bool = False,
) -> Fitted:
    """Train the network, judging it after each epoch; it ends with the weights of the best.

    images: (N, H, W) or (N, H, W, C), bytes, which networks read as u / 255, or float32, as they
    are. labels: whole numbers from 0, (N,), or as the task has them. training: how, and for how
    long, see training/protocol.py. valid: images and labels to judge by, or else the share of the
    images that is kept apart for that. seed: of which these are, of initial values, order and
    dropout. workers: processes that share each batch. device: the GPU that trains on bytes,
    ``backend.gpu()``; afterwards the network is back in NumPy. quiet: say nothing, unless attention
    is lost in the end.

    It begins with the weights that the network has, or else with initial values. Another call with
    the same images and task goes on where the first one ended, for as many epochs more: two calls
    of 5 epochs are one of 10, bit for bit. So it does after Ctrl-C, with the epochs that are whole.

    Where most of a batch's attention leaves the image, it is said: theta gets hardly any gradient
    there, and a lower ``loc_lr`` helps.

    Raises TypeError or ValueError for arguments that cannot be, and where they do not fit together;
    UserError where the loss is not finite. Without a whole epoch the network is as it was.
    """
    check_kind("network", network, Network)
    check_kind("training", training, Training)
    check_kind("task", task, Task)
    check_flags(quiet=quiet)
    workers = check_count("workers", workers)
    if workers > training.batch_size:
        raise ValueError(
            f"workers must be at most {training.batch_size}, a batch's images, got {workers}"
        )
    if device is not None and not hasattr(device, "to_gpu"):
        raise TypeError(f"device must be backend.gpu() or None, got {type(device).__name__}")
    images = checked_images(images)
    if device is not None and images.dtype != np.uint8:
        raise UserError(f"images must be bytes, uint8, for a GPU, got {images.dtype}")
    check_met(network, images)
    data = _data(images, checked_labels(labels, images), valid, seed)
    in_epochs = training.iterations is None
    identity = data.sha256, training.optimizer, training.batch_size, in_epochs, task, seed
    before, parameters = network.fitted, _parameters(network)
    known = network.shape, network.outputs
    held = [dict(vars(parameter)) for parameter in parameters]
    weights = {own["name"]: own["data"] for own in held if "data" in own}
    goes_on = before is not None and before.identity == identity and _is_left_by(before, network)
    network.fitted = None  # no other process needs it
    kept: Kept | None = None
    try:
        network.meet(with_channels(images.shape)[1:])
        with team(workers) as ranks:
            trainer = Trainer(
                partial(_itself, network),
                _longer(training, before.kept.state) if goes_on else training,
                data,
                task,
                seed=seed,
                say=_silent if quiet else _say,
                device=device,
                team=ranks,
                weights=weights,
            )
            if goes_on:
                trainer.go_on(before.kept)
            for kept in _epochs(trainer, quiet):  # noqa: B007
                pass
    finally:
        if kept is None:
            for parameter, own in zip(parameters, held, strict=True):
                vars(parameter).clear()
                vars(parameter).update(own)
            network.fitted = before
            network.shape, network.outputs = known
        else:
            _lay_out(network, kept.best, seed)
            best = kept.state.history[(kept.state.best_epoch or 1) - 1]
            network.fitted = Fitted(kept.state.history, best, kept, identity)
            if kept.state.collapses and kept.state.collapses[-1]["end"] is None:
                _say(
                    "the attention that has left the image is not back: build the network anew, "
                    f"and train it with a lower loc_lr, such as {training.loc_lr / 3:.1g}, or a "
                    f"lower lr than {training.lr:g}"
                )
    found: Fitted = network.fitted
    return found


# -- images and labels -----------------------------------------------------------------------------


def _data(images: np.ndarray, labels: np.ndarray, valid: Any, seed: int) -> DataSet:
    """Images to train on, and those that judge."""
    if isinstance(valid, tuple) and len(valid) == 2:
        judging = checked_images(valid[0], name="the images of valid")
        if (judging.dtype, judging.shape[1:]) != (images.dtype, images.shape[1:]):
            raise ValueError(
                f"the images of valid must be {images.dtype} {images.shape[1:]} each, as images "
                f"are, got {judging.dtype} {judging.shape[1:]}"
            )
        others = checked_labels(valid[1], judging, name="the labels of valid")
        return _data_set((images, labels), (judging, others))
    if not is_number(valid) or not 0 < valid < 1:
        got = repr(valid) if is_number(valid) else type(valid).__name__
        raise ValueError(
            "valid must be a share of the images, above 0 and below 1, or a pair (images, labels), "
            f"got {got}"
        )
    if len(images) < 2:
        raise ValueError(
            f"images must be at least 2, to train on and to judge by, got {len(images)}"
        )
    order = generator(seed, "fit/valid").permutation(len(images))
    count = min(max(1, round(valid * len(images))), len(images) - 1)
    kept_apart, rest = np.sort(order[:count]), np.sort(order[count:])
    return _data_set((images[rest], labels[rest]), (images[kept_apart], labels[kept_apart]))


def _data_set(*splits: tuple[np.ndarray, np.ndarray]) -> DataSet:
    train, valid = (
        PlainSplit(images, labels, np.zeros((len(images), 4), np.int16))
        for images, labels in splits
    )
    return DataSet(train, valid, valid)


# -- where it begins -------------------------------------------------------------------------------


def _itself(network: Network) -> Network:
    """What builds the network: there it is. Another process has a copy."""
    return network


def _parameters(network: Network) -> list[Parameter]:
    return [*network.parameters(), *network.fixed_parameters()]


def _lay_out(network: Network, best: dict[str, np.ndarray], seed: int) -> None:
    """Let the network have these weights, in memory that no GPU has and no other process."""
    for parameters in (network.parameters(), network.fixed_parameters()):
        values = {p.name: to_cpu(p.data).copy() for p in parameters} | best
        if parameters:
            ParameterBuffer(parameters, seed)
        for parameter in parameters:
            parameter.data[...] = values[parameter.name]


def _is_left_by(fitted: Fitted, network: Network) -> bool:
    """Whether the weights are still those that the last call ended with."""
    best = fitted.kept.best
    return all(
        hasattr(p, "data") and p.name in best and np.array_equal(p.data, best[p.name])
        for p in network.parameters()
    )


def _longer(training: Training, state: State) -> Training:
    """The training so many epochs or iterations longer than what has been done."""
    if training.iterations is not None:
        return replace(training, iterations=training.iterations + state.steps)
    assert training.epochs is not None
    return replace(training, epochs=training.epochs + state.epoch)


# -- the course ------------------------------------------------------------------------------------


def _epochs(trainer: Trainer, quiet: bool) -> Iterator[Kept]:
    """Train to the end; after each epoch, what there is to be kept."""
    training, split = trainer.training, trainer.data.train
    if trainer.finished:
        raise UserError(
            f"training has stopped: {training.patience} epochs in a row brought nothing better; "
            "a higher patience goes on"
        )
    _try_out(trainer, [trainer.watched, split])
    notebook = "ipykernel" in sys.modules  # where stderr is no terminal, and bars are shown
    bar = tqdm(
        total=training.steps(len(split)),
        initial=trainer.state.steps,
        desc="training",
        unit="step",
        leave=False,
        disable=True if quiet or sys.stderr is None else False if notebook else None,
    )
    with bar:
        while not trainer.finished:
            trainer.step()
            if bar.update():  # drawn anew
                trainer.catch_up()
                bar.set_postfix_str(trainer.so_far)
            if diverged := trainer.state.diverged:
                raise UserError(
                    f"the loss of step {diverged['step'] + 1} is not finite: the first non-finite "
                    f"values are in {diverged['layer']}; try a lower lr"
                )
            if trainer.state.batch == 0:
                yield trainer.kept()


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _try_out(trainer: Trainer, splits: Sequence[Any]) -> None:
    """Raise what a step would, for images and labels that the network or the task cannot have."""
    y, _ = trainer.network.predict(as_batch(trainer.watched.images[:1]))
    for split in splits:
        trainer.task.loss(np.repeat(to_cpu(y), len(split), axis=0), split.labels)


def _say(line: str) -> None:
    if sys.stdout is not None:
        tqdm.write(line)


def _silent(line: str) -> None:
    """Of a quiet call."""
