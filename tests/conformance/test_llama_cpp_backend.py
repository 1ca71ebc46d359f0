"""llama.cpp itself as a backend, with GGUF files that our exporter writes."""

import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter, TokenType

from learnt import CONTEXT, LEARNT, TEXT, write_model
from scripted import wait_for
from starsmith.core.errors import ConfigError, EngineError, InputError
from starsmith.inference.backends.llama_cpp import LlamaCppBackend, LlamaCppConfig
from starsmith.inference.backends.targets import open_backend
from starsmith.inference.backends.templates import TEMPLATES
from starsmith.inference.completion import CompletionRequest
from starsmith.inference.engine import SamplingParams
from starsmith.model import checkpoint, gguf
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import FIM_MIDDLE, SPECIAL_TOKENS, Tokenizer

pytestmark = pytest.mark.slow

WIDTH = 32  # of the network of noise
SPELT = ("▁", "a", "b")
CONTROLS = ("▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>")


@pytest.fixture(scope="module")
def model(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that has learnt one text by heart, so that its likeliest tokens are no accident of rounding."""
    return write_model(tokenizer_directory, tmp_path_factory.mktemp("llama") / "model", steps=60)


@pytest.fixture(scope="module")
def file(model: Path) -> Path:
    path = model.with_name("model.gguf")
    gguf.write(model, path, kind="f32", label=gguf.Label(name="tiny"))
    return path


@pytest.fixture(scope="module")
def backend(file: Path) -> Iterator[LlamaCppBackend]:
    pytest.importorskip("xllamacpp", reason="SKIPPED: xllamacpp is not installed")
    opened = LlamaCppBackend(file, LlamaCppConfig(threads=1))
    yield opened
    opened.close()


def greedy(model: Path, prompt: list[int], count: int) -> list[int]:
    network, ids = checkpoint.load(model), list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_it_writes_our_models_greedy_tokens_and_their_text(backend: LlamaCppBackend, model: Path) -> None:
    tokenizer = Tokenizer.load(model)
    ids = tokenizer.encode(TEXT)
    count = len(ids) - LEARNT
    request = CompletionRequest(prefix=tokenizer.decode(ids[:LEARNT]), params=SamplingParams(max_tokens=count))

    chunks = list(backend.stream(request))
    done = backend.complete(request)

    assert [token.id for token in done.tokens] == greedy(model, ids[:LEARNT], count) == ids[LEARNT:]
    assert done.text == "".join(chunk.text for chunk in chunks) == tokenizer.decode(ids[LEARNT:])
    assert (done.finish_reason, done.prompt_tokens, done.completion_tokens) == ("length", LEARNT, count)
    assert len(chunks) > count / 2
    assert done.usage is not None
    assert done.usage.cached_tokens == LEARNT - 1  # the second time, all but the token that is looked at


def test_log_probabilities_are_the_models_own(backend: LlamaCppBackend, model: Path) -> None:
    ids = Tokenizer.load(model).encode(TEXT)[:LEARNT]
    params = SamplingParams(max_tokens=1, temperature=2.0, seed=3, top_logprobs=5)

    done = backend.complete(CompletionRequest(prefix=ids, params=params))

    with torch.no_grad():
        logprobs = checkpoint.load(model)(torch.tensor([ids]))[0, -1].log_softmax(-1)
    (token,) = done.text_tokens
    assert token.id is not None
    assert token.logprob == pytest.approx(float(logprobs[token.id]), abs=0.01)
    assert [value for _, value in token.top_logprobs] == pytest.approx(logprobs.topk(5).values.tolist(), abs=0.01)


def test_a_seed_gives_the_same_text_again_and_another_seed_another(backend: LlamaCppBackend) -> None:
    def text(seed: int) -> str:
        params = SamplingParams(max_tokens=20, temperature=1.5, seed=seed)
        return backend.complete(CompletionRequest(prefix="x", params=params)).text

    assert text(2**40) == text(2**40)
    assert len({text(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("layout", ["psm", "spm", "anchored"])
def test_an_infill_has_the_very_ids_of_our_own_prompt(
    backend: LlamaCppBackend, model: Path, layout: fim.PromptLayout
) -> None:
    tokenizer = Tokenizer.load(model)
    prefix, suffix = "def f(x):\n    return ", "\n    # <fim_middle> typed by a user\n"

    ids = backend.prompt_ids(CompletionRequest(prefix=prefix, suffix=suffix, layout=layout))

    before, typed = fim.split_prefix(prefix, layout)
    ours = fim.prompt(tokenizer.encode(before), tokenizer.encode(suffix), layout, typed=tokenizer.encode(typed))
    assert ids == ours
    assert ids.count(FIM_MIDDLE) == 1


def test_a_prompt_beyond_the_context_keeps_its_format_and_what_is_near_the_cursor(backend: LlamaCppBackend) -> None:
    params = SamplingParams(max_tokens=40)
    request = CompletionRequest(prefix="far " * 2000 + "near", suffix="close" + " away" * 2000, params=params)

    ids = backend.prompt_ids(request)
    done = backend.complete(request)

    text = "".join(SPECIAL_TOKENS[token] if token < len(SPECIAL_TOKENS) else "." for token in ids)
    assert len(ids) == CONTEXT - 40
    assert text.startswith("<fim_prefix>.")
    assert text.endswith(".<fim_middle>")
    assert done.prompt_tokens == len(ids)


def test_an_empty_prompt_begins_a_new_text(backend: LlamaCppBackend) -> None:
    done = backend.complete(CompletionRequest(prefix="", params=SamplingParams(max_tokens=3)))

    assert done.prompt_tokens == 1


def test_control_tokens_in_a_prompt_count_only_where_they_are_meant(backend: LlamaCppBackend) -> None:
    text = "<fim_prefix>a<fim_suffix>b<fim_middle>"

    meant = backend.prompt_ids(CompletionRequest(prefix=text, special_tokens=True))
    typed = backend.prompt_ids(CompletionRequest(prefix=text))

    assert sum(token < len(SPECIAL_TOKENS) for token in meant) == 3
    assert not any(token < len(SPECIAL_TOKENS) for token in typed)


def test_a_cancelled_request_ends_at_once_and_frees_its_slot(file: Path) -> None:
    pytest.importorskip("xllamacpp", reason="SKIPPED: xllamacpp is not installed")
    backend = LlamaCppBackend(file, LlamaCppConfig(threads=1, parallel=1))
    typed_on = threading.Event()
    chunks = backend.stream(CompletionRequest(prefix="x", params=SamplingParams(max_tokens=200)), typed_on.is_set)
    next(chunks)

    typed_on.set()
    rest = list(chunks)
    after = backend.complete(CompletionRequest(prefix="y", params=SamplingParams(max_tokens=2)))
    backend.close()

    assert rest[-1].finish_reason == "cancelled"
    assert len(rest) < 100
    assert after.completion_tokens == 2


def test_a_newer_request_of_a_session_ends_the_older_one(backend: LlamaCppBackend) -> None:
    request = CompletionRequest(prefix="x", session="editor", params=SamplingParams(max_tokens=200))
    older = backend.stream(request)
    next(older)

    newer = backend.complete(replace(request, params=SamplingParams(max_tokens=2)))
    rest = list(older)

    assert newer.finish_reason == "length"
    assert rest[-1].finish_reason == "cancelled"


def test_requests_at_once_get_the_texts_that_they_get_alone(backend: LlamaCppBackend) -> None:
    requests = [CompletionRequest(prefix=TEXT[:size], params=SamplingParams(max_tokens=5)) for size in (20, 25, 30, 35)]
    alone = [backend.complete(request).text for request in requests]
    together: dict[int, str] = {}
    threads = [
        threading.Thread(
            target=lambda number=number: together.update({number: backend.complete(requests[number]).text})
        )
        for number in range(len(requests))
    ]

    for thread in threads:
        thread.start()
    wait_for(lambda: len(together) == len(requests))
    for thread in threads:
        thread.join()

    assert [together[number] for number in range(len(requests))] == alone


def test_ids_out_of_range_fail_alone(backend: LlamaCppBackend) -> None:
    with pytest.raises(InputError, match=r"llama\.cpp with tiny answered 400: 'Prompt contains invalid tokens'"):
        backend.complete(CompletionRequest(prefix=[10**6]))

    assert backend.complete(CompletionRequest(prefix="x", params=SamplingParams(max_tokens=2))).completion_tokens == 2


def test_nobody_without_the_secret_is_answered(backend: LlamaCppBackend) -> None:
    address = backend._server.listening_address
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address}/v1/models", timeout=5)

    assert address.startswith("http://127.0.0.1:")


def test_a_template_of_another_family_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match=r"has no token '<\|fim_prefix\|>'"):
        LlamaCppBackend(file, LlamaCppConfig(template=TEMPLATES["qwen"]))


def test_a_file_cut_short_is_refused_before_llama_cpp_sees_it(file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:-1000])

    with pytest.raises(InputError, match="is cut short or damaged"):
        LlamaCppBackend(tmp_path / "cut.gguf")


def test_a_context_that_memory_cannot_hold_is_refused(file: Path) -> None:
    with pytest.raises(EngineError, match=r"tokens of context needs .* GiB, and .* GiB are free"):
        LlamaCppBackend(file, LlamaCppConfig(context_tokens=10**9))


def test_an_architecture_that_llama_cpp_does_not_know_is_an_error(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="SKIPPED: xllamacpp is not installed")
    (tmp_path / "odd.gguf").write_bytes(file.read_bytes().replace(b"starcoder2", b"starcoder9"))

    with pytest.raises(EngineError, match=r"llama\.cpp cannot load .* \(architecture starcoder9\)"):
        LlamaCppBackend(tmp_path / "odd.gguf")


def test_without_xllamacpp_the_error_names_the_extra(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    with pytest.raises(ConfigError, match=r"needs llama\.cpp, which is not installed") as raised:
        LlamaCppBackend(file)

    assert "starsmith[llama-cpp]" in raised.value.hint


def test_a_target_with_settings_opens_it(file: Path) -> None:
    pytest.importorskip("xllamacpp", reason="SKIPPED: xllamacpp is not installed")
    engine = open_backend([f"{file}#context=128&parallel=1&threads=1&template=starcoder"])
    done = engine.complete(CompletionRequest(prefix="x" * 500, suffix="y", params=SamplingParams(max_tokens=28)))
    engine.close()

    assert isinstance(engine, LlamaCppBackend)
    assert done.prompt_tokens == 100


@pytest.fixture(scope="module")
def code_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as Code Llama's are, with SentencePiece's vocabulary and Llama's network, but small and of noise."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *SPELT, *CONTROLS]
    types = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 2, *[TokenType.BYTE] * 256, *[TokenType.NORMAL] * len(SPELT)]
    path = tmp_path_factory.mktemp("code_llama") / "code-llama.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(WIDTH)
    writer.add_block_count(1)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // 2)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(number) for number in range(len(tokens))])
    writer.add_token_types([*types, *[TokenType.CONTROL] * len(CONTROLS)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    noise = np.random.default_rng(0)
    layer = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    shapes = {f"blk.0.{name}.weight": (WIDTH, WIDTH) for name in layer}
    shapes |= {f"{name}.weight": (len(tokens), WIDTH) for name in ("token_embd", "output")}
    for name, shape in shapes.items():
        writer.add_tensor(name, noise.normal(size=shape).astype(np.float32))
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_code_llama_is_asked_as_it_was_trained(code_llama: Path) -> None:
    pytest.importorskip("xllamacpp", reason="SKIPPED: xllamacpp is not installed")
    backend = LlamaCppBackend(code_llama, LlamaCppConfig(threads=1))
    ids = backend.prompt_ids(CompletionRequest(prefix="ab", suffix="ba", params=SamplingParams(max_tokens=3)))
    done = backend.complete(CompletionRequest(prefix="ab", suffix="ba", params=SamplingParams(max_tokens=3)))
    backend.close()

    # A space before the prefix and none before the suffix, as in the models' own code.
    assert [list(backend.head.tokens)[token] for token in ids] == [
        "<s>", "▁<PRE>", "▁", "a", "b", "▁<SUF>", "b", "a", "▁<MID>",
    ]  # fmt: skip
    assert done.prompt_tokens == len(ids)
