"""A manifest becomes a signed manifest, and a signed one a verdict: who stands for this artefact.

Two signatures over the manifest in canonical form, as it is written first, so that a tool that orders its keys anew
breaks none. Both lie in `run/`, so that neither id nor digests change:

signature.dsse.json  DSSE envelope (https://github.com/secure-systems-lab/dsse), which takes any number of signers
manifest.json.sig    OpenSSH signature of the last signer, for `ssh-keygen -Y verify`

The manifest lists every file's digest and its parents' seals, so a signature of it stands for all of them; that the
files are those of the manifest is for `artifact.verify` to find.
"""

import base64
import errno
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError
from starsmith.core.statement import canonical, read_statement
from starsmith.provenance import openssh
from starsmith.provenance.keys import PublicKey, fingerprint, read_public_keys, wire_form

DSSE, OPENSSH = "signature.dsse.json", "manifest.json.sig"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
SIGNATURE_MAX_BYTES = 1 << 28  # an envelope holds the manifest: 1.5 million files
SIGNERS_MAX = 64


@dataclass(frozen=True)
class Signed:
    """An artefact, and a key that signed it."""

    directory: Path
    id: str
    key: str  # fingerprint
    name: str  # as the file with the public key names its owner, or ""
    files: tuple[Path, ...]  # the signatures

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "directory": str(self.directory), "files": [str(file) for file in self.files]}


@dataclass(frozen=True)
class _Claim:
    """One signature of a file, unchecked."""

    file: Path
    key: str  # fingerprint of the key that is said to have made it
    value: bytes
    signed: bytes  # what it is a signature of
    is_current: bool  # whether that is the manifest as it is now


@dataclass(frozen=True)
class _Envelope:
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]  # fingerprint, signature

    def to_bytes(self) -> bytes:
        signatures = [{"keyid": key, "sig": base64.b64encode(value).decode()} for key, value in self.signatures]
        payload = base64.b64encode(self.payload).decode()
        return canonical({"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": signatures})


def sign(directory: Path, key: Ed25519PrivateKey) -> Signed:
    """Check the artefact and sign its manifest; signatures that others made of the same manifest stay."""
    manifest = sealed_manifest(directory)
    content = _signed_content(directory)
    run = directory / artifact.RUN
    if run.is_symlink():  # an artefact from elsewhere must not make us write outside it
        raise ArtifactError(f"{run} is a link", hint="make it a directory")
    run.mkdir(exist_ok=True)
    name = fingerprint(wire_form(key.public_key()))
    others = [signature for signature in _signatures_of(run / DSSE, content) if signature[0] != name]
    own = (name, key.sign(pre_authentication(content)))
    _replace_file(run / DSSE, _Envelope(content, (*others[-SIGNERS_MAX + 1 :], own)).to_bytes())
    _replace_file(run / OPENSSH, openssh.sign(content, key))
    return Signed(directory, manifest.id, name, "", (run / DSSE, run / OPENSSH))


def check(directory: Path, key: Path) -> Signed:
    """Who signed the manifest as it is now, of the public keys in the file `key`; an error if none did."""
    trusted = read_public_keys(key)
    manifest = artifact.read(directory)
    claims = _read_claims(directory, _signed_content(directory))
    if not claims:
        raise ArtifactError(f"{directory} is not signed", hint=f"starsmith sign {directory} --key FILE")
    found = [judged for claim in claims if (judged := _judge(claim, trusted)) is not None]
    if not found:
        seen = ", ".join(sorted({claim.key for claim in claims})[:3])
        wanted = ", ".join(owner.fingerprint for owner in trusted[:3]) + (" …" if len(trusted) > 3 else "")
        raise ArtifactError(
            f"{directory} is signed with another key: {seen}, wanted: {wanted}",
            hint="give the signer's public key, if you trust it",
        )
    for claim, owner in found:
        if not claim.is_current:
            raise ArtifactError(
                f"{directory / artifact.MANIFEST} is not the one that {claim.file.name} signs with {owner.fingerprint}",
                hint="restore both, or have it signed again",
            )
    owner = found[0][1]
    files = tuple(claim.file for claim, other in found if other.fingerprint == owner.fingerprint)
    return Signed(directory, manifest.id, owner.fingerprint, owner.name, files)


def pre_authentication(payload: bytes) -> bytes:
    """DSSE's encoding of type and payload, which is what gets signed."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def sealed_manifest(directory: Path) -> artifact.Manifest:
    """The manifest of an artefact that holds to the last byte."""
    manifest = artifact.read(directory)
    if problems := artifact.verify(directory):
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ArtifactError(
            f"not signed, for the artefact does not hold: {problems[0]}{more}", hint=f"starsmith verify {directory}"
        )
    return manifest


def _signed_content(directory: Path) -> bytes:
    """What signatures are over: the statement, however the manifest spells it."""
    return canonical(read_statement(directory / artifact.MANIFEST))


def _replace_file(path: Path, content: bytes) -> None:
    """Write a file that is whole or as before."""
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # a name that nobody else has given
    try:
        with new.open("xb") as file:
            file.write(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _judge(claim: _Claim, trusted: Sequence[PublicKey]) -> tuple[_Claim, PublicKey] | None:
    """The claim with the trusted key that made it, None if it is one of another key."""
    in_openssh = claim.file.name == OPENSSH
    named = [owner for owner in trusted if owner.fingerprint == claim.key]
    for owner in named if in_openssh else trusted:  # DSSE: a keyid is a hint, which other tools fill differently
        with suppress(InvalidSignature):
            owner.key.verify(claim.value, claim.signed)
            return claim, owner
    if not named:
        return None
    if in_openssh:  # it holds no copy of what was signed, so that signature or manifest may be the one changed
        return replace(claim, is_current=False), named[0]
    raise ArtifactError(f"{claim.file} was changed: its signature is not one of {claim.key}", hint="restore it")


def _read_claims(directory: Path, content: bytes) -> list[_Claim]:
    """Every signature; the envelope's first, which can tell a changed manifest from a changed signature."""
    run = directory / artifact.RUN
    return [*_envelope_claims(run / DSSE, content), *_openssh_claims(run / OPENSSH, content)]


def _envelope_claims(file: Path, content: bytes) -> Iterator[_Claim]:
    if (envelope := _read_envelope(file)) is not None:
        signed = pre_authentication(envelope.payload)
        for key, value in envelope.signatures:
            yield _Claim(file, key, value, signed, envelope.payload == content)


def _openssh_claims(file: Path, content: bytes) -> Iterator[_Claim]:
    if (stored := _read(file)) is None:
        return
    try:
        signature = openssh.parse(stored)
    except ValueError as error:
        raise ArtifactError(f"{file} is damaged: {error}", hint="restore it, or have it signed again") from None
    yield _Claim(file, fingerprint(signature.blob), signature.value, signature.signed_bytes(content), is_current=True)


def _signatures_of(file: Path, content: bytes) -> tuple[tuple[str, bytes], ...]:
    """The signatures in an envelope, if there is one and it is of `content`."""
    try:
        envelope = _read_envelope(file)
    except ArtifactError:  # replaced by the one about to be written
        return ()
    return envelope.signatures if envelope is not None and envelope.payload == content else ()


def _read_envelope(file: Path) -> _Envelope | None:
    if (stored := _read(file)) is None:
        return None
    try:
        return _parse_envelope(json.loads(stored))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{file} is damaged: {error!r}", hint="restore it, or have it signed again") from None


def _parse_envelope(envelope: dict[str, Any]) -> _Envelope:
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"payloadType is {envelope['payloadType']!r}, wanted: {PAYLOAD_TYPE!r}")
    listed = envelope["signatures"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= SIGNERS_MAX:
        raise ValueError(f"signatures must be a list of 1 to {SIGNERS_MAX}")
    signatures = tuple((str(one.get("keyid", "")), base64.b64decode(one["sig"], validate=True)) for one in listed)
    return _Envelope(base64.b64decode(envelope["payload"], validate=True), signatures)


def _read(file: Path) -> bytes | None:
    """The content of a signature file, None if there is none."""
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise ArtifactError(f"{file} is no regular file, wanted: a signature", hint="have it signed again")
        with file.open("rb") as stream:
            content = stream.read(SIGNATURE_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ArtifactError(f"{file} is a link to itself, wanted: a signature", hint="have it signed again") from None
    if len(content) > SIGNATURE_MAX_BYTES:
        raise ArtifactError(f"{file} has more than {SIGNATURE_MAX_BYTES:,} bytes", hint="have it signed again")
    return content
