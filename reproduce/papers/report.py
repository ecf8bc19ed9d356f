"""What papers' reports have in common: tables, claims, commands and troubles in words."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from papers.claims import SEEDS, Record, Verdict
from papers.layout import NONE, columns, pipes, wrapped


class Told(NamedTuple):
    """What a report says of a table. runs: all of its records. extent: what to know when reading
    the claims. troubles, notes: a line each. whose: claims they are.
    """

    title: str
    header: Sequence[str]
    lines: list[list[str]]
    runs: list[Record]
    claims: list[Verdict]
    extent: str = ""
    troubles: Sequence[str] = ()
    notes: Sequence[str] = ()
    whose: str = "The paper's claims"


def printed(tables: Iterable[Told], legends: Sequence[str], *, markdown: bool) -> str:
    """A report for a terminal, or Markdown; legends: of all tables."""
    parts = []
    for table in tables:
        parts += _as_markdown(table) if markdown else ["\n".join(_as_text(table))]
    parts += legends if markdown else ["\n".join(wrapped(legend)) for legend in legends]
    return "\n\n".join(parts) + "\n"


def _as_markdown(table: Told) -> list[str]:
    """Its paragraphs."""
    troubles = "\n".join(f"- **{each}**" for each in table.troubles)
    notes = "\n".join(f"- {each}" for each in table.notes)
    return [
        f"**{table.title}**",
        pipes(table.header, table.lines),
        *filter(None, (troubles, notes)),
        *claims_as_markdown(table.claims, table.extent),
        commands_as_markdown(table.runs),
    ]


def _as_text(table: Told) -> list[str]:
    """Its lines."""
    return [
        *wrapped(table.title),
        "",
        *columns(table.header, table.lines),
        *(line for each in table.troubles for line in wrapped(each, "  ! ")),
        *(line for each in table.notes for line in wrapped(each, "  ")),
        *claims_as_text(table.claims, table.extent, table.whose),
        *commands_as_text(table.runs),
    ]


def spread(values: list[float]) -> str:
    """Of several the mean and, in brackets, the lowest and the highest."""
    if len(values) < 2:
        return number(values[0] if values else None)
    return f"{fmean(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def troubles(record: Record) -> list[str]:
    """What went wrong in a run, in words: collapses, divergence, an early end."""
    result = []
    if record["collapses"]:
        first, last = record["collapses"][0], record["collapses"][-1]
        times = len(record["collapses"])
        result.append(
            f"COLLAPSED{f' {times} times, first' if times > 1 else ''} in epoch {first['epoch']}, "
            f"step {first['step']} ({first['images']} of {first['batch']} had left the image), "
            + (
                f"back since epoch {last['end']['epoch']}, step {last['end']['step']}"
                if last["end"]
                else "did not come back"
            )
        )
    if record["diverged"]:
        where = record["diverged"]
        result.append(
            f"DIVERGED in epoch {where['epoch']}, step {where['step']}: "
            f"first non-finite values in {where['layer']}"
        )
    if record["status"] in ("running", "interrupted"):
        done, training = len(record["epochs"]), record["settings"].training
        if training.epochs is None:
            text = f"{done} epochs of {training.iterations:,} iterations"
        else:
            text = f"{done} of {training.epochs} epochs"
        result.append(f"UNFINISHED: {text} ({record['status']})")
    return result


# -- claims and commands ---------------------------------------------------------------------------


def claims_as_text(
    claims: list[Verdict], extent: str, heading: str = "The paper's claims"
) -> list[str]:
    """The verdicts with the tests of each seed; extent: what to know when reading them."""
    lines = ["", heading] if claims else []
    for verdict in claims:
        word, remarks = _spoken(verdict, extent)
        lines.append(f"  {word:15}{verdict.claim} {remarks}".rstrip())
        for detail in verdict.details:
            lines += wrapped(detail, " " * 6)
    return lines


def claims_as_markdown(claims: list[Verdict], extent: str) -> list[str]:
    """The same as a table, if there are any."""
    rows = [
        [v.claim, "**{}** {}".format(*_spoken(v, extent)), "<br>".join(v.details)] for v in claims
    ]
    return [pipes(["claim", "verdict", "paired test"], rows)] if rows else []


def commands_as_text(records: list[Record]) -> list[str]:
    """The commands that made the records."""
    lines = ["", "Commands"]
    for command, made in _commands(records):
        lines += wrapped(f"{command}  {made}", "  ")
    return lines


def commands_as_markdown(records: list[Record]) -> str:
    """The same as a list, folded."""
    lines = "\n".join(f"- `{command}` {made}" for command, made in _commands(records))
    return folded("Commands", lines)


def folded(summary: str, content: str) -> str:
    """Markdown that opens when it is asked for."""
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def least_hours(runs: Iterable[tuple[Record, float]]) -> str:
    """What a run of a whole protocol takes, as the fastest of shorter ones took for each image.

    runs: each with the share of the protocol's images that it has trained on.
    """
    hours = [record["wall_seconds"] / 3600 / share for record, share in runs]
    return f"{min(hours):.0f}" if hours else NONE


def _commands(records: list[Record]) -> list[tuple[str, str]]:
    """Each command once, and the code and machine it ran on with the hours of its runs."""
    result = []
    for (command, commit, machine), group in groupby(sorted(records, key=_origin), key=_origin):
        hours = sum(record["wall_seconds"] for record in group) / 3600
        result.append((command, f"({commit}; {machine}; {hours:.2f} hours)"))
    return result


def _origin(record: Record) -> tuple[str, str, str]:
    commit = f"commit {record['commit'][:8]}" if record["commit"] else "no commit"
    commit += " with changes" if record["dirty"] else ""
    device = record["device"]
    machine = device["name"]
    if device["engine"] == "numpy":
        used = device.get("workers", 1) * device["threads"]
        machine += f", {used} of {device['cores']} cores"
    return record["command"], commit, machine


def _spoken(verdict: Verdict, extent: str) -> tuple[str, str]:
    """The verdict, and what to know when reading it."""
    n = verdict.seeds
    of = f"over {n} seeds" if n >= SEEDS else ("", "in this run", "in these 2 runs")[n]
    limits = ", ".join(filter(None, [extent, "with collapses" if verdict.collapses else ""]))
    return verdict.verdict.upper(), " ".join(filter(None, [of, f"({limits})" if limits else ""]))
