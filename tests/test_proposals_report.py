"""Rows of proposed networks and of controls in the report on Table 3: no number of the paper."""

import re

import pytest
from papers import tstn, tstn_figures
from papers.tstn_report import report
from synthetic import record

from ministn.data import CroppedToDigit
from ministn.kinds import has, replaced, value_at
from ministn.models import Alternating, ClassificationCnn, Trstn, Tstn

MEASURED = {"overlap": 0.25, "correlation": 0.5, "widths_in": 2.0, "widths_out": 0.5}


def run(network, name="arch1-tstn", seed=0, **settings):
    """A record like that of a network of the paper."""
    return replaced_in(record(name, seed, **settings), "network", network)


def replaced_in(found, path, value):
    """With another setting."""
    return found | {"settings": replaced(found["settings"], path, value)}


def attending(found, looks=1):
    """With all measures, of each of several glimpses if there are, and of theta shuffled."""
    best = found["best"] | {"test_" + name: value for name, value in MEASURED.items()}
    if looks > 1:
        best["test_transformers"] = [MEASURED, {**MEASURED, "overlap": 0.75}]
    tests = {tstn.ELSEWHERE: {"test_error": 77.77}}
    return found | {"best": best | {"tests": tests}}


def alone(found):
    """As of a network that is tested without a transformer."""
    epochs = [entry | {"overlap": None, "theta": None} for entry in found["epochs"]]
    return found | {"best": found["best"] | {"test_overlap": None}, "epochs": epochs}


PAPERS = [record("arch1-cnn"), attending(record("arch1-tstn"))]
TRSTN = attending(run(Trstn(1)), looks=2)
TURNS = alone(run(Alternating(1)))
CONTROLS = {
    "1542 neurons": run(ClassificationCnn(1, 1542), "arch1-cnn"),
    "gradient stopped": attending(run(Tstn(1, stop_gradient=True))),
    "loc. dropout 0.5": attending(run(Tstn(1, dropout=0.5))),
    "theta fixed": attending(record("arch1-tstn", loc_lr=0.0)),
}
# Other ways of the paper's networks: rows of their own, judged among themselves.
WAYS = {
    "loc. gradient clipped at 0.01": run(Tstn(1, clip=0.01)),
    "loc. scale 0.1": run(Tstn(1, scale=0.1)),
    "loc. pooling kept": run(Tstn(1, pool=True)),
    "theta begins at 0.7": run(Tstn(1, zoom=0.7)),
    "loc. warm-up 196": replaced_in(record("arch1-tstn"), "training.loc_warm_up", 196),
}


def rows(text):
    """Of the first table: its lines from the rule to the next."""
    return re.split(r"^-{50,}$", text, flags=re.MULTILINE)[1]


def test_proposals_stand_beside_the_papers_rows_without_a_number():
    """All are of the paper's length, so in one table; the second glimpse has a line."""
    text = report([*PAPERS, TRSTN, TURNS])
    assert text.count("\nnetwork ") == 1 and text.startswith("The paper's data, images and epochs")
    assert text.count("3.14 [") == text.count("4.44 [") == 1
    (recurrent,) = re.findall(r"^Arch 1 TRSTN .*\n.*\n.*$", rows(text), re.MULTILINE)
    first, second, elsewhere = recurrent.splitlines()
    assert first.split()[-4:] == ["-", "0.25", "0.50", "0.25"]
    assert second.split() == ["T", "=", "2", "glimpse", "2", "0.75", "0.50", "0.25"]
    assert elsewhere.split() == ["elsewhere", "77.77"]
    (turns,) = re.findall(r"^Arch 1 CNN by turns .*$", rows(text), re.MULTILINE)
    assert turns.split()[-4:] == ["-"] * 4
    assert "proposes them without numbers" in re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("words", CONTROLS)
def test_controls_are_labelled_and_have_no_number_of_the_paper(words):
    text = report([*PAPERS, CONTROLS[words]])
    assert words in text
    assert text.count("3.14 [") == text.count("4.44 [") == 1
    assert tstn.label(CONTROLS[words])[1:] == [words]


def test_claims_are_about_the_papers_networks_alone():
    """And a CNN is compared as before, though networks have settings of their own by now."""
    (table,), (more,) = (tstn.tables([*PAPERS, *others]) for others in ([], [TURNS]))
    assert tstn.verdicts(table) == tstn.verdicts(more)
    assert any(verdict.seeds for verdict in tstn.verdicts(table))
    for control in CONTROLS.values():
        (one,) = tstn.tables([*PAPERS, control])
        assert len(one) == 3 and tstn.verdicts(one) == tstn.verdicts(table)


@pytest.mark.parametrize("words", WAYS)
def test_another_way_to_look_is_labelled_and_compared_at_that_way(words):
    """The CNN, which does not look, is the same beside all; as it has no warm-up, none is said."""
    way, papers = WAYS[words], record("arch1-untied")
    path, value = next(
        (path, value_at(way["settings"], path))
        for path in tstn.TRANSFORMERS_ONLY
        if has(papers["settings"], path)
        and value_at(way["settings"], path) != value_at(papers["settings"], path)
    )
    untied = replaced_in(record("arch1-untied", wrong=range(500)), path, value)
    (table,) = tstn.tables([*PAPERS, papers, way, untied])
    assert len(table) == 5 and tstn.label(way)[1:] == tstn.label(untied)[1:] == [words]
    judged = [v.claim for v in tstn.verdicts(table) if v.seeds and words in v.claim]
    assert [claim.split(": ")[1] for claim in judged][:2] == ["tied < untied", "tied < CNN"]
    assert tstn.label(replaced_in(PAPERS[0], "training.loc_warm_up", 9)) == ["Arch 1 CNN"]


@pytest.mark.parametrize(
    ("wrong", "verdict"), [(range(200), "holds"), (range(500), "does not hold")]
)
def test_what_the_paper_expects_of_the_recurrent_network(wrong, verdict):
    """Beside the tied network of the same settings, whatever T is."""
    found = [
        run(Trstn(1, glimpses=3), seed=seed, wrong=range(wrong[-1] + seed)) for seed in range(3)
    ]
    tied = [record("arch1-tstn", seed) for seed in range(3)]
    other = record("arch1-tstn", downsample=3.0)
    (table,) = tstn.tables([*found, *tied, other, *PAPERS[:1], CONTROLS["gradient stopped"]])
    *_, expected = tstn.verdicts(table)
    assert expected.claim == "Arch 1, T = 3: TRSTN < tied, expected"
    assert (expected.verdict, expected.seeds) == (verdict, 3)
    (lonely,) = tstn.tables([found[0], other])
    assert tstn.verdicts(lonely)[-1].details == ["TSTN not run"]


def test_what_looked_at_cut_out_digits_has_a_table_of_its_own():
    cut = record("arch1-cnn", data_sha256="b" * 64)
    cut["settings"] = replaced(cut["settings"], "data", CroppedToDigit(side=20))
    text = report([*PAPERS, cut])
    assert "distractors of 8x8, cut to the digit, 20x20, data seed 0 (SHA-256 bbbbbbbb)" in re.sub(
        r"\s+", " ", text
    )
    assert text.count("\nnetwork ") == 2 and text.count("4.44 [") == 1


def test_markdown_has_the_same_lines():
    text = report([*PAPERS, TRSTN], markdown=True)
    assert "| | glimpse 2 | | | | | | 0.75 | 0.50 | 0.25 |" in re.sub(r" +", " ", text)
    assert re.search(r"\| *\| *elsewhere *\|[ |]*77\.77", text)


def test_what_is_tested_without_a_transformer_has_no_attention_to_draw():
    found = [*PAPERS, TRSTN, TURNS, *CONTROLS.values()]
    assert [tstn.attends(each) for each in (PAPERS[0], TRSTN, TURNS)] == [False, True, False]
    (axes,) = tstn_figures.overlap_figure([TRSTN, TURNS]).axes
    assert len(axes.lines) == 2  # TRSTN, and the identity
    dots = tstn_figures.seeds_figure(found).axes[0]
    assert len(dots.get_yticks()) == len(found)
    assert len(dots.containers) == 2  # the paper's numbers, each once
