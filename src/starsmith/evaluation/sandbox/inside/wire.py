"""Messages over sockets: small ones with descriptors to and from a keeper, frames of bytes between two programs."""

import array
import json
import os
import socket
import struct
from typing import Any

MOST_FRAME_BYTES = 256 << 20
MOST_MESSAGE_BYTES = 1 << 16
_LENGTH = struct.Struct("<I")

Message = dict[str, Any]


class FrameError(Exception):
    """What came is longer than a frame may be."""


def send_message(connection: socket.socket, message: Message, descriptors: tuple[int, ...] = ()) -> None:
    """One message over a SOCK_SEQPACKET socket, whole or not at all."""
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    connection.sendmsg([json.dumps(message).encode()], extra)


def receive_message(connection: socket.socket, most_descriptors: int = 4) -> tuple[Message | None, list[int]]:
    """The next message and the descriptors that came with it; None when the other side is gone."""
    room = socket.CMSG_SPACE(4 * most_descriptors)
    data, extra, _, _ = connection.recvmsg(MOST_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    received = array.array("i")
    for level, kind, content in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
    return (json.loads(data) if data else None), list(received)


def send_frame(descriptor: int, data: bytes) -> None:
    """A length and as many bytes."""
    if len(data) > MOST_FRAME_BYTES:
        raise FrameError(f"{len(data)} bytes, {MOST_FRAME_BYTES} may cross")
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def receive_frame(descriptor: int) -> bytes | None:
    """The next frame; None when the other side is gone."""
    head = _read(descriptor, _LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MOST_FRAME_BYTES:
        raise FrameError(f"{length} bytes, {MOST_FRAME_BYTES} may cross")
    data = _read(descriptor, length)
    return data if len(data) == length else None


def read_all(descriptor: int) -> bytes:
    """A file's content from its beginning; the descriptor is closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


def _read(descriptor: int, length: int) -> bytes:
    data = os.read(descriptor, min(length, 1 << 16)) if length else b""
    if len(data) == length:
        return data
    parts, missing = [data], length - len(data)
    while missing and parts[-1]:
        parts.append(os.read(descriptor, min(missing, 1 << 20)))
        missing -= len(parts[-1])
    return b"".join(parts)
