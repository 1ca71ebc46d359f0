"""Long pieces of prompts through a w8a8 model on a CPU: exact products of bytes, and compiled columns between them.

Tokens come in groups of LANES, and each thread of the team reads some of the groups through all layers. So nothing is
waited for but once a layer, until all keys and values are there, and a product's outcome is still in the thread's cache
when the next is made of it. At the end, where few tokens are left, each multiplies with a part of every matrix.

Where the processor has tiles, what a thread does is one program, written down before it begins. Elsewhere PyTorch
multiplies and attends, between shorter programs.

Shapes: T tokens of all chunks, in G groups; W of them whose logits are wanted; A heads, D head width, H hidden.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from starsmith.inference.byte_products import PAIR, Matrix, part_of
from starsmith.inference.runner import wanted_rows
from starsmith.inference.team import MOST_SHARES, Team
from starsmith.model.config import ModelConfig
from starsmith.model.kernels import columns, native, threads, tile_attention
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.native import Row
from starsmith.model.kernels.tables import Floats, Table
from starsmith.model.kv_cache import BlockPool, Chunk, ChunkCache
from starsmith.model.quantization import QuantizedLinear
from starsmith.model.transformer import Transformer, rotary_angles

FINISHED_GROUPS = 2 * PAIR  # whose logits are computed at once: a vector for each word of the vocabulary
MOST_SCRIPTS = 64  # that are kept, of a room of one size


def reads_bytes(model: Transformer, pool: BlockPool) -> bool:
    """Whether `PromptReader` can read with this model."""
    linear = [module for module in model.modules() if isinstance(module, QuantizedLinear | nn.Linear)]
    is_bytes = all(isinstance(module, QuantizedLinear) and module.kind == "w8a8" for module in linear)
    return is_bytes and pool.keys.device.type == "cpu" and pool.keys.dtype == torch.bfloat16


class PromptReader:
    """What `Runner.forward` says, for models that `reads_bytes` lets through."""

    def __init__(self, model: Transformer, pool: BlockPool, team: Team) -> None:
        self._model, self._pool, self._team = model, pool, team
        self._config = config = model.config
        self._layers = [_Layer.of(layer) for layer in model.model.layers]
        self._head, self._last_norm = Matrix.of(model.lm_head), _Norm.of(model.model.norm)
        shares = min(team.count, MOST_SHARES)
        self._rooms = [_Room(config) for _ in range(shares)]
        self._last_room = _Room(config, outputs=config.vocab_size)
        self._kept = [[layer.data_ptr() for layer in held] for held in (pool.keys, pool.values)]
        self._head_bytes = pool.keys.stride(1) * pool.keys.itemsize
        self._epsilon = int(np.float32(config.norm_epsilon).view(np.int32))
        self._window = config.sliding_window or config.max_position_embeddings
        matrices = [matrix for layer in self._layers for matrix in layer.matrices]
        self.in_tiles = all(matrix.in_tiles for matrix in (*matrices, self._head))
        self.in_tiles &= tile_attention.address() is not None and config.head_dim % tile_attention.DIMENSIONS == 0
        self._met = np.zeros(len(self._layers) + 2 * len(_Layer.FINISHING) + 2, np.int64)
        columns.addresses()  # compiled now, and not with the first keystroke

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See `Runner.forward`."""
        with torch.inference_mode():
            prompt = self._prompt(chunks)
            shares = len(prompt.groups)
            for number, groups in enumerate(prompt.groups):
                self._rooms[number].take(prompt, groups, self._window)
            scripts = [self._script(number, shares) for number in range(shares)]
            self._met.fill(0)
            self._share([partial(script.run, prompt) for script in scripts], prompt)
            self._finish(prompt)
        return list(torch.split(torch.from_numpy(prompt.logits), [chunk.logits for chunk in chunks]))

    def _share(self, parts: Sequence[Callable[[], None]], prompt: "_Prompt") -> None:
        def carry_out(part: Callable[[], None]) -> None:
            try:
                with torch.inference_mode():
                    part()
            except BaseException:
                prompt.barrier.abort()  # nobody waits for one who does not come
                raise

        self._team.begin([partial(carry_out, part) for part in parts]).wait()

    def _prompt(self, chunks: Sequence[Chunk]) -> "_Prompt":
        config = self._config
        ids = torch.tensor([token for chunk in chunks for token in chunk.ids])
        cache = ChunkCache(self._pool, chunks)
        angles = rotary_angles(config, cache.positions)
        wanted = wanted_rows(chunks, ids.device).numpy()
        groups = _groups(chunks)
        shares = min(len(self._rooms), len(groups))
        heads = config.num_attention_heads, config.head_dim
        return _Prompt(
            chunks=chunks,
            blocks=[np.array(chunk.blocks, np.int64) for chunk in chunks],
            cache=cache,
            slots=cache.slots.numpy(),
            groups=[[group for place, group in enumerate(groups) if _turn(place, shares) == n] for n in range(shares)],
            states=self._model.model.embed_tokens(ids).numpy(),
            queries=torch.empty((heads[0], 0 if self.in_tiles else len(ids), heads[1]), dtype=torch.bfloat16),
            attended=torch.empty((0 if self.in_tiles else len(ids), *heads), dtype=torch.bfloat16),
            cosines=angles.cos().numpy(),
            sines=angles.sin().numpy(),
            wanted=wanted,
            logits=np.empty((len(wanted), config.vocab_size), np.float32),
            barrier=Barrier(shares),
        )

    def _script(self, number: int, shares: int) -> "_Script":
        """What a thread does with its groups, up to the last layer's attention."""
        room = self._rooms[number]
        key = number, shares, room.groups
        if key not in room.scripts:
            room.scripts[key] = script = _Script(room, self._met, shares, in_tiles=self.in_tiles)
            hidden, norm = self._config.hidden_size, self._layers[0].before
            script.loop("normalize", room.groups, hidden, room.x_at, *norm.at, self._epsilon, *room.bytes_at)
            for index, layer in enumerate(self._layers):
                self._project(script, index)
                script.meet()
                self._attend(script, index, number, shares)
                if index + 1 < len(self._layers):
                    for matrix, then in self._steps(layer, self._layers[index + 1].before, room):
                        script.multiply(matrix)
                        script.loop(*then)
        return room.scripts[key]

    def _project(self, script: "_Script", index: int) -> None:
        """Queries, and keys and values to where they are kept."""
        room, width = script.room, self._config.head_dim
        queries, keys, values = self._layers[index].projections

        def begin(matrix: Matrix) -> tuple[int, ...]:
            script.multiply(matrix)
            return room.groups, matrix.outputs // width, width, room.sums_at, *matrix.factors_at, room.scales_at

        if self.in_tiles:
            factor = int(np.float32(width**-0.5).view(np.int32))
            script.loop("query_tiles", *begin(queries), room.queries_at, factor, *room.angles_at)
        else:
            given = begin(queries)
            script.call(partial(self._put_queries, given, room))
        held = [(kept[index], self._head_bytes) for kept in self._kept]
        script.loop("turned_heads", *begin(keys), room.counts_at, room.slots_at, *held[0], *room.angles_at)
        script.loop("heads", *begin(values), room.counts_at, room.slots_at, *held[1])

    def _put_queries(self, given: tuple[int, ...], room: "_Room", prompt: "_Prompt") -> None:
        """For PyTorch, in the order of the prompt."""
        out = prompt.queries.data_ptr(), prompt.queries.stride(0) * prompt.queries.itemsize
        rows = np.ascontiguousarray(room.tokens)
        loop = columns.addresses()["turned_heads"]
        row = (loop, *given, room.counts_at, rows.ctypes.data, *out, *room.angles_at)
        native.run(native.program([row]))

    def _attend(self, script: "_Script", index: int, number: int, shares: int) -> None:
        config, room = self._config, script.room
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        keys, values = (kept[index] for kept in self._kept)
        if self.in_tiles:
            place = room.groups, room.descriptions_at, room.queries_at, keys, values, self._head_bytes
            sizes = kv_heads, heads // kv_heads, config.head_dim, self._window
            script.row((tile_attention.address() or 0, *place, *sizes, *room.attention_at, room.sums_at))
        else:
            mine = slice(*(heads * place // shares for place in (number, number + 1)))
            script.call(partial(self._attend_by_torch, index, mine))
            script.meet()
            script.call(partial(self._take_attended, room))
        script.loop("numbers", room.groups, self._layers[index].attention_out.inputs, room.sums_at, *room.bytes_at)

    def _attend_by_torch(self, index: int, heads: slice, prompt: "_Prompt") -> None:
        """Some of the heads, for all tokens."""
        config = self._config
        together = config.num_attention_heads // config.num_key_value_heads
        groups = [head // together for head in range(heads.start, heads.stop)]
        if groups:
            queries = prompt.queries[None, heads]
            out_BATD = prompt.cache.look(index, queries, window=config.sliding_window, groups=groups)
            prompt.attended[:, heads] = out_BATD[0].transpose(0, 1)

    def _take_attended(self, room: "_Room", prompt: "_Prompt") -> None:
        """What PyTorch found for all heads of the thread's tokens."""
        rows = prompt.attended[torch.from_numpy(np.maximum(room.tokens, 0).ravel())].flatten(1).float().numpy()
        room.numbers(rows.shape[1])[:] = rows.reshape(room.groups, LANES, -1).transpose(0, 2, 1)

    def _steps(self, layer: "_Layer", norm: "_Norm", room: "_Room") -> list[tuple[Matrix, tuple[Any, ...]]]:
        """What is multiplied with what attention found, and what happens to each outcome."""
        groups, hidden, inner = room.groups, layer.attention_out.outputs, layer.widen.outputs
        add = "add", groups, hidden, room.sums_at
        return [
            (
                layer.attention_out,
                (*add, *layer.attention_out.factors_at, room.x_at, *layer.behind.at, self._epsilon, *room.bytes_at),
            ),
            (layer.widen, ("gelu", groups, inner, room.sums_at, *layer.widen.factors_at, *room.bytes_at)),
            (layer.narrow, (*add, *layer.narrow.factors_at, room.x_at, *norm.at, self._epsilon, *room.bytes_at)),
        ]

    def _finish(self, prompt: "_Prompt") -> None:
        """What is left of the last layer, for the tokens of which logits are wanted, and those."""
        shares, room = len(prompt.groups), self._last_room
        found = {
            int(token): (share, *divmod(place, LANES))
            for share in self._rooms[:shares]
            for place, token in enumerate(share.tokens.ravel())
        }
        most = FINISHED_GROUPS * LANES
        for start in range(0, len(prompt.wanted), most):
            places = [found[int(token)] for token in prompt.wanted[start : start + most]]
            x = np.stack([share.x[group, :, lane] for share, group, lane in places])
            width = self._layers[-1].attention_out.inputs
            attended = np.stack([share.numbers(width)[group, :, lane] for share, group, lane in places])
            room.hold(-(-len(places) // LANES))
            _put(x, room.x)
            _put(attended, room.numbers(width))
            out = prompt.logits[start : start + len(places)]
            self._met.fill(0)
            scripts = [self._last_script(number, shares) for number in range(shares)]
            heads = [part_of(self._head.outputs, number, shares) for number in range(shares)]
            self._share(
                [
                    partial(_in_order, partial(script.run, prompt), partial(room.put_logits, self._head, part, out))
                    for script, part in zip(scripts, heads, strict=True)
                ],
                prompt,
            )

    def _last_script(self, number: int, shares: int) -> "_Script":
        """Each thread multiplies with its parts of the matrices; what is between them the first does."""
        room = self._last_room
        key = number, shares, room.groups
        if key not in room.scripts:
            room.scripts[key] = script = _Script(room, self._met, shares, in_tiles=self.in_tiles)
            if number == 0:
                script.loop("numbers", room.groups, self._layers[-1].attention_out.inputs, room.sums_at, *room.bytes_at)
            for matrix, then in self._steps(self._layers[-1], self._last_norm, room):
                script.meet()
                script.multiply(matrix, part_of(matrix.outputs, number, shares))
                script.meet()
                if number == 0:
                    script.loop(*then)
            script.meet()
            script.multiply(self._head, part_of(self._head.outputs, number, shares))
        return room.scripts[key]


@dataclass(frozen=True)
class _Group:
    """LANES tokens of one chunk, or what is left of it."""

    chunk: int
    token: int  # the first, of those of all chunks
    position: int  # its position in the sequence
    count: int


def _groups(chunks: Sequence[Chunk]) -> list[_Group]:
    groups, first = [], 0
    for number, chunk in enumerate(chunks):
        for start in range(0, len(chunk.ids), LANES):
            count = min(LANES, len(chunk.ids) - start)
            groups.append(_Group(number, first + start, chunk.past + start, count))
        first += len(chunk.ids)
    return groups


def _turn(place: int, shares: int) -> int:
    """Whose a group is: there and back again, since those behind have more to look at."""
    turn = place % (2 * shares)
    return min(turn, 2 * shares - 1 - turn)


@dataclass(frozen=True)
class _Prompt:
    """What the threads share."""

    chunks: Sequence[Chunk]
    blocks: list[Table]  # of each chunk
    cache: ChunkCache
    slots: Table  # (T,) in the pool
    groups: list[list[_Group]]  # of each thread
    states: Floats  # (T, H) the embeddings
    queries: Tensor  # (A, T, D) bfloat16, for PyTorch
    attended: Tensor  # (T, A, D) bfloat16, by PyTorch
    cosines: Floats  # (T, D / 2)
    sines: Floats
    wanted: Table  # (W,) tokens
    logits: Floats  # (W, V)
    barrier: Barrier


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

    FINISHING = "attention_out", "widen", "narrow"

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

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        return *self.projections, self.attention_out, self.widen, self.narrow


class _Script:
    """Programs, and what Python does between them, in the order in which they are written down."""

    def __init__(self, room: "_Room", met: Table, shares: int, *, in_tiles: bool) -> None:
        self.room, self._met, self._shares, self._in_tiles = room, met, shares, in_tiles
        self._steps: list[list[Row] | Callable[[_Prompt], None]] = []
        self._meetings = 0
        self._programs: list[NDArray[np.int64] | Callable[[_Prompt], None]] = []

    def row(self, row: Row) -> None:
        if not (self._steps and isinstance(self._steps[-1], list)):
            self._steps.append([])
        rows = self._steps[-1]
        assert isinstance(rows, list)
        rows.append(row)

    def loop(self, name: columns.Name, *arguments: int) -> None:
        self.row((columns.addresses()[name], *arguments))

    def call(self, function: "Callable[[_Prompt], None]") -> None:
        self._steps.append(function)

    def multiply(self, matrix: Matrix, part: slice = slice(None)) -> None:
        """The room's bytes with a matrix, or some of its outputs, to its sums."""
        if self._in_tiles:
            for row in matrix.products(self.room.bytes_at[0], self.room.groups, self.room.sums_at, part):
                self.row(row)
        else:
            self.call(lambda _: self.room.multiply(matrix, part))

    def meet(self) -> None:
        """All threads come to the same place."""
        if not self._in_tiles:
            self.call(lambda prompt: _wait(prompt.barrier))
        elif self._shares > 1:
            self.row((threads.meeting(), self._met.ctypes.data + 8 * self._meetings, self._shares))
            self._meetings += 1

    def run(self, prompt: _Prompt) -> None:
        if not self._programs:
            self._programs = [native.program(step) if isinstance(step, list) else step for step in self._steps]
        for step in self._programs:
            if isinstance(step, np.ndarray):
                native.run(step)
            else:
                step(prompt)


class _Room:
    """Where a thread keeps what it computes, of the size of its longest share so far: new memory costs time.

    outputs  that there is room for, if it is more than any layer has
    """

    def __init__(self, config: ModelConfig, *, outputs: int = 0) -> None:
        self._config = config
        self._widest = max(config.hidden_size, config.intermediate_size)
        self._outputs = max(self._widest, outputs)
        self.scripts: dict[tuple[int, int, int], _Script] = {}
        self.groups = self._held = self._keys = 0

    def take(self, prompt: _Prompt, groups: Sequence[_Group], window: int) -> None:
        """From now on it is for these tokens."""
        self.hold(len(groups))
        chunks = [prompt.chunks[group.chunk] for group in groups]
        self._fit_keys(max(chunk.end - max(chunk.past + 1 - window, 0) for chunk in chunks))
        self.tokens.fill(-1)
        self._counts.fill(0)
        self._descriptions.fill(0)
        for place, (group, chunk) in enumerate(zip(groups, chunks, strict=True)):
            begin = max(chunk.past + 1 - window, 0)
            is_new = place == 0 or groups[place - 1].chunk != group.chunk
            blocks = prompt.blocks[group.chunk].ctypes.data
            self._descriptions[place] = group.count, group.position, begin, chunk.end, blocks, is_new
            self._counts[place] = group.count
            self.tokens[place, : group.count] = range(group.token, group.token + group.count)
        rows = self.tokens[: self.groups].ravel()
        np.take(prompt.slots, rows, out=self._slots[: len(rows)], mode="clip")
        for source, target in (
            (prompt.states, self.x),
            (prompt.cosines, self._angles[0][: self.groups]),
            (prompt.sines, self._angles[1][: self.groups]),
        ):
            target[:] = source[np.maximum(rows, 0)].reshape(self.groups, LANES, -1).transpose(0, 2, 1)

    def hold(self, groups: int) -> None:
        """Be of a size."""
        self.groups = -(-groups // PAIR) * PAIR
        if self.groups <= self._held:
            return
        config, held = self._config, self.groups
        self._held = held
        self.scripts.clear()
        self._x = np.empty((held, config.hidden_size, LANES), np.float32)
        self._sums = np.empty(held * self._outputs * LANES, np.int32)
        self._bytes = np.empty(held * self._widest * LANES, np.int8)
        self._scales = np.empty((held, LANES), np.float32)
        self._queries = np.empty(held * config.hidden_size * LANES, np.int16)
        self._angles = np.empty((2, held, config.head_dim // 2, LANES), np.float32)
        self._tokens = np.full((held, LANES), -1, np.int64)
        self._slots = np.zeros(held * LANES, np.int64)
        self._counts = np.zeros(held, np.int64)
        self._descriptions = np.zeros((held, tile_attention.COLUMNS), np.int64)

    def _fit_keys(self, keys: int) -> None:
        if keys > self._keys:
            self._keys = max(keys, min(2 * keys, self._config.max_position_embeddings))
            self.scripts.clear()
            scores = tile_attention.score_bytes(self._keys)
            sizes = tile_attention.value_bytes(self._keys, self._config.head_dim), scores, scores // 2
            self._attention = [np.empty(size, np.int8) for size in sizes]

    def multiply(self, matrix: Matrix, part: slice) -> None:
        """By PyTorch."""
        matrix.multiply(self._bytes, self.groups, self._sums, part)

    def numbers(self, width: int) -> Floats:
        """(G, width, LANES) of what stands where sums do."""
        held = self._sums[: self.groups * width * LANES]
        return held.view(np.float32).reshape(self.groups, width, LANES)

    def put_logits(self, matrix: Matrix, part: slice, out: Floats) -> None:
        """Sums to numbers, a row for each token."""
        sums = self._sums[: self.groups * matrix.outputs * LANES].reshape(self.groups, matrix.outputs, LANES)
        for token, row in enumerate(out[:, part]):
            group, lane = divmod(token, LANES)
            np.multiply(sums[group, part, lane], matrix.scale[part], out=row)
            row *= self._scales[group, lane]

    @property
    def x(self) -> Floats:
        """(G, H, LANES)"""
        return self._x[: self.groups]

    @property
    def tokens(self) -> Table:
        """(G, LANES) of all chunks', -1 where there is none."""
        return self._tokens[: self.groups]

    @property
    def x_at(self) -> int:
        """Address of `x`."""
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

    @property
    def queries_at(self) -> int:
        """Address of the queries' tiles."""
        return self._queries.ctypes.data

    @property
    def angles_at(self) -> tuple[int, int]:
        """Addresses of cosines and sines, (G, D / 2, LANES)."""
        return self._angles[0].ctypes.data, self._angles[1].ctypes.data

    @property
    def counts_at(self) -> int:
        """Address of (G,) tokens in a group."""
        return self._counts.ctypes.data

    @property
    def slots_at(self) -> int:
        """Address of (G, LANES) places in the pool."""
        return self._slots.ctypes.data

    @property
    def descriptions_at(self) -> int:
        """Address of what attention is told of each group."""
        return self._descriptions.ctypes.data

    @property
    def attention_at(self) -> list[int]:
        """Addresses of what attention works with."""
        return [held.ctypes.data for held in self._attention]


def _put(rows: Floats, out: Floats) -> None:
    """(M, K) to (G, K, LANES), with zeros for tokens that there are not."""
    padded = np.zeros((len(out) * LANES, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    out[:] = padded.reshape(len(out), LANES, -1).transpose(0, 2, 1)


def _in_order(*parts: Callable[[], None]) -> None:
    for part in parts:
        part()


def _wait(barrier: Barrier) -> None:
    barrier.wait()
