"""The report on STN's tables, from synthetic records whose answers are known."""

import pytest
from papers import stn_report
from small_runs import changed
from synthetic import read, stn_written, written

from ministn.optimizers import Adam


@pytest.fixture
def table():
    """papers/stn_report.py."""
    return stn_report


def stn(*arguments, **more):
    """The same, read again."""
    return read(stn_written(*arguments, **more))


def other(run, **changes):
    """The same run with other settings."""
    return run | {"settings": changed(run["settings"], **changes)}


def test_ours_stand_beside_the_papers(table):
    records = [
        stn("rts-cnn", wrong=range(300)),
        stn("r-st-fcn-affine", wrong=range(150), pose=2.5),
        stn("r-fcn", wrong=range(400)),
        stn("r-fcn", wrong=range(200), seed=1),
    ]
    text = table.report(records)
    lines = [line.split() for line in text.splitlines()]
    fcn = next(line for line in lines if line[:2] == ["R", "FCN"])
    assert fcn[-6:] == ["3.00", "[2.00,", "4.00]", "2.1", "-", "-"]
    st = next(line for line in lines if line[:3] == ["R", "ST-FCN", "Aff"])
    assert st[-4:] == ["1.50", "1.2", "2.50", "9.80"]
    order = [line[0] for line in lines if line[:1] in (["R"], ["RTS"])]
    assert order[:3] == ["R", "R", "RTS"]
    assert text.startswith("REDUCED: 3,000 iterations of batch 64, learning rate 0.01")


def test_the_title_names_what_is_not_the_protocol(table):
    def title(iterations=150_000, **settings):
        whole = {"iterations": iterations, "batch_size": 256, "every": iterations // 3}
        return table.title(other(stn("addition-fcn"), **(whole | settings)))

    assert title(3000).startswith("REDUCED: ") and "falling" not in title()
    later = "learning rate 0.01 falling to 0.1 of it after each 120,000, momentum 0.9"
    assert later in title(every=120_000)
    assert "learning rate 0.01 throughout, " in title(every=150_000)
    for another in ({"optimizer": Adam()}, {"momentum": 0.0}, {"lr": 0.1}, {"every": 9}):
        assert title(**another).startswith("OTHER SETTINGS: ")
        assert title(3000, **another).startswith("REDUCED, OTHER SETTINGS: ")


def test_the_page_says_how_long_what_has_not_run_would_take(table):
    """A fiftieth of the iterations on a quarter of the batch in half an hour makes 100 hours."""
    short = stn("r-cnn") | {"wall_seconds": 1800.0}
    whole = [
        other(stn("r-fcn", seed=seed), iterations=150_000, batch_size=256, every=50_000)
        for seed in (0, 1, 2)
    ]
    command = "`python reproduce/stn_table1.py --sets r --models"
    text = table.not_run([short, *whole[:2]])
    assert f"| 1.2 | {command} cnn --seeds 0 1 2` | 100 |" in text
    assert f"| 2.1 | {command} fcn --seeds 2` | " in text
    assert f"| 0.7 | {command} st-cnn-tps --seeds 0 1 2` | - |" in text
    assert f"{command} fcn" not in table.not_run([short, *whole]) and "rts" not in text
    summed = table.not_run([stn("addition-fcn")])
    assert "| 14.7 | `python reproduce/stn_addition.py --models cnn --seeds 0 1 2` | - |" in summed
    assert table.not_run([]) == ""


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(100, 300, "HOLDS"), (300, 100, "DOES NOT HOLD"), (100, 102, "UNDECIDED")],
)
def test_a_transformer_against_its_base_network(first, second, verdict, table):
    records = [stn("r-st-cnn-tps", wrong=range(first)), stn("r-cnn", wrong=range(second))]
    line = next(line for line in table.report(records).splitlines() if "TPS < R CNN" in line)
    assert line.split("R ST-CNN")[0].strip() == verdict


def test_every_claim_of_the_paper_is_judged_where_it_has_been_run(table):
    models = ("fcn", "cnn", "st-fcn-tps", "st-cnn-tps", "st-cnn-affine")
    (found,) = table.tables([stn(f"r-{model}") for model in models] + [stn("rts-fcn")])
    assert [verdict.claim for verdict in table.verdicts(found)] == [
        "R ST-FCN TPS < R FCN",
        "R ST-CNN Aff < R CNN",
        "R ST-CNN TPS < R CNN",
        "R ST-CNN TPS < R ST-FCN TPS",
    ]
    models = ("fcn", "cnn", "st-fcn-tps", "2st-fcn-tps")
    (found,) = table.tables([stn(f"addition-{model}") for model in models])
    assert [verdict.claim for verdict in table.verdicts(found)] == [
        "addition ST-FCN TPS < addition FCN",
        "addition 2xST-FCN TPS < addition CNN",
        "addition 2xST-FCN TPS < addition ST-FCN TPS",
    ]


def projected(model, **changes):
    run = stn(f"projection-{model}", **changes)
    return other(run, optimizer=Adam(), batch_size=32, lr=0.001)


def test_projections_are_judged_by_our_claims(table):
    models = ("st-cnn", "st-fcn", "cnn", "fcn")
    (found,) = table.tables([projected(model, pose=2.0) for model in models])
    assert [verdict.claim for verdict in table.verdicts(found)] == [
        "projection ST-FCN < projection FCN",
        "projection ST-CNN < projection CNN",
    ]
    text = table.report([record for row in found for record in row])
    assert text.startswith("Our protocol: 3,000 iterations of batch 32, learning rate 0.001, Adam;")
    assert "\nOur claims\n" in text and "The paper's claims" not in text
    rows = [line.split() for line in text.splitlines() if line.startswith("projection")]
    assert [row[1] for row in rows] == ["FCN", "CNN", "ST-FCN", "ST-CNN"]
    assert rows[0][-3:] == ["-", "2.00", "9.80"]


def test_shorter_projection_runs_are_reduced(table):
    assert table.scope(other(projected("fcn"), iterations=2999)) == "reduced"
    theirs = table.report([stn("r-st-fcn-tps"), stn("r-fcn")])
    assert "The paper's claims" in theirs and "momentum 0.9; MNIST" in theirs


def test_only_runs_of_one_protocol_share_a_table(table):
    fcn = stn("r-fcn")
    changes = [other(fcn), other(fcn, lr=0.1), other(fcn, loc_lr=0.1)]
    records = [stn("r-cnn"), *changes, stn("r-fcn", embedded=True)]
    found = table.tables(records)
    assert sorted(len(one) for one in found) == [1, 1, 2]
    scopes = ["reduced", "reduced, other data", "reduced, other settings"]
    assert [table.scope(one[0][0]) for one in found] == scopes


def test_a_localisation_networks_rate_makes_a_row_of_its_own(table):
    slow = other(stn("r-st-fcn-affine", wrong=range(50)), loc_lr=0.1)
    text = table.report([slow, stn("r-st-fcn-affine"), stn("r-fcn", wrong=range(900))])
    assert "R ST-FCN Aff, loc-lr x0.1 < R FCN" in text and "R ST-FCN Aff < R FCN" in text


def test_the_whole_protocol_is_called_that(table):
    found = other(stn("r-fcn"), iterations=150_000, batch_size=256, every=50_000)
    assert table.report([found]).startswith("The paper's protocol: 150,000 iterations")


def test_markdown_has_the_same_rows(table):
    text = table.report([stn("e-st-cnn-tps", pose=1.0), stn("e-cnn")], markdown=True)
    assert "| E ST-CNN TPS | " in text and "| claim | verdict | paired test |" in text
    assert "python reproduce/" in text


def test_the_best_of_each_set_and_a_bent_grid_are_pictured(table):
    def errors(network, error):
        found = stn(network, pose=1.0)
        found["best"]["test_error"] = error
        return found

    r, rts = errors("r-st-cnn-affine", 1.0), errors("rts-st-cnn-affine", 2.0)
    bent = errors("r-st-fcn-tps", 3.0)
    others = [errors("rts-st-cnn-tps", 4.0), errors("r-st-fcn-affine", 5.0), errors("r-fcn", 0.1)]
    shown = table.pictured([bent, *others, rts, r])
    assert sorted(record["best"]["test_error"] for record in shown) == [1, 2, 3]
    assert shown[-1] is rts
    assert table.pictured([others[0], r]) == [r, others[0]]  # one is bent already
    assert table.pictured(others[2:]) == []


def test_troubles_are_told(table):
    fallen = {"epoch": 1, "step": 31, "images": 60, "batch": 64, "end": None}
    text = table.report([stn("r-st-fcn-affine", collapses=[fallen])])
    assert "! R ST-FCN Aff, seed 0 COLLAPSED in epoch 1, step 31" in text


def test_an_unfinished_run_says_how_far_it_is(table):
    unfinished = stn("r-fcn") | {"status": "interrupted", "best": None}
    text = table.report([unfinished])
    assert "UNFINISHED: 3 epochs of 3,000 iterations (interrupted)" in text


def test_records_of_other_scripts_are_refused(table):
    with pytest.raises(Exception, match="arch1-tstn is no network of this table"):
        table.report([read(written())])
    with pytest.raises(Exception, match="no records to report"):
        table.report([])
