"""A service whose model is a GGUF file, run by llama.cpp in this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from starsmith.model import checkpoint, gguf
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.serving.app import create_app
from starsmith.serving.opening import open_backend_service
from starsmith.tokenizer.bpe import Tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    pytest.importorskip("xllamacpp", reason="SKIPPED: xllamacpp is not installed")
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=Tokenizer.load(tokenizer_directory).vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.3,  # so that the likeliest token is no accident of rounding
    )
    folder = tmp_path_factory.mktemp("gguf")
    checkpoint.save(Transformer(config), tokenizer_directory / "tokenizer.json", folder / "model")
    file = folder / "code.gguf"
    gguf.write(folder / "model", file, kind="f32", label=gguf.Label(name="Tiny Coder"))
    with TestClient(create_app(open_backend_service([f"{file}#threads=1"])), raise_server_exceptions=False) as opened:
        yield opened


def ask(client: TestClient, **body: Any) -> Any:
    response = client.post("/v1/completions", json={"max_tokens": 5, "temperature": 0, **body})
    assert response.status_code == 200, response.text
    return response.json()


def test_a_prompt_is_completed_and_counted(client: TestClient, tokenizer_directory: Path) -> None:
    prompt = "def eta(value):\n"
    size = len(Tokenizer.load(tokenizer_directory).encode(prompt))

    first, again = ask(client, prompt=prompt), ask(client, prompt=prompt)

    assert again["choices"][0]["text"] == first["choices"][0]["text"]
    assert first["usage"]["prompt_tokens"] == size
    assert 0 < first["usage"]["completion_tokens"] <= 5
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == size - 1


def test_text_ids_and_a_cursor_are_understood(client: TestClient, tokenizer_directory: Path) -> None:
    ids = Tokenizer.load(tokenizer_directory).encode("x = 1")

    assert ask(client, prompt=ids)["choices"][0]["text"] == ask(client, prompt="x = 1")["choices"][0]["text"]
    infilled = ask(client, prompt="x = ", suffix="\n")
    written_out = ask(client, prompt="<fim_prefix><fim_suffix>\n<fim_middle>x = ")
    assert infilled["choices"][0]["text"] == written_out["choices"][0]["text"]
    assert infilled["usage"]["prompt_tokens"] == written_out["usage"]["prompt_tokens"]


def test_log_probabilities_cover_the_text(client: TestClient) -> None:
    choice = ask(client, prompt="def ", logprobs=1)["choices"][0]

    table = choice["logprobs"]
    assert len(table["tokens"]) == len(table["text_offset"]) > 0
    assert all(value <= 0 for value in table["token_logprobs"])
    assert all(offset < len(choice["text"]) for offset in table["text_offset"])


def test_ids_that_the_model_does_not_know_are_a_400_of_the_backends(client: TestClient) -> None:
    response = client.post("/v1/completions", json={"prompt": [1_000_000]})

    assert (response.status_code, response.json()["error"]["code"]) == (400, "refused_by_backend")


def test_an_editor_gets_a_completion_and_reads_what_is_known(client: TestClient) -> None:
    answer = client.post("/v1/completions", json={"segments": {"prefix": "def eta(value):\n    ", "suffix": "\n"}})
    health = client.get("/v1/health").json()

    assert answer.status_code == 200
    assert health["model"] == "tiny-coder"
    about = health["starsmith"]
    assert (about["backend"], about["context_tokens"], about["parameters"]) == ("llama.cpp", 256, None)
    assert about["upstreams"] == []
