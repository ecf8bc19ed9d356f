"""What figures share: how runs are named, coloured and described."""

from ministn.claims import Record, Table, label, tables
from ministn.errors import UserError
from ministn.plot.drawing import BLUE, GREEN, GREY, PURPLE, VERMILION
from ministn.report import RATES, data_line, title

# By the last part of a network's name.
LOOKS = {"cnn": (BLUE, "o"), "untied": (VERMILION, "s"), "tstn": (GREEN, "^"), "stn": (PURPLE, "D")}

FLOOR = 0.01  # percent: smaller errors are drawn here, since an error of 0 has no logarithm


def drawable(records: list[Record]) -> list[Table]:
    if not records:
        raise UserError("there are no records to draw: run reproduce/table3.py first")
    return tables(records)


def full_name(record: Record) -> str:
    """The network, and in a second line what deviates from the paper's protocol."""
    network, *deviations = label(record)
    return "\n".join(filter(None, [network, ", ".join(deviations)]))


def colour_and_marker(record: Record) -> tuple[str, str]:
    return LOOKS.get(record["settings"]["network"].rsplit("-", 1)[-1], (GREY, "v"))


def settings_line(groups: list[Table]) -> str:
    return ". ".join([*dict.fromkeys(data_line(table[0][0]) for table in groups), RATES])


def by_iterations(record: Record) -> bool:
    """Whether the run's length is in iterations, as in the STN paper: nothing is chosen by it."""
    return record["settings"].get("iterations") is not None


def named(record: Record) -> list[str]:
    """The network's name, then what of the TSTN paper's protocol its run does not keep to."""
    return [record["settings"]["network"]] if by_iterations(record) else label(record)


def described(record: Record) -> str:
    """What the run was trained on, how, and for how long."""
    if not by_iterations(record):
        return f"{title([[record]])}. {settings_line([[[record]]])}"
    s = record["settings"]
    return (
        f"Set {s['data']}, {s['train_size']:,} images an epoch, data seed {s['data_seed']} "
        f"(SHA-256 {record['data_sha256'][:8]}); {s['iterations']:,} iterations of batch "
        f"{s['batch_size']}, learning rate {s['lr']:g}, loc-lr x{s['loc_lr']:g}."
    )
