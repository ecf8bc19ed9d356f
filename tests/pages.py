"""What the tests ask of every page: its links lead somewhere, its commands start."""

import os
import re
import subprocess
import sys
from pathlib import Path

from ministn import backend
from ministn.errors import UserError

ROOT = Path(__file__).parents[1]


def blocks(text: str, kind: str) -> list[str]:
    """The code blocks of one language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The lines of its bash blocks, without comments."""
    lines = (
        line.split("#")[0].strip() for block in blocks(text, "bash") for line in block.split("\n")
    )
    return [line for line in lines if line]


def dead_links(page: Path) -> list[str]:
    """Links to files that are not there, and to headings that the page has not."""
    text = page.read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    dead = []
    for link in re.findall(r"\]\(([^)]+)\)", text):
        found = link[1:] in headings if link.startswith("#") else (page.parent / link).exists()
        if not (found or link.startswith("https://")):
            dead.append(link)
    return dead


def started(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A python command of a page, run in a folder."""
    words = [str(ROOT / w) if (ROOT / w).is_file() else w for w in command.split()]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )


def has_gpu() -> bool:
    try:
        backend.gpu()
    except UserError:
        return False
    return True
