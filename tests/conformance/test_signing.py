"""Signatures against the programs that others check them with: ssh-keygen, openssl and model-signing."""

import base64
import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from starsmith.core import artifact
from starsmith.core.errors import ArtifactError
from starsmith.provenance import keys, model_signing, signing

pytestmark = pytest.mark.slow

WHO = "me@example.org"


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float = 0.5


def program(name: str) -> str:
    """The path of a program; skips the test where it is missing."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"SKIPPED: {name} is not installed")
    return found


def run(*arguments: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(argument) for argument in arguments], input=stdin, capture_output=True, check=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with artifact.create(tmp_path / "corpus", kind="corpus", config=Settings(), rooms=("core",)) as draft:
        for name in ("b/0.py", "b.py", "b-c/1.py", "a.md", ".gitattributes", "größe.txt"):
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_text(name)
    return tmp_path / "corpus"


def ssh_verify(directory: Path, public: Path, content: bytes) -> subprocess.CompletedProcess[bytes]:
    allowed = directory.with_name("allowed_signers")
    allowed.write_text(f'{WHO} namespaces="{keys.NAMESPACE}" {public.read_text()}')
    signature = directory / "run" / signing.OPENSSH
    options = ("-f", allowed, "-I", WHO, "-n", keys.NAMESPACE, "-s", signature)
    return run(program("ssh-keygen"), "-Y", "verify", *options, stdin=content)


@pytest.mark.parametrize("passphrase", ["", "open sesame"])
def test_ssh_keygen_accepts_what_we_sign_with_a_key_that_it_made(
    passphrase: str, directory: Path, tmp_path: Path
) -> None:
    run(program("ssh-keygen"), "-q", "-t", "ed25519", "-N", passphrase, "-f", tmp_path / "key")

    signing.sign(directory, keys.read_private_key(tmp_path / "key", passphrase.encode))

    content = (directory / artifact.MANIFEST).read_bytes()
    accepted = ssh_verify(directory, tmp_path / "key.pub", content)
    assert accepted.returncode == 0, accepted.stderr
    assert b'Good "starsmith" signature' in accepted.stdout
    assert ssh_verify(directory, tmp_path / "key.pub", content + b" ").returncode != 0
    assert len(signing.check(directory, tmp_path / "allowed_signers").files) == 2


def test_ssh_keygen_reads_our_keys_and_makes_the_same_signature_and_fingerprint(
    directory: Path, tmp_path: Path
) -> None:
    public = keys.generate(tmp_path / "key")
    content = (directory / artifact.MANIFEST).read_bytes()

    signed = signing.sign(directory, keys.read_private_key(tmp_path / "key"))

    theirs = run(program("ssh-keygen"), "-Y", "sign", "-n", keys.NAMESPACE, "-f", tmp_path / "key", stdin=content)
    assert theirs.stdout == (directory / "run" / signing.OPENSSH).read_bytes()
    assert signed.key.encode() in run(program("ssh-keygen"), "-l", "-f", public).stdout


def test_a_signature_made_with_ssh_keygen_alone_is_enough(directory: Path, tmp_path: Path) -> None:
    run(program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", WHO, "-f", tmp_path / "key")
    content = (directory / artifact.MANIFEST).read_bytes()
    for digest in ("sha512", "sha256"):
        options = ("-n", keys.NAMESPACE, "-O", f"hashalg={digest}", "-f", tmp_path / "key")
        theirs = run(program("ssh-keygen"), "-Y", "sign", *options, stdin=content)
        (directory / "run" / signing.OPENSSH).write_bytes(theirs.stdout)

        assert signing.check(directory, tmp_path / "key.pub").name == WHO


def test_an_rsa_signature_made_with_ssh_keygen_is_one_of_another_key(directory: Path, tmp_path: Path) -> None:
    public = keys.generate(tmp_path / "key")
    run(program("ssh-keygen"), "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", tmp_path / "rsa")
    content = (directory / artifact.MANIFEST).read_bytes()
    theirs = run(program("ssh-keygen"), "-Y", "sign", "-n", keys.NAMESPACE, "-f", tmp_path / "rsa", stdin=content)
    (directory / "run" / signing.OPENSSH).write_bytes(theirs.stdout)

    with pytest.raises(ArtifactError, match="signed with another key"):
        signing.check(directory, public)


def test_a_signature_made_with_ssh_keygen_for_another_purpose_is_refused(directory: Path, tmp_path: Path) -> None:
    public = keys.generate(tmp_path / "key")
    content = (directory / artifact.MANIFEST).read_bytes()
    theirs = run(program("ssh-keygen"), "-Y", "sign", "-n", "git", "-f", tmp_path / "key", stdin=content)
    (directory / "run" / signing.OPENSSH).write_bytes(theirs.stdout)

    with pytest.raises(ArtifactError, match="of namespace 'git', wanted: 'starsmith'"):
        signing.check(directory, public)


@pytest.mark.parametrize("passphrase", ["", "sesame"])
def test_openssl_accepts_the_envelope_made_with_a_key_of_its_own(
    passphrase: str, directory: Path, tmp_path: Path
) -> None:
    openssl = program("openssl")
    lock = ("-aes256", "-pass", f"pass:{passphrase}") if passphrase else ()
    run(openssl, "genpkey", "-algorithm", "ed25519", *lock, "-out", tmp_path / "key.pem")
    opened = ("-passin", f"pass:{passphrase}") if passphrase else ()
    run(openssl, "pkey", "-in", tmp_path / "key.pem", *opened, "-pubout", "-out", tmp_path / "public.pem")

    signing.sign(directory, keys.read_private_key(tmp_path / "key.pem", passphrase.encode))

    envelope = json.loads((directory / "run" / signing.DSSE).read_bytes())
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    (tmp_path / "signed").write_bytes(signed)
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    options = ("-pubin", "-inkey", tmp_path / "public.pem", "-rawin", "-in", tmp_path / "signed")
    accepted = run(openssl, "pkeyutl", "-verify", *options, "-sigfile", tmp_path / "signature")
    assert accepted.returncode == 0, accepted.stderr
    assert payload == (directory / artifact.MANIFEST).read_bytes()
    assert len(signing.check(directory, tmp_path / "public.pem").files) == 2


@pytest.mark.slow
def test_model_signing_accepts_the_bundle_and_finds_what_was_changed(directory: Path, tmp_path: Path) -> None:
    _need_model_signing()
    public = keys.generate(tmp_path / "key", kind="p256")
    bundle = directory / "run" / "model.sig"

    model_signing.export(directory, keys.read_ec_private_key(tmp_path / "key"), bundle)

    verify = [sys.executable, "-m", "model_signing", "verify", "key", directory]
    verify += ["--signature", bundle, "--public_key", public]
    accepted = run(*verify)
    assert accepted.returncode == 0, (accepted.stdout, accepted.stderr)
    (directory / "b.py").write_text("changed")
    refused = run(*verify)
    assert refused.returncode == 1
    assert b"b.py" in refused.stdout + refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("bits", [384, 521])
def test_model_signing_accepts_the_longer_curves_of_openssl(bits: int, directory: Path, tmp_path: Path) -> None:
    _need_model_signing()
    openssl, curve = program("openssl"), {384: "secp384r1", 521: "secp521r1"}[bits]
    run(openssl, "ecparam", "-name", curve, "-genkey", "-noout", "-out", tmp_path / "key")
    run(openssl, "pkey", "-in", tmp_path / "key", "-pubout", "-out", tmp_path / "public")

    model_signing.export(directory, keys.read_ec_private_key(tmp_path / "key"), tmp_path / "model.sig")

    verify = [sys.executable, "-m", "model_signing", "verify", "key", directory]
    verify += ["--signature", tmp_path / "model.sig", "--public_key", tmp_path / "public"]
    accepted = run(*verify)
    assert accepted.returncode == 0, (accepted.stdout, accepted.stderr)


def _need_model_signing() -> None:
    for module in ("model_signing", "OpenSSL"):  # model-signing 1.1.1 needs the second and does not say so
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"SKIPPED: the package of {module} is not installed")
