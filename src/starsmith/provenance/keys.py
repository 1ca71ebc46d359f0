"""Key files become keys: private ones from PEM and OpenSSH, public ones from PEM, `.pub` and allowed_signers.

A key is named by its OpenSSH fingerprint, which `ssh-keygen -l -f FILE` prints too.
"""

import base64
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from starsmith.core.errors import ConfigError, InputError

NAMESPACE = "starsmith"  # of OpenSSH signatures: one made for mail or for git is none for an artefact
KEY_MAX_BYTES = 1 << 20  # an allowed_signers file with 8,000 keys has this size
PASSPHRASE_MAX_BYTES = 1023  # OpenSSL takes no longer one

KeyType = Literal["ed25519", "p256"]
Passphrase = Callable[[], bytes]  # asked only when the key is encrypted
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

_WORD = re.compile(r'(?:[^\s"]|"[^"]*")+')  # of an allowed_signers line
_TYPE = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+")
_TIME_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # ssh-keygen(1), "valid-after"


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with."""

    key: Ed25519PublicKey
    name: str  # the principals of an allowed_signers line, the comment of a .pub file, or ""

    @property
    def blob(self) -> bytes:
        """The key in OpenSSH's wire form."""
        return wire_form(self.key)

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` prints it."""
        return fingerprint(self.blob)


def wire_form(key: Ed25519PublicKey) -> bytes:
    """The key in OpenSSH's wire form."""
    return base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])


def fingerprint(blob: bytes) -> str:
    """The name of a key, from its wire form."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def read_private_key(path: Path, passphrase: Passphrase | None = None) -> Ed25519PrivateKey:
    """The Ed25519 key in a PEM (PKCS8) or OpenSSH file."""
    key = _load_private_key(path, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"{path} holds {_describe(key)}, wanted: an Ed25519 key", hint="make one: starsmith keygen FILE"
        )
    return key


def read_ec_private_key(path: Path, passphrase: Passphrase | None = None) -> EllipticCurvePrivateKey:
    """The ECDSA key in a PEM or OpenSSH file, on a curve that OpenSSF model signing takes."""
    key = _load_private_key(path, passphrase)
    if not isinstance(key, EllipticCurvePrivateKey) or key.curve.name not in ("secp256r1", "secp384r1", "secp521r1"):
        raise InputError(
            f"{path} holds {_describe(key)}; OpenSSF model signing takes ECDSA keys (P-256, P-384, P-521) only",
            hint="make one: starsmith keygen FILE --type p256",
        )
    return key


def read_public_keys(path: Path, *, now: datetime | None = None) -> list[PublicKey]:
    """The Ed25519 keys in a PEM, `.pub` or allowed_signers file that may sign artefacts `now`."""
    content = _read(path)
    if b"PRIVATE KEY-----" in content:
        raise InputError(
            f"{path} holds a private key, wanted: a public one",
            hint=f"give {path}.pub, or write it: ssh-keygen -y -f {path} > {path}.pub",
        )
    if b"-----BEGIN " in content:
        return [_read_pem(path, content)]
    faults: list[str] = []
    found = list(_read_lines(path, content, now or datetime.now(UTC), faults))
    if not found:
        seen = f": {'; '.join(faults[:3])}" if faults else ""
        raise InputError(
            f"{path} holds no Ed25519 key that may sign artefacts{seen}",
            hint="give a public key in PEM, a .pub file or an allowed_signers file",
        )
    return found


def exposure(path: Path) -> str | None:
    """A warning when others than its owner can read or write a private key."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        return f"{path} can be read or changed by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
    return None


def generate(path: Path, *, kind: KeyType = "ed25519", passphrase: bytes | None = None) -> Path:
    """Write a new key to `path`, for its owner only, and its public part to `path`.pub; returns the latter.

    ed25519  OpenSSH's forms, for `starsmith sign` and ssh-keygen
    p256     PEM, the only form that OpenSSF model signing reads
    """
    if passphrase == b"":
        raise ConfigError("the passphrase is empty", hint="give one, or leave it out for a key without")
    if passphrase is not None and len(passphrase) > PASSPHRASE_MAX_BYTES:
        raise ConfigError(
            f"the passphrase has {len(passphrase):,} bytes, at most {PASSPHRASE_MAX_BYTES:,} are taken",
            hint="give a shorter one",
        )
    public = path.with_name(path.name + ".pub")
    for place in (path, public):
        if place.exists() or place.is_symlink():
            raise InputError(f"{place} exists, and a key is never written over", hint="give another name")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a directory", hint="make it first")
    lock: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    secret, shown = _new_ed25519(lock) if kind == "ed25519" else _new_p256(lock)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    with public.open("xb") as file:
        file.write(shown)
    return public


def _new_ed25519(lock: KeySerializationEncryption) -> tuple[bytes, bytes]:
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, lock)
    return secret, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" starsmith\n"


def _new_p256(lock: KeySerializationEncryption) -> tuple[bytes, bytes]:
    key = generate_private_key(SECP256R1())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    return secret, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _load_private_key(path: Path, passphrase: Passphrase | None) -> object:
    content = _read(path)
    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in content else load_pem_private_key
    if b"PRIVATE KEY-----" not in content:
        raise InputError(
            f"{path} is no private key in PEM or OpenSSH form", hint="give one, or make one: starsmith keygen FILE"
        )
    try:
        return load(content, None)
    except TypeError:  # it is encrypted
        if passphrase is None:
            raise InputError(
                f"{path} is encrypted and no passphrase was given", hint="give --passphrase-file FILE"
            ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} is no key that can be read: {_first_line(error)}", hint="restore it") from None
    try:
        return load(content, passphrase())
    except UnsupportedAlgorithm as error:
        raise InputError(
            f"{path} is encrypted in an unknown way: {_first_line(error)}",
            hint="pip install bcrypt, or write it anew: ssh-keygen -p -f FILE",
        ) from None
    except (ValueError, TypeError):
        raise InputError(f"the passphrase does not open {path}", hint="give the right one") from None


def _read_pem(path: Path, content: bytes) -> PublicKey:
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path} is no public key: {_first_line(error)}", hint="give BEGIN PUBLIC KEY") from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} holds {_describe(key)}, wanted: an Ed25519 key", hint="give the signer's own key")
    return PublicKey(key, "")


def _read_lines(path: Path, content: bytes, now: datetime, faults: list[str]) -> Iterator[PublicKey]:
    """The usable keys of `.pub` and allowed_signers lines; what keeps a line from use goes to `faults`."""
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text", hint="give PEM, a .pub file or an allowed_signers file") from None
    for number, line in enumerate(lines, 1):
        words = _WORD.findall(line)
        if not words or words[0].startswith("#"):
            continue
        try:
            yield _read_line(words, now)
        except ValueError as error:
            faults.append(f"line {number}: {error}")
        except UnsupportedAlgorithm as error:
            faults.append(f"line {number}: {_first_line(error)}")


def _read_line(words: list[str], now: datetime) -> PublicKey:
    """`TYPE KEY [COMMENT]` or `PRINCIPALS [OPTIONS] TYPE KEY [COMMENT]`."""
    at = next((place for place, word in enumerate(words[:3]) if _TYPE.fullmatch(word)), None)
    if at is None or len(words) < at + 2:
        raise ValueError("no OpenSSH public key")
    if at == 2:
        _check_options(words[1], now)
    if words[at] != "ssh-ed25519":
        raise ValueError(f"of type {words[at]}, wanted: ssh-ed25519")
    key = load_ssh_public_key(" ".join(words[at : at + 2]).encode())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("the key is not of the type that its line names")
    return PublicKey(key, words[0].strip('"') if at else " ".join(words[2:]))


def _check_options(text: str, now: datetime) -> None:
    """Raise ValueError when an allowed_signers line is not for artefacts, or not for this time."""
    for option in re.findall(r'(?:[^,"]|"[^"]*")+', text):
        name, _, value = option.partition("=")
        value = value.strip('"')
        match name.lower():
            case "namespaces":
                if not _matches(value):
                    raise ValueError(f"for the namespaces {value} only, wanted: {NAMESPACE}")
            case "valid-after":
                if now < _parse_time(value):
                    raise ValueError(f"valid only after {value}")
            case "valid-before":
                if now > _parse_time(value):
                    raise ValueError(f"valid only before {value}")
            case _:  # cert-authority too: certificates are not read
                raise ValueError(f"option {name} is not understood")


def _matches(patterns: str) -> bool:
    """OpenSSH's pattern lists: one that begins with ! forbids."""
    listed = patterns.split(",")
    if any(fnmatchcase(NAMESPACE, pattern[1:]) for pattern in listed if pattern.startswith("!")):
        return False
    return any(fnmatchcase(NAMESPACE, pattern) for pattern in listed if not pattern.startswith("!"))


def _parse_time(text: str) -> datetime:
    digits = text.removesuffix("Z")
    if len(digits) not in _TIME_FORMATS:
        raise ValueError(f"{text!r} is no time")
    moment = datetime.strptime(digits, _TIME_FORMATS[len(digits)])
    return moment.replace(tzinfo=UTC) if text.endswith("Z") else moment.astimezone()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(KEY_MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", hint="make a key: starsmith keygen FILE") from None
    except (IsADirectoryError, NotADirectoryError):
        raise InputError(f"{path} is not a file", hint="give one key file") from None
    if len(content) > KEY_MAX_BYTES:
        raise InputError(f"{path} has more than {KEY_MAX_BYTES:,} bytes, so it is no key", hint="give one key file")
    return content


def _describe(key: object) -> str:
    """`an RSA key` for cryptography's class of that name."""
    name = type(key).__name__.lstrip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
    if name in ("EllipticCurve", "EC"):
        name = "ECDSA"
    return f"{'an' if name[:1] in 'AEIORX' else 'a'} {name} key"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
