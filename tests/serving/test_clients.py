import hashlib
from pathlib import Path

import pytest

from starsmith.core.errors import ConfigError, InputError, StarsmithError
from starsmith.serving.clients import Client, digest_of, read_clients


def clients_of(tmp_path: Path, text: str) -> dict[str, Client]:
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    return read_clients(file)


def test_a_table_is_a_client_known_by_the_digest_of_its_token(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"second").hexdigest()

    clients = clients_of(
        tmp_path, f'[alice]\ntoken = "first"\nattribution = "block"\n[ci]\nsha256 = "{digest.upper()}"\n'
    )

    assert clients == {digest_of("first"): Client(name="alice", policy="block"), digest: Client(name="ci")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no client"),
        ("[alice]\n", "one of token and sha256"),
        ('[alice]\ntoken = "a"\nsha256 = "b"\n', "one of token and sha256"),
        ('[alice]\ntoken = " "\n', "empty"),
        ('[alice]\ntoken = "a\\nb"\n', "no header can carry"),
        ('[alice]\nsha256 = "abc"\n', "no sha256"),
        ('[alice]\ntoken = "a"\nattribution = "stop"\n', "no policy"),
        ('[alice]\ntoken = "a"\npolicy = "block"\n', "no setting 'policy'"),
        ("[alice]\ntoken = 5\n", "of type int"),
        ('token = "a"\n', "outside a table"),
        ('["a b"]\ntoken = "a"\n', "no name"),
        ('[anyone]\ntoken = "a"\n', "no name"),
        ('[alice]\ntoken = "a"\n[bob]\ntoken = "a"\n', "alice and bob have the same token"),
        ("[alice\n", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        clients_of(tmp_path, text)

    assert caught.value.hint


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_clients(tmp_path / "tokens.toml")
    with pytest.raises(StarsmithError, match="cannot be read"):
        read_clients(tmp_path)
