"""The placement paper's theorem in numbers: the script on scikit-learn's digits, and its record."""

import json
from pathlib import Path

import placement_theory as script
from papers import placement_theory

ROOT = Path(__file__).parents[1]
RECORD = json.loads((ROOT / "reproduce" / "records" / "placement-theory.json").read_text())
CHOSEN = "shifted by one point of the map", "rotated by 90 degrees"


def test_the_script_on_small_digits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "CHANGES", {n: script.CHANGES[n] for n in CHOSEN})
    out = tmp_path / "theory.json"
    words = ["--data", "digits", "--steps", "60", "--digits", "20", "--out", str(out)]
    assert script.main(words) == 0
    record = json.loads(out.read_text())
    assert record["settings"]["digits"] == 20 and record["test_error"] < 60
    by = {(row["depth"], row["change"]): row for row in record["residuals"]}
    assert len(by) == 2 * len(CHOSEN)
    for depth in (1, 2):
        shifted, turned = (by[depth, change] for change in CHOSEN)
        assert shifted["maps_warped"] < 1e-3 < 0.05 < turned["maps_warped"]
        assert turned["image_warped"] < 1e-6  # a quarter turn is exact
        assert turned["as_they_are"] >= turned["maps_warped"]
    assert "conv2" in capsys.readouterr().out


def test_the_record_says_what_the_page_does():
    text = placement_theory.report(RECORD, markdown=True)
    assert "The theorem shows in these maps" in text and len(RECORD["residuals"]) == 14
    assert RECORD["settings"]["data"] == "mnist" and RECORD["settings"]["steps"] == script.STEPS
    figure = placement_theory.figure(RECORD)
    assert len(figure.axes) == (script.SHOWN + 1) * 4


def test_a_residual_that_is_not_as_asked_is_said():
    rows = [dict(row) for row in RECORD["residuals"]]
    for name, value in (("shifted by one", 0.01), ("rotated by 45", 0.05)):
        changed = [
            row | {"maps_warped": value} if row["change"].startswith(name) else row for row in rows
        ]
        verdict = placement_theory.verdict(RECORD | {"residuals": changed})
        assert verdict.startswith("The theorem does not show in these maps")
