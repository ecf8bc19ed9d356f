"""Records of runs that never were, made to order: as format 1 had them, and as they are read."""

import base64
from dataclasses import replace

import numpy as np
import placement_mnist
import rnn_spn_table1
import stn_birds
from papers.tstn import TABLE3

from ministn.data import Form
from ministn.kinds import from_json, to_json
from ministn.runs import format1
from ministn.training.examples import as_text

SIDE = 33  # of the example images: odd, and large enough for every network
TEST_IMAGES = 10_000
COLLAPSE = {"epoch": 1, "step": 31, "images": 213, "batch": 256, "end": None}


def packed(correct):
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def examples(channels=0):
    """channels: none, or how many are in the images, each of them one of the others."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 90, (6, SIDE, SIDE)).astype(np.uint8)
    boxes = []
    for number in range(6):
        left, top = 2 * number, 14 - 2 * number
        images[number, top : top + 11, left : left + 8] = 255
        boxes.append([left, top, left + 7, top + 10])
    if channels:
        images = np.stack([np.roll(images, n, axis=0) for n in range(channels)], axis=-1)
        boxes = [[boxes[number - n] for n in range(channels)] for number in range(6)]
    return {
        "images": base64.b64encode(images.tobytes()).decode(),
        "shape": list(images.shape),
        "labels": [7, 2, 1, 0, 4, 1],
        "boxes": boxes,
    }


def read(written):
    """A record as read_record has it."""
    upgraded = format1.upgraded(written) if written["format"] == 1 else written
    return upgraded | {"settings": from_json(upgraded["settings"])}


def record(*arguments, **more):
    """The same as ``written``, read again."""
    return read(written(*arguments, **more))


def written(
    network="arch1-tstn",
    seed=0,
    *,
    wrong=range(314),
    train_error=1.0,
    status="finished",
    epochs=None,
    done=None,
    collapses=(),
    scale=0.6,
    data_sha256="3fa91c22" * 8,
    compress=None,
    **settings,
):
    """A run of `epochs` epochs, of which `done` are done, whose best weights miss images `wrong`.

    The default is the paper's protocol. scale: of every theta at the end; the identity's is 1.
    """
    paper_epochs = TABLE3[network].epochs if network in TABLE3 else None
    epochs = epochs or paper_epochs or 20
    done = epochs if done is None else done
    cnn = network.endswith("-cnn")
    correct = np.ones(TEST_IMAGES, bool)
    correct[list(wrong)] = False
    error = 100.0 * float(1 - correct.mean())
    history = []
    for epoch in range(1, done + 1):
        part = epoch / epochs
        zoom = 1 + part * (scale - 1)
        theta = [[zoom, 0.1 * number * part, 0.2, 0.0, zoom, -0.1] for number in range(6)]
        history.append(
            {
                "epoch": epoch,
                "lr": 0.001,
                "train_loss": 1.0,
                "train_error": 90 + part * (train_error - 90),
                "valid_loss": 1.0,
                "valid_error": 90 + part * (error - 90),
                "overlap": None if cnn else 0.1 + 0.4 * part,
                "inside": None if cnn else 0.9,
                "left_image": None if cnn else 0.0,
                "moved": None if cnn else 0.1 * part,
                "spread": None if cnn else 0.05 * part,
                "theta": None if cnn else theta,
                "seconds": 50.0,
            }
        )
    best = None
    if history:
        best = {
            "epoch": done,
            "train_error": history[-1]["train_error"],
            "valid_error": history[-1]["valid_error"],
            "test_error": error,
            "test_overlap": history[-1]["overlap"],
            "test_inside": history[-1]["inside"],
            "test_correct": packed(correct),
            "test_size": TEST_IMAGES,
        }
    diverged = {"epoch": done + 1, "step": 97, "layer": "classifier/conv1"}
    return {
        "format": 1,
        "settings": {
            "network": network,
            "data": "mnist",
            "data_seed": 0,
            "canvas": 60,
            "distractors": 6,
            "patch": 8,
            "train_size": 50_000,
            "epochs": epochs,
            "batch_size": 256,
            "lr": 0.001,
            "loc_lr": 1.0,
            "seed": seed,
            **settings,
        },
        "full_train_size": 50_000,
        "paper_epochs": paper_epochs,
        "compress": compress,
        "command": f"python reproduce/table3.py --seeds {seed}",
        "commit": "0123456789abcdef",
        "dirty": False,
        "source_sha256": "ab" * 32,
        "data_sha256": data_sha256,
        "device": {"name": "A processor", "cores": 2, "threads": 1, "engine": "numpy"},
        "versions": {"python": "3.12.1", "numpy": "2.0.0"},
        "parameters": 9_780_963,
        "status": status,
        "diverged": diverged if status == "diverged" else None,
        "collapses": [dict(collapse) for collapse in collapses],
        "wall_seconds": 1800.0,
        "epochs": history,
        "best": best,
        "examples": examples(),
    }


def recorded(network, channels=0, epochs=4):
    """A run by iterations, with random numbers for theta of all the network's transformers.

    Of volumes the projections are noise.
    """
    architecture = format1.ARCHITECTURES[network]
    volumes = architecture.kind == "projected"
    size = (SIDE,) * (3 if volumes else 2)
    front = architecture.build(Form(size, max(1, channels))).front
    identity = np.concatenate([one.transform.identity for one in front.at_input])
    run = written(network, epochs=epochs, data=set_of(network), lr=0.01)
    run["settings"] |= {"epochs": None, "iterations": 200 * epochs}
    rng = np.random.default_rng(5)
    for entry in run["epochs"]:
        noise = rng.normal(0, 0.05, (6, len(identity)))
        entry["theta"] = (identity + entry["epoch"] * noise).tolist()
    run["examples"] = examples(channels)
    if volumes:
        run["examples"]["size"] = list(size)
        for entry in (run["examples"], *run["epochs"]):
            entry["projections"] = as_text(rng.integers(0, 256, (6, 24, 24), np.uint8))
    return read(run)


def set_of(network):
    """The data set that a network of format 1 was for."""
    name = network.split("-")[0]
    return {"projection": "extruded"}.get(name, name)


def found_in(digit, distractors, error, seed=0):
    """A run of co-localisation, as format 1 had it, with as much as its report reads."""
    made = written(
        "colocalisation",
        seed=seed,
        data=f"colocalisation-{digit}",
        train_size=9900,
        distractors=distractors,
        iterations=3000,
        encoder="encoder-data0-n60000-batch64-lr0.02-loc1-sgd0.9-wd0.002-its2000-decay0.1x1600-"
        "seed0",
    )
    made["settings"] |= {"epochs": None, "precision": "fp32"}
    for epoch in made["epochs"]:
        epoch["theta"] = [[0.3, 0.1, 0.2]] * 6
    made["best"] |= {"test_error": error, "test_overlap": 0.7}
    return made


def stn_written(network, *, wrong=range(100), pose=None, embedded=False, **changes):
    """As format 1 had it, a finished run of an STN network that misses the test images `wrong`."""
    found = written(network, wrong=wrong, epochs=3, **changes)
    found["settings"] |= {
        "data": set_of(network) + ("-digits" if embedded else ""), "epochs": None,
        "iterations": 3000, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0, "decay": 0.1,
        "decay_every": 1000, "precision": "fp32", "batch_size": 64, "lr": 0.01,
        "train_size": 8_000 if embedded else 60_000, "canvas": 28, "distractors": 0, "patch": 0,
    }  # fmt: skip
    found["full_train_size"] = 60_000
    found["best"] |= {
        "valid_error": None, "test_pose_spread": pose, "test_pose_unmoved": 9.8 if pose else None,
    }  # fmt: skip
    return found


def birds_written(network="2xst-cnn", *, wrong=range(90), seed=0, shows=None):
    """A finished run of windows, as it is written, that misses the test pictures `wrong`.

    shows: how often each window shows head and body, by default the second one the head.
    """
    settings = replace(stn_birds.EXPERIMENT.parse(["--models", network])[0], seed=seed)
    found, size = written("arch1-tstn", seed, epochs=3), settings.data.test_size
    count = settings.network.windows
    shows = shows or [[0.2, 0.9], [0.8, 0.3], [0.1, 0.1], [0.4, 0.4]][:count] or None
    correct = np.ones(size, bool)
    correct[list(wrong)] = False
    measured = {"shows": shows, "shows_elsewhere": shows and [[0.25, 0.35]] * count}
    for entry in found["epochs"]:
        entry |= measured | {"theta": [np.tile([0.1, -0.2], count).tolist()] * 6 if count else None}
    found["best"] |= {
        "valid_error": None, "test_error": 100 * float(1 - correct.mean()),
        "test_correct": packed(correct), "test_size": size,
        **{f"test_{name}": value for name, value in measured.items()},
    }  # fmt: skip
    images = np.random.default_rng(3).integers(0, 256, (6, *settings.data.form.shape))
    boxes = [[[4, 5, 12, 13], [30, 20, 38, 28]]] * 6
    return found | {
        "format": 2, "experiment": "stn_birds", "settings": to_json(settings),
        "command": stn_birds.EXPERIMENT.command(settings),
        "examples": as_text(images.astype(np.uint8)) | {"labels": [3] * 6, "boxes": boxes},
    }  # fmt: skip


def of_sequences(network, *, wrong=range(90), seed=0, own=0.98, done=3, source="mnist", **fields):
    """A finished run of an RNN-SPN network, as it is written; it misses the test digits `wrong`.

    own: share of the images where each glimpse is on its digit, else on the next one. done: epochs.
    fields: of the training.
    """
    whole = rnn_spn_table1.EXPERIMENT.parse(["--nets", network, "--data", source])[0]
    settings = replace(whole, seed=seed, training=replace(whole.training, **fields))
    found, glimpses = written("arch1-tstn", seed, epochs=done), 3
    correct = np.ones((TEST_IMAGES, glimpses), bool)
    correct.reshape(-1)[list(wrong)] = False
    looks = {"rnn": glimpses, "ffn": 1, "cnn": 0}[network[:3]]
    measured = {"correlation": 0.9, "widths_in": 1.0, "widths_out": 0.2}
    overlaps = [(0.5 + 0.1 * n, list(np.roll([own, 1 - own, 0.0], n))) for n in range(glimpses)]
    each = [{"overlap": o, "overlap_in": 0.25, "overlaps_most": most} for o, most in overlaps]
    for entry in found["epochs"]:
        entry |= measured | {"valid_sequence_error": 3.0}
        entry["theta"] = [np.tile([0.3, 0, 0.1, 0, 0.3, -0.1], looks).tolist()] * 6
        entry |= {"glimpses": each} if looks == glimpses else {}
        entry |= {} if looks else {"theta": None, "overlap": None}
    found["best"] |= {
        "test_error": 100 * float(1 - correct.mean()),
        "test_sequence_error": 100 * float(1 - correct.all(axis=1).mean()),
        "test_correct": packed(correct), "test_size": correct.size,
        "test_overlap": 0.6 if looks else None, "test_correlation": 0.9 if looks else None,
        **({"test_glimpses": each} if looks == glimpses else {}),
    }  # fmt: skip
    images = np.random.default_rng(3).integers(0, 90, (6, 72, 72)).astype(np.uint8)
    boxes = [[[4 + 20 * n, 5, 20 + 20 * n, 24] for n in range(glimpses)]] * 6
    return found | {
        "format": 2, "experiment": "rnn_spn_table1", "settings": to_json(settings),
        "command": rnn_spn_table1.EXPERIMENT.command(settings),
        "examples": as_text(images) | {"labels": [[7, 2, 1]] * 6, "boxes": boxes},
        **rnn_spn_table1.extra(settings),
    }  # fmt: skip


def placed_written(script, line, *, wrong=0, seed=0, done=3, tests=(), seconds=1800.0, status=None):
    """A run of SVHN or plankton in the placement paper, as it is written.

    line: the script's words for it. wrong: how many of the first test images it misses. tests: how
    many it misses of them as it was tested otherwise, by name. done: epochs.
    """
    settings = replace(script.EXPERIMENT.parse(line.split())[0], seed=seed)
    size = settings.data.test_size
    found = written("arch1-tstn", seed, epochs=done, status=status or "finished")

    def missing(count):
        correct = np.arange(size) >= count
        error = 100 * float(1 - correct.mean())
        return {"test_error": error, "test_correct": packed(correct), "test_size": size}

    front = settings.network.place in ("SL", "DL")
    for entry in found["epochs"]:
        entry |= {} if front else {"theta": None}
    found["best"] |= missing(wrong) | {"valid_error": 5.0, "train_error": 4.0}
    if tests:
        found["best"]["tests"] = {name: missing(count) for name, count in dict(tests).items()}
    images = np.random.default_rng(3).integers(0, 256, (6, *settings.data.form.shape))
    labels = np.zeros((6, *settings.data.form.labels), int)
    return found | {
        "format": 2, "experiment": script.EXPERIMENT.name, "settings": to_json(settings),
        "command": script.EXPERIMENT.command(settings), "wall_seconds": seconds,
        "examples": as_text(images.astype(np.uint8))
        | {"labels": labels.tolist(), "boxes": [[7, 7, 40, 40]] * 6},
    }  # fmt: skip


def of_placement(
    name, model, *, wrong=range(1000), seed=0, source="mnist", final=1.25, field=None, **fields
):
    """A finished run of a network of the placement paper, as it is written.

    It misses the test images `wrong` of 100,000. final: Table I's measure. field: of what the
    transformer samples, None as in records that lack it. fields: of the training.
    """
    line = ["--sets", name, "--models", model, "--data", source, "--seeds", str(seed)]
    (whole,) = placement_mnist.EXPERIMENT.parse(line)
    settings = replace(whole, training=replace(whole.training, **fields))
    found, correct = written("arch1-tstn", seed, epochs=3), np.ones(settings.data.test_size, bool)
    correct[list(wrong)] = False
    final = None if model == "cnn" else final
    finals = dict.fromkeys(
        ("test_final_degrees", "test_final_pixels", "test_final_log2_area"), final
    )
    found["best"] |= {} if field is None else {"test_field": field}
    found["best"] |= finals | {
        "valid_error": None, "test_error": 100 * float(1 - correct.mean()),
        "test_correct": packed(correct), "test_size": correct.size,
        "test_turn_slope": 0.5 if model != "cnn" and name == "r" else None,
        "test_turns": [[-60, -30], [20, 10], [40, 20]] if model != "cnn" and name == "r" else None,
    }  # fmt: skip
    return found | {
        "format": 2, "experiment": "placement_mnist", "settings": to_json(settings),
        "command": placement_mnist.EXPERIMENT.command(settings),
        **placement_mnist.EXPERIMENT.extra(settings),
    }  # fmt: skip
