"""Twenty training steps in PyTorch, from the same weights, give the same losses."""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

REPRODUCE = Path(__file__).parents[1] / "reproduce"
RECORD = REPRODUCE / "records" / "torch-oracle.json"


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(REPRODUCE))
    return import_module("torch_oracle")


@pytest.mark.parametrize("name", ["arch1-cnn", "arch1-tstn"])
def test_losses_agree_with_pytorch(oracle: ModuleType, name: str) -> None:
    curves = oracle.follow(name)
    assert len(curves.ministn) == len(curves.pytorch) == 20
    assert curves.difference < oracle.BOUND
    assert curves.ministn[-1] < curves.ministn[0] / 2

    kept = json.loads(RECORD.read_text())["networks"][name]
    assert curves.ministn == pytest.approx(kept["ministn"], rel=oracle.BOUND)


def test_bound_tells_the_two_forms_of_adam_apart(oracle: ModuleType) -> None:
    assert oracle.follow("arch1-cnn", correct_v=True).difference > 100 * oracle.BOUND


def test_record_is_within_its_bound() -> None:
    record = json.loads(RECORD.read_text())
    assert set(record["networks"]) >= {"arch1-cnn", "arch1-untied", "arch1-tstn"}
    for network in record["networks"].values():
        pairs = list(zip(network["ministn"], network["pytorch"], strict=True))
        assert len(pairs) == record["settings"]["steps"] == 20
        largest = max(abs(ours - theirs) / theirs for ours, theirs in pairs)
        assert largest == network["largest_relative_difference"] < record["bound"] <= 1e-10
