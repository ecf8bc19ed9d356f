"""The epoch loop: shuffle, step, evaluate, keep the best by validation, resume."""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ministn.backend import Device, assign, to_cpu
from ministn.cuda.choice import check_precision, precision
from ministn.data import DataSet, Split, as_batch
from ministn.fast.threads import limited
from ministn.metrics.attention import watched
from ministn.models import Network, prediction
from ministn.optimizers import Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.tasks import Evaluation, Task
from ministn.training import checkpoint
from ministn.training.examples import shown
from ministn.training.protocol import Training
from ministn.training.state import Kept, State, state_of
from ministn.training.steps import Epoch, Outcome, PlainSteps, QueuedSteps, Steps

LAST, BEST = "last.safetensors", "best.safetensors"


def optimized(
    build: Callable[[], Network], training: Training, seed: int, device: Device | None = None
) -> tuple[Network, Optimizer]:
    """A network as it is before training, and its optimiser."""
    network = build()
    for parameter in network.localisation_only():
        parameter.lr_multiplier = training.loc_lr
        parameter.warm_up = training.loc_warm_up or 1
    if fixed := network.fixed_parameters():
        ParameterBuffer(fixed, seed, device=device)
    buffer = ParameterBuffer(network.parameters(), seed, device=device)
    return network, Optimizer(training.optimizer, buffer, training.clip, training.clip_norm)


class Trainer:
    """One network being trained on one data set.

    build: makes the network; where a team trains, in each of its processes. seed: of initial
    values, order and dropout. precision: of products, "tf32" on a GPU only, see cuda/choice.py.
    device: the GPU to train on, None for the CPU; there, team: the processes that train, by default
    this one alone. ``say`` receives one-line events: a collapse, an epoch's results. pretrained: a
    checkpoint whose weights the network begins with, as far as it names them; it must name those
    that are not learned. weights: others to begin with, by their names.
    identity: what must be the same for a checkpoint to be continued, JSON-able.

    Raises UserError where the device cannot train in that precision, and for a checkpoint that is
    missing or of another network.
    """

    def __init__(
        self,
        build: Callable[[], Network],
        training: Training,
        data: DataSet,
        task: Task,
        *,
        seed: int = 0,
        precision: str = "fp32",
        say: Callable[[str], None] = print,
        device: Device | None = None,
        team: Team | None = None,
        pretrained: Path | None = None,
        weights: Mapping[str, np.ndarray] = MappingProxyType({}),
        identity: Any = None,
    ) -> None:
        self.training, self.data, self.say = training, data, say
        self.seed, self.precision = seed, precision
        self.identity = json.loads(json.dumps(identity, allow_nan=False))  # as it comes back
        check_precision(precision, device)
        self.network, self.optimizer = optimized(build, training, seed, device)
        self.buffer = self.optimizer.buffer
        if pretrained is not None:
            self._begin_with(pretrained)
        own = _values(self.network)
        for name, values in weights.items():
            assign(own[name], to_cpu(values))
        self.task = task.prepare(self.network, data.train, seed)
        self.state = State()
        self.images = len(data.train)
        self.watched, self.test = data.watched, data.test
        if device is not None:
            self.watched, self.test = (split.on(device) for split in (data.watched, data.test))
        common = self.network, self.optimizer, data.train, training.batch_size, seed, self.task
        self.threads = (team or Team()).threads  # of the linear algebra library
        self.steps: Steps
        if device is not None and task.queued:
            self.steps = QueuedSteps(*common, device, captured=precision == "tf32")
        else:
            alone = Team() if device is not None else None
            replica = partial(optimized, build, training, seed)
            self.steps = PlainSteps(*common, alone or team or Team(), replica)
        self._begun: int | None = None  # epoch that the steps have been told of
        self._best = self.buffer.zeros()  # the weights of the best epoch
        self._saved_best: int | None = None  # epoch whose weights best.safetensors has

    def _begin_with(self, path: Path) -> None:
        """Let the parameters, learned and fixed, have those values that a checkpoint has."""
        arrays, _ = checkpoint.load(path)
        wanted = arrays.keys() | {parameter.name for parameter in self.network.fixed_parameters()}
        own = _values(self.network)
        checkpoint.fill(path, arrays, {name: own[name] for name in wanted & own.keys()})

    # -- one step, one epoch ---------------------------------------------------------------------

    def step(self) -> None:
        """One optimiser step on the next batch; ends the epoch after its last batch.

        On a GPU, what came of it may be noted only later: see ``catch_up``.
        """
        training, state = self.training, self.state
        with (
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),
            precision(self.precision),
            limited(self.threads),
        ):
            if self._begun != state.epoch:
                number, first = state.epoch + 1, state.steps - state.batch
                rates = training.rates(self.images, number, first)
                dropout = training.dropout(number)
                epoch = Epoch(number, self._shuffled(), rates, first, dropout)
                self.steps.begin(epoch, state.batch)
                self._begun = state.epoch
            self.steps.take(state.batch)
            state.steps += 1
            state.batch += 1
            ended = state.batch == training.batches(self.images) or self.finished
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
        return generator(self.seed, "shuffle", epoch).permutation(self.images)

    def _watch(self, outcome: Outcome) -> None:
        """Note when most of a batch's attention leaves the image, and when it is back."""
        state = self.state
        now = {"epoch": state.epoch + 1, "step": outcome.step + 1}
        if said := watched(state.collapses, outcome.left, outcome.images, now):
            self.say(said)

    def _diverge(self, step: int) -> None:
        """Go back to that step, whose loss was not finite, and find the layer where it began."""
        state, size = self.state, self.training.batch_size
        state.batch -= state.steps - step
        state.steps = step
        rows = self._shuffled()[state.batch * size :][:size]
        drawn = self.data.train.epoch(state.epoch + 1, self.buffer.device)
        self._name_layer(drawn.batch(rows)[0])

    def _name_layer(self, images: np.ndarray) -> None:
        state = self.state
        with precision(self.precision):
            dropout = self.training.dropout(state.epoch + 1)
            step = Step(self.seed, state.steps, dropout=dropout)
            found = self.network.at(state.steps).first_non_finite(as_batch(images), step)
        layer = found or "loss"
        state.diverged = {"epoch": state.epoch + 1, "step": state.steps, "layer": layer}
        self.say(f"DIVERGED at step {state.steps}: the first non-finite values are in {layer}")

    def _end_epoch(self) -> None:
        training, state, split = self.training, self.state, self.data.watched
        found = self.steps.evaluate(self.watched)
        if not np.isfinite(found.loss):
            self._name_layer(self.watched.images[: prediction.BATCH])
            return
        watched = "valid" if self.data.valid is not None else "test"
        result = {
            "epoch": state.epoch + 1,
            "lr": training.rates(self.images, state.epoch + 1, state.steps - state.batch)[0],
            "train_loss": state.loss_sum / state.seen,
            "train_error": self.train_error,
            f"{watched}_loss": found.loss,
            **found.errors(watched),
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
        self.say(_summary(result, training.total_epochs(self.images)))

    @property
    def train_error(self) -> float:
        """Of the epoch so far, in percent of the answers, of which an image may have several."""
        answers = self.state.seen * self.task.per_image(self.data.watched.labels)
        return 100.0 * self.state.errors / answers

    @property
    def so_far(self) -> str:
        """The epoch that is under way, in words; nothing before it is known how its steps went."""
        state = self.state
        if not state.seen:
            return ""
        loss = state.loss_sum / state.seen
        return f"epoch {state.epoch + 1}, loss {loss:.3f}, error {self.train_error:.1f} %"

    @property
    def best(self) -> dict[str, Any] | None:
        """The results of the epoch with the lowest validation error, the earliest of equals.

        Without a validation split they are those of the last: nothing is chosen by the test.
        """
        best = self.state.best_epoch
        return None if best is None else self.state.history[best - 1]

    @property
    def finished(self) -> bool:
        state, steps = self.state, self.training.steps(self.images)
        return state.steps >= steps or state.diverged is not None or self._stopped_early

    @property
    def _stopped_early(self) -> bool:
        """Whether as many epochs as patience allows have brought nothing better."""
        best, patience = self.state.best_epoch, self.training.patience
        if best is None or patience is None:
            return False
        return self.state.epoch - best >= patience

    # -- in memory -------------------------------------------------------------------------------

    def kept(self) -> Kept:
        """All that ``go_on`` needs, as it is now."""
        return Kept(
            deepcopy(self.state),
            {name: to_cpu(array).copy() for name, array in self._arrays.items()},
            {name: to_cpu(array).copy() for name, array in self.buffer.views(self._best).items()},
        )

    def go_on(self, kept: Kept) -> None:
        """Go on from there, as if it had been this trainer's own course."""
        best = self.buffer.views(self._best)
        for own, values in ((self._arrays, kept.arrays), (best, kept.best)):
            for name, array in own.items():
                assign(array, values[name])
        self.state = deepcopy(kept.state)
        self._begun = None

    # -- checkpoints -----------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write everything needed to go on, and the best weights where they are new.

        The process may be killed between the two files. Then the best weights are either those
        that ``load`` finds in the first one, or of an epoch that will be trained again.
        """
        self.catch_up()
        content = {
            "settings": self.identity,
            "data_sha256": self.data.sha256,
            "state": asdict(self.state),
        }
        if not self._at_best:
            self._save_best(folder)
        checkpoint.save(folder / LAST, self._arrays, content)
        self._save_best(folder)

    @property
    def _at_best(self) -> bool:
        """Whether the weights now are those of the best epoch."""
        return self.state.batch == 0 and self.state.best_epoch == self.state.epoch

    def _save_best(self, folder: Path) -> None:
        epoch = self.state.best_epoch
        if epoch not in (None, self._saved_best):
            content = {"settings": self.identity, "epoch": epoch}
            checkpoint.save(folder / BEST, self.buffer.views(self._best), content)
            self._saved_best = epoch

    @property
    def _weights(self) -> dict[str, np.ndarray]:
        return self.buffer.views(self.buffer.data)

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        """The weights, and the optimiser's moments of them."""
        return self._weights | {
            f"{moment}/{name}": part
            for moment, flat in self.optimizer.state().items()
            for name, part in self.buffer.views(flat).items()
        }

    def load(self, folder: Path) -> None:
        """Continue where ``save`` left off.

        Raises UserError if the checkpoint is damaged or of other settings or data.
        """
        arrays, content = checkpoint.load(folder / LAST)
        checkpoint.check_same(folder / LAST, "settings", content, self.identity)
        checkpoint.check_same(folder / LAST, "data_sha256", content, self.data.sha256)
        state = state_of(folder / LAST, content)
        checkpoint.fill(folder / LAST, arrays, self._arrays)
        self.state = state
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
        checkpoint.check_same(folder / BEST, "epoch", content, best["epoch"])
        checkpoint.fill(folder / BEST, arrays, self._weights)
        with precision(self.precision), limited(self.threads):
            found = self.steps.evaluate(self.test)
        known = {name: best.get(name) for name in ("epoch", "train_error", "valid_error")}
        return known | _tested(found, self.data.test)

    def test_with(self, build: Callable[[], Network], data: DataSet) -> dict[str, Any]:
        """The same weights in another network that has these parameters, on a data set's test.

        Raises ValueError for a network that has others, or of other shapes.
        """
        network, device = build(), self.buffer.device
        for parameters in (network.fixed_parameters(), network.parameters()):
            if parameters:
                ParameterBuffer(parameters, self.seed, device=device)
        own, others = _values(self.network), _values(network)
        shapes = ({(name, x.shape) for name, x in values.items()} for values in (own, others))
        if differing := set.symmetric_difference(*shapes):
            names = sorted({name for name, _ in differing})
            raise ValueError(f"other parameters: {', '.join(names)}")
        for name, values in own.items():
            others[name][...] = values
        test = data.test if device is None else data.test.on(device)
        with precision(self.precision), limited(self.threads):
            predicted = prediction.predict(network, test.images)
        return _tested(self.task.judge(predicted, data.test), data.test)


def _values(network: Network) -> dict[str, Any]:
    """Of all parameters, learned and fixed, by their names."""
    return {p.name: p.data for p in [*network.fixed_parameters(), *network.parameters()]}


def _tested(found: Evaluation, test: Split) -> dict[str, Any]:
    measures = test.measure(found.attended) | test.shown(found.attended)
    named = {"test_" + name: value for name, value in measures.items()}
    return {**found.errors("test"), **named, "correct": found.correct}


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
            f"follows it {result['correlation']:.2f}"
        )
    if result["left_image"] is not None:
        text += f", left image {100 * result['left_image']:.0f} %"
    if result.get("pose_spread") is not None:
        text += f", pose {result['pose_spread']:.1f} of {result['pose_unmoved']:.1f} pixels"
    return text
