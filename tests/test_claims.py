"""Verdicts, from synthetic records whose answers are known."""

import re

import pytest
from papers.claims import FAILS, HOLDS, UNDECIDED
from papers.tstn import tables, verdicts
from papers.tstn_report import report
from synthetic import COLLAPSE, record

REDUCED = {"train_size": 10_000, "epochs": 15}


def verdict(claim, runs):
    (table,) = tables(runs)
    (found,) = [v for v in verdicts(table) if v.claim == claim]
    return found.verdict, found.seeds


def pair(first, second, wrongs, **settings):
    """Runs of two networks, one seed for each pair of sets of wrongly classified images."""
    return [
        record(network, seed, wrong=wrong, **settings)
        for seed, both in enumerate(wrongs)
        for network, wrong in zip((first, second), both, strict=True)
    ]


FEWER, MORE = range(300), range(433)  # nested: 133 images decide, all one way
NEARLY = range(307)  # 7 images more: significant, but only 0.07 points
FAR_MORE = range(900)
APART = range(5000, 5300)  # as many as FEWER, but others


@pytest.mark.parametrize(
    ("wrongs", "expected"),
    [
        ([(FEWER, MORE)], (HOLDS, 1)),
        ([(FEWER, MORE)] * 3, (HOLDS, 3)),
        ([(MORE, FEWER)] * 3, (FAILS, 3)),
        ([(FEWER, MORE), (MORE, FEWER)], (UNDECIDED, 2)),
        ([(FEWER, MORE), (FEWER, APART)], (UNDECIDED, 2)),
        ([(FEWER, MORE), (FEWER, APART), (FEWER, FAR_MORE)], (UNDECIDED, 3)),  # p = 0.2
        ([(FEWER, MORE)] * 2 + [(FEWER, MORE[:-20])], (HOLDS, 3)),
        ([(FEWER, MORE)] * 30 + [(MORE, FEWER)], (UNDECIDED, 31)),  # one says the opposite
        ([(FEWER, FEWER)], (UNDECIDED, 1)),
    ],
)
@pytest.mark.parametrize(
    ("claim", "networks"),
    [
        ("Arch 1: tied < untied", ("arch1-tstn", "arch1-untied")),
        ("Arch 1: tied < CNN", ("arch1-tstn", "arch1-cnn")),
        ("Arch 2: tied < CNN", ("arch2-tstn", "arch2-cnn")),
    ],
)
def test_smaller(claim, networks, wrongs, expected):
    assert verdict(claim, pair(*networks, wrongs)) == expected


@pytest.mark.parametrize(
    ("wrongs", "expected"),
    [
        ([(FEWER, NEARLY)], (HOLDS, 1)),
        ([(FEWER, NEARLY), (NEARLY, FEWER)], (HOLDS, 2)),
        ([(FEWER, MORE)], (FAILS, 1)),
        ([(FEWER, MORE), (MORE, FEWER)], (FAILS, 2)),
        ([(FEWER, APART)], (UNDECIDED, 1)),
        ([(FEWER, NEARLY), (FEWER, MORE)], (UNDECIDED, 2)),
        ([(FEWER, NEARLY), (NEARLY, FEWER), (FEWER, FEWER)], (HOLDS, 3)),
        ([(FEWER, MORE)] * 3, (FAILS, 3)),
    ],
)
def test_about_equal(wrongs, expected):
    runs = pair("arch1-untied", "arch1-cnn", wrongs)
    assert verdict("Arch 1: untied about the CNN", runs) == expected


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([{"train_error": 88}], (HOLDS, 1)),
        ([{"train_error": 88}, {"status": "diverged", "done": 2}], (HOLDS, 2)),
        ([{"train_error": 88}, {"train_error": 3}], (FAILS, 2)),
        ([{"train_error": 88}, {"status": "interrupted", "done": 2}], (UNDECIDED, 1)),
        ([{"train_error": 3}, {"status": "running", "done": 2}], (FAILS, 1)),
        ([], (UNDECIDED, 0)),
    ],
)
def test_no_convergence(runs, expected):
    records = [record("arch2-untied", seed, **run) for seed, run in enumerate(runs)]
    claim = "Arch 2: untied does not converge"
    assert verdict(claim, [record("arch2-cnn"), *records]) == expected


def test_a_diverged_run_blocks_a_verdict_and_an_unfinished_one_casts_no_vote():
    runs = pair("arch1-tstn", "arch1-untied", [(FEWER, MORE)])
    claim = "Arch 1: tied < untied"
    unfinished = record("arch1-untied", 1, status="interrupted", done=3)
    assert verdict(claim, [*runs, unfinished]) == (HOLDS, 1)
    diverged = record("arch1-untied", 1, status="diverged", done=3)
    assert verdict(claim, [*runs, diverged]) == (UNDECIDED, 1)
    text = report([*runs, diverged])
    assert "seed 1: TSTN not run, untied diverged" in text


def test_settings_are_judged_apart_and_never_across():
    stable = {"loc_lr": 0.1}
    runs = [
        record("arch1-untied", wrong=range(8900), collapses=[COLLAPSE]),
        record("arch1-tstn", wrong=FEWER),
        record("arch1-untied", wrong=FEWER, **stable),
        record("arch1-tstn", wrong=MORE, **stable),
        record("arch1-cnn", wrong=MORE),
        record("arch1-tstn", wrong=FEWER, lr=0.0003),
    ]
    (table,) = tables(runs)
    found = {v.claim: (v.verdict, v.collapses) for v in verdicts(table)}
    assert found == {
        "Arch 1: tied < untied": (HOLDS, True),
        "Arch 1: tied < CNN": (HOLDS, False),
        "Arch 1: untied about the CNN": (FAILS, True),
        "Arch 1, loc-lr x0.1: tied < untied": (FAILS, False),
        "Arch 1, loc-lr x0.1: tied < CNN": (UNDECIDED, False),
        "Arch 1, loc-lr x0.1: untied about the CNN": (FAILS, False),
        "Arch 1, lr 0.0003: tied < untied": (UNDECIDED, False),
        "Arch 1, lr 0.0003: tied < CNN": (UNDECIDED, False),
        "Arch 1, lr 0.0003: untied about the CNN": (UNDECIDED, False),
        "Arch 2: all claims": (UNDECIDED, False),
    }
    text = report(runs)
    assert "HOLDS          Arch 1: tied < untied in this run (with collapses)" in text
    assert "DOES NOT HOLD  Arch 1, loc-lr x0.1: tied < untied in this run\n" in text


def test_a_claim_over_three_seeds_has_a_test_over_them():
    wrongs = [(FEWER, MORE), (FEWER, MORE[:-20]), (FEWER, MORE[:-40])]
    text = report(pair("arch1-tstn", "arch1-untied", wrongs))
    assert "HOLDS          Arch 1: tied < untied over 3 seeds\n" in text
    assert "over 3 seeds: TSTN - untied = -1.13 [-1.63, -0.63] points, p = 0.01 (paired t" in text
    two = report(pair("arch1-tstn", "arch1-untied", wrongs[:2]))
    assert "HOLDS          Arch 1: tied < untied in these 2 runs\n" in two
    assert "paired t test)" not in two


def test_runs_of_a_compressed_protocol_share_a_table_and_claims():
    faster = {"epochs": 18, "compress": 8, "decay_every": 3}
    cnn = record("arch1-cnn", wrong=MORE, **faster)
    tied = record("arch1-tstn", loc_lr=0.3, wrong=FEWER, **faster | {"epochs": 25})
    small = record("arch1-tstn", loc_lr=0.3, downsample=3.0, **faster | {"epochs": 25})
    other = record("arch1-tstn", epochs=25, decay_every=3)
    found = tables([cnn, tied, small, other, record()])
    assert [len(table) for table in found] == [1, 3, 3]
    assert found[0][0][0]["settings"].training.epochs == 196
    text = report([cnn, tied, small])
    assert text.startswith("REDUCED: 50,000 of 50,000 images, 1/8 of the paper's epochs: compare")
    assert "decay" not in text.split("Errors in percent")[0]
    assert re.search(r"Arch 1 TSTN.*\n  loc-lr x0.3\n  d = 3\n", text)
    assert "HOLDS          Arch 1, loc-lr x0.3: tied < CNN in this run (reduced)" in text
    assert "Arch 1, loc-lr x0.3, d = 3: tied < CNN in this run (reduced)" in text
    assert "decay every 3" in report([other])
    assert "decay every 5" in report([record(decay_every=5)])  # of the paper's length


@pytest.mark.parametrize("markdown", [False, True])
def test_verdicts_on_reduced_runs_say_so(markdown):
    runs = pair("arch1-tstn", "arch1-untied", [(MORE, FEWER)], **REDUCED)
    lines = [
        line for line in report(runs, markdown=markdown).splitlines() if "Arch 1: tied" in line
    ]
    assert len(lines) == 2
    assert all("(reduced)" in line for line in lines) and "in this run" in lines[0]
    assert "DOES NOT HOLD" in lines[0]


def test_networks_that_are_not_in_the_paper_have_no_claims():
    text = report([record("small-stn")])
    assert "claims" not in text and "McNemar" not in text
