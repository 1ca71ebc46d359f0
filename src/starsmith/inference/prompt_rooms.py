"""Where the threads that read a prompt keep what they compute, and how its tokens are shared among them.

Shapes: T tokens of all chunks, W of them whose logits are wanted; G groups of LANES of a thread, an even number of
them; A heads, D head width, H hidden, V words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Barrier
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from starsmith.inference.byte_products import PAIR, Matrix
from starsmith.model.config import ModelConfig
from starsmith.model.kernels import tile_attention
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.tables import Floats, Table
from starsmith.model.kv_cache import Chunk, ChunkCache

if TYPE_CHECKING:
    from starsmith.inference.prompt_scripts import Script


@dataclass(frozen=True)
class Group:
    """LANES tokens of one chunk, or what is left of it."""

    chunk: int
    token: int  # the first, of those of all chunks
    position: int  # its position in the sequence
    count: int


def groups_of(chunks: Sequence[Chunk]) -> list[Group]:
    """All tokens, in order."""
    groups, first = [], 0
    for number, chunk in enumerate(chunks):
        for start in range(0, len(chunk.ids), LANES):
            count = min(LANES, len(chunk.ids) - start)
            groups.append(Group(number, first + start, chunk.past + start, count))
        first += len(chunk.ids)
    return groups


def whose(place: int, shares: int) -> int:
    """Whose a group is: there and back again, since those behind have more to look at."""
    turn = place % (2 * shares)
    return min(turn, 2 * shares - 1 - turn)


@dataclass(frozen=True)
class Prompt:
    """What the threads share."""

    chunks: Sequence[Chunk]
    blocks: list[Table]  # of each chunk
    cache: ChunkCache
    slots: Table  # (T,) in the pool
    groups: list[list[Group]]  # of each thread
    states: Floats  # (T, H) the embeddings
    queries: Tensor  # (A, T, D) bfloat16, for PyTorch
    attended: Tensor  # (T, A, D) bfloat16, by PyTorch
    cosines: Floats  # (T, D / 2)
    sines: Floats
    wanted: Table  # (W,) tokens
    logits: Floats  # (W, V)
    barrier: Barrier


class Room:
    """Where a thread keeps what it computes, of the size of its longest share so far: new memory costs time.

    outputs  that there is room for, if it is more than any layer has
    """

    def __init__(self, config: ModelConfig, *, outputs: int = 0) -> None:
        self._config = config
        self._widest = max(config.hidden_size, config.intermediate_size)
        self._outputs = max(self._widest, outputs)
        self.scripts: dict[tuple[int, int, int], Script] = {}
        self.groups = self._held = self._keys = 0

    def take(self, prompt: Prompt, groups: Sequence[Group], window: int) -> None:
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


def put_rows(rows: Floats, out: Floats) -> None:
    """(M, K) to (G, K, LANES), with zeros for tokens that there are not."""
    padded = np.zeros((len(out) * LANES, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    out[:] = padded.reshape(len(out), LANES, -1).transpose(0, 2, 1)
