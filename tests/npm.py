"""Packages of the npm registry for conformance tests, installed once into `.bench/`, whoever asks first."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[1] / ".bench"


def npm_package(name: str, version: str) -> Path:
    """The folder of an installed package; skips the test where npm or the registry is missing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("SKIPPED: node and npm are not installed")
    HOME.mkdir(exist_ok=True)
    home = HOME / f"{name}-{version}"
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not home.is_dir():
            _install(f"{name}@{version}", home)
    return home / "node_modules" / name


def _install(package: str, home: Path) -> None:
    partial = home.with_name(home.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    options = ("--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", str(partial))
    done = subprocess.run(["npm", "install", *options, package], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"SKIPPED: npm could not install {package}: {done.stderr.strip()[:300]}")
    partial.rename(home)
