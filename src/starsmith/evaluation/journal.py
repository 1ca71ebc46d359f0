"""A file of JSON lines to which work is appended as it is done, so that a kill at any moment costs one line at most."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from starsmith.core.errors import InputError


class Journal:
    """Rows by their key. A line that a kill tore in two is cut off when the file is opened again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self.torn = False
        self._stream: TextIO | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._mend()
            for row in read_lines(self.path):
                self.rows[str(row.get("key"))] = row
        self._stream = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._stream is not None
        self._stream.close()

    def add(self, row: Mapping[str, Any]) -> None:
        """Append and flush one row; it must have a key."""
        assert self._stream is not None
        self.rows[row["key"]] = dict(row)
        self._stream.write(json.dumps(row) + "\n")
        self._stream.flush()

    def adopt(self, path: Path) -> None:
        """Take over the rows of a finished file, if it is there; what stands here already goes before."""
        for row in read_lines(path) if path.is_file() else ():
            if "key" in row:
                self.rows.setdefault(str(row["key"]), row)

    def _mend(self) -> None:
        """Cut off what stands behind the last line end."""
        with self.path.open("rb+") as stream:
            content = stream.read()
            whole = content.rfind(b"\n") + 1
            self.torn = whole < len(content)
            if self.torn:
                stream.truncate(whole)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; one that is none is an error that names its line."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield parse_line(path, number, line)


def parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """One object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} line {number} is no JSON: {error}", hint="mend the line, or take it out") from None
    if not isinstance(row, dict):
        raise InputError(f"{path} line {number} is no JSON object", hint="mend the line, or take it out")
    return row
