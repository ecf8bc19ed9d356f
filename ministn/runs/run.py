"""One run is one folder: its record, its checkpoints, and a lock that keeps others out.

<out>/<name made from the settings>/record.json   what happened, after every epoch
                                    last.safetensors, best.safetensors
                                    run.lock

A record is made for reading without the data: examples.py says what it has of test images.
"""

import base64
import gc
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from ministn.backend import Device, memory_explained
from ministn.data import DataSet
from ministn.errors import UserError
from ministn.files import remove_temporaries, write_atomically
from ministn.kinds import replaced, to_json
from ministn.parallel import Team
from ministn.runs import environment, format1
from ministn.runs.record import FORMAT, RECORD, Record, folder_name, read_record
from ministn.runs.settings import Settings
from ministn.runs.signals import interruptible, say
from ministn.training.checkpoint import check_same
from ministn.training.examples import examples
from ministn.training.trainer import BEST, LAST, Trainer

LOCK = "run.lock"
LESS_MEMORY = "a smaller --batch-size needs less"
GPU_SAVES_EVERY = 30.0  # seconds: an epoch may take less time there than writing its checkpoint


class Run:
    """A run's folder and record.

    experiment: whose run it is. command: that gives just this run. device: the GPU to train on,
    None for the CPU. Further entries of ``extra`` go into the record as they are.
    """

    def __init__(
        self,
        out: Path,
        settings: Settings,
        experiment: str,
        command: str,
        device: Device | None = None,
        **extra: Any,
    ) -> None:
        self.settings = settings
        self.experiment = experiment
        self.folder = out / folder_name(settings)
        if not self.folder.exists():
            self.folder = format1.begun(out, settings) or self.folder
        self.command = command
        self.device = device
        self.extra = extra

    @property
    def record_path(self) -> Path:
        return self.folder / RECORD

    def already_finished(self, resume: bool) -> str | None:
        """Why there is nothing to do, or None.

        Raises UserError where a run is in the way and ``resume`` was not asked for, where the run
        has other settings, and where it has more epochs than asked for.
        """
        if not self.record_path.exists():
            if (self.folder / LAST).exists() and not resume:
                raise UserError(f"{self.folder} holds a checkpoint: add --resume to go on from it")
            return None
        record = read_record(self.record_path)
        begun, status = record["settings"], record["status"]
        found = {"settings": begun.apart_from_epochs()}
        check_same(self.record_path, "settings", found, self.settings.apart_from_epochs())
        if status in ("finished", "diverged") and begun.steps == self.settings.steps:
            return f"{self.folder} is {status}: skipped"
        if status == "diverged":
            return f"{self.folder} diverged in epoch {record['diverged']['epoch']}: skipped"
        if record["format"] != FORMAT:
            commit = record["commit"] and f", {record['commit'][:8]}"
            raise UserError(
                f"{self.folder} was begun by an earlier version: end it at the commit that began "
                f"it{commit or ''}, or choose another --out"
            )
        if begun.steps > self.settings.steps:
            raise UserError(
                f"{self.folder} was started for {begun.training.length}: --epochs may grow, not "
                f"shrink to {self.settings.training.epochs}"
            )
        if not resume:
            # Whoever calls this holds the folder or has seen it free: no process is writing it.
            how = "was cut off" if status == "running" else f"is {status}"
            raise UserError(
                f"{self.folder} exists and {how} (epoch {len(record['epochs'])} of "
                f"{begun.total_epochs}): add --resume to go on, or choose another --out"
            )
        return None

    def still_to_do(self) -> Settings:
        """The settings with what is left; of a run that waits for its test, one epoch or step."""
        s = self.settings
        done = len(read_record(self.record_path)["epochs"]) if self.record_path.exists() else 0
        if s.training.iterations is not None:
            left = max(1, s.steps - done * s.batches_per_epoch)
            return replaced(s, "training.iterations", left)
        return s.for_epochs(max(1, s.total_epochs - done))

    def cores(self) -> tuple[int | None, int | None]:
        """Workers and threads of each, of the run so far: to go on with them changes no bit."""
        if not self.record_path.exists():
            return None, None
        device = read_record(self.record_path)["starts"][-1]["device"]
        threads = device.get("threads")
        return device.get("workers", threads and 1), threads

    def check_free(self) -> None:
        """Raise UserError if another process is writing the run. Creates nothing."""
        lock = self.folder / LOCK
        if lock.exists():
            try:
                with FileLock(lock, timeout=0):
                    pass
            except Timeout:
                raise self._taken() from None
            except OSError:  # it may not be written: whoever tries to will be told
                pass

    def _taken(self) -> UserError:
        return UserError(
            f"another process is writing {self.folder}: wait for its end, or choose another --out"
        )

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Own the folder. Another process's death releases it.

        Raises UserError if another process owns it; with ``wait``, says so and waits for its end.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if not wait:
                    raise self._taken() from None
                say(f"waiting for another process to finish {self.folder}")
                lock.acquire()
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror}") from error
        with lock:
            remove_temporaries(self.folder)
            yield

    def train(
        self,
        data: DataSet,
        team: Team | None = None,
        *,
        resume: bool,
        bar: bool = True,
        wait: bool = False,
        tests: Mapping[str, tuple[Settings, DataSet]] = MappingProxyType({}),
    ) -> str:
        """Train to the end, or to Ctrl-C; returns the status the record ends with.

        team: the processes that train where no GPU does, by default this one alone. wait: for
        another process that trains it already, see ``locked``. tests: what else to test the best
        weights with, by name: networks that have the same parameters, and data.
        """
        team = team or Team()
        with self.locked(wait), memory_explained(LESS_MEMORY):
            if self.already_finished(resume):  # by another process, since this one looked
                return read_record(self.record_path)["status"]
            gc.collect()  # a GPU's memory: a trainer that is done with may be part of a cycle
            trainer = self._trainer(data, team)
            computes_on = self._computes_on(team)
            wall, starts, tested = 0.0, [], None
            if resume and (self.folder / LAST).exists():
                trainer.load(self.folder)
                if self.record_path.exists():
                    before = read_record(self.record_path)
                    wall, starts = before["wall_seconds"], before["starts"]
                    tested = before["best"]  # of a finished run that is to go on: still true
                    _compare_devices(starts[-1]["device"], computes_on)
            starts = [*starts, self._start(trainer, computes_on)]
            clock = time.monotonic()

            def write(status: str, best: dict[str, Any] | None = tested) -> None:
                seconds = wall + time.monotonic() - clock
                self._write_record(trainer, status, best, starts, seconds)

            write("running")
            saved = time.monotonic()
            with interruptible() as interrupted, self._bar(trainer, bar) as progress:
                while not trainer.finished:
                    trainer.step()
                    if progress.update():  # drawn anew: not every step, nor where there is no bar
                        trainer.catch_up()
                        progress.set_postfix_str(trainer.so_far)
                    if interrupted():
                        trainer.save(self.folder)
                        write("interrupted")
                        return "interrupted"
                    if trainer.state.batch == 0 or trainer.finished:
                        if self._save_is_due(saved) or trainer.finished:
                            trainer.save(self.folder)
                            saved = time.monotonic()
                        write("running")
            status = "diverged" if trainer.state.diverged else "finished"
            best = _packed(trainer.test_best(self.folder))
            if best is not None and tests:
                best["tests"] = {
                    name: _packed(trainer.test_with(partial(s.network.build, s.data.form), data))
                    for name, (s, data) in tests.items()
                }
            write(status, best)
            return status

    def _trainer(self, data: DataSet, team: Team) -> Trainer:
        s = self.settings
        return Trainer(
            partial(s.network.build, s.data.form),
            s.training,
            data,
            s.task,
            seed=s.seed,
            precision=s.precision,
            say=say,
            device=self.device,
            team=team,
            pretrained=self._pretrained(),
            identity=s.apart_from_epochs(),
        )

    def _pretrained(self) -> Path | None:
        """Where the weights are that the run starts with. Raises UserError if there are none."""
        before = self.settings.pretrained
        if before is None:
            return None
        out = self.folder.parent
        path = out / folder_name(before) / BEST
        if not path.exists():
            path = (format1.begun(out, before) or path.parent) / BEST
        if not path.exists():
            raise UserError(f"{path} is missing: train the {before.network.name} first")
        return path

    def _save_is_due(self, saved: float) -> bool:
        """At the end of an epoch, with the time of the last save."""
        return self.device is None or time.monotonic() - saved >= GPU_SAVES_EVERY

    def _computes_on(self, team: Team) -> dict[str, Any]:
        """The record's entry on the device, the engine and the processes."""
        if self.device is not None:
            return environment.device(self.device) | {"engine": "cuda"}
        processes = {"workers": team.size, "threads": team.threads, "exchange": team.exchange.kind}
        return environment.device() | processes | {"engine": "numpy"}

    def _command(self, computes_on: dict[str, Any]) -> str:
        """The command with how it is run, which can change the last bits."""
        if self.device is not None:
            return f"{self.command} --gpu"
        workers, threads = computes_on["workers"], computes_on["threads"]
        more = f" --threads {threads}" if threads > 1 else ""
        if computes_on["exchange"] == "mpi":
            return f"mpirun -n {workers} {self.command}{more}"
        return f"{self.command} --workers {workers}{more}"

    def _bar(self, trainer: Trainer, shown: bool) -> tqdm:
        return tqdm(
            total=self.settings.steps,
            initial=trainer.state.steps,
            desc=self.settings.network.name,
            unit="step",
            # None: no bar where the output is no terminal; there may be no output at all.
            disable=None if shown and sys.stderr is not None else True,
            dynamic_ncols=True,
        )

    def _start(self, trainer: Trainer, computes_on: dict[str, Any]) -> dict[str, Any]:
        """What this process brings to the run; a resumed run has one entry for each process."""
        return {
            "command": self._command(computes_on),
            "epoch": trainer.state.epoch,
            "batch": trainer.state.batch,
            **environment.commit(),
            "source_sha256": environment.source_sha256(),
            "versions": environment.versions(),
            "device": computes_on,
        }

    def _write_record(
        self,
        trainer: Trainer,
        status: str,
        best: dict[str, Any] | None,
        starts: list[dict[str, Any]],
        seconds: float,
    ) -> None:
        state, latest = trainer.state, starts[-1]
        record = {
            "format": FORMAT,
            "status": status,
            "experiment": self.experiment,
            "command": latest["command"],
            "settings": to_json(self.settings),
            **self.extra,
            **{name: latest[name] for name in latest if name not in ("command", "epoch", "batch")},
            "data_sha256": trainer.data.sha256,
            "parameters": trainer.buffer.count,
            "best": best,
            "diverged": state.diverged,
            "collapses": state.collapses,
            "wall_seconds": round(seconds, 1),
            "starts": starts,
            "epochs": state.history,
            "examples": examples(trainer.data.test, trainer.network.front),
        }
        text = json.dumps(record, indent=1, allow_nan=False)
        write_atomically(self.record_path, text.encode())


def _compare_devices(before: Record, now: Record) -> None:
    """Say so where a run goes on with something else that can change its last bits."""
    if "threads" in before:  # a record from before these were in it
        before = {"workers": 1, "blas": now.get("blas")} | before
    entries = {
        "engine": "engine {}",
        "name": "{}",
        "workers": "{} workers",
        "threads": "{} threads",
        "blas": "{}",
    }
    for name, unit in entries.items():
        if before.get(name) != now.get(name):
            say(
                f"this run had {unit.format(before.get(name))} before and has "
                f"{unit.format(now.get(name))} now: its last bits will differ from those of "
                "an uninterrupted one"
            )
            return


def _packed(best: dict[str, Any] | None) -> dict[str, Any] | None:
    """Results on a test split with ``correct``, a bool for each of its answers, as text. Those of
    an image stand side by side.
    """
    if best is None:
        return None
    correct = best.pop("correct")
    packed = base64.b64encode(np.packbits(correct).tobytes()).decode()
    return {**best, "test_correct": packed, "test_size": correct.size}
