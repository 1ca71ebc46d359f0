"""Long pieces of prompts through a w8a8 model on a CPU: exact products of bytes, and compiled columns between them.

Each thread of the team reads a share of the tokens through all layers, and some of the heads in attention. So nothing
is waited for but twice a layer, and a product's outcome is still in the thread's cache when the next is made of it.
At the end, where few tokens are left, each multiplies with a part of every matrix.

Shapes: T tokens of all chunks, M of them a thread's own, in G groups of LANES; A heads, D head width, H hidden.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from starsmith.inference.byte_products import PAIR, Matrix, part_of
from starsmith.inference.runner import wanted_rows
from starsmith.inference.team import MOST_SHARES, Team
from starsmith.model.config import ModelConfig
from starsmith.model.kernels import columns
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.tables import Floats, Table
from starsmith.model.kv_cache import BlockPool, Chunk, ChunkCache
from starsmith.model.quantization import QuantizedLinear
from starsmith.model.transformer import Transformer, rotary_angles

FEWEST = 8  # tokens for which a thread is worth waking
FINISHED_GROUPS = 2 * PAIR  # whose logits are computed at once: a vector for each word of the vocabulary


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
        self._head, self._last_norm = Matrix.of(model.lm_head), _Norm.of(model.model.norm)
        self._rooms = [_Room(model.config) for _ in range(min(team.count, MOST_SHARES))]
        self._last_room = _Room(model.config, least=model.config.vocab_size)
        self._kept = [[layer.data_ptr() for layer in held] for held in (pool.keys, pool.values)]
        self._head_bytes = pool.keys.stride(1) * pool.keys.itemsize
        self._epsilon = int(np.float32(model.config.norm_epsilon).view(np.int32))
        columns.compile_all()

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See `Runner.forward`."""
        with torch.inference_mode():
            tokens = sum(len(chunk.ids) for chunk in chunks)
            shares = max(min(len(self._rooms), tokens // FEWEST), 1)
            prompt = self._prompt(chunks, shares)
            self._team.begin([partial(self._read, prompt, number, shares) for number in range(shares)]).wait()
        return list(torch.split(torch.from_numpy(prompt.logits), [chunk.logits for chunk in chunks]))

    def _prompt(self, chunks: Sequence[Chunk], shares: int) -> "_Prompt":
        config = self._config
        ids = torch.tensor([token for chunk in chunks for token in chunk.ids])
        cache = ChunkCache(self._pool, chunks)
        angles = rotary_angles(config, cache.positions)
        wanted = wanted_rows(chunks, ids.device).numpy()
        width = config.num_attention_heads, config.head_dim
        return _Prompt(
            cache=cache,
            slots=cache.slots.numpy(),
            order=np.arange(len(ids)),
            states=self._model.model.embed_tokens(ids).numpy(),
            queries=torch.empty((width[0], len(ids), width[1]), dtype=torch.bfloat16),
            attended=torch.zeros((len(ids) + PAIR * LANES, *width), dtype=torch.bfloat16),
            cosines=angles.cos().numpy(),
            sines=angles.sin().numpy(),
            wanted=wanted,
            logits=np.empty((len(wanted), config.vocab_size), np.float32),
            barrier=Barrier(shares),
        )

    def _read(self, prompt: "_Prompt", number: int, shares: int) -> None:
        """A thread's share."""
        try:
            with torch.inference_mode():
                self._read_share(prompt, number, shares)
                self._finish(prompt, number, shares)
        except BaseException:
            prompt.barrier.abort()  # nobody waits for one who does not come
            raise

    def _read_share(self, prompt: "_Prompt", number: int, shares: int) -> None:
        """Up to the last layer's attention."""
        count = len(prompt.states)
        tokens = slice(count * number // shares, count * (number + 1) // shares)
        heads = slice(*(self._config.num_attention_heads * place // shares for place in (number, number + 1)))
        room = self._rooms[number]
        room.take(prompt.states[tokens])
        turns = [_groups(angles[tokens], room.groups) for angles in (prompt.cosines, prompt.sines)]
        norm = self._layers[0].before
        columns.normalize(room.groups, self._config.hidden_size, room.x_at, *norm.at, self._epsilon, *room.bytes_at)
        for index, layer in enumerate(self._layers):
            self._project(prompt, index, tokens, turns, room)
            prompt.barrier.wait()
            self._attend(prompt, index, heads)
            prompt.barrier.wait()
            if index + 1 < len(self._layers):
                self._go_on(prompt.attended[tokens.start :], layer, self._layers[index + 1].before, room)
        mine = [row for row in prompt.wanted if tokens.start <= row < tokens.stop]
        prompt.states[mine] = room.rows([row - tokens.start for row in mine])
        prompt.barrier.wait()

    def _project(
        self, prompt: "_Prompt", index: int, tokens: slice, turns: Sequence[Floats], room: "_Room"
    ) -> None:
        """Queries, and keys and values to where they are kept."""
        queries, keys, values = self._layers[index].projections
        order, slots = prompt.order[tokens].ctypes.data, prompt.slots[tokens].ctypes.data
        count, width = tokens.stop - tokens.start, self._config.head_dim
        of_queries = prompt.queries.data_ptr(), prompt.queries.stride(0) * prompt.queries.itemsize
        of_keys, of_values = ((kept[index], self._head_bytes) for kept in self._kept)
        angles = [turn.ctypes.data for turn in turns]
        for matrix, put, places, out, more in (
            (queries, columns.turned_heads, order, of_queries, angles),
            (keys, columns.turned_heads, slots, of_keys, angles),
            (values, columns.heads, slots, of_values, []),
        ):
            room.multiply(matrix)
            heads = matrix.outputs // width
            put(count, heads, width, room.sums_at, *matrix.factors_at, room.scales_at, places, *out, *more)

    def _attend(self, prompt: "_Prompt", index: int, heads: slice) -> None:
        config = self._config
        together = config.num_attention_heads // config.num_key_value_heads
        groups = [head // together for head in range(heads.start, heads.stop)]
        if groups:
            queries = prompt.queries[None, heads]
            out_BATD = prompt.cache.look(index, queries, window=config.sliding_window, groups=groups)
            prompt.attended[: len(prompt.states), heads] = out_BATD[0].transpose(0, 1)

    def _go_on(self, attended: Tensor, layer: "_Layer", norm: "_Norm", room: "_Room") -> None:
        """From what attention found to what the next layer multiplies."""
        for step in self._steps(attended, layer, norm, room):
            room.multiply(step)

    def _steps(self, attended: Tensor, layer: "_Layer", norm: "_Norm", room: "_Room") -> Iterator[Matrix]:
        """What is to be multiplied, each time; between two, columns."""
        groups, hidden, inner = room.groups, layer.attention_out.outputs, layer.widen.outputs
        columns.halves(groups, layer.attention_out.inputs, attended.data_ptr(), room.sums_at, *room.bytes_at)
        yield layer.attention_out
        self._add(groups, hidden, layer.attention_out, layer.behind, room)
        yield layer.widen
        columns.gelu(groups, inner, room.sums_at, *layer.widen.factors_at, *room.bytes_at)
        yield layer.narrow
        self._add(groups, hidden, layer.narrow, norm, room)

    def _add(self, groups: int, hidden: int, matrix: Matrix, norm: "_Norm", room: "_Room") -> None:
        columns.add(
            groups, hidden, room.sums_at, *matrix.factors_at, room.x_at, *norm.at, self._epsilon, *room.bytes_at
        )

    def _finish(self, prompt: "_Prompt", number: int, shares: int) -> None:
        """What is left of the last layer, for the tokens of which logits are wanted, and those."""
        most, room, barrier = FINISHED_GROUPS * LANES, self._last_room, prompt.barrier
        for start in range(0, len(prompt.wanted), most):
            rows = prompt.wanted[start : start + most]
            if number == 0:
                room.take(prompt.states[rows])
                attended = torch.zeros((room.groups * LANES, *prompt.attended.shape[1:]), dtype=torch.bfloat16)
                attended[: len(rows)] = prompt.attended[torch.from_numpy(rows)]
                prompt.steps = self._steps(attended, self._layers[-1], self._last_norm, room)
            for matrix in self._shared_steps(prompt, number):
                room.multiply(matrix, part_of(matrix.outputs, number, shares))
                barrier.wait()
            part = part_of(self._head.outputs, number, shares)
            room.multiply(self._head, part)
            room.put_logits(self._head, part, prompt.logits[start : start + len(rows), part])
            barrier.wait()

    def _shared_steps(self, prompt: "_Prompt", number: int) -> Iterator[Matrix]:
        """The first thread takes the steps; the others multiply what it says."""
        while True:
            if number == 0:
                prompt.step = next(prompt.steps, None)
            prompt.barrier.wait()
            if prompt.step is None:
                return
            yield prompt.step


@dataclass
class _Prompt:
    """What the threads share."""

    cache: ChunkCache
    slots: Table  # (T,) in the pool
    order: Table  # (T,) numbers from 0 on
    states: Floats  # (T, H): the embeddings, and in the end of those tokens of which logits are wanted what was found
    queries: Tensor  # (A, T, D) bfloat16
    attended: Tensor  # (T and some more, A, D) bfloat16
    cosines: Floats  # (T, D / 2)
    sines: Floats
    wanted: Table  # rows
    logits: Floats  # (wanted, V)
    barrier: Barrier
    steps: Iterator[Matrix] = iter(())
    step: Matrix | None = None


@dataclass(frozen=True)
class _Norm:
    weight: Floats
    bias: Floats

    @classmethod
    def of(cls, module: nn.LayerNorm) -> "_Norm":
        return cls(module.weight.numpy(), module.bias.numpy())

    @property
    def at(self) -> tuple[int, int]:
        return self.weight.ctypes.data, self.bias.ctypes.data


@dataclass(frozen=True)
class _Layer:
    projections: tuple[Matrix, Matrix, Matrix]
    attention_out: Matrix
    widen: Matrix
    narrow: Matrix
    before: _Norm
    behind: _Norm

    @classmethod
    def of(cls, layer: Any) -> "_Layer":
        attention, mlp = layer.self_attn, layer.mlp
        queries, keys, values = (Matrix.of(part) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
        return cls(
            projections=(queries, keys, values),
            attention_out=Matrix.of(attention.o_proj),
            widen=Matrix.of(mlp.c_fc),
            narrow=Matrix.of(mlp.c_proj),
            before=_Norm.of(layer.input_layernorm),
            behind=_Norm.of(layer.post_attention_layernorm),
        )


class _Room:
    """Where a thread keeps what it computes, of the size of its longest share so far: new memory costs time.

    least  outputs that there is room for, if it is more than any layer has
    """

    def __init__(self, config: ModelConfig, *, least: int = 0) -> None:
        self._hidden = config.hidden_size
        self._widest = max(config.hidden_size, config.intermediate_size)
        self._outputs = max(self._widest, least)
        self.groups = self._held = 0

    def take(self, states: Floats) -> None:
        """From now on it is for these tokens."""
        self.groups = -(-len(states) // (PAIR * LANES)) * PAIR
        if self.groups > self._held:
            self._held = self.groups
            self._x = np.empty((self.groups, self._hidden, LANES), np.float32)
            self._sums = np.empty(self.groups * self._outputs * LANES, np.int32)
            self._bytes = np.empty(self.groups * self._widest * LANES, np.int8)
            self._scales = np.empty((self.groups, LANES), np.float32)
        self._x[: self.groups] = _groups(states, self.groups)

    def multiply(self, matrix: Matrix, part: slice = slice(None)) -> None:
        """The bytes with a matrix, or some of its outputs, to the sums."""
        matrix.multiply(self._bytes, self.groups, self._sums, part)

    def rows(self, tokens: Sequence[int]) -> Floats:
        """(M, H) of `x`."""
        found: Floats = self._x.transpose(0, 2, 1).reshape(-1, self._hidden)[tokens] if tokens else self._x[:0, :, 0]
        return found

    def put_logits(self, matrix: Matrix, part: slice, out: Floats) -> None:
        """Sums to numbers, a row for each token."""
        sums = self._sums[: self.groups * matrix.outputs * LANES].reshape(self.groups, matrix.outputs, LANES)
        for token, row in enumerate(out):
            group, lane = divmod(token, LANES)
            np.multiply(sums[group, part, lane], matrix.scale[part], out=row)
            row *= self._scales[group, lane]

    @property
    def x_at(self) -> int:
        """Address of (G, H, LANES) float32."""
        return self._x.ctypes.data

    @property
    def sums_at(self) -> int:
        """Address of (G, outputs, LANES) int32."""
        return self._sums.ctypes.data

    @property
    def scales_at(self) -> int:
        """Address of (G, LANES) float32, of the bytes."""
        return self._scales.ctypes.data

    @property
    def bytes_at(self) -> tuple[int, int]:
        """Addresses of the bytes and of their scales."""
        return self._bytes.ctypes.data, self.scales_at


def _groups(rows: Floats, groups: int) -> Floats:
    """(M, K) to (G, K, LANES), with zeros for tokens that there are not."""
    padded = np.zeros((groups * LANES, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    return np.ascontiguousarray(padded.reshape(groups, LANES, -1).transpose(0, 2, 1))
