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
from torch import Tensor, nn

from starsmith.inference.byte_products import PAIR, Matrix, part_of
from starsmith.inference.prompt_rooms import Prompt, Room, groups_of, put_rows, whose
from starsmith.inference.prompt_scripts import Script
from starsmith.inference.runner import wanted_rows
from starsmith.inference.team import MOST_SHARES, Team
from starsmith.model.kernels import columns, native, tile_attention
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.tables import Floats
from starsmith.model.kv_cache import BlockPool, Chunk, ChunkCache
from starsmith.model.quantization import QuantizedLinear
from starsmith.model.transformer import Transformer, rotary_angles

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
        self._config = config = model.config
        self._layers = [_Layer.of(layer) for layer in model.model.layers]
        self._head, self._last_norm = Matrix.of(model.lm_head), _Norm.of(model.model.norm)
        matrices = [matrix for layer in self._layers for matrix in layer.matrices]
        self.in_tiles = all(matrix.in_tiles for matrix in (*matrices, self._head))
        self.in_tiles &= tile_attention.address() is not None and config.head_dim % tile_attention.DIMENSIONS == 0
        shares = team.count if self.in_tiles else min(team.count, MOST_SHARES)
        self._rooms = [Room(config) for _ in range(shares)]
        self._last_room = Room(config, outputs=config.vocab_size)
        self._kept = [[layer.data_ptr() for layer in held] for held in (pool.keys, pool.values)]
        self._head_bytes = pool.keys.stride(1) * pool.keys.itemsize
        self._epsilon = int(np.float32(config.norm_epsilon).view(np.int32))
        self._window = config.sliding_window or config.max_position_embeddings
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

    def _share(self, parts: Sequence[Callable[[], None]], prompt: Prompt) -> None:
        def carry_out(part: Callable[[], None]) -> None:
            try:
                with torch.inference_mode():
                    part()
            except BaseException:
                prompt.barrier.abort()  # nobody waits for one who does not come
                raise

        self._team.begin([partial(carry_out, part) for part in parts]).wait()

    def _prompt(self, chunks: Sequence[Chunk]) -> Prompt:
        config = self._config
        ids = torch.tensor([token for chunk in chunks for token in chunk.ids])
        cache = ChunkCache(self._pool, chunks)
        angles = rotary_angles(config, cache.positions)
        wanted = wanted_rows(chunks, ids.device).numpy()
        groups = groups_of(chunks)
        shares = min(len(self._rooms), len(groups))
        heads = config.num_attention_heads, config.head_dim
        return Prompt(
            chunks=chunks,
            blocks=[np.array(chunk.blocks, np.int64) for chunk in chunks],
            cache=cache,
            slots=cache.slots.numpy(),
            groups=[[group for place, group in enumerate(groups) if whose(place, shares) == n] for n in range(shares)],
            states=self._model.model.embed_tokens(ids).numpy(),
            queries=torch.empty((heads[0], 0 if self.in_tiles else len(ids), heads[1]), dtype=torch.bfloat16),
            attended=torch.empty((0 if self.in_tiles else len(ids), *heads), dtype=torch.bfloat16),
            cosines=angles.cos().numpy(),
            sines=angles.sin().numpy(),
            wanted=wanted,
            logits=np.empty((len(wanted), config.vocab_size), np.float32),
            barrier=Barrier(shares),
        )

    def _script(self, number: int, shares: int) -> Script:
        """What a thread does with its groups, up to the last layer's attention."""
        room = self._rooms[number]
        key = number, shares, room.groups
        if key not in room.scripts:
            room.scripts[key] = script = Script(room, self._met, shares, in_tiles=self.in_tiles)
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
            script.close()
        return room.scripts[key]

    def _project(self, script: Script, index: int) -> None:
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

    def _put_queries(self, given: tuple[int, ...], room: Room, prompt: Prompt) -> None:
        """For PyTorch, in the order of the prompt."""
        out = prompt.queries.data_ptr(), prompt.queries.stride(0) * prompt.queries.itemsize
        rows = np.ascontiguousarray(room.tokens)
        loop = columns.addresses()["turned_heads"]
        row = (loop, *given, room.counts_at, rows.ctypes.data, *out, *room.angles_at)
        native.run(native.program([row]))

    def _attend(self, script: Script, index: int, number: int, shares: int) -> None:
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

    def _attend_by_torch(self, index: int, heads: slice, prompt: Prompt) -> None:
        """Some of the heads, for all tokens."""
        config = self._config
        together = config.num_attention_heads // config.num_key_value_heads
        groups = [head // together for head in range(heads.start, heads.stop)]
        if groups:
            queries = prompt.queries[None, heads]
            out_BATD = prompt.cache.look(index, queries, window=config.sliding_window, groups=groups)
            prompt.attended[:, heads] = out_BATD[0].transpose(0, 1)

    def _take_attended(self, room: Room, prompt: Prompt) -> None:
        """What PyTorch found for all heads of the thread's tokens."""
        rows = prompt.attended[torch.from_numpy(np.maximum(room.tokens, 0).ravel())].flatten(1).float().numpy()
        room.numbers(rows.shape[1])[:] = rows.reshape(room.groups, LANES, -1).transpose(0, 2, 1)

    def _steps(self, layer: "_Layer", norm: "_Norm", room: Room) -> list[tuple[Matrix, tuple[Any, ...]]]:
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

    def _finish(self, prompt: Prompt) -> None:
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
            put_rows(x, room.x)
            put_rows(attended, room.numbers(width))
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

    def _last_script(self, number: int, shares: int) -> Script:
        """Each thread multiplies with its parts of the matrices; what is between them the first does."""
        room = self._last_room
        key = number, shares, room.groups
        if key not in room.scripts:
            room.scripts[key] = script = Script(room, self._met, shares, in_tiles=self.in_tiles)
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
            script.close()
        return room.scripts[key]


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


def _in_order(*parts: Callable[[], None]) -> None:
    for part in parts:
        part()
