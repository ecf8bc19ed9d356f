"""What a record says of the machine, the libraries and the code that made it."""

import hashlib
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from ministn.backend import Device

PACKAGE = Path(__file__).parents[1]
SOURCES = ("*.py", "*.cu", "*.cuh")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that can change a number."""
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("numpy", "scipy", "scikit-learn", "safetensors")
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def blas() -> str:
    """The linear algebra library and the processor that it computes for: "openblas SkylakeX".

    An environment variable can force an older one than the processor; the last bits follow it.
    """
    found = (info for info in threadpool_info() if info["user_api"] == "blas")
    return ", ".join(sorted({f"{i['internal_api']} {i.get('architecture', '')}" for i in found}))


def device(gpu: Device | None = None) -> dict[str, Any]:
    """What computes: the machine, or the GPU and the machine that it is in."""
    machine = {"name": processor(), "cores": os.cpu_count(), "blas": blas()}
    return machine if gpu is None else gpu.describe() | {"host": machine}


def source_sha256() -> str:
    """SHA-256 over the package's sources: each path, its length and its bytes, in order."""
    digest = hashlib.sha256()
    for path in sorted(p for kind in SOURCES for p in PACKAGE.rglob(kind)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def commit() -> dict[str, Any]:
    """The checkout's commit and whether tracked files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != PACKAGE.parent:
            return {"commit": None, "dirty": None}
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
