"""Our model, checkpoints and tokenizer files against transformers itself."""

from pathlib import Path

import pytest
import torch

from starsmith.model import checkpoint
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.tokenizer.bpe import Tokenizer

pytestmark = [
    pytest.mark.slow,  # transformers alone takes seconds to import
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

BASE = {
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "max_position_embeddings": 256,
}
SHAPES = {
    "grouped queries, tied": {"num_key_value_heads": 2, "sliding_window": None, "tie_word_embeddings": True},
    "multi-query, untied": {"num_key_value_heads": 1, "sliding_window": None, "tie_word_embeddings": False},
    "all heads, window": {"num_key_value_heads": 8, "sliding_window": 16, "tie_word_embeddings": True},
    "grouped queries, window, no bias": {"num_key_value_heads": 4, "sliding_window": 7, "use_bias": False},
}


def random_model(**changes: object) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**{**BASE, **changes})).eval()  # type: ignore[arg-type]
    for parameter in model.parameters():  # norms and biases too
        parameter.data.normal_(std=0.15)
    return model


def theirs(model: Transformer):  # type: ignore[no-untyped-def]
    from transformers import Starcoder2Config, Starcoder2ForCausalLM

    values = model.config.to_json()
    for key in ("architectures", "model_type", "dtype", "torch_dtype"):
        values.pop(key)
    return Starcoder2ForCausalLM(Starcoder2Config(**values, attn_implementation="sdpa")).eval()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_equal_transformers_with_the_same_weights(shape: dict[str, object]) -> None:
    model = random_model(**shape)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)
    prompt = torch.randint(0, 400, (2, 100), generator=torch.Generator().manual_seed(1))

    with torch.no_grad():
        difference = (model(prompt) - reference(prompt).logits).abs().max()

    assert float(difference) <= 1e-5


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_state_dicts_load_strictly_both_ways(shape: dict[str, object]) -> None:
    model, other = random_model(**shape), random_model(**shape)
    reference = theirs(model)

    reference.load_state_dict(model.state_dict(), strict=True)
    other.load_state_dict(reference.state_dict(), strict=True)

    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), other.parameters(), strict=True))


def test_gradients_equal_transformers() -> None:
    model = random_model(num_key_value_heads=2, sliding_window=16)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)
    prompt = torch.randint(0, 400, (1, 60), generator=torch.Generator().manual_seed(2))

    model(prompt).logsumexp(-1).mean().backward()
    reference(prompt).logits.logsumexp(-1).mean().backward()

    wanted = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard_bytes", [10**9, 100_000])
def test_transformers_loads_what_we_save(
    tied: bool, shard_bytes: int, tokenizer_directory: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = random_model(num_key_value_heads=2, tie_word_embeddings=tied)
    checkpoint.save(model, tokenizer_directory / "tokenizer.json", tmp_path, shard_bytes=shard_bytes)

    reference, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    vocabulary = AutoTokenizer.from_pretrained(tmp_path)

    prompt = torch.arange(50)[None]
    with torch.no_grad():
        assert float((model(prompt) - reference.eval()(prompt).logits).abs().max()) <= 1e-5
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    text = "def f(x):\r\n\treturn '漢字' + x[2025:]\n"
    assert vocabulary(text)["input_ids"] == Tokenizer.load(tokenizer_directory).encode(text)
    assert vocabulary.decode(vocabulary(text)["input_ids"]) == text
    assert vocabulary.eos_token_id == reference.config.eos_token_id == 0


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard_size", ["1GB", "100KB"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_we_load_what_transformers_saves(tied: bool, shard_size: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_model(num_key_value_heads=2, tie_word_embeddings=tied, sliding_window=16)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)
    reference.to(dtype).save_pretrained(tmp_path, max_shard_size=shard_size)

    loaded = checkpoint.load(tmp_path)

    prompt = torch.arange(50)[None]
    with torch.no_grad():
        assert float((loaded(prompt) - reference.float()(prompt).logits).abs().max()) <= 1e-5
    assert loaded.config.sliding_window == 16
    assert loaded.config.rope_theta == model.config.rope_theta


def test_greedy_decoding_equals_transformers_generate(tmp_path: Path) -> None:
    from starsmith.inference.engine import SamplingParams
    from starsmith.inference.local import LocalEngine

    model = random_model(num_key_value_heads=2, sliding_window=16)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)
    prompt = list(range(50, 90))

    ours = [token.id for token in LocalEngine(model).generate(prompt, SamplingParams(max_tokens=30))]
    found = reference.generate(
        torch.tensor([prompt]), max_new_tokens=30, do_sample=False, eos_token_id=None, pad_token_id=4
    )

    assert ours == found[0, 40:].tolist()
