"""What has to change in CUDA C++ before a C++ compiler takes it, and what kernels are called with.

Only declarations of shared memory change; every line keeps its number.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np


class KernelError(RuntimeError):
    """A kernel that cannot be compiled, is called wrongly, or does what it must not."""


class Parameter(NamedTuple):
    type: str  # as it is written: "const float* __restrict__"
    name: str
    dtype: np.dtype
    is_pointer: bool
    is_const: bool


class Entry(NamedTuple):
    """A kernel that can be launched. threads: at most so many in a block."""

    threads: int
    parameters: tuple[Parameter, ...]


DTYPES = {
    "float": np.float32,
    "double": np.float64,
    "char": np.int8,
    "unsigned char": np.uint8,
    "short": np.int16,
    "unsigned short": np.uint16,
    "int": np.int32,
    "unsigned": np.uint32,
    "unsigned int": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "bool": np.bool_,
}
COMMENT = r"//[^\n]*|/\*.*?\*/"
ENTRY = re.compile(
    r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\(\s*(\d+)[^)]*\)\s*)?'
    r"(\w+)\s*\(([^)]*)\)\s*\{"
)
SHARED = re.compile(
    COMMENT + r"|(?P<extern>\bextern\s+)?\b__shared__\s+(?:__align__\((?P<align>\d+)\)\s*)?"
    r"(?P<type>[A-Za-z_][\w:]*(?:\s+[A-Za-z_][\w:]*)*?(?:\s*\*+\s*|\s+))(?P<name>\w+)"
    r"(?P<sizes>(?:\s*\[[^\]]*\])*)\s*;|(?P<other>\b__shared__\b[^\n]*)",
    re.DOTALL,
)


def entries(source: str) -> dict[str, Entry]:
    """The kernels in a text: extern "C" __global__ void __launch_bounds__(256) name(...)."""
    text = re.sub(COMMENT, " ", source, flags=re.DOTALL)
    return {
        name: Entry(
            int(threads or 1024), tuple(_parameter(name, p) for p in parameters.split(",") if p)
        )
        for threads, name, parameters in ENTRY.findall(text)
    }


def _parameter(kernel: str, declaration: str) -> Parameter:
    *words, name = declaration.replace("*", " * ").replace("__restrict__", " __restrict__ ").split()
    kind = " ".join(w for w in words if w not in ("const", "*", "__restrict__"))
    if kind not in DTYPES or words.count("*") > 1:
        raise KernelError(f"{kernel}: no NumPy dtype is known for {declaration.strip()!r}")
    is_const = "const" in words and ("*" not in words or words.index("const") < words.index("*"))
    return Parameter(" ".join(words), name, np.dtype(DTYPES[kind]), "*" in words, is_const)


def translated(source: str) -> str:
    """C++ that language.h can stand before, with a function for the runtime for each kernel."""

    def declaration(match: re.Match) -> str:
        if match["other"]:
            line = source.count("\n", 0, match.start()) + 1
            raise KernelError(
                f"line {line}: write one shared array in a statement, without initial values: "
                f"{match['other'].strip()}"
            )
        if not match["name"]:
            return match[0]  # a comment
        kind, name, sizes = match["type"].strip(), match["name"], match["sizes"]
        if match["extern"]:
            text = f"{kind}* const {name} = ({kind}*)cudacpu::dynamic_shared();"
        else:
            reference = f"(&{name}){sizes}" if sizes else f"&{name}"
            text = (
                f'static const char cudacpu_{name}[] = "{name}"; '
                f"{kind} {reference} = *({kind} (*){sizes})cudacpu::static_shared("
                f"cudacpu_{name}, sizeof({kind}{sizes}), sizeof({kind}), "
                f"{match['align'] or f'alignof({kind})'});"
            )
        return text + "\n" * (match[0].count("\n") - text.count("\n"))

    text = SHARED.sub(declaration, source)
    return text + "\n" + "".join(_caller(*item) for item in entries(source).items()) + CONSTANTS


def _caller(name: str, entry: Entry) -> str:
    """A function that takes all arguments as one array of 8 bytes each."""
    arguments = ", ".join(
        f"*({parameter.type}*)(arguments + {i})" for i, parameter in enumerate(entry.parameters)
    )
    return (
        f'extern "C" void cudacpu_{name}(const char (*arguments)[8]) {{ {name}({arguments}); }}\n'
    )


# Where the library's own memory lies, as the linker knows it.
CONSTANTS = """
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start[], _end[];
extern "C" { extern const char* const cudacpu_constants[2]; }
const char* const cudacpu_constants[2] = {__ehdr_start, _end};
"""


def line_text(source: str, file: str, line: int) -> str:
    """A line of a text, counted as the compiler does: #line directives name other files."""
    name, number = "kernel.cu", 0
    for text in source.splitlines():
        directive = re.match(r'\s*#\s*line\s+(\d+)(?:\s+"([^"]*)")?', text)
        if directive:
            name, number = directive[2] or name, int(directive[1]) - 1
            continue
        number += 1
        if number == line and Path(name).name == Path(file).name:
            return text.strip()
    return ""
