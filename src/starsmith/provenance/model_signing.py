"""An artefact becomes a bundle of OpenSSF model signing, which `model_signing verify key` checks without us.

The bundle is a Sigstore bundle around a DSSE envelope around an in-toto statement that lists every file
(https://github.com/ossf/model-signing-spec, method "key"). That method knows ECDSA keys only, hence a key of its own.
"""

import base64
import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from starsmith.core import artifact
from starsmith.core.errors import InputError
from starsmith.core.statement import canonical
from starsmith.provenance.signing import PAYLOAD_TYPE, pre_authentication, sealed_manifest

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
# The verifier never reads git's own files; our manifest, which is listed, has the digest of any that the artefact has.
IGNORED = (artifact.RUN, ".git", ".gitattributes", ".github", ".gitignore")

# The verifier looks for a digest that goes with the size of the curve.
_DIGESTS: dict[int, hashes.HashAlgorithm] = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}


def export(directory: Path, key: EllipticCurvePrivateKey, out: Path) -> None:
    """Write a bundle over every file of the artefact but those in `run/`; the artefact is checked first."""
    run = directory.resolve() / artifact.RUN
    if out.resolve().is_relative_to(directory.resolve()) and not out.resolve().is_relative_to(run):
        raise InputError(f"{out} lies in the artefact, which it would change", hint=f"for example {run / 'model.sig'}")
    if not out.parent.is_dir():
        raise InputError(f"{out.parent} is not a directory", hint="give the name of a new file in a directory")
    files = dict(sealed_manifest(directory).files)
    files[artifact.MANIFEST] = hashlib.sha256((directory / artifact.MANIFEST).read_bytes()).hexdigest()
    bundle = canonical(_bundle(_statement(directory.resolve().name, files), key))
    try:
        with out.open("xb") as file:
            file.write(bundle)
    except FileExistsError:
        raise InputError(f"{out} exists, and nothing is written over", hint="give the name of a new file") from None


def _statement(name: str, files: dict[str, str]) -> dict[str, Any]:
    ordered = sorted((file for file in files if PurePosixPath(file).parts[0] not in IGNORED), key=PurePosixPath)
    root = hashlib.sha256(b"".join(bytes.fromhex(files[file]) for file in ordered)).hexdigest()
    return {
        "_type": artifact.STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(IGNORED),
            },
            "resources": [{"name": file, "algorithm": "sha256", "digest": files[file]} for file in ordered],
        },
    }


def _bundle(statement: dict[str, Any], key: EllipticCurvePrivateKey) -> dict[str, Any]:
    payload = canonical(statement)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    digest = _DIGESTS[key.curve.key_size]
    signature = key.sign(pre_authentication(payload), ECDSA(digest, deterministic_signing=True))
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(public).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
