"""A model directory in Hugging Face's form, in and out: transformers, vLLM and llama.cpp read what we write.

`config.json`, `generation_config.json`, `model.safetensors` (or shards with an index) and the tokenizer's files.
Reading is strict: every tensor is there, has its shape, and nothing else is in the files.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from starsmith.core.errors import CheckpointError
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer

CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # transformers' own limit
_END_OF_TEXT = "<|endoftext|>"
_RESTORE = "restore the file, or train or download the model again"


def save(
    model: Transformer,
    tokenizer_file: Path | None,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the files of a checkpoint into the directory `out`; `dtype` converts the weights, None keeps them."""
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(dtype or tensor.dtype).contiguous() for name, tensor in _stored(model).items()}
    _write_weights(tensors, out, shard_bytes)
    config = model.config
    name = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    _write_json(out / CONFIG, config.to_json(dtype=name))
    tokens = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    _write_json(out / GENERATION, {"_from_model_config": True, **tokens})
    if tokenizer_file is not None:
        _write_tokenizer(tokenizer_file, out, config.max_position_embeddings)


def load(path: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Transformer:
    """Read a checkpoint directory; the model is in evaluation mode."""
    config = load_config(path)
    with torch.device("meta"):
        model = Transformer(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in _stored(model).items()}
    tensors: dict[str, Tensor] = {}
    for file, name, tensor in _read_weights(path):
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # some writers store the tied copy
        if wanted.get(name) != tuple(tensor.shape):
            seen = f"tensor {name} of shape {tuple(tensor.shape)}"
            raise CheckpointError(f"{file} has {seen}, {CONFIG} asks for {wanted.get(name, 'no such')}", hint=_RESTORE)
        tensors[name] = tensor.to(device=device, dtype=dtype)
    missing = sorted(set(wanted) - set(tensors))
    if missing:
        raise CheckpointError(f"{path} lacks {len(missing)} tensors, the first is {missing[0]}", hint=_RESTORE)
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()
    return model.eval().requires_grad_(False)


def load_config(path: Path) -> ModelConfig:
    """Read `config.json` of a checkpoint directory."""
    if not path.is_dir():
        raise CheckpointError(f"{path} is no directory", hint="give the directory of a model: config.json, ...")
    return ModelConfig.from_json(_read_json(path / CONFIG), where=str(path / CONFIG))


def _stored(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that belong in the file: a tied head is the embedding and is left out."""
    state: dict[str, Tensor] = model.state_dict()
    if isinstance(model, Transformer) and model.config.tie_word_embeddings:
        state.pop("lm_head.weight")
    return state


def _write_weights(tensors: Mapping[str, Tensor], out: Path, shard_bytes: int) -> None:
    shards = _divide(tensors, shard_bytes)
    if len(shards) == 1:
        save_file(shards[0], out / WEIGHTS, metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, out / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
    total = sum(_size(tensor) for tensor in tensors.values())
    _write_json(out / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _divide(tensors: Mapping[str, Tensor], shard_bytes: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + _size(tensor) > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += _size(tensor)
    return shards


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _read_weights(path: Path) -> Iterator[tuple[Path, str, Tensor]]:
    """(file, name, tensor) of every tensor, one at a time."""
    if (path / INDEX).is_file():
        weight_map = _read_json(path / INDEX).get("weight_map")
        if not isinstance(weight_map, Mapping):
            raise CheckpointError(f"{path / INDEX} has no weight_map", hint=_RESTORE)
        # Only names beside the index: an entry must not lead out of the directory.
        files = sorted({path / Path(str(file)).name for file in weight_map.values()})
    else:
        files = [path / WEIGHTS]
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{file} does not exist", hint=_RESTORE)
        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 the library's object is no mapping
                    yield file, name, opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is not a readable safetensors file: {error}", hint=_RESTORE) from None


def _write_tokenizer(tokenizer_file: Path, out: Path, context_tokens: int) -> None:
    shutil.copyfile(tokenizer_file, out / "tokenizer.json")
    special = {"bos_token": _END_OF_TEXT, "eos_token": _END_OF_TEXT, "unk_token": _END_OF_TEXT}
    _write_json(out / "special_tokens_map.json", special)
    _write_json(
        out / "tokenizer_config.json",
        {
            **special,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": context_tokens,
            "clean_up_tokenization_spaces": False,
        },
    )


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} does not exist", hint="give the directory of a model: config.json, ..."
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}", hint=_RESTORE) from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds no JSON object", hint=_RESTORE)
    return values
