"""The report and figures of the RNN-SPN paper's table, from records whose answers are known."""

import pytest
import readme
import rnn_spn_table1
from papers import rnn_spn, rnn_spn_figures, rnn_spn_report
from PIL import Image
from synthetic import of_sequences, read, record

from ministn.errors import UserError
from ministn.models import RnnSpn
from ministn.plot import drawing
from ministn.schedules import StepDecay

SHORT = {"epochs": 15, "schedule": StepDecay(1 / 1.5, 1, 3)}


def run(*arguments, **more):
    return read(of_sequences(*arguments, **more))


def lines_of(text):
    return [line.split() for line in text.splitlines()]


def test_ours_stand_beside_the_papers():
    """Errors of digits and of sequences: 300 of 30,000 digits are in 100 of 10,000 images."""
    records = [
        run("cnn", wrong=range(900)),
        run("ffn-spn-d2", wrong=range(600)),
        run("rnn-spn-d2", wrong=range(300)),
        run("rnn-spn-d2", wrong=range(0, 1800, 3), seed=1),
    ]
    text = rnn_spn_report.report(records)
    assert text.startswith("The paper's data and protocol: sequences of MNIST, 60,000 of 60,000")
    rows = lines_of(text)
    rnn = next(line for line in rows if line[:4] == ["RNN-SPN", "d", "=", "2"])
    errors = ["1.50", "[1.00,", "2.00]", "3.50", "[1.00,", "6.00]"]
    assert rnn[-12] == "3"
    assert rnn[-10:] == [*errors, "1.5", "0.60", "0.90", "98.0"]
    ffn = next(line for line in rows if line[:4] == ["FFN-SPN", "d", "=", "2"])
    assert ffn[-6:] == ["2.00", "2.00", "2.0", "0.60", "0.90", "-"]
    cnn = next(line for line in rows if line[:2] == ["conv.", "net"])
    assert cnn[-6:] == ["3.00", "3.00", "2.9", "-", "-", "-"]
    assert max(map(len, text.splitlines())) <= 112


def test_several_seeds_fit_a_terminal_and_an_early_end_is_told():
    """The best epoch is the first and the last of the seeds'."""
    records = [run("rnn-spn-d2", seed=seed, done=9 * seed + 3) for seed in range(3)]
    text = rnn_spn_report.report(records)
    assert "3-21" in text and max(map(len, text.splitlines())) <= 112
    (line,) = rnn_spn_report.early(records[1])
    assert line == (
        "RNN-SPN d = 2, seed 1, ended after 12 of 300 epochs, of which 50 brought no lower "
        "validation error"
    )
    assert rnn_spn_report.early(run("rnn-spn-d2", epochs=3)) == []


def test_the_record_says_which_glimpse_found_which_digit():
    (line,) = rnn_spn_report.reading(run("rnn-spn-d3"))
    assert line == (
        "RNN-SPN d = 3, seed 0, looks from left to right: glimpse 1 on digit 1 in 98 %, 2 on digit "
        "2 in 98 %, 3 on digit 3 in 98 % of the test images; overlap 2.0, 2.4, 2.8 times the whole "
        "image's"
    )
    (line,) = rnn_spn_report.reading(run("rnn-spn-d3", own=0.1))
    assert "looks not one digit after the other: glimpse 1 on digit 2 in 90 %" in line
    assert rnn_spn_report.reading(run("ffn-spn-d3")) == []
    assert "looks from left to right" in rnn_spn_report.report([run("rnn-spn-d1")])


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(300, 900, "holds"), (900, 300, "does not hold"), (300, 306, "undecided")],
)
def test_networks_are_compared_by_sequences(first, second, verdict):
    """By McNemar's test, whose p for 100 images against 300 is far below 5 %."""
    runs = [run("rnn-spn-d4", wrong=range(first)), run("ffn-spn-d4", wrong=range(second))]
    (table,) = rnn_spn.tables(runs)
    found = {each.claim: each for each in rnn_spn.verdicts(table)}
    assert found["RNN-SPN d = 4 < FFN-SPN d = 4"].verdict == verdict
    difference = (first - second) / 300
    assert f"= {difference:+.2f} [" in found["RNN-SPN d = 4 < FFN-SPN d = 4"].details[0]
    assert found["RNN-SPN d = 4 < conv. net"].details == ["conv. net not run"]


@pytest.mark.parametrize(
    ("wrong", "verdict"), [(range(100), "holds"), (range(60, 900), "does not hold")]
)
def test_no_worse_is_within_half_a_point(wrong, verdict):
    (table,) = rnn_spn.tables([run("rnn-spn-d1"), run("rnn-spn-d3", wrong=wrong)])
    found = {each.claim: each.verdict for each in rnn_spn.verdicts(table)}
    assert found["RNN-SPN d = 3 no worse than RNN-SPN d = 1"] == verdict


def test_every_claim_is_judged_once():
    names = [f"{kind}-spn-d{d}" for kind in ("rnn", "ffn") for d in (1, 2, 3, 4)]
    (table,) = rnn_spn.tables([run(name) for name in [*names, "cnn"]])
    assert [each.claim for each in rnn_spn.verdicts(table)] == [
        *(f"RNN-SPN d = {d} < FFN-SPN d = {d}" for d in (1, 2, 3, 4)),
        *(f"RNN-SPN d = {d} < conv. net" for d in (1, 2, 3, 4)),
        *(f"RNN-SPN d = {d} no worse than RNN-SPN d = 1" for d in (2, 3)),
        *(f"FFN-SPN d = {d} < FFN-SPN d = {d + 1}" for d in (2, 3)),
    ]
    order = [rnn_spn.name(row[0]) for row in table]
    assert order[0] == "RNN-SPN d = 1" and order[4] == "FFN-SPN d = 1" and order[8] == "conv. net"


def test_only_runs_of_one_protocol_share_a_table_and_claims():
    shorter = run("rnn-spn-d3", **SHORT, dropout_ramp=1)
    other = run("rnn-spn-d3", **SHORT, dropout_ramp=1, loc_lr=0.3, seed=1)
    records = [run("ffn-spn-d3"), shorter, other, run("ffn-spn-d3", source="digits")]
    found = rnn_spn.tables(records)
    assert [[len(row) for row in table] for table in found] == [[1], [1, 1], [1]]
    assert [rnn_spn.scope(table) for table in found] == ["", "reduced", "reduced, other data"]
    assert "at most 15 epochs (1/20 of the paper's)" in rnn_spn_report.title(found[1])
    assert rnn_spn.label(other) == "RNN-SPN d = 3, loc-lr x0.3"
    claims = [each.claim for each in rnn_spn.verdicts(found[1])]
    assert "loc-lr x0.3, RNN-SPN d = 3 < conv. net" in claims and len(claims) == 6
    assert rnn_spn_report.cells(found[2][0])[7] == "-", "the paper has no such digits"
    another = run("rnn-spn-d3", epochs=9)
    assert rnn_spn.scope(rnn_spn.tables([another])[0]) == "reduced, other schedule"


def test_networks_of_the_paper_are_told_from_those_of_the_code():
    papers = run("rnn-spn-d3")
    papers["settings"] = papers["settings"].__class__(
        papers["settings"].data, RnnSpn(3, 0.2, 256), papers["settings"].training
    )
    assert rnn_spn.label(papers) == "RNN-SPN d = 3, dropout 0.2, 256 units"


def test_markdown_has_the_same():
    text = rnn_spn_report.report([run("rnn-spn-d2")], markdown=True)
    assert "| RNN-SPN d = 2 |" in text and "- RNN-SPN d = 2, seed 0, looks from left" in text
    assert "| RNN-SPN d = 2 < conv. net | **UNDECIDED**" in text


def test_nothing_to_report_and_runs_of_other_scripts_are_refused():
    with pytest.raises(UserError, match=r"^there are no records to report"):
        rnn_spn_report.report([])
    with pytest.raises(UserError, match=r"^arch1-tstn is no network of this table$"):
        rnn_spn_report.report([record()])


def test_the_page_says_what_was_not_run_and_how_long_it_would_take():
    """A run of 15 epochs in half an hour makes 10 hours of 300."""
    assert rnn_spn_report.section([]).startswith("Not run: ")
    short = run("rnn-spn-d3", done=15, **SHORT, dropout_ramp=1) | {"wall_seconds": 1800.0}
    text = rnn_spn_report.section([run("rnn-spn-d2"), short])
    assert "--nets rnn-spn-d2 --seeds 1 2` |" in text
    unfinished = run("rnn-spn-d2", seed=2) | {"status": "interrupted"}
    two = [run("rnn-spn-d2", seed=seed) for seed in (0, 1)]
    assert "--nets rnn-spn-d2 --seeds 2` |" in rnn_spn_report.section([*two, unfinished])
    three = [*two, run("rnn-spn-d2", seed=2)]
    assert "--nets rnn-spn-d2 " not in "".join(rnn_spn_report.not_run(three))
    assert "| `python reproduce/rnn_spn_table1.py --nets rnn-spn-d3 --seeds 0 1 2` | 10 |" in text
    assert "| `python reproduce/rnn_spn_table1.py --nets cnn --seeds 0 1 2` | - |" in text
    drawn = rnn_spn_figures.figures([short]).keys() | {"rnn-spn-glimpses.gif"}
    assert rnn_spn_report.pictures([short]).keys() == drawn


def test_figures_and_the_gif(tmp_path):
    records = [run("rnn-spn-d3", done=1), run("rnn-spn-d3", seed=1, wrong=range(9)), run("cnn")]
    found = rnn_spn_figures.figures(records)
    assert found.keys() == {
        "rnn-spn-errors.png",
        "rnn-spn-overlap.png",
        "rnn-spn-glimpses.png",
    }
    for name, figure in found.items():
        drawing.save(figure, tmp_path / name)
    assert rnn_spn_figures.best_of(records[:2]) is records[1]
    assert rnn_spn_figures.run_figures(records[0]).keys() == {
        "attention.png", "overlap.png", "glimpses.png",
    }  # fmt: skip
    assert rnn_spn_figures.run_figures(run("ffn-spn-d3")).keys() == {"attention.png"}
    assert rnn_spn_figures.run_figures(records[2]) == {}
    rnn_spn_figures.glimpses_gif(records[0], tmp_path / "glimpses.gif")
    with Image.open(tmp_path / "glimpses.gif") as gif:
        assert gif.n_frames == 2


def test_a_line_of_the_overlap_for_each_glimpse_and_seed():
    figure = rnn_spn_figures.overlap_figure([run("rnn-spn-d3"), run("rnn-spn-d3", seed=1)])
    lines = figure.axes[0].lines
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([0.5, 0.6, 0.7] * 2)


def test_quick_attends():
    """Its committed run: each glimpse overlaps its digit twice as much as the whole image does."""
    quick = rnn_spn_table1.EXPERIMENT.parse(["--quick"])
    records = {record["settings"]: record for record in readme.some(readme.RNN_SPN)}
    assert set(quick) <= set(records)
    record = records[quick[0]]
    for glimpse in record["best"]["test_glimpses"]:
        assert glimpse["overlap"] >= 2 * glimpse["overlap_in"]
    assert "overlap 2.3, 2.4, 2.1 times the whole image's" in rnn_spn_report.report([record])
