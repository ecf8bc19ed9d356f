"""Each kind of schedule: what it says, what a record keeps of it, how it is made shorter."""

import json

import pytest

from ministn.kinds import from_json, to_json
from ministn.schedules import Schedule, StepDecay

# By kind: (the schedule, what it says of the numbers 1, 2, ...). Whatever is added has its entry.
KNOWN = {
    "step decay": [
        (StepDecay(0.5, 2), [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125]),
        (StepDecay(0.5, 2, first=2), [1, 0.5, 0.5, 0.25, 0.25]),
    ],
}
every = pytest.mark.parametrize(
    ("schedule", "said"), [pair for pairs in KNOWN.values() for pair in pairs], ids=str
)


@every
def test_what_it_says(schedule, said):
    assert isinstance(schedule, Schedule)
    assert [schedule.at(number) for number in range(1, len(said) + 1)] == pytest.approx(said)


@every
def test_what_a_record_keeps_of_it(schedule, said):
    assert from_json(json.loads(json.dumps(to_json(schedule)))) == schedule


@every
def test_once_as_short_is_the_same_and_no_other_ends_higher(schedule, said):
    assert schedule.compressed(1) == schedule
    shorter = schedule.compressed(2)
    assert type(shorter) is type(schedule) and shorter.at(len(said)) <= said[-1]
