"""Parquet and JSON-lines tables in the schemas of The Stack, and our own corpora, become units of files.

They lie on disk or in object storage (`s3://bucket/folder`, settings as in Arrow's URIs); a row is a file.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
import pyarrow.parquet as pq

from starsmith.core.errors import InputError
from starsmith.corpus.files import Drop, RawFile, Unreadable
from starsmith.corpus.table_schemas import Schema, file_of, refused, schema_of
from starsmith.corpus.trees import UNIT_BYTES, Unit, too_large

_PARQUET = (".parquet",)
_LINES = tuple(f".{name}{packed}" for name in ("jsonl", "ndjson") for packed in ("", ".gz", ".zst"))
_NAMED_LINES = (".json", ".json.gz", ".json.zst")  # may be JSON lines: only if the user names the file
SUFFIXES = _PARQUET + _LINES

_REMOTE = re.compile(r"(?:s3|gs|gcs|hdfs|abfss?)://")
_BESIDE_TABLES = re.compile(r"(?i)\..*|_.*|readme.*|licen[cs]e.*|.*\.(?:md|json|html?|txt|svg|png)")
_ROWS_AT_ONCE = 64  # a batch in memory: 64 files of the largest size at worst
_CHUNK_BYTES = 2**20
_ESCAPE = 6  # bytes that JSON may need for one of content: \u0000
_OTHER_COLUMNS_BYTES = 2**16  # of a JSON line besides its content
_LINES_TRIED = 100  # to find the schema


class Table(NamedTuple):
    """A file of rows."""

    filesystem: fs.FileSystem
    path: str
    size_bytes: int
    version: str  # changes when the file does


@dataclass(frozen=True, kw_only=True)
class TableUnit:
    """Consecutive row groups of a Parquet file, or a file of JSON lines."""

    label: str
    size_bytes: int
    fingerprint: str
    largest_bytes: int
    schema: Schema
    table: Table = field(repr=False)
    row_groups: tuple[int, ...] | None = None  # None: JSON lines

    def files(self) -> Iterator[RawFile | Unreadable]:
        """Every row, one at a time, as the table has them."""
        where = self.table.path.rpartition("/")[2]
        try:
            if self.row_groups is None:
                yield from _files_of_lines(self.schema, self.table, where, self.largest_bytes)
            else:
                yield from _files_of_groups(self.schema, self.table, where, self.row_groups, self.largest_bytes)
        except (OSError, pa.ArrowException) as error:
            yield Unreadable("", where, Drop("unreadable_table", f"the rest of {self.label}: {error}"))


@dataclass(frozen=True)
class TableSource:
    """One or more tables."""

    root: str  # the place that the user named, without credentials
    repository: str
    tables: tuple[Table, ...] = field(repr=False)
    commit: str = ""

    def units(self, *, largest_bytes: int) -> list[Unit]:
        """Units in the order of the tables' paths; InputError for a table in no known schema."""
        return [unit for table in self.tables for unit in _units(table, largest_bytes)]


def is_table(place: str) -> bool:
    """True for a Parquet or JSON-lines file by its name, a glob, and anything in object storage."""
    name = place.lower()
    is_named = name.partition("?")[0].endswith(SUFFIXES + _NAMED_LINES) or name.endswith(SUFFIXES + _NAMED_LINES)
    return is_named or _REMOTE.match(name) is not None or (_is_glob(place) and not os.path.lexists(place))


def open_folder(folder: Path) -> TableSource | None:
    """A folder of tables, with at most documentation beside them, or a corpus artefact; None for any other."""
    if (folder / "manifest.json").is_file() and any((folder / "shards").glob("*.parquet")):
        return open_tables(folder / "shards")
    is_found = False
    for _, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.lower().endswith(SUFFIXES):
                is_found = True
            elif not _BESIDE_TABLES.fullmatch(name):
                return None
    return open_tables(folder) if is_found else None


def open_tables(place: Path | str) -> TableSource:
    """The tables at a path, glob or URL; InputError if there are none."""
    named = str(place)
    shown = re.sub(r"//[^/@]*@", "//", named)
    try:
        filesystem, path = _located(named)
        tables = tuple(_found(filesystem, path))
    except (OSError, ValueError, NotImplementedError) as error:
        message = f"{shown} cannot be listed: {str(error).replace(named, shown)}"
        raise InputError(message, hint="check the address and the credentials") from None
    if not tables:
        raise InputError(f"{shown} has no table", hint=f"give files that end in {' '.join(SUFFIXES)}")
    return TableSource(shown, path.rstrip("/").rpartition("/")[2], tables)


def _located(place: str) -> tuple[fs.FileSystem, str]:
    if not re.match(r"[a-z0-9]+://", place):
        return fs.LocalFileSystem(), str(Path(place).absolute())
    # The pattern stays outside the URI: in it `?` begins Arrow's settings.
    address, mark, settings = place.partition("?")
    fixed = _fixed_part(address) if _is_glob(address) else address
    filesystem, path = fs.FileSystem.from_uri(fixed + mark + settings)
    return filesystem, path.rstrip("/") + "/" * (fixed != address) + address.removeprefix(fixed)


def _found(filesystem: fs.FileSystem, path: str) -> Iterator[Table]:
    given = filesystem.get_file_info(path)
    if given.type == fs.FileType.File:
        yield _table(filesystem, given)
        return
    is_glob = given.type == fs.FileType.NotFound and _is_glob(path)
    base = _fixed_part(path).rstrip("/") if is_glob else path
    pattern = re.compile(_pattern(path)) if is_glob else None
    for info in sorted(
        filesystem.get_file_info(fs.FileSelector(base, recursive=True)), key=lambda info: str(info.path)
    ):
        if info.type != fs.FileType.File:
            continue
        if pattern.fullmatch(info.path) if pattern else info.path.lower().endswith(SUFFIXES):
            yield _table(filesystem, info)


def _table(filesystem: fs.FileSystem, info: fs.FileInfo) -> Table:
    return Table(filesystem, info.path, info.size, f"{info.size} {info.mtime_ns}")


def _is_glob(place: str) -> bool:
    return re.search(r"[*?[]", place) is not None


def _fixed_part(pattern: str) -> str:
    """The folder, with its slash, below which all matches lie."""
    return re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition("/")[0] + "/"


def _pattern(glob: str) -> str:
    """`*` and `?` stay within a folder, `**` does not."""
    meanings: Mapping[str, str] = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", glob)
    return "".join(part if part.startswith("[") else meanings.get(part, re.escape(part)) for part in parts)


def _units(table: Table, largest_bytes: int) -> Iterator[Unit]:
    name = table.path.rpartition("/")[2]
    if not name.lower().endswith(_PARQUET):
        schema = schema_of(_first_columns(table), name)
        yield _unit(table, schema, largest_bytes, table.size_bytes, name, None)
        return
    try:
        with table.filesystem.open_input_file(table.path) as file, pq.ParquetFile(file) as parquet:
            schema = schema_of(parquet.schema_arrow.names, name)
            sizes = _group_sizes(parquet.metadata, schema)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{name} is not readable Parquet: {error}", hint="check that it was copied whole") from None
    for first, end in _ranges(sizes):
        label = f"{name} row groups {first + 1:,}-{end:,} of {len(sizes):,}"
        yield _unit(table, schema, largest_bytes, sum(sizes[first:end]), label, tuple(range(first, end)))


def _unit(
    table: Table, schema: Schema, largest_bytes: int, size_bytes: int, label: str, row_groups: tuple[int, ...] | None
) -> Unit:
    read = repr((table.path, table.version, schema, row_groups, largest_bytes))
    return TableUnit(
        label=label,
        size_bytes=size_bytes,
        fingerprint=hashlib.sha256(read.encode("utf-8", "surrogateescape")).hexdigest(),
        largest_bytes=largest_bytes,
        schema=schema,
        table=table,
        row_groups=row_groups,
    )


def _group_sizes(metadata: Any, schema: Schema) -> list[int]:
    """Uncompressed bytes of the columns that are read, of each row group."""
    wanted = set(schema.columns())
    sizes = []
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = (group.column(place) for place in range(group.num_columns))
        sizes.append(
            sum(
                column.total_uncompressed_size
                for column in columns
                if column.path_in_schema.partition(".")[0] in wanted
            )
        )
    return sizes


def _ranges(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = total_bytes = 0
    for number, size_bytes in enumerate(sizes):
        if number > first and total_bytes + size_bytes > UNIT_BYTES:
            yield first, number
            first, total_bytes = number, 0
        total_bytes += size_bytes
    if sizes:
        yield first, len(sizes)


def _files_of_groups(
    schema: Schema, table: Table, where: str, row_groups: Sequence[int], largest_bytes: int
) -> Iterator[RawFile | Unreadable]:
    with (
        table.filesystem.open_input_file(table.path) as file,
        # A buffer and no read-ahead: pages come one by one, not whole row groups.
        pq.ParquetFile(file, pre_buffer=False, buffer_size=_CHUNK_BYTES) as parquet,
    ):
        columns = [name for name in schema.columns() if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=list(row_groups), columns=columns):
            values = {name: _values(batch.column(name)) for name in columns if name not in schema.content}
            content = next(batch.column(name) for name in schema.content if name in columns)
            sizes = pc.binary_length(content).to_pylist()
            for number, size_bytes in enumerate(sizes):
                row = {name: column[number] for name, column in values.items()}
                if size_bytes is not None and size_bytes > largest_bytes:
                    yield refused(schema, row, where, too_large(size_bytes, largest_bytes))
                else:
                    # As bytes: what is no UTF-8 is judged later, and copied once.
                    row["content"] = None if size_bytes is None else content[number].as_buffer().to_pybytes()
                    yield file_of(schema, row, where)


def _values(column: Any) -> list[Any]:
    """The values in Python; text that is no UTF-8 with replacement characters, times in ISO 8601."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        raw = column.cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "replace") for value in raw]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _values(column.values)
        offsets, is_null = column.offsets.to_pylist(), column.is_null().to_pylist()
        return [
            None if is_null[number] else inner[offsets[number] : offsets[number + 1]] for number in range(len(column))
        ]
    if pa.types.is_timestamp(kind):
        return [value and value.replace(" ", "T") for value in column.cast(pa.string()).to_pylist()]
    return list(column.to_pylist()) if pa.types.is_primitive(kind) or pa.types.is_null(kind) else [None] * len(column)


def _files_of_lines(schema: Schema, table: Table, where: str, largest_bytes: int) -> Iterator[RawFile | Unreadable]:
    most_bytes = _ESCAPE * largest_bytes + _OTHER_COLUMNS_BYTES
    for number, line in enumerate(_lines(table, most_bytes), start=1):
        if line is None:
            drop = Drop("bad_row", f"line {number:,} of {where} has more than {most_bytes:,} bytes")
            yield Unreadable("", where, drop)
            continue
        if not line.strip():
            continue
        row = _object(line)
        if isinstance(row, str):
            yield Unreadable("", where, Drop("bad_row", f"line {number:,} of {where}: {row}"))
            continue
        text = next((row[name] for name in schema.content if isinstance(row.get(name), str)), None)
        content = None if text is None else text.encode("utf-8", "surrogatepass")
        if content is not None and len(content) > largest_bytes:
            yield refused(schema, row, where, too_large(len(content), largest_bytes))
        else:
            yield file_of(schema, {**row, "content": content}, where)


def _lines(table: Table, most_bytes: int) -> Iterator[bytes | None]:
    """Each line; None for a longer one, which is not kept while it passes."""
    line = bytearray()
    is_passing = False  # the rest of a line that was too long
    with table.filesystem.open_input_stream(table.path) as stream:  # decompressed by the name's ending
        while chunk := stream.read(_CHUNK_BYTES):
            *ended, rest = chunk.split(b"\n")
            for part in ended:
                line += part
                yield None if is_passing or len(line) > most_bytes else bytes(line)
                line.clear()
                is_passing = False
            line += b"" if is_passing else rest
            if len(line) > most_bytes:
                line.clear()
                is_passing = True
    if line or is_passing:
        yield None if is_passing else bytes(line)


def _object(line: bytes) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # a JSONDecodeError or UnicodeDecodeError is a ValueError
        return f"no JSON: {error}"
    return row if isinstance(row, dict) else f"{type(row).__name__}, wanted is an object"


def _first_columns(table: Table) -> list[str]:
    name = table.path.rpartition("/")[2]
    try:
        for _, line in zip(range(_LINES_TRIED), _lines(table, 64 * _CHUNK_BYTES), strict=False):
            if line and isinstance(row := _object(line), dict):
                return list(row)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{name} cannot be read: {error}", hint="check that it was copied whole") from None
    raise InputError(
        f"{name} has no JSON object in its first {_LINES_TRIED} lines", hint="a table has one JSON object a line"
    )
