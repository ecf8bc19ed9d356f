"""The report on windows that show parts, from synthetic records whose answers are known."""

import pytest
from papers import birds_report
from synthetic import birds_written, read, written

from ministn.errors import UserError


def found(*arguments, **more):
    return read(birds_written(*arguments, **more))


def test_the_windows_that_show_the_most_are_those_of_the_parts():
    """Each window has one part, whichever it is; one that shows neither well has none."""
    head, body = ([0.2, 0.9], [0.8, 0.3])
    for shows in ([head, body], [body, head], [[0.1, 0.7], head, [0.5, 0.6], body]):
        best = found("4xst-cnn" if len(shows) > 2 else "2xst-cnn", shows=shows)["best"]
        each, elsewhere = birds_report.finding(best)
        assert each == [0.8, 0.9] and elsewhere == pytest.approx(0.3)
    # One window cannot have both parts, though it shows both better than the other does.
    both = found(shows=[[0.9, 0.8], [0.1, 0.2]])["best"]
    assert birds_report.finding(both)[0] == [0.9, 0.2]
    assert birds_report.finding(found("cnn")["best"]) is None


def test_rows_are_by_network_and_seeds_are_together():
    runs = [
        found("2xst-cnn", seed=1, wrong=range(100)),
        found("cnn", wrong=range(500)),
        found("2xst-cnn", wrong=range(20)),
    ]
    (table,) = birds_report.tables(runs)
    lines = [birds_report.cells(row) for row in table]
    assert [line[0] for line in lines] == ["CNN", "2xST-CNN"]
    assert lines[0][2:] == ["0", "1.00", "25.00", "17.7", "-", "-", "-"]
    assert lines[1][2:] == [
        "0 1", "1.00 [1.00, 1.00]", "3.00 [1.00, 5.00]", "16.1",
        "80.00 [80.00, 80.00]", "90.00 [90.00, 90.00]", "30.00 [30.00, 30.00]",
    ]  # fmt: skip


def test_claims_commands_and_what_it_was_trained_on():
    runs = [found("cnn", wrong=range(500)), found("2xst-cnn"), found("4xst-cnn", wrong=range(90))]
    text, page = (birds_report.report(runs, markdown=markdown) for markdown in (False, True))
    for words in ("2xST-CNN < CNN", "4xST-CNN < 2xST-CNN", "HOLDS", "UNDECIDED"):
        assert words in text and words in page
    assert "--models 4xst-cnn" in text and page.count("<details>") == 1
    assert "Pictures drawn in place of birds, 10,000 of 48x48 pixels, data seed 0" in page
    pictures = birds_report.figures(runs)
    assert list(pictures) == ["birds-windows.png"] and birds_report.figures(runs[:1]) == {}
    assert list(birds_report.run_figures(runs[1])) == ["attention.png"]
    assert birds_report.run_figures(runs[0]) == {}


def test_records_of_others_are_refused():
    with pytest.raises(UserError, match=r"^there are no records to report: train first$"):
        birds_report.report([])
    with pytest.raises(UserError, match=r"^arch1-tstn is no network of this table$"):
        birds_report.report([read(written())])
