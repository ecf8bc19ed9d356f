"""Whatever is added has each of its places, or fails here: an operation, a layer, an optimiser, a
transform, a sampler kernel, a network, a data set, a schedule, a task, a script that trains.
README.md says in which order.

What exists is read from the modules, see helpers.py; ``..._places`` says what one thing needs, in
which file, and whether it is there. What follows has no place here: cases of test_ops.py run on the
fast engine and the GPU, all layers of test_layers.py and all optimisers on the GPU, all sampler
kernels are checked at points on pixels. test_cuda_faults.py asks for faults in every kernel file.
"""

import gc
import re
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import loops
import pytest
import test_architectures
import test_bad_arrays
import test_clip
import test_cuda_cases
import test_data_pictures
import test_data_sets
import test_each_task
import test_layers
import test_ops
import test_optimizers
import test_schedules
import test_stn_tables
import test_transforms
from helpers import concrete, functions, operations, pair

from ministn import cuda, kinds, ops
from ministn.data import Data
from ministn.fit.saved import KIND_OF
from ministn.gradcheck import faults, suite
from ministn.gradcheck.breaking import located, replaced
from ministn.gradcheck.operations import OPERATIONS
from ministn.interop import trace
from ministn.layers import Layer, ReLU
from ministn.models import Architecture
from ministn.ops.sampling import BORDERS
from ministn.tasks import Task
from ministn.transformer import samplers
from ministn.transformer.transforms import Affine, Transform

# What does not apply, and why.
NO_TWIN = {"conv2d"}  # a GPU computes conv_block, of which it is a part
BASES = {"OfMatrix", "WithoutParameters"}  # not abstract, but subclasses say what they compute
PREPARED = {"Judging"}  # made of another task for one network: no record has it
OWN_TESTS = {
    "Description": "test_colocalisation_runs.py",  # a trained network: it learns nothing
    "Affine3d": "test_cuda_volumes.py",  # of volumes
    "General": "test_cuda_transforms.py",  # it has one size, and a parameter
    "Stopped": "test_controls.py",  # of dy nothing comes back
    "Limited": "test_attending.py",  # of dy not all comes back
}
NO_SLOPE = {"Stopped", "Limited"}  # what it gives for a gradient is none, on purpose
NOT_SAVED = {"Description"}  # it is not made of parts alone: it holds a trained network

LOOP = "a slow reference in tests/loops.py"


def has_loop(name):
    return getattr(getattr(loops, name, None), "__module__", None) == "loops"


def exported(engine, *names):
    return {*names} <= {*engine.__all__}


def noting(ran):
    """A backward pass that also notes the type of its first argument: of a method's, the class."""
    return lambda right: lambda one, *more, **how: ran.append(type(one)) or right(one, *more, **how)


# ---- operations


def operation_places(name):
    exempt = name in NO_TWIN
    cases, on_gpu = ({case.name for case in tests.CASES} for tests in (test_ops, test_cuda_cases))
    found = sum(fault.target == f"ops.{name}_backward" for fault in faults.FAULTS)
    return {
        "its two names in ministn/ops/__init__.py": exported(ops, *pair(name)),
        "its GPU twin in ministn/cuda/__init__.py": exempt or exported(cuda, *pair(name)),
        LOOP: has_loop(name),
        "a case in tests/test_ops.py": name in cases,
        "a run on the GPU in tests/test_cuda_cases.py": exempt or name in on_gpu,
        "an entry in GOOD of tests/test_bad_arrays.py": name in test_bad_arrays.GOOD,
        "a problem in ministn/gradcheck/operations.py": goes_back_through(name),
        "three faults in ministn/gradcheck/operation_faults.py": found >= 3,
    }


def goes_back_through(name):
    """Whether each problem under this name runs the operation's backward pass."""
    runs = []
    for build in OPERATIONS.get(name, {}).values():
        with replaced(f"ops.{name}_backward", noting(ran := [])):
            build().gradients()
        runs.append(bool(ran))
    return bool(runs) and all(runs)


def function_places(name):
    cases = {case.name for case in test_ops.FUNCTIONS} | test_optimizers.OPTIMIZERS.keys()
    return {
        "its GPU twin in ministn/cuda/__init__.py": exported(cuda, name),
        LOOP: has_loop(name),
        "a case in FUNCTIONS of tests/test_ops.py": name in cases | test_clip.LIMITS.keys(),
    }


def optimizer_places(name):
    return {
        "its update in ministn/ops/__init__.py": exported(ops, name)
    }  # the rest is a function's


# ---- layers and transforms


@cache
def checked(problems):
    """The classes whose backward pass runs in one of these problems."""
    kinds, ran = [*concrete(Layer), *concrete(Transform)], []
    with pytest.MonkeyPatch.context() as patch:
        for owner in {next(c for c in kind.__mro__ if "backward" in vars(c)) for kind in kinds}:
            patch.setattr(owner, "backward", noting(ran)(owner.backward))
        for name in problems:
            suite.PROBLEMS[name][0]().gradients()
    return set(ran)


def class_places(kind):
    """Of both: a gradient check, and a fault in the backward pass, its own or inherited."""
    broken = [getattr(*located(fault.target)) for fault in faults.FAULTS]
    found = kind in checked(tuple(suite.PROBLEMS)), kind.backward in broken
    problem, fault = (kind.__name__ in NO_SLOPE or there for there in found)
    return {
        "a problem in ministn/gradcheck/networks.py": problem,
        "a fault in ministn/gradcheck/layer_faults.py": fault,
        "an entry in KINDS of ministn/fit/saved.py": kind in KIND_OF or kind.__name__ in NOT_SAVED,
    }


def layer_places(kind):
    made = {type(make()) for make, _ in test_layers.LAYERS.values()}
    there = kind in made or kind.__name__ in OWN_TESTS
    return class_places(kind) | {
        "an entry in LAYERS of tests/test_layers.py": there,
        "what it is elsewhere in LAYERS of ministn/interop/trace.py": kind in trace.LAYERS,
    }


def transform_places(kind):
    made = {type(transform) for transform in test_transforms.TRANSFORMS.values()}
    there = kind in made or kind.__name__ in OWN_TESTS
    return class_places(kind) | {
        "its grid in KNOWN of tests/test_transforms.py": kind in test_transforms.KNOWN,
        "an entry in TRANSFORMS of tests/test_transforms.py": there,
    }


# ---- sampler kernels


def kernel_places(kernel):
    """The rest is asked of the operation."""
    name = f"{kernel}_sampler"
    tried = {case.options.get("border", "nearest") for case in test_ops.CASES if case.name == name}
    places = {f"a case with border {b!r} in tests/test_ops.py": b in tried for b in BORDERS}
    return places | {"its operation in ministn/ops/__init__.py": exported(ops, name)}


# ---- networks and data sets


def value_places(cls):
    """Of both: a name of its own in records."""
    known = kinds.KINDS.get(getattr(cls, "kind", ""))
    return {"a kind of its own, by @kind(...) above it": known is cls}


@cache
def differentiated(problems):
    """The networks that these problems build; not those that another network builds for itself."""
    made, inside = set(), []

    def noted(right):
        def build(self, form):
            made.update(() if inside else [type(self)])
            inside.append(self)
            try:
                return right(self, form)
            finally:
                inside.pop()

        return build

    with pytest.MonkeyPatch.context() as patch:
        for cls in {
            next(c for c in k.__mro__ if "build" in vars(c)) for k in concrete(Architecture)
        }:
            patch.setattr(cls, "build", noted(cls.build))
        for name in problems:
            suite.NETWORKS[name]()
    return made


def network_places(cls):
    kind = getattr(cls, "kind", "")
    return value_places(cls) | {
        "a problem in NETWORKS of ministn/gradcheck/suite.py": cls
        in differentiated(tuple(suite.NETWORKS)),
        "an entry in BUILT of tests/test_architectures.py": kind in test_architectures.BUILT,
    }


def data_places(cls):
    kind = getattr(cls, "kind", "")
    return value_places(cls) | {
        "an entry in KNOWN of tests/test_data_sets.py": kind in test_data_sets.KNOWN,
        "a contact sheet in SHEETS of tests/test_data_pictures.py": bool(
            test_data_pictures.SHEETS.get(kind)
        ),
    }


# ---- schedules, tasks, and the scripts that train


def schedules():
    """They have no base class: a schedule is what ``at`` asks for."""
    ours = (cls for cls in kinds.KINDS.values() if cls.__module__.startswith("ministn."))
    return [cls for cls in ours if hasattr(cls, "at")]


def schedule_places(cls):
    entry = getattr(cls, "kind", "") in test_schedules.KNOWN
    return value_places(cls) | {"an entry in KNOWN of tests/test_schedules.py": entry}


def task_places(cls):
    entry = getattr(cls, "kind", "") in test_each_task.TASKS
    return value_places(cls) | {"an entry in TASKS of tests/test_each_task.py": entry}


def scripts():
    """By name: what help and examples must be like, test_help.py asks of each."""
    folder = Path(__file__).parents[1] / "reproduce"
    return [path.stem for path in folder.glob("*.py") if "sweep.Experiment(" in path.read_text()]


def script_places(name):
    return {
        "commands in COMMANDS of tests/test_stn_tables.py": name in test_stn_tables.COMMANDS,
        "a record in SHARED of tests/test_stn_tables.py": name in test_stn_tables.SHARED,
    }


KINDS = {
    "operation": (operations, operation_places),
    "function": (functions, function_places),
    "optimiser": (lambda: test_optimizers.OPTIMIZERS, optimizer_places),
    "layer": (lambda: concrete(Layer), layer_places),
    "transform": (lambda: concrete(Transform), transform_places),
    "sampler kernel": (lambda: samplers.KERNELS + samplers.VOLUME_KERNELS, kernel_places),
    "network": (lambda: concrete(Architecture), network_places),
    "data set": (lambda: concrete(Data), data_places),
    "schedule": (schedules, schedule_places),
    "task": (lambda: concrete(Task), task_places),
    "script": (scripts, script_places),
}


def forgotten(kind):
    existing, places = KINDS[kind]
    things = {getattr(thing, "__name__", thing): thing for thing in existing()}
    return [
        f"{name} lacks {what}"
        for name in sorted(things.keys() - BASES - PREPARED)
        for what, there in places(things[name]).items()
        if not there
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_forgotten(kind):
    lines = forgotten(kind)
    assert not lines, "\n".join(lines)
    assert len(KINDS[kind][0]()) >= (1 if kind == "schedule" else 2)


def test_exceptions_are_needed():
    assert not exported(cuda, *NO_TWIN)
    made = {kind.__name__ for base in (Layer, Transform, Task) for kind in concrete(base)}
    assert made >= BASES | PREPARED | OWN_TESTS.keys() >= NO_SLOPE | NOT_SAVED
    assert not NOT_SAVED & {kind.__name__ for kind in KIND_OF}
    for name, file in OWN_TESTS.items():
        assert re.search(rf"\b{name}\b", (Path(__file__).parent / file).read_text()), name


# ---- these tests can fail


def without(things, taken):
    """A list or table without what has this name."""
    if isinstance(things, dict):
        return {key: value for key, value in things.items() if key != taken}
    return [x for x in things if taken not in (x, getattr(x, "name", x), getattr(x, "check", x))]


@pytest.mark.parametrize(
    ("kind", "module", "table", "taken", "said"),
    [
        ("operation", test_ops, "CASES", "relu", "relu lacks a case in"),
        ("operation", test_cuda_cases, "CASES", "dense", "dense lacks a run on the GPU in"),
        ("operation", cuda, "__all__", "dense", "dense lacks its GPU twin in"),
        ("operation", test_bad_arrays, "GOOD", "relu", "relu lacks an entry in GOOD of"),
        ("operation", faults, "FAULTS", "sigmoid", "sigmoid lacks three faults in"),
        ("function", test_ops, "FUNCTIONS", "as_batch", "as_batch lacks a case in"),
        ("function", cuda, "__all__", "adam", "adam lacks its GPU twin in"),
        ("optimiser", ops, "__all__", "adam", "adam lacks its update in"),
        ("layer", suite, "PROBLEMS", "layer Tanh", "Tanh lacks a problem in"),
        ("layer", faults, "FAULTS", "layer Bounded", "Bounded lacks a fault in"),
        ("layer", test_layers, "LAYERS", "relu", "ReLU lacks an entry in LAYERS of"),
        ("layer", sys.modules[__name__], "KIND_OF", ReLU, "ReLU lacks an entry in KINDS of"),
        ("transform", test_transforms, "KNOWN", Affine, "Affine lacks its grid in KNOWN of"),
        ("sampler kernel", test_ops, "CASES", "nearest_sampler", "nearest lacks a case with b"),
        ("sampler kernel", ops, "__all__", "trilinear_sampler", "trilinear lacks its op"),
        ("network", suite, "NETWORKS", "encoder", "CropEncoder lacks a problem in NETWORKS of"),
        ("network", test_architectures, "BUILT", "tstn", "Tstn lacks an entry in BUILT of"),
        ("network", kinds, "KINDS", "small stn", "SmallStn lacks a kind of its own"),
        ("data set", test_data_sets, "KNOWN", "crops", "Crops lacks an entry in KNOWN of"),
        ("data set", test_data_pictures, "SHEETS", "one digit", "OneDigit lacks a contact sheet"),
        ("data set", kinds, "KINDS", "addition", "Addition lacks a kind of its own"),
        ("schedule", test_schedules, "KNOWN", "step decay", "StepDecay lacks an entry in KNOWN"),
        ("task", test_each_task, "TASKS", "colocalisation", "Colocalisation lacks an entry in T"),
        ("script", test_stn_tables, "COMMANDS", "table3", "table3 lacks commands in COMMANDS of"),
        ("script", test_stn_tables, "SHARED", "table3", "table3 lacks a record in SHARED of"),
    ],
)
def test_what_is_taken_out_is_missed(monkeypatch, kind, module, table, taken, said):
    before = forgotten(kind)
    monkeypatch.setattr(module, table, without(getattr(module, table), taken))
    found = [line for line in forgotten(kind) if line not in before]
    assert found and all(line.startswith(said) for line in found)


def test_a_loop_and_a_check_are_missed(monkeypatch):
    monkeypatch.delattr(loops, "relu")
    monkeypatch.setitem(OPERATIONS, "relu", OPERATIONS["dense"])
    found = {what for what, there in operation_places("relu").items() if not there}
    assert found == {LOOP, "a problem in ministn/gradcheck/operations.py"}


def test_a_new_operation_lacks_everything_whatever_its_name_has_in_it(monkeypatch):
    before, module = forgotten("operation"), import_module("ministn.ops.relu")
    for name in ("very_leaky_relu", "very_leaky_relu_backward"):
        monkeypatch.setattr(module, name, type(name, (), {"__module__": module.__name__}), False)
    everything = [f"very_leaky_relu lacks {what}" for what in operation_places("very_leaky_relu")]
    assert sorted(forgotten("operation")) == sorted(before + everything)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        ("layer", Layer),
        ("transform", Transform),
        ("network", Architecture),
        ("data set", Data),
        ("task", Task),
    ],
)
def test_a_new_class_lacks_everything(kind, base):
    before, methods = forgotten(kind), dict.fromkeys(("forward", "backward"), lambda *given: None)
    methods |= dict.fromkeys(base.__abstractmethods__, methods["forward"])
    new = type("New", (base,), {**methods, "__module__": "ministn.anywhere"})
    found, everything = forgotten(kind), [f"New lacks {what}" for what in KINDS[kind][1](new)]
    del new
    gc.collect()  # what was made is no subclass any more
    assert sorted(found) == sorted(before + everything)
    assert forgotten(kind) == before
