"""The placement paper's tables from records whose answers are known, and a run of the script."""

from dataclasses import replace

import numpy as np
import placement_mnist
import pytest
from papers import placement, placement_figures
from papers.claims import of_one_seed
from scipy.stats import ttest_1samp
from synthetic import of_placement, read, record

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
    counted = placement.report([*records[:3], run("t", "stn-c1", final=1.4, field=25 / 29.5)])
    assert row_of(counted, "T", "STN-C1")[-4:] == ["1.16", "1.4", "1.15", "-"]
    assert max(map(len, text.splitlines())) <= 112
    assert "| R STN-SL1 |" in placement.report(records, markdown=True)


@pytest.mark.parametrize(
    ("image", "feature_map", "verdict"),
    [(700, 1200, "holds"), (1200, 700, "does not hold"), (700, 703, "undecided")],
)
def test_input_beats_feature_map_on_turned_and_scaled_digits(image, feature_map, verdict):
    for name in ("r", "s"):
        records = [run(name, "stn-c0", wrong=range(image))]
        records.append(run(name, "stn-c1", wrong=range(feature_map)))
        assert verdict_of(records)[f"{name.upper()} STN-C0 < {name.upper()} STN-C1"] == verdict


def test_on_translated_digits_the_paper_finds_little():
    """Less than by which STN-C1 loses elsewhere: the margin is 0.1 points, 100 images."""
    for wrong, verdict in ((1060, "holds"), (1100, "undecided"), (1150, "does not hold")):
        records = [run("t", "stn-c0", wrong=range(1000)), run("t", "stn-c1", wrong=range(wrong))]
        assert verdict_of(records) == {"T STN-C0 about as T STN-C1": verdict}
    least = min(
        placement.ERRORS[name][placement.OF_A_MAP] - placement.ERRORS[name][model]
        for name in ("r", "s")
        for model in placement.AT_INPUT
    )
    assert placement.MARGIN < least
    assert "within +-0.1 points" in placement.RULES and "All else is undecided" in placement.RULES


def test_images_of_one_digit_count_as_one():
    """Ten images each of three digits are no more than three, by the t test that SciPy has."""
    passes = 10_000 * np.arange(10)
    more = (passes[:, None] + [3, 14, 159]).ravel()
    first, second = run("r", "stn-c0", wrong=[40]), run("r", "stn-c1", wrong=[40, *more])
    found = of_one_seed(first, second)
    per_digit = np.zeros(10_000)
    per_digit[[3, 14, 159]] = -100
    expected = ttest_1samp(per_digit, 0)
    assert found.difference == pytest.approx(-0.03) and found.p_value > 0.05
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), interval, rtol=1e-9)
    spread = of_one_seed(first, run("r", "stn-c1", wrong=range(40, 71)))
    assert spread.difference == pytest.approx(-0.03) and spread.p_value < 1e-6


def test_embedded_digits_are_300():
    """Images 7 and 307 are of one digit; the difference is still that of the errors."""
    runs = [run("r", "cnn", source="digits", wrong=wrong) for wrong in ([], [7, 307])]
    found = of_one_seed(*runs)
    assert found.difference == pytest.approx(-0.02)
    assert found.p_value == pytest.approx(ttest_1samp([-1] + 299 * [0], 0).pvalue)


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


def test_the_page_names_the_runs_that_are_missing():
    """Until all ten seeds of a network have finished by the protocol."""
    script = "python reproduce/placement_mnist.py"
    whole = [f"{script} --sets {name}" for name in "rts"]
    assert placement.not_run([]) == whole
    assert placement.section([]).count("* `python reproduce/placement_mnist.py --sets ") == 3
    one = [run("r", model) for model in placement.MODELS]
    assert placement.not_run(one) == [f"{whole[0]} --seeds 1 2 3 4 5 6 7 8 9", *whole[1:]]
    unfinished = run("r", "cnn", seed=9) | {"status": "interrupted"}
    cnn = [run("r", "cnn", seed=seed) for seed in range(9)]
    assert placement.not_run([*cnn, unfinished]) == [
        f"{whole[0]} --models cnn --seeds 9",
        f"{whole[0]} --models stn-c0 stn-c1 stn-dl1 stn-sl1",
        *whole[1:],
    ]
    assert placement.not_run([*cnn, run("r", "cnn", seed=9)])[0].split()[4:6] == [
        "--models", "stn-c0",
    ]  # fmt: skip
    short = [run("s", "cnn", iterations=900, schedule=StepDecay(0.1, 300))]
    assert placement.not_run([*short, run("r", "stn-c0", loc_lr=0.3)]) == whole
    for command in placement.not_run(cnn):  # the script has each of them
        assert placement_mnist.EXPERIMENT.parse(command.split()[2:])


def test_figures_show_each_seed_and_how_theta_turns():
    records = [run("r", m, seed=s) for m in placement.MODELS for s in (0, 1)] + [run("t", "cnn")]
    found = placement_figures.figures(records)
    assert set(found) == set(placement.pictures(records))
    errors, turns = found["placement-errors.png"], found["placement-turns.png"]
    assert [len(axes.get_yticks()) for axes in errors.axes] == [5, 1]
    assert len(turns.axes) == 4  # a transformer's first seed each
    (points, _, line) = turns.axes[0].lines
    np.testing.assert_array_equal(points.get_xydata(), [[-60, -30], [20, 10], [40, 20]])
    assert line.get_slope() == 0.5 and line.get_xy1() == (0, 0)
    assert set(placement_figures.figures([run("t", "stn-c0")])) == {"placement-errors.png"}


def test_nothing_to_report_and_networks_of_others_are_errors():
    with pytest.raises(UserError, match=r"run reproduce/placement_mnist\.py first"):
        placement.report([])
    with pytest.raises(UserError, match=r"^arch1-tstn is no network of this table$"):
        placement.report([record()])
    twice = run("r", "stn-sl1")
    twice["settings"] = replace(twice["settings"], network=Placement("SL", "R", (1, 1)))
    with pytest.raises(UserError, match=r"^stn-sl11 is no network of this table$"):
        placement.tables([twice])


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
    assert {each["settings"].network.name for each in found} == {"stn-sl1", "stn-c1"}
    drawn = {(p.parent.name[:7], p.name) for p in tmp_path.glob("runs/stn-*/*.png")}
    # Where it looks on a feature map is no picture of the image.
    assert drawn == {
        ("stn-sl1", "attention.png"), ("stn-sl1", "turns.png"), ("stn-c1-", "turns.png"),
    }  # fmt: skip
    for each in found:
        assert 30 < each["best"]["test_final_degrees"] < 70
        assert np.isfinite(each["best"]["test_turn_slope"])
