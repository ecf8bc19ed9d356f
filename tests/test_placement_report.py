"""The placement paper's tables from records whose answers are known, and a run of the script."""

import numpy as np
import placement_mnist
import pytest
from papers import placement
from synthetic import of_placement, read

from ministn import cli, runs
from ministn.errors import UserError
from ministn.models import Placement, PlacementCnn
from ministn.optimizers import SGD
from ministn.schedules import StepDecay


def run(*arguments, **more):
    return read(of_placement(*arguments, **more))


def row_of(text, name, model):
    return next(line.split() for line in text.splitlines() if line.startswith(f"{name} {model} "))


def verdict_of(records):
    (rows,) = placement.tables(records)
    return {each.claim: each.verdict for each in placement.verdicts(rows)}


def test_no_flags_are_the_protocol():
    settings = placement_mnist.EXPERIMENT.parse([])
    assert len(settings) == 10 * 3 * 5 and {s.seed for s in settings} == set(range(10))
    for s in settings:
        t = s.training
        assert (t.optimizer, t.lr, t.batch_size, t.iterations, t.schedule) == (
            SGD(0.0), 0.03, 256, 50_000, StepDecay(0.1, 16_667),
        )  # fmt: skip
        assert (s.data.passes, s.data.test_size) == (10, 100_000)
    first = [(s.data.recipe, s.network) for s in settings[:15]]
    assert first[4] == ("R", Placement("SL", "R", (1,)))
    assert first[5] == ("TC", PlacementCnn("T")) and first[11] == ("S", Placement("C", "S", (0,)))


def test_the_papers_numbers():
    """Each table has a number for each of its networks, and its best ones are those in bold."""
    for name in placement.SETS:
        assert tuple(placement.ERRORS[name]) == placement.MODELS
        assert tuple(placement.SPREADS[name]) == placement.MODELS[1:]
        for table in (placement.ERRORS, placement.SPREADS):
            assert min(table[name], key=table[name].get) == placement.BEST[name]


def test_ours_stand_beside_the_papers():
    records = [
        run("r", "cnn", wrong=range(2000)),
        run("r", "stn-sl1", wrong=range(900), final=20.5),
        run("r", "stn-sl1", wrong=range(1100), final=22.5, seed=1),
        run("t", "stn-c1", final=1.4),
        run("t", "stn-c0", final=1.5),
    ]
    text = placement.report(records)
    assert text.startswith("Our protocol: 50,000 iterations of batch 256, learning rate 0.03, ")
    assert row_of(text, "R", "CNN")[-5:] == ["2.00", "1.71", "-", "-", "-"]
    shared = row_of(text, "R", "STN-SL1")
    errors = ["1.00", "[1.00,", "1.00]", "1.00", "[0.90,", "1.10]"]
    assert shared[3:] == ["0", "1", *errors, "0.98", "21.5", "18.7", "0.5"]
    assert row_of(text, "T", "STN-C1")[-4:] == ["1.16", "-", "1.15", "-"]
    assert row_of(text, "T", "STN-C0")[-4:] == ["1.10", "1.5", "1.16", "-"]
    assert max(map(len, text.splitlines())) <= 112
    assert "| R STN-SL1 |" in placement.report(records, markdown=True)


@pytest.mark.parametrize(
    ("image", "feature_map", "verdict"),
    [(700, 1200, "holds"), (1200, 700, "does not hold"), (700, 705, "undecided")],
)
def test_input_beats_feature_map_on_turned_and_scaled_digits(image, feature_map, verdict):
    for name in ("r", "s"):
        records = [run(name, "stn-c0", wrong=range(image))]
        records.append(run(name, "stn-c1", wrong=range(feature_map)))
        assert verdict_of(records)[f"{name.upper()} STN-C0 < {name.upper()} STN-C1"] == verdict


def test_on_translated_digits_the_paper_finds_little():
    records = [run("t", "stn-c0", wrong=range(1000)), run("t", "stn-c1", wrong=range(1060))]
    assert verdict_of(records) == {"T STN-C0 about as T STN-C1": "holds"}
    records = [run("t", "stn-c0", wrong=range(1000)), run("t", "stn-c1", wrong=range(3000))]
    assert verdict_of(records) == {"T STN-C0 about as T STN-C1": "does not hold"}


def test_the_best_network_of_each_set():
    for name, best in (("R", "STN-SL1"), ("T", "STN-DL1"), ("S", "STN-DL1")):
        every = [run(name.lower(), model) for model in placement.MODELS]
        claims = verdict_of(every)
        assert {c for c in claims if c.startswith(f"{name} {best} <")} >= {
            f"{name} {best} < {name} {other}"
            for other in ("CNN", "STN-C0", "STN-DL1", "STN-SL1")
            if other != best
        }


def test_rates_of_localisation_are_told_apart():
    records = [
        run("r", "cnn", wrong=range(2000)),
        run("r", "stn-c0", wrong=range(900)),
        run("r", "stn-c0", wrong=range(3000), loc_lr=0.3),
    ]
    assert verdict_of(records) == {
        "loc-lr x0.3, R STN-C0 < R CNN": "does not hold",
        "R STN-C0 < R CNN": "holds",
    }
    assert "R STN-C0, loc-lr x0.3" in placement.report(records)


def test_reduced_runs_are_said_to_be():
    text = placement.report([run("r", "stn-c0", iterations=900, schedule=StepDecay(0.1, 300))])
    assert text.startswith("REDUCED: 900 iterations")
    embedded = placement.report([run("r", "stn-c0", source="digits", wrong=range(20))])
    assert embedded.startswith("REDUCED, OTHER DATA")
    assert row_of(embedded, "R", "STN-C0")[-4:] == ["-", "1.25", "-", "0.5"]


def test_the_page_names_the_sets_that_have_not_run():
    assert placement.section([]).count("* `python reproduce/placement_mnist.py --sets ") == 3
    text = placement.section([run("r", model) for model in placement.MODELS])
    assert "| R STN-SL1 |" in text and "--sets t`" in text and "--sets r`" not in text
    short = [run("s", "cnn", iterations=900, schedule=StepDecay(0.1, 300))]
    assert "--sets s`" in placement.section(short)


def test_nothing_to_report_is_an_error():
    with pytest.raises(UserError, match=r"run reproduce/placement_mnist\.py first"):
        placement.report([])


def test_a_run_measures_table_1(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(placement_mnist, "PASSES", 1)
    words = "--quick --models stn-sl1 stn-c1 --iterations 3 --train-size 64 --threads 1"
    monkeypatch.setattr("sys.argv", ["placement_mnist.py", *words.split()])
    with pytest.raises(SystemExit) as end:
        cli.run(placement_mnist.main)
    said = capsys.readouterr()
    assert end.value.code == 0, said.err
    assert "R STN-SL1 " in said.out and "R STN-SL1 < R STN-C1" in said.out
    found = [runs.read_record(path) for path in tmp_path.glob("runs/*/record.json")]
    assert {record["settings"].network.name for record in found} == {"stn-sl1", "stn-c1"}
    (drawn,) = tmp_path.glob("runs/*/*.png")  # of a feature map there is no picture
    assert drawn.name == "attention.png" and drawn.parent.name.startswith("stn-sl1")
    for record in found:
        assert 30 < record["best"]["test_final_degrees"] < 70
        assert np.isfinite(record["best"]["test_turn_slope"])
