"""Odd arrays and numbers at every argument of public functions: the right value, or one clear error
that names the argument. A refused call changes nothing.

odd.py says what is thrown, the tables odd_*.py what at. GPU twins run on the CPU shim.
"""

import inspect
import pkgutil
import re
from importlib import import_module

import numpy as np
import odd_data
import odd_layers
import odd_operations
import odd_training
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd import ARRAYS, EQUAL, NUMBERS, SAME, WRONG, check, fresh, is_of_a_kind, result

import ministn

TABLES = (odd_operations, odd_layers, odd_training, odd_data)
CALLS = {name: call for table in TABLES for name, call in table.CALLS.items()}
EACH = [(name, key) for name, call in CALLS.items() for key in call.arguments]

# -- what is public ------------------------------------------------------------------------------

# Modules whose names are not public, but for those that these export.
INNER = "cuda data fit interop layers models ops fast parallel plot tasks transformer"
# Modules of such packages that users import from.
OUTER = (
    "data.addition data.cluttered data.colocalisation data.digits data.distorted data.extruded "
    "transformer.samplers transformer.transforms"
)
OTHERS = {
    "programs, which read command lines: test_cli.py": "cli demo export",
    "what is below the public functions": "backend engines errors files kinds shapes",
    "a run's course and its records: test_training.py, test_runs.py": "runs training",
    "what checks others: test_gradcheck.py, test_conformance.py": "conformance gradcheck",
}
NOT_THROWN_AT = {
    "steps of generate and fresh, which check": """
        data.addition.pairs data.cluttered.add data.cluttered.bilinear data.cluttered.check
        data.cluttered.check_drawn data.cluttered.draw_enlarged
        data.cluttered.draw_chunk data.cluttered.ink_boxes data.cluttered.order
        data.cluttered.scatter data.distorted.draw data.distorted.kept_convex
        data.distorted.moved_centres data.distorted.only_placed data.distorted.placement
        data.distorted.sampling_grid data.distorted.true_poses data.extruded.true_poses
        data.extruded.Volumes data.extruded.VolumeSplit data.colocalisation.Pairs
        data.dataset.PartSplit data.dataset.PosedSplit
    """,
    "hold what has been made": """
        data.dataset.DataSet data.dataset.Fresh fit.fitting.Fitted tasks.task.Evaluation
    """,
    "bases of what is thrown at": "layers.WithoutParameters transformer.transforms.OfMatrix",
    "of dropout, which checks": "randomness.philox4x32 randomness.random_bits",
    "of the training loop, which counts": "metrics.attention.watched",
    "on a GPU, of splits that are there: test_cuda_training_kernels.py": "data.batch.take_batch",
    "of whole networks and files: test_exported.py": """
        interop.from_onnx interop.from_torch interop.to_onnx interop.to_torch
    """,
}


def public() -> dict[str, str]:
    """Functions with arguments and classes, by where they are imported from: where they stand."""
    found = {}
    for info in pkgutil.walk_packages(ministn.__path__, "ministn."):
        name = info.name.removeprefix("ministn.")
        room, _, inside = name.partition(".")
        if room in " ".join(OTHERS.values()).split() or name.endswith("__main__"):
            continue
        if inside and room in INNER.split() and name not in OUTER.split():
            continue
        module = import_module(info.name)
        exported = getattr(module, "__all__", None)
        for own, thing in vars(module).items():
            where = getattr(thing, "__module__", "")
            here = not own.startswith("_") and where == info.name
            if own in exported if exported is not None else here:
                if takes_arguments(thing):
                    found[f"{name}.{own}"] = f"{where}.{own}".removeprefix("ministn.")
    return found


def takes_arguments(thing) -> bool:
    """A function or class that does; not an abstract one, nor a tuple, which holds what it gets."""
    if inspect.isclass(thing):
        protocol = getattr(thing, "_is_protocol", False)
        return not (protocol or inspect.isabstract(thing) or issubclass(thing, tuple))
    return inspect.isfunction(thing) and bool(inspect.signature(thing).parameters)


def thrown_at(*names: str) -> bool:
    return any(re.match(rf"({'|'.join(map(re.escape, names))})(?![^.(])", key) for key in CALLS)


def test_every_public_function_is_thrown_at():
    found = public()
    listed = " ".join(NOT_THROWN_AT.values()).split()
    for name, where in found.items():
        assert thrown_at(name, where) != (name in listed or where in listed), name
    assert not set(listed) - found.keys() - set(found.values())


# -- what comes of it ----------------------------------------------------------------------------

each = pytest.mark.parametrize(("name", "key"), EACH)


def close(found, expected, why):
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            mine.astype(np.float64), wanted.astype(np.float64), rtol=1e-5, atol=1e-5, err_msg=why
        )


@each
def test_one_odd_argument(name, key):
    call = CALLS[name]
    right = call.arguments[key]
    (throw_arrays if isinstance(right, np.ndarray) else throw_numbers)(call, key)


def throw_arrays(call, key):
    right = call.arguments[key]
    expected = result(call, {k: fresh(v) for k, v in call.arguments.items()})
    for kind, odd in ARRAYS.items():
        found = check(call, {key: odd(right.copy())})
        if kind in SAME and not (kind == "read-only" and key in call.written):
            assert found is not None, kind
        if kind in WRONG and key not in call.any_kind.split():
            assert found is None, kind
        if kind in SAME | EQUAL and found is not None:
            close(found, expected, kind)


def throw_numbers(call, key):
    for number in NUMBERS:
        found = check(call, {key: number})
        if found is None or key in call.any_kind.split():
            continue
        assert is_of_a_kind(number, call.arguments[key]), number
        if isinstance(number, np.generic) and isinstance(number.item(), (int, float)):
            close(found, check(call, {key: number.item()}) or (), repr(number))


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_several_odd_arguments(data):
    call = CALLS[data.draw(st.sampled_from([name for name, _ in EACH]))]
    odd = {}
    keys = st.sampled_from(list(call.arguments))
    for key in data.draw(st.lists(keys, min_size=1, unique=True)):
        right = call.arguments[key]
        if isinstance(right, np.ndarray):
            odd[key] = ARRAYS[data.draw(st.sampled_from(list(ARRAYS)))](right.copy())
        else:
            odd[key] = data.draw(st.sampled_from(NUMBERS))
    check(call, odd)
