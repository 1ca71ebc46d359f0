"""TensorBoard event files with scalars in them, written without TensorBoard.

The format is small and has not changed in years: TFRecord frames (length, its checksum, content, its checksum; the
checksum is a CRC-32C, rotated and shifted by a constant) around protocol buffers of TensorFlow's message Event
(tensorflow/core/util/event.proto). Packages that write it bring in TensorBoard itself, or start threads and buffer
what a kill then loses. A frame here is one write: a kill tears at most the last, which TensorBoard passes over.
"""

import itertools
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5  # wire types
_START = 1  # SessionLog.SessionStatus: readers forget the steps from this one on


class EventFile:
    """A new event file in a directory; `first_step` is the first that it will have."""

    def __init__(self, directory: Path, *, first_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a directory in the order of their names.
        now, host = time.time(), socket.gethostname()
        names = (directory / f"events.out.tfevents.{now:.6f}.{number:03d}.{host}" for number in itertools.count())
        self._file = next(name for name in names if not name.exists()).open("xb", buffering=0)
        self._write(_field(3, _BYTES, b"brain.Event:2"))
        self._write(_step(first_step) + _field(7, _BYTES, _field(1, _VARINT, _START)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step by their tags."""
        entries = (_field(1, _BYTES, tag.encode()) + _field(2, _FLOAT, value) for tag, value in values.items())
        self._write(_step(step) + _field(5, _BYTES, b"".join(_field(1, _BYTES, entry) for entry in entries)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: bytes) -> None:
        self._file.write(frame(_field(1, _DOUBLE, time.time()) + event))


def frame(content: bytes) -> bytes:
    """A TFRecord."""
    length = struct.pack("<Q", len(content))
    return b"".join((length, _checksum(length), content, _checksum(content)))


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _step(step: int) -> bytes:
    return _field(2, _VARINT, step)


def _field(number: int, kind: int, value: float | bytes) -> bytes:
    """One field of a protocol buffer."""
    key = _varint(number << 3 | kind)
    if isinstance(value, bytes):
        return key + _varint(len(value)) + value
    if kind == _VARINT:
        return key + _varint(int(value))
    return key + struct.pack("<d" if kind == _DOUBLE else "<f", value)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first, the top bit set on all but the last."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def _table() -> tuple[int, ...]:
    """The checksum of every single byte."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _table()
