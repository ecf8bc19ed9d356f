"""Data flows one way: what a file may import, and how many stand side by side."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the ground up: a file imports from its own room and from floors below.
FLOORS = [
    "errors",
    "files kinds randomness initializers",
    "backend schedules",
    "ops",
    "fast cuda",
    "engines",
    "parameter shapes",
    "layers optimizers",
    "recurrent",
    "transformer",
    "metrics",
    "data",
    "models",
    "tasks",
    "gradcheck interop parallel",
    "cli conformance training",
    "fit",
    "plot",
    "runs",
    "demo",
    "export",
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
MOST = {"ministn": 18, "reproduce": 20}  # modules at the top of these; each script is an experiment


def named(path: Path) -> set[tuple[str, str]]:
    """(module, name) of every import, "" where it takes the module itself."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {(node.module, alias.name) for alias in node.names}
    return found


def imports(root: Path, package: str) -> dict[str, set[str]]:
    """The modules of a package that each of them imports; not of those that are run."""
    paths = {}
    for path in (root / package).rglob("*.py"):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        paths[name.removesuffix(".__init__")] = path

    def found(path: Path) -> set[str]:
        below = {f"{module}.{name}" for module, name in named(path)} & paths.keys()
        return below | {m for m, name in named(path) if f"{m}.{name}" not in below} & paths.keys()

    return {name: found(path) for name, path in paths.items() if path.name != "__main__.py"}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def upward(graph: dict[str, set[str]]) -> list[str]:
    """The imports that do not go down."""
    return [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if room(other) not in ("", room(module))  # "": the package, which only has a version
        and FLOOR[room(other)] >= FLOOR[room(module)]
    ]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, if any do."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_a_floor():
    graph = imports(ROOT, "ministn")
    assert {room(module) for module in graph} - {""} == FLOOR.keys()


def test_nothing_is_imported_upward_or_in_a_circle():
    graph = imports(ROOT, "ministn")
    assert upward(graph) == [] and circle(graph) == []
    assert circle(imports(ROOT / "reproduce", "papers")) == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("from ministn.runs import Run", "ministn.ops.relu imports ministn.runs"),
        ("def f():\n    from ministn import engines", "ministn.ops.relu imports ministn.engines"),
        ("import ministn.training.steps", "ministn.ops.relu imports ministn.training.steps"),
    ],
)
def test_an_upward_import_is_found(planted, found, tmp_path):
    for module in ("ops/relu", "engines", "runs/__init__", "training/steps"):
        path = tmp_path / "ministn" / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(planted if module == "ops/relu" else "from ministn.ops import relu")
    graph = imports(tmp_path, "ministn")
    assert found in upward(graph) and circle(graph)


def test_the_package_knows_no_script():
    scripts = {path.stem for path in (ROOT / "reproduce").iterdir()}
    for path in (ROOT / "ministn").rglob("*.py"):
        assert not {module.split(".")[0] for module, _ in named(path)} & scripts, path


@pytest.mark.parametrize("folder", MOST)
def test_a_reader_can_take_in_the_top_level(folder):
    assert len(list((ROOT / folder).glob("*.py"))) <= MOST[folder]
