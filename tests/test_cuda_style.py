"""What the kernels' text must be like, besides right; see also test_launch.py for signatures."""

import re
import shutil

import pytest
from cudacpu.module import KernelError, Module

from ministn.cuda import launch

FILES = sorted(launch.FOLDER.glob("*.cu"))
ALL = sorted([*FILES, *launch.FOLDER.glob("*.cuh")])
PACKAGE = launch.FOLDER.parent

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
with_headers = pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)


def banner(path):
    """The comment that a file begins with, as one line."""
    lines = re.match(r"(//.*\n)*", path.read_text())[0].splitlines()
    return " ".join(line.removeprefix("//").strip() for line in lines)


@each_file
def test_a_file_begins_with_what_it_computes(path):
    """An equation, or for what has none, more than a few words."""
    text = banner(path)
    assert len(text.split()) > 20
    assert " = " in text or "<-" in text or path.stem == "outcome"


@with_headers
def test_files_that_comments_name_exist(path):
    named = re.findall(r"\b[\w/]+\.(?:py|cuh?)\b", " ".join(re.findall("//.*", path.read_text())))
    for name in named:
        assert any((folder / name).exists() for folder in (PACKAGE, launch.FOLDER)), name


@with_headers
def test_a_file_is_short(path):
    assert len(path.read_text().splitlines()) <= 400


@with_headers
def test_machine_code_is_in_one_place(path):
    """The CPU shim has twins for tensor_core.cuh."""
    assert path.name == "tensor_core.cuh" or not re.search(r"\basm\b", path.read_text())


def with_single_precision(source):
    """Compile, unless a float becomes a double, or a double a float, and nothing says that it
    should: 0.5 for 0.5f makes a kernel several times as slow, and its results others."""
    conversions = ("-Werror=double-promotion", "-Werror=float-conversion")
    Module(source, options=("-O0", *conversions))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@each_file
def test_doubles_are_meant(path):
    with_single_precision(launch.source(path.stem))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("expression", ["x[0] * 0.5", "x[0] + sin(1.0)"])
def test_doubles_by_accident_are_found(expression):
    with pytest.raises(KernelError, match=r"error: .*(conversion|convert).*double"):
        with_single_precision(f'extern "C" __global__ void f(float* x) {{ x[0] = {expression}; }}')
