"""The outcome in words: a line for each kind of vectors, and a table of all libraries."""

from collections.abc import Iterator, Sequence
from string import ascii_lowercase
from typing import Any

from ministn.conformance.compare import AGREES, ERRS, totals
from ministn.conformance.vectors import CHOICES

Rows = Sequence[dict[str, Any]]
Key = tuple[str, ...]

ROW = "kind", "transform", "kernel", "coordinates"  # of the table
LINE = "kind", "transform", "kernel", "border", "coordinates"
SHOWN = 3  # wrong numbers of each line
LETTERS = dict(zip(CHOICES, ascii_lowercase, strict=False))


def lines(rows: Rows) -> Iterator[str]:
    """What each kind of vectors gave, and the first of what is wrong."""
    offered = [row for row in rows if row["counts"] is not None]
    for key, of in gathered(offered, LINE).items():
        counts = totals(of)
        words = ", ".join(
            f"{verdict} {counts[verdict]}" for verdict in (AGREES, *CHOICES, ERRS)
            if verdict in counts
        )  # fmt: skip
        yield f"{' '.join(key):<40}{words}"
        errors = [error for row in of for error in row["errors"]]
        yield from (f"  {described(error)}" for error in errors[:SHOWN])
        if len(errors) > SHOWN:
            yield f"  and {len(errors) - SHOWN} more"
    if missing := len(rows) - len(offered):
        yield f"{missing} of {len(rows)} groups are not offered"


def gathered(rows: Rows, fields: Sequence[str]) -> dict[Key, list[dict[str, Any]]]:
    """Rows by those of the fields that they have."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[field] for field in fields if field in row), []).append(row)
    return found


def described(error: dict[str, Any]) -> str:
    """One wrong number beside the right one."""
    asked = ", ".join(
        f"{name} {error[name]}" for name in ("place", "point", "theta", "size") if name in error
    )
    place = "".join(f"[{i}]" for i in error["at"])
    if error["expected"] is None:
        return f"{error['quantity']} has another shape than expected ({asked})"
    return f"{error['quantity']}{place} is {error['found']}, expected {error['expected']} ({asked})"


def table(record: dict[str, Any]) -> str:
    """The page's part: Markdown, from what ``python -m ministn.conformance --json`` wrote."""
    libraries = record["libraries"]
    pairs = libraries.items()
    heads = [f"{name} {library['version']}" for name, library in pairs]
    each = [gathered(library["groups"], ROW) for library in libraries.values()]
    text = [
        "| vectors | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for key in each[0]:
        cells = [cell(found[key]) for found in each]
        text.append(f"| {', '.join(key)} | " + " | ".join(cells) + " |")
    used = {
        verdict for library in libraries.values() for verdict in totals(library["groups"])
    } & CHOICES.keys()  # fmt: skip
    text += [
        "",
        "How many numbers agree with the exact ones; a letter and a number: how many are those of "
        "another choice, see below; —: not offered.",
        "",
        *(f"* {name} has borders {borders(library['groups'])}" for name, library in pairs),
        "",
        *(f"* **{LETTERS[name]}** {name}. {CHOICES[name][1]}" for name in CHOICES if name in used),
        "",
        *wrong(libraries),
    ]
    return "\n".join(text).strip()


def cell(rows: Rows) -> str:
    """What one library makes of one row's groups."""
    offered = [row for row in rows if row["counts"] is not None]
    if not offered:
        return "—"
    counts = totals(offered)
    words = [str(counts.get(AGREES, 0))]
    words += [f"{LETTERS[name]} {counts[name]}" for name in CHOICES if name in counts]
    words += [f"**errs {counts[ERRS]}**"] if ERRS in counts else []
    return ", ".join(words)


def borders(rows: Rows) -> str:
    """Those that a library has, with either coordinates."""
    offered = [row for row in rows if "border" in row and row["counts"] is not None]
    return "; ".join(
        f"with {coordinates} {', '.join(dict.fromkeys(row['border'] for row in of))}"
        for (coordinates,), of in gathered(offered, ["coordinates"]).items()
    )


def wrong(libraries: dict[str, Any]) -> Iterator[str]:
    """The first wrong number of each kind, with what is expected."""
    for name, library in libraries.items():
        erring = [row for row in library["groups"] if row["errors"]]
        for key, of in gathered(erring, ROW).items():
            errors = [error for row in of for error in row["errors"]]
            yield (
                f"{name} errs {len(errors)} times in {', '.join(key)}, for instance: "
                f"{described(errors[0])}."
            )
