"""What stands on the command line becomes a backend."""

from pathlib import Path

import pytest

from starsmith.core.errors import ConfigError, InputError
from starsmith.inference.backends.event_streams import Timeouts
from starsmith.inference.backends.openai import Upstream
from starsmith.inference.backends.targets import is_backend, open_backend, upstream_of
from starsmith.inference.backends.templates import TEMPLATES
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from upstreams import TEXT, upstream


@pytest.mark.parametrize("target", ["http://a:1/v1", "HTTPS://a", "m.gguf", "x/M.GGUF#context=9", "http://a#model=m"])
def test_files_and_addresses_are_backends(target: str) -> None:
    assert is_backend(target)


@pytest.mark.parametrize("target", ["runs/model", "model.gguf.d/checkpoint", "http", ""])
def test_directories_are_not(target: str) -> None:
    assert not is_backend(target)


def test_settings_stand_behind_the_address() -> None:
    target = "http://gpu:8000/v1/#model=a/b&template=qwen&key=GPUS&context=4096&first_token_s=9&next_token_s=0.5"

    assert upstream_of(target) == Upstream(
        url="http://gpu:8000/v1",
        model="a/b",
        template=TEMPLATES["qwen"],
        key_variable="GPUS",
        context_tokens=4096,
        timeouts=Timeouts(first_token_s=9.0, next_token_s=0.5),
    )


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("http://a/v1#modle=x", "has no setting 'modle'", "did you mean 'model'?"),
        ("http://a/v1#qwen", "'qwen' are no settings", "NAME=VALUE"),
        ("http://a/v1#key=&model=m", "'key=&model=m' are no settings", "NAME=VALUE"),
        ("http://a/v1#context=many", "context='many' is no number", "context=NUMBER"),
        ("http://a/v1#first_token_s=0", "must be above 0", "seconds"),
        ("http://a/v1#template=quen", "no infilling template 'quen'", "qwen"),
        ("m.gguf#key=X", "has no setting 'key'", "known: template"),
        ("m.gguf#parallel=0", "must be at least 1", "1 or more"),
        ("somewhere", "is no backend", "http://HOST:PORT/v1"),
    ],
)
def test_what_makes_no_sense_is_refused(target: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        open_backend([target])

    assert hint in raised.value.hint


def test_several_addresses_are_one_engine() -> None:
    request = CompletionRequest(prefix="x", params=SamplingParams(max_tokens=9))
    with upstream() as one, upstream() as other:
        engine = open_backend([one.url, f"{other.url}#template=starcoder"])
        texts = [engine.complete(request).text for _ in range(4)]
        engine.close()

    assert texts == ["".join(TEXT)] * 4
    assert (len(one.asked), len(other.asked)) == (2, 2)


def test_one_bad_target_opens_none(tmp_path: Path) -> None:
    with upstream() as server, pytest.raises(InputError, match="cannot be read"):
        open_backend([server.url, str(tmp_path / "missing.gguf")])
