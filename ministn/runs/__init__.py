"""What makes a training a record: its folder, its plan, one run after another."""

from ministn.runs.record import FORMAT, RECORD, Record, find_records, folder_name, read_record
from ministn.runs.run import LESS_MEMORY, Run
from ministn.runs.settings import Settings

__all__ = [
    "FORMAT",
    "LESS_MEMORY",
    "RECORD",
    "Record",
    "Run",
    "Settings",
    "find_records",
    "folder_name",
    "read_record",
]
