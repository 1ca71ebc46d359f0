"""A checkpoint becomes one GGUF file of architecture `starcoder2`, which llama.cpp and what is built on it read.

Matrices are written in the type that is asked for, norms and biases in float32. With q4_0 the embedding, which is the
output head too where they are tied, is kept in q8_0: it is where four bits cost most, and llama.cpp's own quantizer
keeps more bits there as well. One tensor is in memory at a time.

llama.cpp has no sliding window for StarCoder2: it equals our model in contexts up to the window, 4096 tokens in the
published ones, and beyond that looks further back than the model was trained to.
"""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from starsmith.core.console import progress
from starsmith.core.errors import CheckpointError, InputError
from starsmith.model.checkpoint import Weights, convert
from starsmith.model.config import MODEL_TYPE, ModelConfig

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter
    from numpy.typing import NDArray

TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0")
VOCABULARY = "tokenizer.json"
BLOCK = 32  # numbers that share a scale in q8_0 and q4_0
_END_OF_TEXT = "<|endoftext|>"
_FIM = {"pre": "<fim_prefix>", "suf": "<fim_suffix>", "mid": "<fim_middle>", "pad": "<fim_pad>"}
_REPOSITORY = {"rep": "<repo_name>", "sep": "<file_sep>"}


@dataclass(frozen=True, kw_only=True)
class Label:
    """What the file says of itself beside its numbers."""

    name: str
    license: str = ""  # SPDX identifier, "" where nobody says
    description: str = ""


def write(checkpoint: Path, out: Path, *, kind: str, label: Label) -> None:
    """Write the new file `out`, whole or not at all; `kind` is one of TYPES."""
    from gguf import GGUFWriter

    if kind not in TYPES:
        raise InputError(f"{kind!r} is no type of a GGUF file", hint=f"known: {', '.join(TYPES)}")
    weights = Weights(checkpoint)
    _check_widths(weights.config, kind, checkpoint)
    writer = GGUFWriter(None, MODEL_TYPE)
    _describe(writer, weights.config, kind, label)
    _add_vocabulary(writer, checkpoint / VOCABULARY, weights.config)
    partial = out.with_name(out.name + ".partial")
    try:
        _write_tensors(writer, weights, kind, partial)
        partial.replace(out)
    finally:
        writer.close()
        with suppress(FileNotFoundError):
            partial.unlink()


def _check_widths(config: ModelConfig, kind: str, checkpoint: Path) -> None:
    if not kind.startswith("q"):
        return
    for name in ("hidden_size", "intermediate_size"):
        if (width := getattr(config, name)) % BLOCK:
            raise CheckpointError(
                f"{checkpoint} has {name} = {width}, and {kind} wants a multiple of {BLOCK}", hint="take f16 or bf16"
            )


def _describe(writer: "GGUFWriter", config: ModelConfig, kind: str, label: Label) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    files = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "bf16": LlamaFileType.MOSTLY_BF16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
        "q4_0": LlamaFileType.MOSTLY_Q4_0,
    }
    writer.add_type("model")
    writer.add_name(label.name)
    if label.license:
        writer.add_license(label.license)
    if label.description:
        writer.add_description(label.description)
    writer.add_file_type(files[kind])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_eps(config.norm_epsilon)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    if config.sliding_window is not None:
        writer.add_sliding_window(config.sliding_window)


def _add_vocabulary(writer: "GGUFWriter", file: Path, config: ModelConfig) -> None:
    """Tokens, merges and the roles of control tokens; `starcoder` is llama.cpp's name for digits one by one."""
    from gguf import Keys, TokenType

    vocabulary = read_vocabulary(file)
    if len(vocabulary.tokens) != config.vocab_size:
        seen = f"{file} has {len(vocabulary.tokens)} tokens"
        raise CheckpointError(f"{seen}, the model {config.vocab_size} embeddings", hint="put its own vocabulary there")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("starcoder")
    writer.add_token_list(vocabulary.tokens)
    control = vocabulary.special
    types = [TokenType.CONTROL if token in control else TokenType.NORMAL for token in vocabulary.tokens]
    writer.add_token_types(types)
    writer.add_token_merges(vocabulary.merges)
    ids = {token: number for number, token in enumerate(vocabulary.tokens)}
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_unk_token_id(ids.get(_END_OF_TEXT, config.eos_token_id))
    writer.add_add_bos_token(False)
    for role, token in {**_FIM, **_REPOSITORY}.items():
        if token in ids:
            writer.add_uint32(getattr(Keys.Tokenizer, f"FIM_{role.upper()}_ID"), ids[token])


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level vocabulary as its file has it."""

    tokens: list[str]  # by id
    merges: list[str]  # "left right", the first made first
    special: frozenset[str]


def read_vocabulary(file: Path) -> Vocabulary:
    """Read a `tokenizer.json` that splits text as StarCoder2's does; llama.cpp could not follow another."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        model, added = values["model"], values["added_tokens"]
        ids = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        special = frozenset(token["content"] for token in added if token["special"])
        pieces = _splitters(values["pre_tokenizer"])
    except FileNotFoundError:
        raise CheckpointError(f"{file} does not exist", hint="put the model's tokenizer.json there") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} is not a BPE tokenizer file: {error!r}", hint="restore it") from None
    if pieces != ["Digits", "ByteLevel"]:
        seen = f"{file} splits text by {', '.join(pieces) or 'nothing'}"
        raise CheckpointError(f"{seen}; wanted, as StarCoder2: Digits, ByteLevel", hint="give a StarCoder2 vocabulary")
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise CheckpointError(f"{file} has ids with gaps or twice", hint="restore it")
    return Vocabulary(tokens, merges, special)


def _splitters(pre_tokenizer: Mapping[str, Any]) -> list[str]:
    parts = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    return [str(part["type"]) for part in parts]


def _write_tensors(writer: "GGUFWriter", weights: Weights, kind: str, file: Path) -> None:
    """Names, shapes and types of all tensors first, as the format wants it, and then their numbers."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    names = get_tensor_name_map(MODEL_ARCH.STARCODER2, weights.config.num_hidden_layers)
    for name, shape in weights.shapes.items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None  # the map has StarCoder2's names
        stored_type, stored_shape, dtype, size = _layout(name, shape, kind)
        writer.add_tensor_info(theirs, stored_shape, dtype, size, raw_dtype=stored_type)
    writer.write_header_to_file(file)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with progress("export: writing", total=len(weights.shapes), unit="tensors") as advance:
        for name in weights.shapes:
            writer.write_tensor_data(_stored(name, weights.read(name), _type_of(name, weights.shapes[name], kind)))
            advance()


def _type_of(name: str, shape: tuple[int, ...], kind: str) -> "GGMLQuantizationType":
    from gguf import GGMLQuantizationType

    if len(shape) == 1:
        return GGMLQuantizationType.F32
    if kind == "q4_0" and name in ("model.embed_tokens.weight", "lm_head.weight"):
        return GGMLQuantizationType.Q8_0
    return GGMLQuantizationType[kind.upper()]


def _layout(
    name: str, shape: tuple[int, ...], kind: str
) -> tuple["GGMLQuantizationType", tuple[int, ...], "np.dtype[Any]", int]:
    """Type, shape as stored, numpy's type and bytes of a tensor."""
    import numpy as np
    from gguf import GGMLQuantizationType, quant_shape_to_byte_shape

    stored = _type_of(name, shape, kind)
    plain: dict[GGMLQuantizationType, type[Any]] = {
        GGMLQuantizationType.F32: np.float32,
        GGMLQuantizationType.F16: np.float16,
    }
    dtype: np.dtype[Any] = np.dtype(plain.get(stored, np.uint8))
    stored_shape = shape if stored in plain else quant_shape_to_byte_shape(shape, stored)
    return stored, stored_shape, dtype, math.prod(stored_shape) * dtype.itemsize


def _stored(name: str, tensor: Tensor, stored: "GGMLQuantizationType") -> "NDArray[Any]":
    from gguf import GGMLQuantizationType, quants

    if stored == GGMLQuantizationType.F16:
        tensor = convert(name, tensor, torch.float16)
    numbers: NDArray[Any] = quants.quantize(tensor.to(torch.float32).numpy(), stored)
    return numbers
