"""Our GGUF files in llama.cpp itself: the same tokens, and logits within the error of the type."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader, quants

from learnt import LEARNT, TEXT, write_model
from starsmith.model import checkpoint, gguf
from starsmith.model.transformer import Transformer
from starsmith.tokenizer import fim
from starsmith.tokenizer.bpe import Tokenizer

pytestmark = pytest.mark.slow

STARCODER2 = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "starcoder2-tokenizer"
TRAINED, PUBLISHED = "trained vocabulary", "StarCoder2's vocabulary"
# Largest difference of a log-probability to our model with the very numbers of the file. What is left is llama.cpp's
# table for GELU (float16), and with q8_0 and q4_0 its activations in eight bits.
CLOSE = {"f32": 0.002, "f16": 0.005, "bf16": 0.03, "q8_0": 0.08, "q4_0": 0.08}
# Largest difference to the model that was exported, whose log-probabilities span more than 10.
QUANTIZED = {"f32": 0.002, "f16": 0.005, "bf16": 0.03, "q8_0": 0.1, "q4_0": 0.3}
TOKENS = 5
ENTRIES = 300  # likeliest tokens whose probabilities are compared


@pytest.fixture(scope="module", params=[TRAINED, PUBLISHED])
def model(request: pytest.FixtureRequest, tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that has learnt one text by heart, so that its likeliest tokens are no accident of rounding."""
    folder = tokenizer_directory
    if request.param == PUBLISHED:
        if not STARCODER2.is_dir():
            pytest.skip("SKIPPED: ../shared has no StarCoder2 vocabulary")
        folder = STARCODER2
    return write_model(folder, tmp_path_factory.mktemp("gguf") / "model", steps=30)


Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


def served(file: Path) -> Ask:
    """A function that asks llama.cpp's own server, which runs in this process and on this machine only."""
    llama = pytest.importorskip("xllamacpp", reason="SKIPPED: xllamacpp is not installed")
    params = llama.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel, params.warmup, params.offline, params.port = 256, 1, False, True, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    server = llama.Server(params)

    def ask(what: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.listening_address}/{what}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    return ask


def greedy(network: Transformer, prompt: list[int]) -> tuple[list[int], torch.Tensor]:
    """Our tokens, and the (V,) log-probabilities of the first."""
    ids, first = list(prompt), None
    with torch.no_grad():
        for _ in range(TOKENS):
            logprobs = network(torch.tensor([ids]))[0, -1].log_softmax(-1)
            first = logprobs if first is None else first
            ids.append(int(logprobs.argmax()))
    assert first is not None
    return ids[len(prompt) :], first


def with_numbers_of(file: Path, model: Path) -> Transformer:
    """Our model with the numbers that stand in a GGUF file."""
    network = checkpoint.load(model)
    tensors = {tensor.name: quants.dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(file).tensors}
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    }  # fmt: skip
    for name, parameter in network.named_parameters():
        theirs = name.replace("model.layers", "blk").replace("model.embed_tokens", "token_embd")
        theirs = theirs.replace("model.norm", "output_norm")
        for one, other in names.items():
            theirs = theirs.replace(one, other)
        parameter.data.copy_(torch.from_numpy(tensors[theirs].copy()))
    return network


@pytest.mark.parametrize(
    ("model", "kind"),
    [*((TRAINED, kind) for kind in gguf.TYPES), (PUBLISHED, "q8_0")],  # its 49,152 entries take seconds to read
    indirect=["model"],
)
def test_llama_cpp_writes_the_same_tokens_with_the_same_probabilities(model: Path, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    gguf.write(model, file, kind=kind, label=gguf.Label(name="test"))
    prompt = Tokenizer.load(model).encode(TEXT)[:LEARNT]
    question: dict[str, Any] = {
        "prompt": prompt,
        "temperature": -1,
        "ignore_eos": True,
        "return_tokens": True,
        "cache_prompt": False,
    }

    ask = served(file)
    written = ask("completion", {**question, "n_predict": TOKENS})
    likely = ask("completion", {**question, "n_predict": 1, "n_probs": ENTRIES})["completion_probabilities"][0]

    found = {entry["id"]: entry["logprob"] for entry in likely["top_logprobs"]}
    assert len(found) == ENTRIES
    for network, bound in ((with_numbers_of(file, model), CLOSE[kind]), (checkpoint.load(model), QUANTIZED[kind])):
        tokens, logprobs = greedy(network, prompt)
        assert written["tokens"] == tokens
        assert max(abs(logprob - float(logprobs[token])) for token, logprob in found.items()) <= bound
    assert min(found.values()) < max(found.values()) - 5  # or the bounds would say nothing


def test_llama_cpp_cuts_text_into_the_same_tokens(model: Path, tmp_path: Path) -> None:
    gguf.write(model, tmp_path / "model.gguf", kind="q8_0", label=gguf.Label(name="test"))
    text = "x2025 = {'a': 1}\r\n\tif '漢字' != \"é\":\n        return <fim_prefix> 3.14\n"

    found = served(tmp_path / "model.gguf")("tokenize", {"content": text, "parse_special": False})

    assert found["tokens"] == Tokenizer.load(model).encode(text)


def test_llama_cpp_knows_the_infill_tokens(model: Path, tmp_path: Path) -> None:
    gguf.write(model, tmp_path / "model.gguf", kind="f16", label=gguf.Label(name="test"))
    around = {"input_prefix": "def f(x):\n    return ", "input_suffix": "\n"}

    answer = served(tmp_path / "model.gguf")("infill", {**around, "n_predict": 1})

    assert answer["prompt"] == "<fim_prefix>def f(x):\n    return <fim_suffix>\n<fim_middle>"
    ids = fim.infill_prompt(Tokenizer.load(model), *around.values(), budget_tokens=100)
    assert answer["tokens_evaluated"] == len(ids)
