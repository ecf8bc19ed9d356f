"""Train a network of Table 3 once more, in PyTorch and on the exported file, and compare errors.

    python -m ministn.data export mnist --out cluttered.npz
    python reproduce/torch_training.py reproduce/records/torch-training/*.json \\
        --images cluttered.npz

Each record's network begins with the values that it began with here. All else is PyTorch's: its
functions in ``interop.to_torch``'s module, its gradients, dropout, order of images and Adam. So
what a table says of a network is no fault of this framework where both end with the same error.
Writes, beside what is there of other runs, reproduce/records/torch-training.json.
"""

import argparse
import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from papers import torch_report
from papers.claims import Record
from tqdm import tqdm

from ministn import cli
from ministn.errors import UserError
from ministn.files import check_output, read_json, write_atomically
from ministn.interop import to_torch
from ministn.optimizers import Adam
from ministn.runs import Settings, environment, folder_name, read_record
from ministn.training.trainer import optimized

try:
    import torch
    from torch.nn import functional
except ModuleNotFoundError:
    sys.exit("error: this trains in PyTorch; install it with: pip install torch")

RECORD = Path(__file__).parent / "records" / "torch-training.json"
COMMAND = (
    "python reproduce/torch_training.py reproduce/records/torch-training/*.json "
    "--images cluttered.npz"
)
AT_ONCE = 500  # images without gradients

Images = tuple[torch.Tensor, torch.Tensor]  # (N, 1, H, W) and labels (N,)


class File:
    """An exported file of digits among clutter: all that it takes to read it without ministn."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.sha256 = str(file["data_sha256"])
            self.splits = {
                split: self._split(file[f"x_{split}"], file[f"y_{split}"])
                for split in ("train", "valid", "test")
            }

    def _split(self, x: np.ndarray, y: np.ndarray) -> Images:
        side = round(x.shape[1] ** 0.5)
        return torch.from_numpy(x).reshape(-1, 1, side, side), torch.from_numpy(y.argmax(axis=1))


def module_of(settings: Settings) -> tuple[torch.nn.Module, torch.optim.Adam]:
    """The network as it is before training, and the optimiser with the run's two rates.

    Raises UserError for another optimiser than Adam, limits on gradients, a warm-up, or a network
    in which not all of a gradient goes back.
    """
    training = settings.training
    if training.optimizer != Adam() or training.clip or training.clip_norm or training.loc_warm_up:
        raise UserError(f"only plain Adam is trained here, not {training}")
    if any(getattr(settings.network, name, None) for name in ("clip", "stop_gradient")):
        raise UserError(f"only whole gradients are trained with here, not {settings.network}")
    form = settings.data.form
    network, _ = optimized(lambda: settings.network.build(form), training, settings.seed)
    module = to_torch(network, form)
    slow = {parameter.name.replace("/", ".") for parameter in network.localisation_only()}
    groups: dict[bool, list[torch.nn.Parameter]] = {False: [], True: []}
    for name, parameter in module.named_parameters():
        groups[name in slow].append(parameter)
    return module, torch.optim.Adam(
        [
            {"params": groups[False], "times": 1.0},
            {"params": groups[True], "times": training.loc_lr},
        ],
        lr=training.lr,
    )


def trained(record: Record, file: File) -> dict[str, Any]:
    """Train the record's network, epoch by epoch, and test it after the best on validation."""
    settings = record["settings"]
    training = settings.training
    torch.manual_seed(settings.seed)
    module, optimizer = module_of(settings)
    module.to(memory_format=torch.channels_last)  # a third faster
    x, y = file.splits["train"]
    epochs: list[dict[str, float]] = []
    best: dict[str, Any] = {"valid_error": np.inf}
    start = time.perf_counter()
    bar = tqdm(range(1, training.epochs + 1), desc=f"seed {settings.seed}", unit="epoch")
    for epoch in bar:
        lr = training.lr * training.schedule.at(epoch)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["times"]
        module.train()
        losses = []
        for batch in torch.randperm(len(x)).split(training.batch_size):
            images = x[batch].contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(module(images), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(batch))
        wrong = 100 - 100 * right(module, file.splits["valid"]).mean()
        epochs.append({"epoch": epoch, "train_loss": sum(losses) / len(x), "valid_error": wrong})
        bar.set_postfix_str(f"valid {wrong:.2f} %")
        if wrong < best["valid_error"]:
            correct = right(module, file.splits["test"])
            best = {
                "epoch": epoch,
                "valid_error": wrong,
                "test_error": 100 - 100 * correct.mean(),
                "test_correct": base64.b64encode(np.packbits(correct).tobytes()).decode(),
                "test_size": len(correct),
            }
    return {
        "run": folder_name(settings),
        "seed": settings.seed,
        "epochs": epochs,
        "best": best,
        "wall_seconds": round(time.perf_counter() - start, 1),
        "device": environment.processor(),
        "versions": environment.versions() | {"torch": torch.__version__},
        **environment.commit(),
    }


def right(module: torch.nn.Module, images: Images) -> np.ndarray:
    """(N,) bool: which images it classifies rightly."""
    module.eval()
    with torch.no_grad():
        answers = torch.cat([module(x).argmax(dim=1) for x in images[0].split(AT_ONCE)])
    return (answers == images[1]).numpy()


def main() -> int:
    parser = cli.Parser(
        prog="python reproduce/torch_training.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("records", type=Path, nargs="+", metavar="RECORD", help="of table3.py")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="NPZ", help="their data set, exported"
    )
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; default: 1")
    parser.add_argument("--out", type=Path, default=RECORD, help="where to write the record")
    arguments = parser.parse_args()
    check_output(arguments.out)
    torch.set_num_threads(arguments.threads)
    ours = [read_record(path) for path in arguments.records]
    file = File(arguments.images)
    for path, record in zip(arguments.records, ours, strict=True):
        if record["data_sha256"] != file.sha256:
            raise UserError(f"{path} was trained on other images than {arguments.images} has")
    for record in ours:
        twin = trained(record, file)
        kept = read_json(arguments.out)["runs"] if arguments.out.exists() else []
        runs = [*(each for each in kept if each["run"] != twin["run"]), twin]
        content = {"format": 1, "command": COMMAND, "runs": runs}
        write_atomically(arguments.out, (json.dumps(content, indent=1) + "\n").encode())
    if len(torch_report.pairs(ours, runs)) > 1:
        print(torch_report.report(ours, runs))
    return 0


if __name__ == "__main__":
    cli.run(main)
