"""What tasks leave for one another: Parquet tables and JSON at a path or an object-storage URL, each whole or absent.

A place is a directory of this machine (or of a file system that every worker of a cluster mounts), or a URL that Arrow
understands, as `s3://bucket/folder?endpoint_override=host:port&scheme=http`.
"""

import json
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from starsmith.core.errors import InputError

_REPEATED = ["language", "license", "license_evidence", "repository", "commit", "split", "kind", "date"]
# A dictionary or a minimum of texts is of no use and takes longer than the compression.
_COMMON = {"use_dictionary": _REPEATED, "write_statistics": _REPEATED}
STAGED = {**_COMMON, "compression": "lz4", "row_group_size": 4096}  # read once or twice, then removed
KEPT = {**_COMMON, "compression": "zstd", "compression_level": 3, "row_group_size": 1024, "write_page_checksum": True}


def join(place: str, name: str) -> str:
    """The name of a file below a place; the parameters of a URL stay at its end."""
    base, mark, parameters = place.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{parameters}"


def write_table(table: pa.Table, place: str, settings: dict[str, Any]) -> int:
    """Write a Parquet file, which has its name only when it is whole; returns its size in bytes."""
    system, path = _resolve(place)
    if isinstance(system, fs.LocalFileSystem):
        partial = f"{path}.{uuid.uuid4().hex}"  # a task may run twice at the same time
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, partial, **settings)
        Path(partial).rename(path)
    else:
        pq.write_table(table, path, filesystem=system, **settings)
    return int(system.get_file_info(path).size)


def read_table(place: str, columns: list[str] | None = None) -> pa.Table:
    """The columns of a Parquet file."""
    system, path = _resolve(place)
    return pq.read_table(path, columns=columns, filesystem=system, partitioning=None)


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
    """Remove a place and all below it, if it is there."""
    system, path = _resolve(place)
    if system.get_file_info(path).type == fs.FileType.Directory:
        system.delete_dir(path)


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
