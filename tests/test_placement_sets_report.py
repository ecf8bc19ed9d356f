"""The report and figures of SVHN and plankton in the placement paper, from known records."""

import placement_plankton
import placement_svhn
import pytest
from papers import placement_sets as sets
from papers import placement_sets_figures as pictures
from papers import placement_sets_report as reports
from papers.placement_plankton import STUDY as PLANKTON
from papers.placement_svhn import STUDY as SVHN
from synthetic import of_sequences, placed_written, read

from ministn.errors import UserError
from ministn.plot import drawing

SHORT = "--width 0.25 --epochs 30"


def svhn(network, wrong=100, more=SHORT, **fields):
    """Of 1,000 test images, so that wrong is the error in tenths of a percent."""
    return read(placed_written(placement_svhn, f"--nets {network} {more}", wrong=wrong, **fields))


def plankton(network, wrong=607, more="--side 48 --epochs 15", **fields):
    line = f"--nets {network} {more}"
    return read(placed_written(placement_plankton, line, wrong=wrong, **fields))


def row_of(text, *words):
    rows = [line.split() for line in text.splitlines()]
    return next(row for row in rows if row[: len(words)] == list(words))


def test_ours_stand_beside_the_papers_and_every_cell_is_there():
    text = reports.report(
        SVHN, [svhn("c0123", 90), svhn("sl0123", 80, seconds=3600.0), svhn("sl0123", 60, seed=1)]
    )
    assert text.startswith("REDUCED: SVHN, 13,000 of 235,755 images of 64x64")
    assert "classifier 0.25 times as wide" in text and "momentum 0, weight decay 0.0005" in text
    ours = row_of(text, "STN-SL0123")
    assert ours[2:] == "0 1 3 4.00 5.00 7.00 [6.00, 8.00] 3.49 1.5 1.8".split()
    assert row_of(text, "STN-C0123")[-3:] == ["3.61", "1.0", "-"]
    assert row_of(text, "STN-SL8") == ["STN-SL8", *"------", "3.26", "-", "1.6"]
    for cell in reports.in_order(SVHN):
        assert any(line.startswith(f"{sets.spoken(cell)}  ") for line in text.splitlines())
    assert max(map(len, text.splitlines())) <= 112


def test_a_third_iteration_at_test_has_its_row_and_claim():
    found = svhn("sl3x2", 90, tests={"sl3x2+1": 60})
    text = reports.report(SVHN, [found, svhn("sl3", 120)])
    assert row_of(text, "STN-SL3", "x2,")[-8:] == ["0", "-", "-", "-", "6.00", "3.33", "-", "-"]
    (table,) = sets.tables(SVHN, [found, svhn("sl3", 120)])
    verdicts = {each.claim: each for each in sets.verdicts(SVHN, table)}
    claim = "STN-SL3 x2, tested x3 < STN-SL3 x2"
    assert verdicts[claim].verdict == "holds"
    assert verdicts["STN-SL3 x2 < STN-SL3"].verdict == "holds"


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(60, 120, "holds"), (120, 60, "does not hold"), (100, 102, "undecided")],
)
def test_deeper_networks_are_compared(first, second, verdict):
    (table,) = sets.tables(SVHN, [svhn("c3", first), svhn("c8", second)])
    found = {each.claim: each for each in sets.verdicts(SVHN, table)}
    assert found["STN-C3 < STN-C8"].verdict == verdict
    assert found["CNN < STN-C8"].details == ["CNN not run"]
    assert "STN-DL3 < STN-DL8" not in found


def test_about_as_good_is_within_the_studys_margin():
    """It is no larger than what the paper calls a change."""
    (margin,) = {claim.margin for claim in SVHN.claims} - {None}
    assert margin < SVHN.paper["c0"] - SVHN.paper["c3"]
    assert "within +-0.1 points" in reports.rules(SVHN)
    assert "About as" not in reports.rules(PLANKTON)
    runs = [svhn("c0", 100, seed=n) for n in range(3)]
    for wrong, verdict in ((100, "holds"), (102, "does not hold")):
        table = sets.tables(SVHN, [*runs, *(svhn("c0x2", wrong, seed=n) for n in range(3))])[0]
        found = {each.claim: each.verdict for each in sets.verdicts(SVHN, table)}
        assert found["STN-C0 x2 about as STN-C0"] == verdict


# What the paper's text says of Tables III, IV and V, and of looking twice.
SVHN_CLAIMS = """
sl0123 < c0123, sl0123 < c0-large, sl0123 < cnn, c3 < c0, dl3 < c0, sl3 < c0, cnn < c6, cnn < c8,
c3 < c6, c3 < c8, dl3 < dl6, dl3 < dl8, sl6 < sl3, sl8 < sl3, c0x2 ~ c0, sl3x2 < sl3, sl6x2 < sl6,
sl8 < sl8x2, dl3 < dl3x2, sl3x2+1 < sl3x2, sl6x2+1 < sl6x2
"""
PLANKTON_CLAIMS = """
sl2 < c0, sl4 < c0, c0 < c2, c0 < c4, c0 < c7, c0 < c10, dl2 < c2, dl4 < c4, dl7 < c7, sl2 < c2,
sl4 < c4, sl7 < c7, sl10 < c10, dl2 < dl7, dl4 < dl7, sl7 < dl7, sl10 < dl10, c0x2 < c0,
sl2x2 < sl2, sl7x2 < sl7, dl2x2 < dl2, c0x2 < c0x3, sl4 < sl4x2, dl4 < dl4x2, sl2 < c0x2
"""


@pytest.mark.parametrize(
    ("study", "make", "expected"),
    [(SVHN, svhn, SVHN_CLAIMS), (PLANKTON, plankton, PLANKTON_CLAIMS)],
    ids=["svhn", "plankton"],
)
def test_every_claim_of_the_papers_text_is_judged_once(study, make, expected):
    signs, claims = {"<": "<", "~": "about as"}, []
    for first, sign, second in (claim.split() for claim in expected.split(",")):
        claims.append(f"{sets.spoken(first)} {signs[sign]} {sets.spoken(second)}")
        theirs = [study.paper.get(network) for network in (first, second)]
        if sign == "<" and None not in theirs:
            assert theirs[0] < theirs[1], "the paper's own numbers agree with it"
    records = [
        make(name, tests={f"{name}+1": 90} if "x2" in name else ()) for name in study.networks
    ]
    (table,) = sets.tables(study, records)
    assert sorted(each.claim for each in sets.verdicts(study, table)) == sorted(claims)


def test_only_runs_of_one_protocol_share_a_table():
    records = [
        plankton("c0"), plankton("sl2"), plankton("sl2", more="--side 48 --epochs 15 --lr 0.01"),
        plankton("c0", more="--data digits"), plankton("sl4", more=""),
    ]  # fmt: skip
    found = sets.tables(PLANKTON, records)
    assert [[len(row) for row in table] for table in found] == [[1], [1, 1], [1], [1]]
    assert [sets.scope(PLANKTON, table) for table in found] == [
        "", "reduced", "reduced, other settings", "reduced, other data",
    ]  # fmt: skip
    assert reports.report(PLANKTON, [records[3]]).count("22.1") == 0, "the paper has no digits"


def test_machines_are_not_compared_with_each_other():
    slow = svhn("sl0123")
    slow["device"] = slow["device"] | {"name": "Another processor"}
    assert row_of(reports.report(SVHN, [svhn("c0123"), slow]), "STN-SL0123")[-2:] == ["-", "1.8"]


def test_troubles_are_told():
    text = reports.report(PLANKTON, [plankton("dl7", status="diverged")])
    assert "! STN-DL7, seed 0 DIVERGED in epoch 4" in text


def test_the_page_without_a_record_names_every_command():
    for study in (SVHN, PLANKTON):
        text = reports.section(study, [])
        for name in study.networks:
            seeds = " ".join(map(str, study.seeds))
            assert f"`python {study.path} --nets {name} --seeds {seeds}` | - |" in text
    assert "| STN-SL8 | 3.26 |" in reports.section(SVHN, [])


def test_the_page_says_how_long_what_has_not_run_would_take():
    """Half an hour for 3 epochs of all images makes 47 for 283; smaller ones tell nothing."""
    text = reports.section(PLANKTON, [plankton("c2", more="--epochs 3")])
    assert "| STN-C2 | 22.3 | `python reproduce/placement_plankton.py --nets c2" in text
    assert "--seeds 0 1 2 3` | 47 |" in text
    smaller = reports.section(PLANKTON, [plankton("c2")])
    assert "--nets c2 --seeds 0 1 2 3` | - |" in smaller
    assert "![PlanktonSet: test error against depth](../figures/placement-plankton.png)" in text


@pytest.mark.parametrize(
    ("study", "make", "other"),
    [(SVHN, svhn, SHORT), (PLANKTON, plankton, "--side 48")],
    ids=["svhn", "plankton"],
)
def test_what_the_pages_commands_have_made_is_run(study, make, other):
    """On all images at hand, be they fewer than the paper's, until no seed is missing."""
    *seeds, last = study.seeds
    runs = [make("c0", more="", seed=seed) for seed in seeds]
    elsewhere = [make("c0", more=other, seed=last), make("c0", more="--lr 0.02", seed=last)]
    unfinished = make("c0", more="", seed=last, status="interrupted")
    text = "".join(reports.not_run(study, [*runs, *elsewhere, unfinished]))
    assert f"--nets c0 --seeds {last}`" in text
    assert f"{study.updates:,}" in text
    done = "".join(reports.not_run(study, [*runs, make("c0", more="", seed=last)]))
    assert "--nets c0 " not in done and "--nets c0x2 --seeds" in done
    every = [make(name, more="", seed=seed) for name in study.networks for seed in study.seeds]
    assert reports.not_run(study, every) == []


def test_the_protocols_updates_stand_beside_its_authors():
    for study, words in ((SVHN, "217 epochs or 22,134"), (PLANKTON, "283 epochs or 53,770")):
        assert f"{words} updates, where its authors made" in reports.section(study, [])
    assert "283 epochs of batch 128 or 53,770 updates" in reports.report(
        PLANKTON, [plankton("c0", more="")]
    )


def test_no_records_and_those_of_others_are_refused():
    with pytest.raises(UserError, match=r"^there are no records to report: run reproduce/place"):
        reports.report(SVHN, [])
    with pytest.raises(UserError, match=r"^cnn is no network of this table$"):
        reports.report(SVHN, [read(of_sequences("cnn"))])


def test_figures(tmp_path):
    records = [svhn(name) for name in ("cnn", "c0", "c3", "sl3", "sl3x2", "c0123", "c0-large")]
    lines = pictures.ours(sets.tables(SVHN, records)[0])
    assert {key: [depth for depth, _ in points] for key, points in lines.items()} == {
        ("CNN", 1): [0], ("C", 1): [0, 3], ("DL", 1): [0], ("SL", 1): [0, 3], ("SL", 2): [3],
    }  # fmt: skip
    assert pictures.theirs(PLANKTON)["SL", 2] == [
        (0, [(21.8, False)]), (2, [(21.4, False)]), (7, [(21.5, False)]),
    ]  # fmt: skip
    (found,) = pictures.figures(SVHN, records).items()
    drawing.save(found[1], tmp_path / found[0])
    assert found[0] == "placement-svhn.png" and len(found[1].axes) == 2
    assert pictures.run_figures(SVHN, svhn("sl3")).keys() == {"attention.png"}
    assert pictures.run_figures(SVHN, svhn("c3")) == {}
