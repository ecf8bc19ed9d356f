"""The epoch loop: shuffle, step, evaluate, keep the best by validation, resume."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ministn import models
from ministn.backend import Device
from ministn.cuda.choice import check_precision, precision
from ministn.data import RECIPES, DataSet, Pairs, as_batch
from ministn.errors import UserError
from ministn.models import prediction
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.settings import Settings
from ministn.tasks import Classification
from ministn.training import checkpoint
from ministn.training.examples import shown
from ministn.training.pairs import PairSteps
from ministn.training.steps import CpuSteps, Epoch, GpuSteps, Outcome, Steps

LAST, BEST = "last.safetensors", "best.safetensors"


@dataclass
class State:
    """Where training stands, apart from the arrays: counters and results, and no clock."""

    epoch: int = 0  # completed
    batch: int = 0  # completed in the epoch after those
    steps: int = 0  # of the optimiser
    seen: int = 0  # images of the current epoch whose outcome is known, all but on a GPU
    loss_sum: float = 0.0  # over them
    errors: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    collapses: list[dict[str, Any]] = field(default_factory=list)
    diverged: dict[str, Any] | None = None


def build(
    settings: Settings, size: tuple[int, ...], device: Device | None = None
) -> tuple[models.Network, Optimizer]:
    """The network for images of this size as it is before training, and its optimiser."""
    classes = RECIPES[settings.data].classes
    network = models.build(settings.network, size, classes, settings.downsample)
    for parameter in network.localisation_only():
        parameter.lr_multiplier = settings.loc_lr
    buffer = ParameterBuffer(network.parameters(), settings.seed, device=device)
    if settings.optimizer == "adam":
        return network, Adam(buffer)
    momentum, weight_decay = settings.momentum, settings.weight_decay
    return network, SGD(buffer, momentum=momentum, weight_decay=weight_decay)


class Trainer:
    """One network being trained on one data set.

    device: the GPU to train on, None for the CPU; there, team: the processes that train, by default
    this one alone. ``say`` receives one-line events: a collapse, an epoch's results. encoder: for
    co-localisation, see pairs.py.

    Raises UserError where the device cannot train in the settings' precision.
    """

    def __init__(
        self,
        settings: Settings,
        data: DataSet,
        say: Callable[[str], None] = print,
        device: Device | None = None,
        team: Team | None = None,
        encoder: Path | None = None,
    ) -> None:
        self.settings = settings
        self.data = data
        self.say = say
        check_precision(settings.precision, device)
        size = data.train.size
        self.network, self.optimizer = build(settings, size, device)
        self.buffer = self.optimizer.buffer
        self.state = State()
        self.steps: Steps
        self.task = Classification()
        self.watched, self.test = data.watched, data.test
        network, batch, seed = (self.network, self.optimizer), settings.batch_size, settings.seed
        common = *network, data.train, batch, seed
        if device is not None:
            self.watched, self.test = (split.on(device) for split in (data.watched, data.test))
        if isinstance(data.train, Pairs):
            self.steps = PairSteps(*network, data.train, batch, seed, encoder)
        elif device is None:
            replica = partial(build, settings, size)
            self.steps = CpuSteps(*common, self.task, team or Team(), replica)
        else:
            captured = settings.precision == "tf32"
            self.steps = GpuSteps(*common, self.task, device, captured)
        self._begun: int | None = None  # epoch that the steps have been told of
        self._best = self.buffer.zeros()  # the weights of the best epoch
        self._saved_best: int | None = None  # epoch whose weights best.safetensors has

    # -- one step, one epoch ---------------------------------------------------------------------

    def step(self) -> None:
        """One optimiser step on the next batch; ends the epoch after its last batch.

        On a GPU, what came of it may be noted only later: see ``catch_up``.
        """
        settings, state = self.settings, self.state
        with (
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),
            precision(settings.precision),
        ):
            if self._begun != state.epoch:
                number, first = state.epoch + 1, state.steps - state.batch
                rates = settings.rates(number, first)
                self.steps.begin(Epoch(number, self._shuffled(), rates, first), state.batch)
                self._begun = state.epoch
            self.steps.take(state.batch)
            state.steps += 1
            state.batch += 1
            ended = state.batch == settings.batches_per_epoch or state.steps == settings.steps
            if self.steps.immediate or ended:
                self.catch_up()
            if ended and not state.diverged:
                self._end_epoch()

    def catch_up(self) -> None:
        """Note in the state what came of the steps so far. On a GPU this waits for it."""
        for outcome in self.steps.outcomes():
            if not np.isfinite(outcome.loss):
                self._diverge(outcome.step)
                return
            self.state.loss_sum += outcome.loss * outcome.images
            self.state.errors += outcome.errors
            self.state.seen += outcome.images
            self._watch(outcome)

    def _shuffled(self) -> np.ndarray:
        """This epoch's order of the training images: a function of (seed, epoch)."""
        epoch = self.state.epoch + 1
        count = len(self.data.train)
        return generator(self.settings.seed, "shuffle", epoch).permutation(count)

    def _watch(self, outcome: Outcome) -> None:
        """Note when most of a batch's attention leaves the image, and when it is back."""
        state, left, images = self.state, outcome.left, outcome.images
        if left is None:
            return
        now = {"epoch": state.epoch + 1, "step": outcome.step + 1}
        collapsed = bool(state.collapses) and state.collapses[-1]["end"] is None
        if not collapsed and 2 * left > images:
            state.collapses.append({**now, "images": left, "batch": images, "end": None})
            self.say(
                f"COLLAPSE at step {now['step']} (epoch {now['epoch']}): the attention of "
                f"{left} of {images} images has left the image, where theta gets hardly any "
                "gradient"
            )
        elif collapsed and 4 * left < images:  # well below a half, so that it cannot flicker
            state.collapses[-1]["end"] = now
            self.say(f"attention is back in the image at step {now['step']}")

    def _diverge(self, step: int) -> None:
        """Go back to that step, whose loss was not finite, and find the layer where it began."""
        settings, state = self.settings, self.state
        state.batch -= state.steps - step
        state.steps = step
        rows = self._shuffled()[state.batch * settings.batch_size :][: settings.batch_size]
        images, _ = self.data.train.epoch(state.epoch + 1, self.buffer.device)
        self._name_layer(images[rows])

    def _name_layer(self, images: np.ndarray) -> None:
        state = self.state
        with precision(self.settings.precision):
            step = Step(self.settings.seed, state.steps)
            found = self.network.first_non_finite(as_batch(images), step)
        layer = found or "loss"
        state.diverged = {"epoch": state.epoch + 1, "step": state.steps, "layer": layer}
        self.say(f"DIVERGED at step {state.steps}: the first non-finite values are in {layer}")

    def _end_epoch(self) -> None:
        settings, state, split = self.settings, self.state, self.data.watched
        found = self.steps.evaluate(self.watched)
        if not np.isfinite(found.loss):
            self._name_layer(self.watched.images[: prediction.BATCH])
            return
        watched = "valid" if self.data.valid is not None else "test"
        result = {
            "epoch": state.epoch + 1,
            "lr": settings.rates(state.epoch + 1, state.steps - state.batch)[0],
            "train_loss": state.loss_sum / state.seen,
            "train_error": self.train_error,
            f"{watched}_loss": found.loss,
            f"{watched}_error": found.error,
            **split.measure(found.attended),
            **shown(self.test, self.network.front),
        }
        state.history.append(result)
        state.epoch, state.batch = state.epoch + 1, 0
        state.seen, state.loss_sum, state.errors = 0, 0.0, 0
        best = self.best
        if best is None or watched == "test" or result["valid_error"] < best["valid_error"]:
            state.best_epoch = state.epoch
            self._best[...] = self.buffer.data
        self.say(_summary(result, settings.total_epochs))

    @property
    def train_error(self) -> float:
        """Of the epoch so far, in percent of the answers, of which an image may have several."""
        answers = self.state.seen * self.task.per_image(self.data.watched.labels)
        return 100.0 * self.state.errors / answers

    @property
    def best(self) -> dict[str, Any] | None:
        """The results of the epoch with the lowest validation error, the earliest of equals.

        Without a validation split they are those of the last: nothing is chosen by the test.
        """
        best = self.state.best_epoch
        return None if best is None else self.state.history[best - 1]

    @property
    def finished(self) -> bool:
        return self.state.steps >= self.settings.steps or self.state.diverged is not None

    # -- checkpoints -----------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write everything needed to go on, and the best weights where they are new.

        The process may be killed between the two files. Then the best weights are either those
        that ``load`` finds in the first one, or of an epoch that will be trained again.
        """
        self.catch_up()
        content = {
            "settings": self.settings.apart_from_epochs(),
            "data_sha256": self.data.sha256,
            "state": asdict(self.state),
        }
        if not self._at_best:
            self._save_best(folder)
        checkpoint.save(folder / LAST, self._weights | self._moments, content)
        self._save_best(folder)

    @property
    def _at_best(self) -> bool:
        """Whether the weights now are those of the best epoch."""
        return self.state.batch == 0 and self.state.best_epoch == self.state.epoch

    def _save_best(self, folder: Path) -> None:
        epoch = self.state.best_epoch
        if epoch not in (None, self._saved_best):
            content = {"settings": self.settings.apart_from_epochs(), "epoch": epoch}
            checkpoint.save(folder / BEST, self.buffer.views(self._best), content)
            self._saved_best = epoch

    @property
    def _weights(self) -> dict[str, np.ndarray]:
        return self.buffer.views(self.buffer.data)

    @property
    def _moments(self) -> dict[str, np.ndarray]:
        return {
            f"{moment}/{name}": part
            for moment, flat in self.optimizer.state().items()
            for name, part in self.buffer.views(flat).items()
        }

    def load(self, folder: Path) -> None:
        """Continue where ``save`` left off.

        Raises UserError if the checkpoint is damaged or of other settings or data.
        """
        arrays, content = checkpoint.load(folder / LAST)
        check_same(folder / LAST, "settings", content, self.settings.apart_from_epochs())
        check_same(folder / LAST, "data_sha256", content, self.data.sha256)
        checkpoint.fill(folder / LAST, arrays, self._weights | self._moments)
        self.state = State(**content["state"])
        self._begun = None
        self._saved_best = self.state.best_epoch
        if self._at_best:
            self._best[...] = self.buffer.data
            self._saved_best = None  # the process may have been killed between the two files
        self._save_best(folder)

    def test_best(self, folder: Path) -> dict[str, Any] | None:
        """Evaluate the best epoch's weights on the test set. The network then holds them."""
        best = self.best
        if best is None:
            return None
        arrays, content = checkpoint.load(folder / BEST)
        check_same(folder / BEST, "epoch", content, best["epoch"])
        checkpoint.fill(folder / BEST, arrays, self._weights)
        with precision(self.settings.precision):
            found = self.steps.evaluate(self.test)
        results = self.data.test.measure(found.attended)
        return {
            "epoch": best["epoch"],
            "train_error": best["train_error"],
            "valid_error": best.get("valid_error"),
            "test_error": found.error,
            **{"test_" + name: value for name, value in results.items()},
            "correct": found.correct,
        }


def check_same(path: Path, name: str, content: dict[str, Any], wanted: Any) -> None:
    """Raise UserError unless ``content[name]`` of the file at ``path`` is what is wanted."""
    found = content.get(name)
    if found == wanted:
        return
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
        name = f"{name} ({', '.join(keys)})"
        found, wanted = [found.get(k) for k in keys], [wanted.get(k) for k in keys]
    raise UserError(f"{path} has other {name}: found {found}, expected {wanted}")


def _summary(result: dict[str, Any], epochs: int) -> str:
    text = (
        f"epoch {result['epoch']}/{epochs}: loss {result['train_loss']:.4f}, "
        f"train {result['train_error']:.2f} %, "
        + ", ".join(
            f"{name} {result[name + '_error']:.2f} %"
            for name in ("valid", "test")
            if name + "_error" in result
        )
    )
    if result["overlap"] is not None:
        text += (
            f", overlap {result['overlap']:.2f}, digit inside {100 * result['inside']:.0f} %, "
            f"follows it {result['correlation']:.2f}, left image {100 * result['left_image']:.0f} %"
        )
    if result.get("pose_spread") is not None:
        text += f", pose {result['pose_spread']:.1f} of {result['pose_unmoved']:.1f} pixels"
    return text
