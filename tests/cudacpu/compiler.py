"""g++, and a cache of what it has made: one folder for each text and set of options."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cudacpu.translate import KernelError

HERE = Path(__file__).parent
COMMON = ("-std=c++17", "-march=native", "-ffp-contract=off", "-fPIC", "-ftls-model=initial-exec")
RUNTIME = (*COMMON, "-O3", "-fwrapv", "-pthread")
# -O1 would compile faster, but take the tests longer altogether. Kernels look at the same memory as
# float and float4, which strict aliasing rules forbid. addr2line finds wrong files in DWARF 5 after
# #line directives.
LANGUAGE = ("-O2", "-fno-strict-aliasing", "-w", "-g1", "-gdwarf-4", "-include", "language.h")
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


def place_of(library: Path, offset: int, runtime: Path) -> tuple[str, int] | None:
    """File and line of an instruction in a library; of inlined functions the innermost one that
    is not the runtime's."""
    command = ["addr2line", "-i", "-e", str(library), hex(offset)]
    try:
        lines = subprocess.run(command, capture_output=True, text=True).stdout.split("\n")
    except FileNotFoundError:
        return None
    for line in lines:
        file, _, number = line.split(" ")[0].rpartition(":")
        if number.isdigit() and Path(file).parent != runtime.parent:
            return file, int(number)
    return None


def _built(sources: dict[str, str], flags: Sequence[str], libraries: Sequence[str]) -> Path:
    """A library that is made once. Each file is put in place whole, so that other processes may
    do the same at the same time."""
    key = hashlib.sha256(repr((sources, flags, libraries)).encode()).hexdigest()[:20]
    folder = _cache() / key
    library = folder / "library.so"
    if not library.exists():
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
def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"cudacpu-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise KernelError(f"{folder} belongs to someone else")
    return folder


def _run(folder: str, *arguments: str) -> None:
    try:
        done = subprocess.run(["g++", *arguments], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise KernelError("no g++: it compiles the kernels for the CPU") from None
    if done.returncode:
        lines = done.stderr.splitlines()
        errors = [line for line in lines if "error" in line or "undefined" in line] or lines
        raise KernelError("g++ does not take the kernels:\n" + "\n".join(errors[:5]))
