"""What tasks leave for one another: Parquet tables and JSON at a path or an object-storage URL, each whole or absent.

A place is a directory of this machine (or of a file system that every worker of a cluster mounts), or a URL that Arrow
understands, as `s3://bucket/folder?endpoint_override=host:port&scheme=http`.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from starsmith.core.errors import InputError

_REPEATED = ["language", "license", "license_evidence", "repository", "commit", "split", "kind", "date"]
# A dictionary or a minimum of texts is of no use and takes longer than the compression.
_COMMON = {"use_dictionary": _REPEATED, "write_statistics": _REPEATED}
STAGED = {**_COMMON, "compression": "none"}  # read once or twice, then removed: on a disk it is not worth compressing
SENT = {**_COMMON, "compression": "lz4"}  # the same over a network
KEPT = {**_COMMON, "compression": "zstd", "write_page_checksum": True}  # level 1: 3 takes half as long again for 8 %

# Of text in a row group. Tables are written and read by the group: memory that is given back and asked for anew costs
# more than what is done with it.
GROUP_BYTES = 4 * 2**20


def join(place: str, name: str) -> str:
    """The name of a file below a place; the parameters of a URL stay at its end."""
    base, mark, parameters = place.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{parameters}"


@contextmanager
def writing(place: str, schema: pa.Schema, settings: dict[str, Any]) -> Iterator[Callable[[pa.Table], None]]:
    """Write a Parquet file by the row group; it has its name only when it is whole."""
    system, path = _resolve(place)
    partial = f"{path}.{uuid.uuid4().hex}"  # a task may run twice at the same time
    if isinstance(system, fs.LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    elif settings is STAGED:
        settings = SENT
    try:
        with pq.ParquetWriter(partial, schema, filesystem=system, **settings) as file:
            yield file.write_table
        system.move(partial, path)
    except BaseException:  # closing a writer makes a file of what there is
        with suppress(OSError):
            system.delete_file(partial)
        raise


def write_table(table: pa.Table, place: str, settings: dict[str, Any]) -> None:
    """Write a table of moderate size."""
    with writing(place, table.schema, settings) as write:
        write(table)


def write_rows(rows: Iterable[dict[str, Any]], place: str, schema: pa.Schema, settings: dict[str, Any]) -> int:
    """Write rows that have a `text` as they come, in row groups of about GROUP_BYTES; returns how many."""
    count = size = 0
    group: list[dict[str, Any]] = []
    with writing(place, schema, settings) as write:
        for row in rows:
            group.append(row)
            count += 1
            size += len(row["text"])
            if size >= GROUP_BYTES:
                write(pa.Table.from_pylist(group, schema=schema))
                group, size = [], 0
        write(pa.Table.from_pylist(group, schema=schema))
    return count


def read_table(place: str, columns: list[str] | None = None) -> pa.Table:
    """The columns of a Parquet file."""
    system, path = _resolve(place)
    # Not pq.read_table, which is for datasets and imports pandas.
    with system.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
        return file.read(columns=columns, use_threads=False)


def read_groups(
    place: str, columns: Sequence[str], rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], pa.Table]]:
    """Of the ascending `rows` of a Parquet file those of each row group: their places in `rows`, and their columns."""
    system, path = _resolve(place)
    with system.open_input_file(path) as opened, pq.ParquetFile(opened) as file:
        first = 0
        for number in range(file.num_row_groups):
            last = first + file.metadata.row_group(number).num_rows
            start, end = np.searchsorted(rows, [first, last]).tolist()
            if start < end:
                group = file.read_row_group(number, columns=list(columns), use_threads=False)
                yield np.arange(start, end), group.take(pa.array(rows[start:end] - first))
            first = last


def write_json(value: Any, place: str) -> None:
    """Write JSON, which has its name only when it is whole."""
    system, path = _resolve(place)
    content = json.dumps(value).encode()
    if isinstance(system, fs.LocalFileSystem):
        partial = Path(f"{path}.{uuid.uuid4().hex}")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.rename(path)
        return
    with system.open_output_stream(path) as stream:
        stream.write(content)


def read_json(place: str) -> Any:
    """What `write_json` wrote there, or None."""
    system, path = _resolve(place)
    try:
        with system.open_input_stream(path) as stream:
            return json.loads(stream.read())
    except FileNotFoundError:
        return None


def fetch(place: str, target: Path) -> None:
    """Bring a file to this machine; on the same disk it gets a second name, which costs nothing."""
    system, path = _resolve(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if isinstance(system, fs.LocalFileSystem):
        with suppress(OSError):  # another disk, or one without links
            target.hardlink_to(path)
            return
    fs.copy_files(path, str(target), source_filesystem=system)


def remove(place: str) -> None:
    """Remove a file, or a place and all below it, if it is there."""
    system, path = _resolve(place)
    kind = system.get_file_info(path).type
    if kind == fs.FileType.Directory:
        system.delete_dir(path)
    elif kind == fs.FileType.File:
        system.delete_file(path)


def _resolve(place: str) -> tuple[fs.FileSystem, str]:
    if "://" not in place:
        return fs.LocalFileSystem(), place
    try:
        system, path = fs.FileSystem.from_uri(place)
    except (pa.ArrowInvalid, ValueError) as error:
        raise InputError(
            f"{place} is no place that can be written: {error}", hint="for example s3://bucket/x"
        ) from None
    return system, path
