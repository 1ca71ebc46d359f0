"""A log of completions that cannot be changed unnoticed: JSON lines, each with the sha256 of the line before.

Whoever changes, removes or adds a line must write anew everything behind it, and then ends at another digest. Lines
taken from the end are missed only by somebody who knows the last digest, so keep that elsewhere from time to time.

A line goes to the operating system whole and at once, so a crash of the program loses none; to the disk it goes when
the log is closed, so a power cut may lose the last ones. What such an end leaves of a line is set aside in a file.
"""

import fcntl
import hashlib
import itertools
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from starsmith.core.errors import ArtifactError, InputError
from starsmith.core.statement import parse_json

FIRST = "0" * 64  # `prev` of the first line
COMPLETION, RECOVERED = "completion", "recovered"  # what a line tells of
LARGEST_LINE_BYTES = 64 << 20  # a prompt of the largest request, with every character escaped, fits

Record = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """The first line that is not what it must be."""

    line: int  # counted from 1
    message: str
    torn: bool = False  # the end of a write that a crash cut short


@dataclass(frozen=True)
class Checked:
    """How far a log holds."""

    lines: int
    last: str  # sha256 of the last line that holds
    size_bytes: int  # of the lines that hold
    fault: Fault | None = None


class CompletionLog:
    """A log that is open for adding lines. Several threads may share it; another process may not have it open."""

    def __init__(self, path: Path, descriptor: int, checked: Checked) -> None:
        self.path = path
        self.lines = checked.lines
        self.last = checked.last
        self.set_aside: Path | None = None  # what was torn when the log was opened
        self._descriptor = descriptor
        self._size_bytes = checked.size_bytes
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> "CompletionLog":
        """Open or begin a log. One whose chain is broken is refused: lines behind a break prove little."""
        descriptor = _open_locked(path)
        try:
            checked = check(path)
            if checked.fault is not None and not checked.fault.torn:
                hint = "keep it as it is, and give the name of a new file with --log"
                raise ArtifactError(f"{path} line {checked.fault.line} {checked.fault.message}", hint=hint)
            log = cls(path, descriptor, checked)
            if checked.fault is not None:
                log._recover()
        except BaseException:
            os.close(descriptor)
            raise
        return log

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line; when this returns, the operating system has it. After an OSError the log is as it was before."""
        body = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        with self._lock:
            time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            line = f'{{"prev":"{self.last}","time":"{time}",{body[1:]}'.encode("utf-8", "replace")
            self._write(line + b"\n")
            self.last = hashlib.sha256(line).hexdigest()
            self.lines += 1

    def close(self) -> None:
        """Bring everything to the disk, and let others have the log."""
        with self._lock:
            if self._descriptor >= 0:
                os.fsync(self._descriptor)
                os.close(self._descriptor)
                self._descriptor = -1

    def _write(self, content: bytes) -> None:
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError:
            self._take_back()
            raise
        self._size_bytes += len(content)

    def _take_back(self) -> None:
        """Half a line would break the chain for all that follow: where it cannot be cut off, nothing follows."""
        try:
            os.ftruncate(self._descriptor, self._size_bytes)
        except OSError:
            os.close(self._descriptor)
            self._descriptor = -1  # writing to it is an error from now on; opened again, the log sets half a line aside

    def _recover(self) -> None:
        """Keep what a crash left of the last line in a file of its own, cut it off, and say so in the log."""
        torn = os.pread(self._descriptor, LARGEST_LINE_BYTES, self._size_bytes)
        self.set_aside = _keep(torn, self.path, self.lines + 1)
        os.ftruncate(self._descriptor, self._size_bytes)
        digest = hashlib.sha256(torn).hexdigest()
        self.append({"event": RECOVERED, "bytes": len(torn), "sha256": digest, "file": self.set_aside.name})


def check(path: Path, *, each: Callable[[Record], None] | None = None, last: str | None = None) -> Checked:
    """Follow the chain to its end or to the first line that is not what it must be.

    each  gets the record of every line that holds; a ValueError of its says that the line is none
    last  the digest that the log must have come by: a line that is known to be in it
    """
    lines, digest, size_bytes, seen = 0, FIRST, 0, last is None or last == FIRST
    with _open_to_read(path) as file:
        for content in iter(lambda: file.readline(LARGEST_LINE_BYTES + 1), b""):
            if (fault := _fault(content, digest, lines + 1, each)) is not None:
                return Checked(lines, digest, size_bytes, fault)
            digest = hashlib.sha256(content[:-1]).hexdigest()
            lines, size_bytes, seen = lines + 1, size_bytes + len(content), seen or digest == last
    missing = Fault(lines + 1, f"is missing: no line has the sha256 {last}, so the end was taken off or written anew")
    return Checked(lines, digest, size_bytes, None if seen else missing)


def _fault(content: bytes, digest: str, line: int, each: Callable[[Record], None] | None) -> Fault | None:
    start = b'{"prev":"%s","time":"' % digest.encode()
    if not content.endswith(b"\n"):
        if len(content) > LARGEST_LINE_BYTES:
            return Fault(line, f"is longer than {LARGEST_LINE_BYTES >> 20} MiB, so it is none of a log of completions")
        if _is_torn(content, start):
            return Fault(line, "is unfinished: it was cut short, or is being written", torn=True)
    if not content.startswith(start):
        if line == 1:
            return Fault(line, "does not begin a log of completions")
        return Fault(
            line, f"does not follow line {line - 1}: one of the two was changed, or a line was put in or taken out"
        )
    try:
        record = parse_json(content)
        if each is not None:
            each(record)
    except (ValueError, RecursionError) as error:
        return Fault(line, f"is no record of a log of completions: {error}")
    return None


def _is_torn(content: bytes, start: bytes) -> bool:
    """True for what a write that did not end leaves: the beginning of a line, or the zeros of a power cut."""
    begun = content.rstrip(b"\0")
    return begun.startswith(start) or start.startswith(begun)


def _open_locked(path: Path) -> int:
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a regular file", hint="give the name of a file with --log")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise InputError(f"{path.parent} does not exist, so no log can be written there", hint="make it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}", hint="give another file with --log") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InputError(f"{path} is being written by another server", hint="give each a log of its own") from None
    return descriptor


def _open_to_read(path: Path) -> BinaryIO:
    try:
        if path.is_dir() or (path.exists() and not path.is_file()):  # a pipe would be waited for
            raise InputError(f"{path} is not a regular file", hint="give a log that starsmith serve --log wrote")
        return path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", hint="give a log that starsmith serve --log wrote") from None


def _keep(content: bytes, log: Path, line: int) -> Path:
    for name in _names(f"{log.name}.torn-{line}"):
        place = log.with_name(name)
        try:
            with place.open("xb") as file:
                place.chmod(0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            continue
        return place
    raise AssertionError("names do not end")


def _names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}.{number}" for number in itertools.count(2))
