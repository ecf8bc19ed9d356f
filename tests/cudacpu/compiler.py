"""g++, and a cache of what it has made: one folder for each text and set of options."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from cudacpu.translate import KernelError

HERE = Path(__file__).parent
KEPT_SECONDS = 7 * 24 * 3600  # what has not been used for so long is removed
SourceLine = tuple[str, int]  # a file and a number
COMMON = ("-std=c++17", "-march=native", "-ffp-contract=off", "-fPIC", "-ftls-model=initial-exec")
RUNTIME = (*COMMON, "-O3", "-fwrapv", "-pthread")
# -O1 would compile faster, but take the tests longer altogether. Kernels look at the same memory as
# float and float4, which strict aliasing rules forbid. addr2line finds wrong files in DWARF 5 after
# #line directives. A larger frame would run into the next thread's stack.
LANGUAGE = ("-O2", "-fno-strict-aliasing", "-g1", "-gdwarf-4", "-include", "language.h")
LANGUAGE += ("-Werror=frame-larger-than=49152",)
CHECKS = (
    "-fsanitize=thread",
    "-fsanitize=alignment,bounds,signed-integer-overflow,integer-divide-by-zero,shift",
    "-fsanitize=float-cast-overflow",
)


def runtime(options: Sequence[str] = ()) -> Path:
    """The library that runs kernels; its folder also has the headers."""
    files = sorted([*HERE.glob("*.h"), *HERE.glob("*.cpp")])
    sources = {file.name: file.read_text() for file in files}
    return _built(sources, (*RUNTIME, *options), ())


def kernels(text: str, options: Sequence[str], check: bool, runtime: Path) -> Path:
    """A library of kernels, of text that has been translated."""
    flags = (*COMMON, *LANGUAGE, "-I", str(runtime.parent), *(CHECKS if check else ()), *options)
    return _built({"kernel.cu": text}, flags, (str(runtime),))


def places_of(library: Path, offset: int, runtime: Path) -> list[SourceLine]:
    """File and line of an instruction in a library, and of the calls of inlined functions that
    led there, the innermost first; the runtime's are left out."""
    command = ["addr2line", "-f", "-i", "-e", str(library), hex(offset)]
    try:
        lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    except FileNotFoundError:
        return []
    places, previous = [], ""
    for function, line in zip(lines[::2], lines[1::2], strict=True):
        file, _, number = line.split(" ")[0].rpartition(":")
        # The compiler may split a function in two, of which one seems to call the other.
        if number.isdigit() and Path(file).parent != runtime.parent and function != previous:
            places.append((file, int(number)))
        previous = function
    return places


def _built(sources: dict[str, str], flags: Sequence[str], libraries: Sequence[str]) -> Path:
    """A library that is made once. Each file is put in place whole, so that other processes may
    do the same at the same time."""
    parts = (sources, flags, libraries, _compiler())
    folder = _cache() / hashlib.sha256(repr(parts).encode()).hexdigest()[:20]
    library = folder / "library.so"
    if library.exists():
        os.utime(library)
    else:
        with tempfile.TemporaryDirectory(dir=_cache()) as temporary:
            for name, text in sources.items():
                (Path(temporary) / name).write_text(text)
            units = [name for name in sources if name.endswith((".cpp", ".cu"))]
            moved = f"-ffile-prefix-map={temporary}={folder}"
            _run(temporary, *flags, moved, "-c", "-x", "c++", *units)
            # Linked apart, without the sanitizers' own libraries: the runtime takes their place.
            objects = [str(Path(name).with_suffix(".o")) for name in units]
            _run(temporary, "-shared", "-pthread", "-Wl,-z,defs", *objects, *libraries, "-lm",
                 "-o", "library.so")  # fmt: skip
            folder.mkdir(exist_ok=True)
            for name in (*sources, "library.so"):
                os.replace(Path(temporary) / name, folder / name)
    return library


@cache
def _compiler() -> str:
    """What this g++ is, and what it makes of -march=native."""
    return _output(["g++", "-march=native", "-###", "-E", "-x", "c++", os.devnull])


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"cudacpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise KernelError(f"{folder} belongs to someone else")
    _forget_old(folder)
    return folder


@cache
def _forget_old(folder: Path) -> None:
    for library in folder.glob("*/library.so"):
        with suppress(FileNotFoundError):  # another process removes them, too
            if time.time() - library.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(library.parent, ignore_errors=True)


def _run(folder: str, *arguments: str) -> None:
    _output(["g++", *arguments], folder)


def _output(command: Sequence[str], folder: str | None = None) -> str:
    """What g++ says. Raises KernelError with its first errors."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise KernelError("no g++: it compiles the kernels for the CPU") from None
    if done.returncode:
        lines = done.stderr.splitlines()
        errors = [line for line in lines if "error" in line or "undefined" in line] or lines
        raise KernelError("g++ does not take the kernels:\n" + "\n".join(errors[:5]))
    return done.stderr
