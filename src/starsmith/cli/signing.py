"""`starsmith sign` and `keygen`: who stands for an artefact."""

import json
import sys
from pathlib import Path
from typing import Literal

import click

from starsmith.cli.options import DIRECTORY, FILE

passphrase_option = click.option("--passphrase-file", type=FILE, help="File whose first line is the key's passphrase.")


@click.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--key", "key_file", type=FILE, required=True, help="Private key, PEM or OpenSSH.")
@passphrase_option
@click.option(
    "--export-oms", type=FILE, metavar="FILE", help="Write an OpenSSF model-signing bundle to a new FILE instead."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def sign(directory: Path, key_file: Path, passphrase_file: Path | None, export_oms: Path | None, as_json: bool) -> None:
    """Sign the artefact in DIRECTORY with an Ed25519 key, after checking that it holds.

    The signatures go to DIRECTORY/run: a DSSE envelope, and an OpenSSH signature for `ssh-keygen -Y verify`.
    With --export-oms, whose verifier knows ECDSA keys only, a bundle for `model_signing verify key` goes to FILE.
    """
    from starsmith.provenance import keys, signing

    def passphrase() -> bytes:
        return _passphrase(key_file, passphrase_file)

    if export_oms is not None:
        from starsmith.provenance import model_signing

        ec_key = keys.read_ec_private_key(key_file, passphrase)
        _warn(key_file)
        model_signing.export(directory, ec_key, export_oms)
        click.echo(json.dumps({"bundle": str(export_oms)}) if as_json else f"bundle: {export_oms}")
        return
    key = keys.read_private_key(key_file, passphrase)
    _warn(key_file)
    signed = signing.sign(directory, key)
    if as_json:
        click.echo(json.dumps(signed.to_json(), indent=2))
        return
    click.echo(f"{directory} (id {signed.id[:16]}…) is signed with {signed.key}")
    for file in signed.files:
        click.echo(f"  {file}")


@click.command()
@click.argument("file", type=FILE)
@click.option("--type", "kind", type=click.Choice(["ed25519", "p256"]), default="ed25519", show_default=True)
@passphrase_option
def keygen(file: Path, kind: Literal["ed25519", "p256"], passphrase_file: Path | None) -> None:
    """Write a new private key to FILE, and its public part to FILE.pub.

    ed25519 is for `starsmith sign` and ssh-keygen; p256 is for `starsmith sign --export-oms` only.
    """
    from starsmith.provenance import keys

    public = keys.generate(file, kind=kind, passphrase=_read_passphrase(passphrase_file) if passphrase_file else None)
    click.echo(f"private key: {file}\npublic key: {public}")


def _warn(key_file: Path) -> None:
    from starsmith.core.console import note
    from starsmith.provenance.keys import exposure

    if (warning := exposure(key_file)) is not None:
        note(f"warning: {warning}")


def _passphrase(key_file: Path, passphrase_file: Path | None) -> bytes:
    """From the file, or from the person at the terminal."""
    from starsmith.core.errors import InputError

    if passphrase_file is not None:
        return _read_passphrase(passphrase_file)
    if not sys.stdin.isatty():
        raise InputError(f"{key_file} is encrypted and no passphrase was given", hint="give --passphrase-file FILE")
    answer: str = click.prompt(f"passphrase of {key_file}", hide_input=True, err=True)
    return answer.encode()


def _read_passphrase(file: Path) -> bytes:
    from starsmith.core.errors import InputError
    from starsmith.provenance.keys import PASSPHRASE_MAX_BYTES

    try:
        with file.open("rb") as stream:
            line = stream.readline(PASSPHRASE_MAX_BYTES + len(b"\r\n") + 1).rstrip(b"\r\n")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{file} is not a file", hint="give a file whose first line is the passphrase") from None
    if len(line) > PASSPHRASE_MAX_BYTES:  # one that is cut would open nothing
        raise InputError(
            f"{file} has a first line of more than {PASSPHRASE_MAX_BYTES:,} bytes", hint="give a shorter passphrase"
        )
    return line
