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
    "multi-query, window, untied": {"num_key_value_heads": 1, "sliding_window": 16, "tie_word_embeddings": False},
}
DROPOUTS = {"attention_dropout": 0.2, "residual_dropout": 0.3, "embedding_dropout": 0.1}


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


def assert_same_loss_and_gradients(
    model: torch.nn.Module, reference: torch.nn.Module, ids: torch.Tensor, *, seed: int
) -> None:
    """With the same random numbers drawn in both."""
    torch.manual_seed(seed)
    logits = model(ids)
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    torch.manual_seed(seed)
    wanted_loss = reference(ids, labels=ids).loss
    loss.backward()
    wanted_loss.backward()

    assert float((loss - wanted_loss).detach().abs()) <= 1e-5
    wanted = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_loss_and_gradients_equal_transformers(shape: dict[str, object]) -> None:
    model = random_model(**shape)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)

    ids = torch.randint(0, 400, (2, 60), generator=torch.Generator().manual_seed(2))
    assert_same_loss_and_gradients(model.train(), reference.train(), ids, seed=3)


@pytest.mark.parametrize("name", [*DROPOUTS, "all"])
def test_dropout_falls_on_the_same_numbers_as_in_transformers(name: str) -> None:
    """Both draw from torch's generator: were a dropout elsewhere, in other order or of another rate, masks differed."""
    dropouts = DROPOUTS if name == "all" else {name: DROPOUTS[name]}
    model = random_model(num_key_value_heads=2, **dropouts)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)
    ids = torch.randint(0, 400, (2, 60), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        quiet = model(ids)
        torch.manual_seed(3)
        noisy = model.train()(ids)

    assert float((quiet - noisy).abs().max()) > 0.01  # a thousand times the bound
    assert_same_loss_and_gradients(model, reference.train(), ids, seed=3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_packed_documents_equal_what_transformers_makes_of_restarting_positions(shape: dict[str, object]) -> None:
    model = random_model(**shape)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)
    lengths = [40, 1, 25, 40]
    ids = torch.randint(0, 400, (1, sum(lengths)), generator=torch.Generator().manual_seed(4))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]

    packed = model(ids, lengths=lengths)
    theirs_packed = reference(ids, position_ids=positions, use_cache=False).logits
    packed.logsumexp(-1).mean().backward()
    theirs_packed.logsumexp(-1).mean().backward()

    assert float((packed - theirs_packed).detach().abs().max()) <= 1e-4
    wanted = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name].grad, rtol=1e-4, atol=1e-5)


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


def test_what_was_imported_from_transformers_is_the_same_model(tokenizer_directory: Path, tmp_path: Path) -> None:
    from starsmith.model import imports

    tokenizer = Tokenizer.load(tokenizer_directory)
    model = random_model(num_key_value_heads=1, vocab_size=tokenizer.vocab_size, tie_word_embeddings=False, **DROPOUTS)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)
    reference.to(torch.float16).save_pretrained(tmp_path / "theirs", max_shard_size="100KB")

    imports.run(
        imports.ImportConfig(imported=imports.Origin(name="theirs")), source=tmp_path / "theirs",
        tokenizer_file=tokenizer_directory / "tokenizer.json", vocab_size=tokenizer.vocab_size, end_of_text=0,
        out=tmp_path / "ours",
    )  # fmt: skip

    loaded = checkpoint.load(tmp_path / "ours")
    prompt = torch.arange(50)[None]
    with torch.no_grad():
        assert float((loaded(prompt) - reference.float().eval()(prompt).logits).abs().max()) <= 1e-5
    assert loaded.config == model.config  # dropouts too


def test_transformers_reads_one_end_token_from_both_configuration_files(
    tokenizer_directory: Path, tmp_path: Path
) -> None:
    from transformers import GenerationConfig, Starcoder2Config

    checkpoint.save(random_model(num_key_value_heads=2), tokenizer_directory / "tokenizer.json", tmp_path)

    config, generation = Starcoder2Config.from_pretrained(tmp_path), GenerationConfig.from_pretrained(tmp_path)

    assert config.eos_token_id == generation.eos_token_id == 0
    assert config.bos_token_id == generation.bos_token_id == 0


def test_greedy_decoding_equals_transformers_generate(tmp_path: Path) -> None:
    from starsmith.inference.engine import GenerationRequest, SamplingParams
    from starsmith.inference.local import engine_for

    model = random_model(num_key_value_heads=2, sliding_window=16)
    reference = theirs(model)
    reference.load_state_dict(model.state_dict(), strict=True)
    prompt = list(range(50, 90))

    request = GenerationRequest(prompt=prompt, params=SamplingParams(max_tokens=30))
    ours = [token.id for token in engine_for(model).generate(request)]
    found = reference.generate(
        torch.tensor([prompt]), max_new_tokens=30, do_sample=False, eos_token_id=None, pad_token_id=4
    )

    assert ours == found[0, 40:].tolist()
