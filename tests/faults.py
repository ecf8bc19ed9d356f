"""What a fault put into a kernel on purpose is, and how it is found: see test_cuda_faults.py."""

from typing import NamedTuple


class Fault(NamedTuple):
    """found: a pattern of what the checker says, or DIFFERENT."""

    file: str
    old: str  # occurs once
    new: str
    case: str
    found: str


DIFFERENT = "results differ"
READ, WRITE = "read out of bounds", "write out of bounds"
UNORDERED = "race, |read of uninitialised"  # a barrier is missing
UNWAITED = "without a wait"
