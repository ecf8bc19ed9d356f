"""The RNN-SPN paper's Table 1 beside ours, from records only."""

from papers.claims import Record
from papers.layout import columns
from papers.report import number


def report(records: list[Record], *, markdown: bool = False) -> str:
    """The table."""
    rows = [
        [
            r["settings"].network.name,
            f"{r['parameters']:,}",
            number((r["best"] or {}).get("test_error")),
        ]
        for r in records
    ]
    return "\n".join(columns(["network", "parameters", "test"], rows))
