"""A model directory in Hugging Face's form, in and out: transformers, vLLM and llama.cpp read what we write.

`config.json`, `generation_config.json`, `model.safetensors` (or shards with an index) and the tokenizer's files.
Reading is strict: every tensor is there, has its shape, and nothing else is in the files.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from starsmith.core.console import progress
from starsmith.core.errors import CheckpointError
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer

CONFIG, GENERATION, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
COMPANIONS = (CONFIG, GENERATION, "tokenizer.json", "special_tokens_map.json", "tokenizer_config.json")
SHARD_BYTES = 5 * 10**9  # transformers' own limit
_END_OF_TEXT = "<|endoftext|>"
_RESTORE = "restore the file, or train or download the model again"
_UNQUANTIZED = "give the checkpoint from before it was quantized"
_CONVERT = "convert it where you trust it: model.save_pretrained(DIR) of transformers writes safetensors"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}  # by safetensors' names


def save(
    model: Transformer,
    tokenizer_file: Path | None,
    out: Path,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the files of a checkpoint into the directory `out`; `dtype` converts the weights, None keeps them."""
    stored = _stored(model)
    dtype = dtype or next(iter(stored.values())).dtype
    sizes = {name: tensor.numel() * dtype.itemsize for name, tensor in stored.items()}
    out.mkdir(parents=True, exist_ok=True)
    _write_weights(sizes, lambda name: convert(name, stored[name], dtype), out, shard_bytes)
    write_companions(model.config, tokenizer_file, out, dtype=dtype)


def copy(weights: "Weights", out: Path, *, dtype: torch.dtype, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the weight files of another checkpoint anew into the directory `out`, one shard in memory at a time."""
    sizes = {name: math.prod(shape) * dtype.itemsize for name, shape in weights.shapes.items()}
    with progress("writing weights", total=len(sizes), unit="tensors") as advance:

        def read(name: str) -> Tensor:
            advance()
            return convert(name, weights.read(name), dtype)

        _write_weights(sizes, read, out, shard_bytes)


def write_companions(config: ModelConfig, tokenizer_file: Path | None, out: Path, *, dtype: torch.dtype) -> None:
    """Everything but the weights; both configuration files are written from one source, so that they agree."""
    _write_json(out / CONFIG, config.to_json(dtype=str(dtype).removeprefix("torch.")))
    tokens = {"bos_token_id": config.bos_token_id, "eos_token_id": config.eos_token_id}
    _write_json(out / GENERATION, {"_from_model_config": True, **tokens})
    if tokenizer_file is not None:
        _write_tokenizer(tokenizer_file, out, config.max_position_embeddings)


def convert(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in another type; one whose numbers do not fit is refused."""
    converted = tensor.to(dtype).contiguous()
    if dtype == torch.float16 and not converted.isfinite().all():
        raise CheckpointError(f"tensor {name} has numbers that float16 cannot hold", hint="take bfloat16 or float32")
    return converted


def load(path: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Transformer:
    """Read a checkpoint directory; the model is in evaluation mode."""
    weights = Weights(path)
    with torch.device("meta"):
        model = Transformer(weights.config)
    tensors = {name: weights.read(name).to(device=device, dtype=dtype) for name in weights.shapes}
    model.load_state_dict(tensors, strict=False, assign=True)
    model.tie_weights()
    return model.eval().requires_grad_(False)


class Weights:
    """The tensors of a checkpoint directory, read one at a time; all are there and have their shapes."""

    def __init__(self, path: Path) -> None:
        self.config = load_config(path)
        if read_json(path / CONFIG).get("quantization_config") is not None:
            raise CheckpointError(f"{path} is quantised: its weights are not plain numbers", hint=_UNQUANTIZED)
        with torch.device("meta"):
            state = _stored(Transformer(self.config))
        self.shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}  # in the model's order
        self._files: dict[str, Path] = {}
        self._kinds: set[str] = set()  # keys of DTYPES
        for file in _weight_files(path):
            self._files.update(dict.fromkeys(self._check_file(file), file))
        missing = [name for name in self.shapes if name not in self._files]
        if missing:
            lacks = f"{len(missing)} tensor{'s' * (len(missing) > 1)}, the first is {min(missing)}"
            raise CheckpointError(f"{path} lacks {lacks}", hint=_RESTORE)

    def read(self, name: str) -> Tensor:
        """One tensor, in the type that its file has."""
        with opened(self._files[name]) as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    @property
    def files(self) -> list[Path]:
        """The files that the tensors are in."""
        return sorted(set(self._files.values()))

    @property
    def dtype(self) -> torch.dtype:
        """The type that holds all tensors as they are: theirs, or float32 where they differ."""
        return DTYPES[self._kinds.copy().pop()] if len(self._kinds) == 1 else torch.float32

    def _check_file(self, path: Path) -> Iterator[str]:
        with opened(path) as file:
            for name in file.keys():  # noqa: SIM118 the library's object is no mapping
                if name == "lm_head.weight" and self.config.tie_word_embeddings:
                    continue  # some writers store the tied copy
                stored = file.get_slice(name)
                shape, kind = tuple(stored.get_shape()), stored.get_dtype()
                if self.shapes.get(name) != shape:
                    seen = f"{path} has tensor {name} of shape {shape}"
                    wanted = self.shapes.get(name, "no such")
                    raise CheckpointError(f"{seen}, {CONFIG} asks for {wanted}", hint=_RESTORE)
                if kind not in DTYPES:
                    seen = f"{path} has tensor {name} of type {kind}"
                    raise CheckpointError(f"{seen}, wanted: {', '.join(DTYPES)}", hint=_UNQUANTIZED)
                self._kinds.add(kind)
                yield name


def load_config(path: Path) -> ModelConfig:
    """Read `config.json` of a checkpoint directory."""
    if not path.is_dir():
        raise CheckpointError(f"{path} is no directory", hint="give the directory of a model: config.json, ...")
    return ModelConfig.from_json(read_json(path / CONFIG), where=str(path / CONFIG))


def _stored(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that belong in the file: a tied head is the embedding and is left out."""
    state: dict[str, Tensor] = model.state_dict()
    if isinstance(model, Transformer) and model.config.tie_word_embeddings:
        state.pop("lm_head.weight")
    return state


def _write_weights(sizes: Mapping[str, int], read: Callable[[str], Tensor], out: Path, shard_bytes: int) -> None:
    shards = _divide(sizes, shard_bytes)
    if len(shards) == 1:
        save_file({name: read(name) for name in shards[0]}, out / WEIGHTS, metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file({name: read(name) for name in shard}, out / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, file))
    _write_json(out / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def _divide(sizes: Mapping[str, int], shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _weight_files(path: Path) -> list[Path]:
    if (path / INDEX).is_file():
        weight_map = read_json(path / INDEX).get("weight_map")
        if not isinstance(weight_map, Mapping):
            raise CheckpointError(f"{path / INDEX} has no weight_map", hint=_RESTORE)
        # Only names beside the index: an entry must not lead out of the directory.
        return sorted({path / Path(str(file)).name for file in weight_map.values()})
    pickles = sorted(path.glob("pytorch_model*.bin"))
    if pickles and not (path / WEIGHTS).is_file():
        raise CheckpointError(
            f"{pickles[0]} is a pickle, which can run code when it is read; wanted: {WEIGHTS}", hint=_CONVERT
        )
    return [path / WEIGHTS]


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """A safetensors file, and what is wrong with it as an error of ours."""
    if not file.is_file():
        raise CheckpointError(f"{file} does not exist", hint=_RESTORE)
    try:
        with safe_open(file, framework="pt") as opened:
            yield opened
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


def read_json(path: Path) -> dict[str, Any]:
    """The object of a JSON file of a checkpoint."""
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
