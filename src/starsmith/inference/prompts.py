"""Long pieces of prompts through a w8a8 model on a CPU: PyTorch's products of bytes, and compiled rows between them.

Each thread of the team reads a share of the tokens through all layers, and some of the heads in attention. So nothing
is waited for but twice a layer, and a product's outcome is still in the thread's cache when the next is made of it.

Shapes: T tokens of all chunks, M of them a thread's own, A heads, G key/value heads, D head width, H hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from starsmith.inference.runner import wanted_rows
from starsmith.inference.team import MOST_SHARES, Team
from starsmith.model.config import ModelConfig
from starsmith.model.kernels import rows
from starsmith.model.kernels.rows import Halves, Sums
from starsmith.model.kernels.tables import Floats, Table
from starsmith.model.kv_cache import BlockPool, Chunk, ChunkCache
from starsmith.model.quantization import QuantizedLinear
from starsmith.model.transformer import Transformer, rotary_angles

FEWEST = 8  # tokens for which a thread is worth waking


def reads_bytes(model: Transformer, pool: BlockPool) -> bool:
    """Whether `PromptReader` can read with this model."""
    linear = [module for module in model.modules() if isinstance(module, QuantizedLinear | nn.Linear)]
    is_bytes = all(isinstance(module, QuantizedLinear) and module.kind == "w8a8" for module in linear)
    return is_bytes and pool.keys.device.type == "cpu" and pool.keys.dtype == torch.bfloat16


class PromptReader:
    """What `Runner.forward` says, for models that `reads_bytes` lets through."""

    def __init__(self, model: Transformer, pool: BlockPool, team: Team) -> None:
        self._model, self._pool, self._team = model, pool, team
        self._config = model.config
        self._layers = [_Layer.of(layer) for layer in model.model.layers]
        self._rooms = [_Room(model.config) for _ in range(min(team.count, MOST_SHARES))]
        self._keys, self._values = (list(_bits(held.flatten(2, 3))) for held in (pool.keys, pool.values))
        self._epsilon = np.float32(model.config.norm_epsilon)

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See `Runner.forward`."""
        with torch.inference_mode():
            tokens = sum(len(chunk.ids) for chunk in chunks)
            shares = max(min(len(self._rooms), tokens // FEWEST), 1)
            prompt = self._prompt(chunks, shares)
            self._team.begin([partial(self._read, prompt, number, shares) for number in range(shares)]).wait()
            logits_NV = self._finish(prompt, wanted_rows(chunks, self._pool.keys.device))
        return list(torch.split(logits_NV, [chunk.logits for chunk in chunks]))

    def _prompt(self, chunks: Sequence[Chunk], shares: int) -> "_Prompt":
        config = self._config
        ids = torch.tensor([token for chunk in chunks for token in chunk.ids])
        cache = ChunkCache(self._pool, chunks)
        angles = rotary_angles(config, cache.positions)
        queries = torch.empty((config.num_attention_heads, len(ids), config.head_dim), dtype=torch.bfloat16)
        return _Prompt(
            cache=cache,
            slots=cache.slots.numpy(),
            order=np.arange(len(ids)),
            states=self._model.model.embed_tokens(ids),
            queries=queries,
            queries_bits=_bits(queries),
            attended=torch.empty((len(ids), *queries.shape[::2]), dtype=torch.bfloat16),
            cosines=angles.cos().numpy(),
            sines=angles.sin().numpy(),
            barrier=Barrier(shares),
        )

    def _read(self, prompt: "_Prompt", number: int, shares: int) -> None:
        """A thread's share, up to the last layer's attention."""
        try:
            with torch.inference_mode():
                self._read_share(prompt, number, shares)
        except BaseException:
            prompt.barrier.abort()  # nobody waits for one who does not come
            raise

    def _read_share(self, prompt: "_Prompt", number: int, shares: int) -> None:
        count = len(prompt.states)
        tokens = slice(count * number // shares, count * (number + 1) // shares)
        heads = slice(*(self._config.num_attention_heads * place // shares for place in (number, number + 1)))
        x = prompt.states.numpy()[tokens]
        room = self._rooms[number]
        room.fit(len(x))
        levels, row = room.levels(x.shape[1]), room.row(x.shape[1])
        rows.normalize_rows(x, *self._layers[0].before, self._epsilon, row, levels.numpy(), room.scales)
        for index, layer in enumerate(self._layers):
            self._project(prompt, index, tokens, levels, room)
            prompt.barrier.wait()
            self._attend(prompt, index, heads)
            prompt.barrier.wait()
            if index + 1 < len(self._layers):
                levels = self._go_on(prompt, layer, self._layers[index + 1].before, tokens, room)

    def _project(self, prompt: "_Prompt", index: int, tokens: slice, levels: Tensor, room: "_Room") -> None:
        """Queries, and keys and values to where they are kept."""
        turn = prompt.cosines[tokens], prompt.sines[tokens]
        stay = turn[0][:, :0], turn[1][:, :0]
        order, slots = prompt.order[tokens], prompt.slots[tokens]
        queries, keys, values = self._layers[index].projections
        for matrix, angles, places, out in (
            (queries, turn, order, prompt.queries_bits),
            (keys, turn, slots, self._keys[index]),
            (values, stay, slots, self._values[index]),
        ):
            exact, row = matrix.multiply(levels, room), room.row(len(matrix.scale))
            rows.head_rows(exact, matrix.scale, matrix.bias, room.scales, *angles, places, row, out)

    def _attend(self, prompt: "_Prompt", index: int, heads: slice) -> None:
        config = self._config
        together = config.num_attention_heads // config.num_key_value_heads
        groups = [head // together for head in range(heads.start, heads.stop)]
        if groups:
            queries = prompt.queries[None, heads]
            out_BATD = prompt.cache.look(index, queries, window=config.sliding_window, groups=groups)
            prompt.attended[:, heads] = out_BATD[0].transpose(0, 1)

    def _go_on(
        self, prompt: "_Prompt", layer: "_Layer", norm: tuple[Floats, Floats], tokens: slice, room: "_Room"
    ) -> Tensor:
        """From what attention found to what the next layer multiplies."""
        x, scales = prompt.states.numpy()[tokens], room.scales
        found = _bits(prompt.attended[tokens].flatten(1))
        levels = room.levels(found.shape[1])
        rows.half_rows(found, room.row(found.shape[1]), levels.numpy(), scales)
        levels = self._add(layer.attention_out, levels, layer.behind, x, room)
        wide = layer.widen.multiply(levels, room)
        levels = room.levels(wide.shape[1])
        rows.gelu_rows(wide, layer.widen.scale, layer.widen.bias, room.row(2 * wide.shape[1]), levels.numpy(), scales)
        return self._add(layer.narrow, levels, norm, x, room)

    def _add(self, matrix: "_Matrix", levels: Tensor, norm: tuple[Floats, Floats], x: Floats, room: "_Room") -> Tensor:
        exact = matrix.multiply(levels, room)
        out, row = room.levels(x.shape[1]), room.row(x.shape[1])
        rows.add_rows(exact, matrix.scale, matrix.bias, x, *norm, self._epsilon, row, out.numpy(), room.scales)
        return out

    def _finish(self, prompt: "_Prompt", wanted: Tensor) -> Tensor:
        """What is left of the last layer, for the tokens of which logits are wanted, and those."""
        layer: Any = self._model.model.layers[-1]
        x_NH = prompt.states[wanted] + layer.self_attn.o_proj(prompt.attended[wanted].flatten(1).float())
        x_NH = x_NH + layer.mlp(layer.post_attention_layernorm(x_NH))
        logits_NV: Tensor = self._model.lm_head(self._model.model.norm(x_NH))
        return logits_NV


@dataclass(frozen=True)
class _Prompt:
    """What the threads share."""

    cache: ChunkCache
    slots: Table  # (T,) in the pool
    order: Table  # (T,) numbers from 0 on
    states: Tensor  # (T, H) float32
    queries: Tensor  # (A, T, D) bfloat16
    queries_bits: Halves
    attended: Tensor  # (T, A, D) bfloat16
    cosines: Floats  # (T, D / 2)
    sines: Floats
    barrier: Barrier


@dataclass(frozen=True)
class _Matrix:
    weight: Tensor  # (K, N)
    scale: Floats
    bias: Floats

    @classmethod
    def of(cls, layer: Any) -> "_Matrix":
        scale = layer.weight_scale.numpy()
        return cls(layer.weight.T, scale, np.zeros_like(scale) if layer.bias is None else layer.bias.numpy())

    def multiply(self, levels_MK: Tensor, room: "_Room") -> Sums:
        """Exact sums, (M, N), in the thread's room for them."""
        out_MN = room.sums(self.weight.size(1))
        torch._int_mm(levels_MK, self.weight, out=out_MN)
        return out_MN.numpy()


@dataclass(frozen=True)
class _Layer:
    projections: tuple[_Matrix, _Matrix, _Matrix]
    attention_out: _Matrix
    widen: _Matrix
    narrow: _Matrix
    before: tuple[Floats, Floats]  # the norm's weight and bias
    behind: tuple[Floats, Floats]

    @classmethod
    def of(cls, layer: Any) -> "_Layer":
        attention, mlp = layer.self_attn, layer.mlp
        queries, keys, values = (_Matrix.of(part) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
        return cls(
            projections=(queries, keys, values),
            attention_out=_Matrix.of(attention.o_proj),
            widen=_Matrix.of(mlp.c_fc),
            narrow=_Matrix.of(mlp.c_proj),
            before=_norm(layer.input_layernorm),
            behind=_norm(layer.post_attention_layernorm),
        )


class _Room:
    """Where a thread keeps what it computes, of the size of its longest share so far: new memory costs time."""

    def __init__(self, config: ModelConfig) -> None:
        self._widest = max(config.hidden_size, config.intermediate_size)
        self._row = np.empty(2 * self._widest, np.float32)
        self._kept = self._count = 0

    def fit(self, count: int) -> None:
        """From now on it is for so many tokens."""
        self._count = count
        if count > self._kept:
            self._kept = count
            self._sums = torch.empty(count * self._widest, dtype=torch.int32)
            self._levels = torch.empty(count * self._widest, dtype=torch.int8)
            self._scales = np.empty(count, np.float32)

    def sums(self, width: int) -> Tensor:
        """(M, width) int32."""
        return self._sums[: self._count * width].view(self._count, width)

    def levels(self, width: int) -> Tensor:
        """(M, width) int8, always from the same place on."""
        return self._levels[: self._count * width].view(self._count, width)

    def row(self, width: int) -> Floats:
        """(width,)"""
        return self._row[:width]

    @property
    def scales(self) -> Floats:
        """(M,) of the levels."""
        return self._scales[: self._count]


def _norm(module: nn.LayerNorm) -> tuple[Floats, Floats]:
    return module.weight.numpy(), module.bias.numpy()


def _bits(tensor: Tensor) -> Halves:
    """Of bfloat16."""
    bits: Halves = tensor.view(torch.int16).numpy().view(np.uint16)
    return bits
