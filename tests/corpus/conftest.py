"""Folders and git repositories for corpus tests."""

import os
import subprocess
from pathlib import Path

import pytest

from worlds import Commit, Files, Write


@pytest.fixture(scope="session")
def write() -> Write:
    """A function that writes files into a folder and returns the folder."""

    def write_files(folder: Path, files: Files) -> Path:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder

    return write_files


@pytest.fixture(scope="session")
def commit(write: Write) -> Commit:
    """A function that commits files into the (new) git repository at a path and returns the commit's id."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(folder: Path, *arguments: str) -> str:
        settings = ("user.name=Somebody", "user.email=somebody@example.org", "init.defaultBranch=main")
        command = ["git", "-C", str(folder), *(part for setting in settings for part in ("-c", setting)), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    def commit_files(folder: Path, files: Files) -> str:
        write(folder, files)
        if not (folder / ".git").exists():
            git(folder, "init", "--quiet")
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", "work")
        return git(folder, "rev-parse", "HEAD")

    return commit_files
