"""OpenSSH signatures of files, as `ssh-keygen -Y sign` makes and `ssh-keygen -Y verify` checks them.

The format is OpenSSH's PROTOCOL.sshsig: a blob in armour that holds the public key, a namespace, and a signature
over the namespace and a digest of the file.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from starsmith.provenance.keys import NAMESPACE, wire_form

MAGIC = b"SSHSIG"
VERSION = (1).to_bytes(4)
KEY_TYPE = b"ssh-ed25519"
ARMOUR_COLUMNS = 70  # as ssh-keygen breaks its lines

_ARMOUR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END SSH SIGNATURE-----\s*")


@dataclass(frozen=True)
class Signature:
    """What a signature file says, unchecked."""

    blob: bytes  # the signer's public key in wire form
    digest: str  # sha256 or sha512
    value: bytes

    def signed_bytes(self, message: bytes) -> bytes:
        """The bytes that the value is a signature of, if it is one of `message`."""
        return _signed_bytes(message, self.digest)


def sign(message: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of a `.sig` file; the same key and message always give the same bytes."""
    value = _string(KEY_TYPE) + _string(key.sign(_signed_bytes(message, "sha512")))
    fields = (wire_form(key.public_key()), NAMESPACE.encode(), b"", b"sha512", value)
    text = base64.b64encode(MAGIC + VERSION + b"".join(map(_string, fields)))
    lines = [text[start : start + ARMOUR_COLUMNS] for start in range(0, len(text), ARMOUR_COLUMNS)]
    return b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----", b""])


def parse(content: bytes) -> Signature:
    """Read a `.sig` file of our namespace; ValueError says what is wrong with it."""
    armour = _ARMOUR.fullmatch(content)
    if armour is None:
        raise ValueError("no SSH SIGNATURE block")
    rest = base64.b64decode(re.sub(rb"\s", b"", armour[1]), validate=True)
    if not rest.startswith(MAGIC + VERSION):
        raise ValueError("not an OpenSSH signature of version 1")
    blob, rest = _take(rest[len(MAGIC + VERSION) :])
    namespace, rest = _take(rest)
    _, rest = _take(rest)  # reserved: to be ignored
    digest, rest = _take(rest)
    value, rest = _take(rest)
    if namespace != NAMESPACE.encode():
        raise ValueError(f"of namespace {namespace.decode(errors='replace')!r}, wanted: {NAMESPACE!r}")
    if rest or digest not in (b"sha256", b"sha512"):
        raise ValueError("bytes after its end" if rest else "of an unknown digest")
    return Signature(blob, digest.decode(), _take_value(value))


def _take_value(value: bytes) -> bytes:
    """The raw signature; empty for another type of key, whose signatures no Ed25519 key can have made."""
    kind, rest = _take(value)
    return _take(rest)[0] if kind == KEY_TYPE else b""


def _signed_bytes(message: bytes, digest: str) -> bytes:
    fields = (NAMESPACE.encode(), b"", digest.encode(), hashlib.new(digest, message).digest())
    return MAGIC + b"".join(map(_string, fields))


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value


def _take(value: bytes) -> tuple[bytes, bytes]:
    """The first string of `value`, and what comes after it."""
    end = 4 + int.from_bytes(value[:4])
    if len(value) < 4 or end > len(value):
        raise ValueError("cut short")
    return value[4:end], value[end:]
