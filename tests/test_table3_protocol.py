"""``table3.py``: the protocol, so many times faster, and the transformers' factor."""

import pytest
import table3

from ministn import runs
from ministn.errors import UserError
from ministn.kinds import replaced
from ministn.models import ClassificationCnn, SmallStn, Tstn


def settings_of(line):
    return table3.EXPERIMENT.parse(line.split())


@pytest.mark.parametrize(
    ("times", "epochs", "every"),
    [("1", [145, 179, 196, 95, 231, 231], 20), ("8", [18, 22, 25, 12, 29, 29], 3),
     ("10", [15, 18, 20, 10, 23, 23], 2), ("2.5", [58, 72, 78, 38, 92, 92], 8),
     ("1000", [1] * 6, 1)],
)  # fmt: skip
def test_a_protocol_so_many_times_faster(times, epochs, every):
    found = settings_of(f"--compress {times}")
    assert [s.training.epochs for s in found] == epochs
    assert {s.training.schedule.every for s in found} == {every}
    if times == "1":
        assert found == settings_of("")


def test_a_cnn_is_the_same_run_whatever_the_transformers_factor():
    found = settings_of("--nets arch1-cnn arch1-tstn small-stn --downsample 1.5 --decay-every 4")
    assert [s.network for s in found] == [ClassificationCnn(1), Tstn(1, 1.5), SmallStn()]
    assert {s.training.schedule.every for s in found} == {4}
    names = [runs.folder_name(s) for s in found]
    assert ["-downsample1.5-" in name for name in names] == [False, True, False]
    assert all("-every4-" in name for name in names)


LOOKING = {
    "--loc-warm-up 196": ("training.loc_warm_up", 196),
    "--loc-clip 0.004": ("network.clip", 0.004),
    "--loc-scale 0.1": ("network.scale", 0.1),
    "--loc-pool": ("network.pool", True),
    "--loc-zoom 0.7": ("network.zoom", 0.7),
}


@pytest.mark.parametrize("flag", LOOKING)
def test_how_a_localisation_network_begins_and_learns(flag):
    """In a run of its own, that its command gives again; for networks that look."""
    found = settings_of(f"--nets arch1-tstn arch2-untied --epochs 8 --decay-every 3 {flag}")
    usual = settings_of("--nets arch1-tstn arch2-untied --epochs 8 --decay-every 3")
    for settings, before in zip(found, usual, strict=True):
        assert settings == replaced(before, *LOOKING[flag]) != before
        command = table3.EXPERIMENT.command_of(settings)
        assert flag in " ".join(command) and table3.EXPERIMENT.parse(command) == [settings]
        assert runs.folder_name(settings) != runs.folder_name(before)


@pytest.mark.parametrize("flag", [flag for flag in LOOKING if "warm-up" not in flag])
def test_what_does_not_look_has_no_way_to_do_it(flag):
    name = flag.split()[0]
    for nets, kinds in {
        "arch1-cnn": "classification cnn",
        "arch2-cnn arch1-trstn": "classification cnn, trstn",
    }.items():
        with pytest.raises(UserError, match=rf"^{name} is not for {kinds}: leave it out$"):
            settings_of(f"--nets {nets} {flag}")


@pytest.mark.parametrize(
    ("flag", "said"),
    [("--loc-warm-up 0", "loc_warm_up"), ("--loc-clip 0", "clip"), ("--loc-scale -1", "scale"),
     ("--loc-zoom nan", "zoom")],
)  # fmt: skip
def test_a_nonsense_way_to_look_is_one_line(flag, said):
    with pytest.raises(UserError, match=rf"^{said} must be .*, got [^\n]*$"):
        settings_of(f"--nets arch1-tstn {flag}")
