"""Tables and paragraphs as text, for a terminal at most WIDTH columns wide and for Markdown."""

from collections.abc import Sequence
from textwrap import wrap

WIDTH = 112
NONE = "-"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The header and the rows, the first column to the left and all others to the right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [aligned(line, widths) for line in lines]


def aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of such a table."""
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in rest)]).rstrip()


def wrapped(text: str, indent: str = "") -> list[str]:
    """A paragraph in lines, those after the first under its text."""
    return wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_on_hyphens=False,
        break_long_words=False,
    )


def pipes(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
