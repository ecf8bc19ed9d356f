"""Where runs are trained, measured and drawn, nothing is found out by what something is called, or
by which class of split, data or arrangement it is: values and methods say it.
"""

import ast
from pathlib import Path

import pytest
from helpers import concrete

from ministn.data import Data, Fresh, Split
from ministn.layers import Layer
from ministn.models import Architecture
from ministn.tasks import Task
from ministn.transformer import HandOn, Parallel, SpatialTransformer

ROOT = Path(__file__).parents[1]
FOLDERS = "training", "runs", "metrics", "plot"

ARRANGEMENTS = {SpatialTransformer, Parallel, HandOn}
ASKED = {Split, Fresh, Data, Layer, Architecture, Task} | ARRANGEMENTS
TAKE_APART = {
    "split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix",
    "startswith", "endswith", "match", "fullmatch", "search",
}  # fmt: skip

# What is taken apart there, and is no name of a network, data set or run.
ALLOWED = {
    ("runs/environment.py", "processor"),  # lines of /proc/cpuinfo
    ("runs/flags.py", "key"), ("runs/flags.py", "changed"),  # flags and paths of fields
    ("runs/record.py", "folder_name"),  # paths of fields
    ("runs/sweep.py", "shard"), ("runs/sweep.py", "plan"),  # I/N, and words of a command
    ("plot/transformers.py", "thetas"),  # np.split
}  # fmt: skip


def classes() -> set[str]:
    """Names of the classes that nobody there may ask for, with all that inherit from them."""
    return {each.__name__ for cls in ASKED for each in (cls, *concrete(cls))}


def offences(source: str, place: str) -> list[str]:
    """(line: what) of each place where a name is taken apart or a class is asked for."""
    found = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = node.name
        if isinstance(node, ast.Call) and (place, function) not in ALLOWED:
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in TAKE_APART:
                found.append(f"{place}:{node.lineno} takes apart: {ast.unparse(node)}")
            if isinstance(called, ast.Name) and called.id in ("isinstance", "type"):
                names = {part.strip(" ()") for part in ast.unparse(node.args[-1]).split(",")}
                names = {part.strip() for name in names for part in name.split("|")}
                if names & classes():
                    found.append(f"{place}:{node.lineno} asks for a class: {ast.unparse(node)}")
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(source), "")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_values_and_methods_say_it(folder):
    paths = sorted((ROOT / "ministn" / folder).rglob("*.py"))
    assert paths
    found = [
        offence for path in paths for offence in offences(path.read_text(), f"{folder}/{path.name}")
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "kind, _, model = settings.network.name.partition('-')",
        "embedded = data.name.endswith('-digits')",
        "model = name.split('-')[1]",
        "posed = isinstance(split, PosedSplit)",
        "fresh = isinstance(split, Fresh)",
        "several = isinstance(front, (SpatialTransformer, Parallel))",
        "several = isinstance(front, SpatialTransformer | HandOn)",
        "tied = isinstance(network, Tstn)",
        "pairs = isinstance(task, Colocalisation)",
        "which = re.match('arch(.)', name)",
    ],
)
def test_a_special_case_is_found(line):
    (offence,) = offences(f"def one(settings):\n    {line}\n", "training/trainer.py")
    assert offence.startswith("training/trainer.py:2 ")


def test_what_is_allowed_is_still_there():
    for place, function in ALLOWED:
        source = (ROOT / "ministn" / place).read_text()
        names = {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)}
        assert function in names, (place, function)
