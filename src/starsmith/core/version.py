"""Which code made an artefact: the digest of the source files that decide the outcome, and the commit."""

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

import starsmith

_PACKAGE = Path(starsmith.__file__).parent


def source_sha256(rooms: Sequence[str]) -> str:
    """Digest of the source files of some of our packages."""
    digest = hashlib.sha256()
    for room in sorted(rooms):
        for file in sorted((_PACKAGE / room).rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                digest.update(f"{file.relative_to(_PACKAGE).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def commit() -> str:
    """The commit of the checkout this code runs from, or "" for an installed package."""
    root = _PACKAGE.parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
