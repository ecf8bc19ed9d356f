"""What makes a training a record: its folder, its plan, one run after another."""

from ministn.runs.record import FORMAT, RECORD, find_records, folder_name, read_record
from ministn.runs.run import LESS_MEMORY, Run

__all__ = [
    "FORMAT",
    "LESS_MEMORY",
    "RECORD",
    "Run",
    "find_records",
    "folder_name",
    "read_record",
]
