"""Signatures of artefacts: who signed, what breaks them, and which key files are taken."""

import base64
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from starsmith.cli.signing import keygen, sign
from starsmith.core import artifact
from starsmith.core.errors import ArtifactError, ConfigError, InputError, StarsmithError
from starsmith.core.statement import canonical
from starsmith.provenance import keys, model_signing, openssh, signing

pytestmark = pytest.mark.slow


@dataclass(frozen=True, kw_only=True)
class Settings:
    rate: float = 0.5


def make(out: Path, text: str = "x = 1\n") -> Path:
    with artifact.create(out, kind="corpus", config=Settings(), rooms=("core",)) as draft:
        (draft.path / "shards").mkdir()
        (draft.path / "shards" / "0.py").write_text(text)
        (draft.path / ".gitattributes").write_text("*.py text\n")
        draft.count("kept")
    return out


def invoke(command: object, *arguments: str | Path) -> Result:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return make(tmp_path / "corpus")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    keys.generate(tmp_path / "key")
    return tmp_path / "key"


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_name("key.pub")


@pytest.fixture
def signed(directory: Path, key: Path) -> Path:
    signing.sign(directory, keys.read_private_key(key))
    return directory


def test_signing_changes_neither_the_manifest_nor_what_verify_says(directory: Path, key: Path) -> None:
    before = (directory / artifact.MANIFEST).read_bytes()

    signing.sign(directory, keys.read_private_key(key))

    assert (directory / artifact.MANIFEST).read_bytes() == before
    assert artifact.verify(directory) == []


def test_check_says_who_signed_what(signed: Path, public: Path) -> None:
    found = signing.check(signed, public)

    assert found.id == artifact.read(signed).id
    assert found.key == keys.read_public_keys(public)[0].fingerprint
    assert found.name == "starsmith"
    assert [file.name for file in found.files] == [signing.DSSE, signing.OPENSSH]


def test_the_same_key_and_artefact_give_the_same_signature_bytes(signed: Path, key: Path) -> None:
    files = [signed / "run" / name for name in (signing.DSSE, signing.OPENSSH)]
    before = [file.read_bytes() for file in files]

    signing.sign(signed, keys.read_private_key(key))

    assert [file.read_bytes() for file in files] == before


def test_an_unsigned_artefact_is_said_to_be_unsigned(directory: Path, public: Path) -> None:
    with pytest.raises(ArtifactError, match="is not signed") as refused:
        signing.check(directory, public)

    assert "starsmith sign" in refused.value.hint


def test_another_key_is_named_beside_the_one_wanted(signed: Path, public: Path, tmp_path: Path) -> None:
    other = keys.generate(tmp_path / "other")
    seen, wanted = (keys.read_public_keys(file)[0].fingerprint for file in (public, other))

    with pytest.raises(ArtifactError, match="another key") as refused:
        signing.check(signed, other)

    assert f"{seen}, wanted: {wanted}" in refused.value.message


def test_a_manifest_forged_with_a_seal_that_holds_is_found(signed: Path, public: Path, tmp_path: Path) -> None:
    forged = make(tmp_path / "forged", "evil = 1\n")
    shutil.copytree(signed / "run", forged / "run", dirs_exist_ok=True)

    with pytest.raises(ArtifactError, match=r"not the one that signature\.dsse\.json signs"):
        signing.check(forged, public)


def test_a_forged_manifest_with_only_an_openssh_signature_is_found(signed: Path, public: Path, tmp_path: Path) -> None:
    forged = make(tmp_path / "forged", "evil = 1\n")
    shutil.copyfile(signed / "run" / signing.OPENSSH, forged / "run" / signing.OPENSSH)

    with pytest.raises(ArtifactError, match=r"not the one that manifest\.json\.sig signs"):
        signing.check(forged, public)


@pytest.mark.parametrize("name", [signing.DSSE, signing.OPENSSH])
def test_one_signature_is_enough(name: str, signed: Path, public: Path) -> None:
    (signed / "run" / name).unlink()

    assert signing.check(signed, public).id == artifact.read(signed).id


def test_every_flipped_byte_of_an_openssh_signature_is_found(signed: Path, public: Path) -> None:
    file = signed / "run" / signing.OPENSSH
    content = file.read_bytes()
    at = content.index(b"\n") + 1
    raw = base64.b64decode(content[at : content.index(b"\n-----END")])
    (signed / "run" / signing.DSSE).unlink()

    for place in range(len(raw)):
        broken = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        file.write_bytes(content[:at] + base64.encodebytes(broken) + b"-----END SSH SIGNATURE-----\n")
        with pytest.raises(ArtifactError):
            signing.check(signed, public)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"[]",
        b"{}",
        b'{"payload":1,"payloadType":2,"signatures":3}',
        b'{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[]}',
        b'{"payload":"","payloadType":"application/vnd.in-toto+json","signatures":[1]}',
        b'{"payload":"!","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":""}]}',
        b'{"payload":"","payloadType":"text/plain","signatures":[{"sig":""}]}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_envelope_is_an_error_and_is_replaced_by_signing_again(
    content: bytes, signed: Path, key: Path, public: Path
) -> None:
    (signed / "run" / signing.DSSE).write_bytes(content)

    with pytest.raises(ArtifactError, match=r"signature\.dsse\.json is damaged"):
        signing.check(signed, public)

    signing.sign(signed, keys.read_private_key(key))
    assert len(signing.check(signed, public).files) == 2


@pytest.mark.parametrize("changed", ["sig", "payload"])
def test_a_changed_signature_or_payload_is_found(changed: str, signed: Path, public: Path) -> None:
    file = signed / "run" / signing.DSSE
    envelope = json.loads(file.read_bytes())
    holder = envelope["signatures"][0] if changed == "sig" else envelope
    holder[changed] = base64.b64encode(bytes(64)).decode()
    file.write_text(json.dumps(envelope))

    with pytest.raises(ArtifactError, match=r"signature\.dsse\.json was changed"):
        signing.check(signed, public)


@pytest.mark.parametrize("keyid", [None, "", "b7f1"])
def test_a_keyid_is_only_a_hint(keyid: str | None, signed: Path, public: Path) -> None:
    file = signed / "run" / signing.DSSE
    envelope = json.loads(file.read_bytes())
    envelope["signatures"][0].pop("keyid")
    if keyid is not None:
        envelope["signatures"][0]["keyid"] = keyid
    file.write_text(json.dumps(envelope))

    assert len(signing.check(signed, public).files) == 2


def test_a_second_signer_is_added_and_signing_a_new_manifest_drops_the_old_ones(
    signed: Path, public: Path, tmp_path: Path
) -> None:
    second = keys.generate(tmp_path / "second")

    signing.sign(signed, keys.read_private_key(tmp_path / "second"))

    assert signing.check(signed, public).files == (signed / "run" / signing.DSSE,)
    assert len(signing.check(signed, second).files) == 2
    new = make(tmp_path / "new", "y = 2\n")
    shutil.copytree(signed / "run", new / "run", dirs_exist_ok=True)
    signing.sign(new, keys.read_private_key(tmp_path / "second"))
    with pytest.raises(ArtifactError, match="another key"):
        signing.check(new, public)


def test_a_changed_artefact_is_not_signed(directory: Path, key: Path) -> None:
    (directory / "shards" / "0.py").write_text("evil = 1\n")

    with pytest.raises(ArtifactError, match="does not hold"):
        signing.sign(directory, keys.read_private_key(key))

    assert not (directory / "run" / signing.DSSE).exists()


def test_a_run_folder_that_is_a_link_is_not_followed(directory: Path, key: Path, tmp_path: Path) -> None:
    shutil.move(directory / "run", tmp_path / "elsewhere")
    (directory / "run").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ArtifactError, match="is a link"):
        signing.sign(directory, keys.read_private_key(key))

    assert not (tmp_path / "elsewhere" / signing.DSSE).exists()


def test_a_moved_artefact_keeps_its_signature_and_one_without_run_folder_gets_one(
    signed: Path, key: Path, public: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.move(signed, tmp_path / "moved"))
    assert len(signing.check(moved, public).files) == 2
    shutil.rmtree(moved / "run")

    signing.sign(moved, keys.read_private_key(key))

    assert len(signing.check(moved, public).files) == 2


def reorder(directory: Path) -> None:
    """Spell a manifest as a tool does that sorts keys its own way and indents."""
    file = directory / artifact.MANIFEST
    statement = json.loads(file.read_bytes())
    file.write_text(json.dumps(dict(reversed(statement.items())), indent=2) + "\n")


@pytest.mark.parametrize("name", [signing.DSSE, signing.OPENSSH])
def test_a_manifest_with_its_keys_in_another_order_keeps_its_signatures(name: str, signed: Path, public: Path) -> None:
    reorder(signed)
    (signed / "run" / name).unlink()
    assert artifact.verify(signed) == []

    assert len(signing.check(signed, public).files) == 1


def test_signatures_are_of_the_canonical_form_whatever_the_order_of_keys(signed: Path, key: Path) -> None:
    files = [signed / "run" / name for name in (signing.DSSE, signing.OPENSSH)]
    before = [file.read_bytes() for file in files]
    reorder(signed)

    signing.sign(signed, keys.read_private_key(key))

    assert [file.read_bytes() for file in files] == before
    payload = base64.b64decode(json.loads(before[0])["payload"])
    assert payload == canonical(json.loads((signed / artifact.MANIFEST).read_bytes()))


@pytest.mark.parametrize("name", [signing.DSSE, signing.OPENSSH])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_a_signature_that_is_no_file_is_an_error(kind: str, name: str, signed: Path, public: Path) -> None:
    file = signed / "run" / name
    file.unlink()
    {"pipe": os.mkfifo, "folder": Path.mkdir, "link": lambda place: place.symlink_to(place)}[kind](file)

    with pytest.raises(ArtifactError, match=r"wanted: a signature"):
        signing.check(signed, public)


def test_signing_leaves_other_files_of_the_run_folder_alone(directory: Path, key: Path) -> None:
    other = directory / "run" / f"{signing.DSSE}.new"
    other.write_text("mine")
    before = set((directory / "run").iterdir())

    signing.sign(directory, keys.read_private_key(key))

    assert other.read_text() == "mine"
    added = set((directory / "run").iterdir()) - before
    assert {file.name for file in added} == {signing.DSSE, signing.OPENSSH}


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.OpenSSH])
@pytest.mark.parametrize("passphrase", [None, b"open sesame"])
def test_private_keys_are_read_from_pem_and_openssh(
    form: PrivateFormat, passphrase: bytes | None, key: Path, tmp_path: Path
) -> None:
    known = keys.read_private_key(key)
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    file = tmp_path / "copy"
    file.write_bytes(known.private_bytes(Encoding.PEM, form, lock))

    read = keys.read_private_key(file, lambda: passphrase or b"")

    assert keys.wire_form(read.public_key()) == keys.wire_form(known.public_key())


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.OpenSSH])
def test_an_encrypted_key_wants_its_passphrase(form: PrivateFormat, key: Path, tmp_path: Path) -> None:
    file = tmp_path / "locked"
    lock = BestAvailableEncryption(b"right")
    file.write_bytes(keys.read_private_key(key).private_bytes(Encoding.PEM, form, lock))

    with pytest.raises(InputError, match="encrypted and no passphrase"):
        keys.read_private_key(file)
    with pytest.raises(InputError, match="does not open"):
        keys.read_private_key(file, lambda: b"wrong")


def test_a_key_of_another_type_is_named(tmp_path: Path) -> None:
    pem, subject = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    for name, private in (
        ("an RSA key", rsa.generate_private_key(65537, 2048)),
        ("an ECDSA key", ec.generate_private_key(ec.SECP256R1())),
    ):
        (tmp_path / "k").write_bytes(private.private_bytes(pem, PrivateFormat.PKCS8, NoEncryption()))
        (tmp_path / "k.pub").write_bytes(private.public_key().public_bytes(pem, subject))
        (tmp_path / "k.ssh").write_bytes(private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))

        with pytest.raises(InputError, match=f"holds {name}, wanted: an Ed25519 key"):
            keys.read_private_key(tmp_path / "k")
        with pytest.raises(InputError, match=f"holds {name}, wanted: an Ed25519 key"):
            keys.read_public_keys(tmp_path / "k.pub")
        with pytest.raises(InputError, match="line 1: of type"):
            keys.read_public_keys(tmp_path / "k.ssh")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\0",
        b"# only a comment\n",
        b"ssh-ed25519\n",
        b"ssh-ed25519 AAAA\n",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"x" * (keys.KEY_MAX_BYTES + 1),
    ],
)
def test_what_is_no_key_is_an_error_that_names_the_file(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "nokey"
    file.write_bytes(content)

    for read in (keys.read_private_key, keys.read_public_keys, keys.read_ec_private_key):
        with pytest.raises(InputError, match="nokey") as refused:
            read(file)  # type: ignore[operator]
        assert refused.value.hint


@pytest.mark.parametrize("name", ["none", "."])
def test_a_key_that_is_not_there_or_a_folder_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        keys.read_private_key(tmp_path / name)


def test_a_private_key_is_not_taken_for_a_public_one(signed: Path, key: Path) -> None:
    with pytest.raises(InputError, match="holds a private key") as refused:
        signing.check(signed, key)

    assert "key.pub" in refused.value.hint


def test_a_public_key_in_pem_checks_too(signed: Path, key: Path, tmp_path: Path) -> None:
    pem = keys.read_private_key(key).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "pem").write_bytes(pem)

    assert signing.check(signed, tmp_path / "pem").name == ""


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("me@example.org KEY", None),
        ("me@example.org,you@example.org KEY a comment", None),
        ('me@example.org namespaces="git,star*" KEY', None),
        ('me@example.org namespaces="git" KEY', "for the namespaces git only"),
        ('me@example.org namespaces="*,!starsmith" KEY', "for the namespaces"),
        ('me@example.org valid-after="20260101",valid-before="20270101Z" KEY', None),
        ('me@example.org valid-after="20260701120000Z" KEY', "valid only after"),
        ('me@example.org valid-before="202601010000" KEY', "valid only before"),
        ('me@example.org valid-before="soon" KEY', "is no time"),
        ("me@example.org cert-authority KEY", "option cert-authority is not understood"),
        ("me@example.org ssh-rsa AAAA", "of type ssh-rsa"),
        ("me@example.org sk-ssh-ed25519@openssh.com AAAA", "of type sk-ssh-ed25519"),
    ],
)
def test_allowed_signers_lines_hold_for_their_namespace_and_time(
    line: str, fault: str | None, public: Path, tmp_path: Path
) -> None:
    kind, text, _ = public.read_text().split()
    file = tmp_path / "allowed_signers"
    file.write_text(f"# who may sign\n\n{line.replace('KEY', f'{kind} {text}')}\n")
    now = datetime(2026, 6, 1, tzinfo=UTC)

    if fault is None:
        assert keys.read_public_keys(file, now=now)[0].name.startswith("me@example.org")
    else:
        with pytest.raises(InputError, match=fault):
            keys.read_public_keys(file, now=now)


def test_any_signer_of_an_allowed_signers_file_is_found_and_named(signed: Path, public: Path, tmp_path: Path) -> None:
    other = keys.generate(tmp_path / "other")
    lines = [f"{name} {file.read_text()}" for name, file in (("other@x.org", other), ("me@x.org", public))]
    (tmp_path / "allowed").write_text("".join(lines))

    assert signing.check(signed, tmp_path / "allowed").name == "me@x.org"


@given(message=st.binary(max_size=200), seed=st.binary(min_size=32, max_size=32))
def test_an_openssh_signature_says_key_and_message(message: bytes, seed: bytes) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)

    read = openssh.parse(openssh.sign(message, key))

    assert read.blob == keys.wire_form(key.public_key())
    key.public_key().verify(read.value, read.signed_bytes(message))


@given(st.binary(max_size=200))
def test_any_bytes_in_the_armour_are_read_or_refused(content: bytes) -> None:
    text = base64.encodebytes(openssh.MAGIC + openssh.VERSION + content)

    with suppress(ValueError):
        openssh.parse(b"-----BEGIN SSH SIGNATURE-----\n" + text + b"-----END SSH SIGNATURE-----\n")


def test_a_new_key_is_for_its_owner_only_and_nothing_is_written_over(key: Path, public: Path, tmp_path: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    assert keys.exposure(key) is None
    key.chmod(0o644)
    assert "chmod 600" in (keys.exposure(key) or "")
    for place in (key, tmp_path / "none" / "key"):
        with pytest.raises(InputError):
            keys.generate(place)
    with pytest.raises(ConfigError):
        keys.generate(tmp_path / "empty", passphrase=b"")


def test_a_bundle_is_not_put_where_it_would_change_the_artefact(directory: Path, tmp_path: Path) -> None:
    keys.generate(tmp_path / "ec", kind="p256")
    key = keys.read_ec_private_key(tmp_path / "ec")

    for place in (directory / "model.sig", tmp_path, tmp_path / "none" / "model.sig"):
        with pytest.raises(InputError):
            model_signing.export(directory, key, place)
    model_signing.export(directory, key, directory / "run" / "model.sig")

    assert artifact.verify(directory) == []


def test_a_bundle_is_not_written_over_a_file(directory: Path, tmp_path: Path) -> None:
    keys.generate(tmp_path / "ec", kind="p256")
    key, content = keys.read_ec_private_key(tmp_path / "ec"), (tmp_path / "ec").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "none")

    for place in ("ec", "link"):
        with pytest.raises(InputError, match="exists, and nothing is written over"):
            model_signing.export(directory, key, tmp_path / place)

    assert (tmp_path / "ec").read_bytes() == content
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_a_passphrase_that_is_too_long_is_an_error(kind: keys.KeyType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1,024 bytes, at most 1,023"):
        keys.generate(tmp_path / "k", kind=kind, passphrase=b"x" * 1024)
    (tmp_path / "word").write_text("x" * 1024 + "\n")
    with pytest.raises(InputError, match="more than 1,023 bytes"):
        invoke(keygen, tmp_path / "k", "--passphrase-file", tmp_path / "word")

    assert not (tmp_path / "k").exists()


def test_a_bundle_wants_an_ecdsa_key(key: Path) -> None:
    with pytest.raises(InputError, match="takes ECDSA keys") as refused:
        keys.read_ec_private_key(key)

    assert refused.value.hint == "make one: starsmith keygen FILE --type p256"


def test_the_commands_make_a_key_sign_and_warn_of_a_key_that_others_can_read(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "word").write_text("sesame\n")
    invoke(keygen, tmp_path / "k", "--passphrase-file", tmp_path / "word")
    (tmp_path / "k").chmod(0o640)

    result = invoke(sign, directory, "--key", tmp_path / "k", "--passphrase-file", tmp_path / "word", "--json")

    assert "warning:" in result.stderr
    said = json.loads(result.stdout)
    assert said["key"] == signing.check(directory, tmp_path / "k.pub").key
    with pytest.raises(InputError, match="encrypted and no passphrase"):
        invoke(sign, directory, "--key", tmp_path / "k")


def test_the_command_says_what_it_wrote(directory: Path, key: Path, tmp_path: Path) -> None:
    invoke(keygen, tmp_path / "ec", "--type", "p256")

    signed = invoke(sign, directory, "--key", key).stdout
    bundle = invoke(sign, directory, "--key", tmp_path / "ec", "--export-oms", tmp_path / "model.sig").stdout

    assert "is signed with SHA256:" in signed
    assert str(directory / "run" / signing.DSSE) in signed
    assert bundle == f"bundle: {tmp_path / 'model.sig'}\n"
    with pytest.raises(StarsmithError):
        invoke(sign, tmp_path, "--key", key)
