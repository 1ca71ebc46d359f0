"""A model, its pool of KV blocks and room for what is computed, as the tables by which the compiled step works."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from starsmith.model.config import ModelConfig
from starsmith.model.kernels import tables, tiles, vectors
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.tables import GROUP, MOST, PORTION, ROWS, Floats, Table
from starsmith.model.kernels.vectors import Instructions
from starsmith.model.kv_cache import BLOCK_TOKENS, BlockPool, Chunk
from starsmith.model.quantization import QuantizedEmbedding, QuantizedLinear
from starsmith.model.transformer import Transformer, rotary_angles

STEP_TOKENS = LANES  # of a step at most

_FLOATS = {torch.float32: tables.F32, torch.bfloat16: tables.BF16}
_LEVELS = {"int8": tables.INT8, "w8a8": tables.W8A8, "int4": tables.INT4}
_LOOPS: dict[int, vectors.Name] = {
    tables.F32: "f32",
    tables.BF16: "bf16",
    tables.INT8: "i8_f32",
    tables.W8A8: "i8",
    tables.INT4: "u4",
}
_OF_A_LAYER = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.c_fc", "mlp.c_proj")


def is_supported(model: Transformer, pool: BlockPool) -> bool:
    """Whether the step can read them: types that it knows, and rows of whole vectors, on a CPU."""
    config, weight = model.config, model.lm_head.weight
    is_quantized = isinstance(model.lm_head, QuantizedLinear)
    vector = GROUP if is_quantized else LANES
    return (
        pool.keys.device.type == weight.device.type == "cpu"
        and pool.keys.dtype in _FLOATS
        and (is_quantized or weight.dtype in _FLOATS)
        and config.hidden_size % vector == config.intermediate_size % vector == 0
        and config.head_dim % LANES == 0
        and config.vocab_size >= ROWS
    )


assert BLOCK_TOKENS == LANES  # whose scores are one vector


class Plan:
    """What `step` is given: a table for all threads, and one for each. They hold as long as this does."""

    def __init__(
        self, model: Transformer, pool: BlockPool, *, threads: int, instructions: Instructions | None = None
    ) -> None:
        chosen = instructions or vectors.best()
        self._kept: list[object] = []  # what the tables point to
        self._vocab_size = model.config.vocab_size
        self._read = {column: np.zeros(STEP_TOKENS, np.int64) for column in _columns([])[0]}
        self._blocks = np.zeros(0, np.int64)
        matrices = self._matrices(model, chosen)
        self._products, buffers = self._products_of(model)
        self._drawn = np.zeros((len(self._products), tables.COUNTERS), np.int64)
        places = {column: self._at(array) for column, array in self._read.items()}
        places |= {column: self._at(array) for column, array in buffers.items()}
        places |= self._pool(pool, chosen) | self._rotations(model.config)
        places |= {tables.PRODUCTS: self._at(self._products), tables.DRAWN: self._at(self._drawn)}
        places |= {tables.MATRICES: self._at(matrices), tables.EMBEDDING: self._at(matrices[-1])}
        self.table: Table = np.zeros(tables.PLAN, np.int64)
        for column, value in {**_sizes(model.config, pool), **places}.items():
            self.table[column] = value
        use_tiles = instructions is None and tiles.is_available()
        self.own = [self._own(model.config, use_tiles=use_tiles) for _ in range(threads)]

    def read(self, chunks: Sequence[Chunk]) -> Floats:
        """Set the tables for a step of these chunks, of STEP_TOKENS at most; where their logits will be."""
        columns, blocks = _columns(chunks)
        for column, values in columns.items():
            self._read[column][: len(values)] = values
        self._blocks = np.array(blocks, np.int64)
        self._drawn.fill(0)
        tokens, wanted = len(columns[tables.IDS]), len(columns[tables.WANTED])
        logits = np.empty((wanted, self._vocab_size), np.float32)
        self._products[-1, tables.OUT] = logits.ctypes.data
        self.table[tables.TABLES] = self._blocks.ctypes.data
        self.table[tables.TOKENS], self.table[tables.WANTED_TOKENS] = tokens, wanted
        return logits

    def _at(self, held: NDArray[Any] | Tensor) -> int:
        """An address that holds as long as the plan."""
        self._kept.append(held)
        return int(held.data_ptr() if isinstance(held, Tensor) else held.ctypes.data)

    def _matrices(self, model: Transformer, instructions: Instructions) -> Table:
        modules = [layer.get_submodule(name) for layer in model.model.layers for name in _OF_A_LAYER]
        rows = [self._matrix(module, instructions) for module in (*modules, model.lm_head, model.model.embed_tokens)]
        return np.array(rows, np.int64)

    def _matrix(self, module: nn.Module, instructions: Instructions) -> list[int]:
        state: dict[str, Tensor] = module.state_dict()
        weight = state["weight"]
        assert weight.is_contiguous()
        row = [0] * tables.MATRIX_COLUMNS
        row[tables.WEIGHTS], row[tables.OUTPUTS], row[tables.INPUTS] = self._at(weight), *weight.shape
        if isinstance(module, QuantizedLinear):
            row[tables.KIND], row[tables.INPUTS] = _LEVELS[module.kind], module.in_features
        else:
            row[tables.KIND] = tables.INT8 if isinstance(module, QuantizedEmbedding) else _FLOATS[weight.dtype]
        if "weight_scale" in state:
            row[tables.SCALES] = self._at(state["weight_scale"])
        if row[tables.KIND] == tables.W8A8 and vectors.excess(instructions):
            row[tables.SUMS] = self._at(state["weight_sum"])
        if "bias" in state:
            row[tables.BIAS] = self._at(state["bias"].float().contiguous())
        row[tables.LOOPS :] = vectors.addresses(_LOOPS[row[tables.KIND]], instructions)
        return row

    def _products_of(self, model: Transformer) -> tuple[Table, dict[int, Floats]]:
        """The table of products, the output head's last; and what of their buffers attention works with.

        Where the logits go is for each step to say.
        """
        config = model.config
        hidden, heads = config.hidden_size, config.num_attention_heads + 2 * config.num_key_value_heads
        widths = (hidden, hidden, hidden, heads * config.head_dim, config.intermediate_size)
        residual, middle, attended, projected, wide = (np.zeros((STEP_TOKENS, width), np.float32) for width in widths)
        rows: list[list[int]] = []
        for number, layer in enumerate(model.model.layers):
            matrix = number * len(_OF_A_LAYER)
            before, behind = self._norm(layer, "input_layernorm"), self._norm(layer, "post_attention_layernorm")
            rows += [
                self._product(tables.NORMALIZE, residual, before, matrix, projected, count=3),
                self._product(tables.ATTEND, attended, 0, matrix + 3, middle, added=residual),
                self._product(tables.NORMALIZE, middle, behind, matrix + 4, wide),
                self._product(tables.GELU, wide, 0, matrix + 5, residual, added=middle),
            ]
        logits = np.zeros((1, config.vocab_size), np.float32)
        head = len(_OF_A_LAYER) * config.num_hidden_layers
        rows.append(self._product(tables.FINISH, residual, self._norm(model.model, "norm"), head, logits))
        return np.array(rows, np.int64), {tables.PROJECTED: projected, tables.ATTENDED: attended}

    def _product(
        self,
        how: int,
        source: Floats,
        norm: int,
        matrix: int,
        out: Floats,
        *,
        count: int = 1,
        added: Floats | None = None,
    ) -> list[int]:
        row = [how, self._at(source), source.strides[0], norm, source.shape[1], matrix, count]
        row += [self._at(out), out.strides[0]]
        return [*row, 0, 0] if added is None else [*row, self._at(added), added.strides[0]]

    def _norm(self, owner: nn.Module, name: str) -> int:
        state = owner.get_submodule(name).state_dict()
        return self._at(torch.stack([state["weight"].float(), state["bias"].float()]))

    def _pool(self, pool: BlockPool, instructions: Instructions) -> dict[int, int]:
        names: tuple[vectors.Name, vectors.Name]
        names = ("score_f32", "mix_f32") if pool.keys.dtype == torch.float32 else ("score_bf16", "mix_bf16")
        score, mix = (self._at(np.array(vectors.addresses(name, instructions), np.int64)) for name in names)
        return {
            tables.KEYS: self._at(pool.keys),
            tables.VALUES: self._at(pool.values),
            tables.SCORE_LOOPS: score,
            tables.MIX_LOOPS: mix,
        }

    def _rotations(self, config: ModelConfig) -> dict[int, int]:
        """(positions, D / 2) cosines and sines, as the model has them."""
        angles = rotary_angles(config, torch.arange(config.max_position_embeddings))
        return {tables.COSINES: self._at(angles.cos()), tables.SINES: self._at(angles.sin())}

    def _own(self, config: ModelConfig, *, use_tiles: bool) -> Table:
        widest = max(config.intermediate_size, config.hidden_size)
        seen = min(config.max_position_embeddings, config.sliding_window or config.max_position_embeddings)
        rows = np.zeros((STEP_TOKENS, widest), np.float32)
        levels = np.zeros((STEP_TOKENS, widest), np.int8)
        groups = np.zeros((STEP_TOKENS, widest // GROUP + 1), np.float32)
        scores = np.zeros((MOST, seen + 2 * BLOCK_TOKENS), np.float32)
        table: Table = np.zeros(tables.OWN, np.int64)
        table[tables.OWN_ROWS], table[tables.OWN_ROW_STRIDE] = self._at(rows), rows.strides[0]
        table[tables.OWN_LEVELS], table[tables.OWN_LEVEL_STRIDE] = self._at(levels), levels.strides[0]
        table[tables.OWN_GROUPS], table[tables.OWN_GROUP_STRIDE] = self._at(groups), groups.strides[0]
        table[tables.OWN_SCORES], table[tables.OWN_SCORE_STRIDE] = self._at(scores), scores.strides[0]
        table[tables.OWN_SCALES] = self._at(np.zeros(STEP_TOKENS, np.float32))
        table[tables.OWN_SUMS] = self._at(np.zeros(2 * PORTION * (STEP_TOKENS + MOST), np.float32))
        if use_tiles:
            table[tables.OWN_PACKED] = self._at(np.zeros(widest * LANES, np.int8))
            table[tables.PACK_LOOP], table[tables.TILE_LOOP] = tiles.for_steps()
        self._kept.append(table)
        return table


def _sizes(config: ModelConfig, pool: BlockPool) -> dict[int, int]:
    return {
        tables.LAYERS: config.num_hidden_layers,
        tables.HEADS: config.num_attention_heads,
        tables.KV_HEADS: config.num_key_value_heads,
        tables.HEAD_DIM: config.head_dim,
        tables.WINDOW: config.sliding_window or config.max_position_embeddings,
        tables.EPSILON: int(np.float32(config.norm_epsilon).view(np.int32)),
        tables.POOL_BLOCKS: pool.blocks,
        tables.BLOCK_TOKENS: BLOCK_TOKENS,
        tables.KV_BYTES: pool.keys.dtype.itemsize,
    }


def _columns(chunks: Sequence[Chunk]) -> tuple[dict[int, list[int]], list[int]]:
    """What the table says of each token, and the blocks of all sequences."""
    columns: dict[int, list[int]]
    columns = {column: [] for column in (tables.IDS, tables.POSITIONS, tables.SLOTS, tables.STARTS, tables.WANTED)}
    blocks: list[int] = []
    for chunk in chunks:
        places = range(chunk.past, chunk.end)
        columns[tables.IDS] += chunk.ids
        columns[tables.POSITIONS] += places
        columns[tables.SLOTS] += [
            chunk.blocks[place // BLOCK_TOKENS] * BLOCK_TOKENS + place % BLOCK_TOKENS for place in places
        ]
        columns[tables.STARTS] += [len(blocks)] * len(places)
        blocks += chunk.blocks
        end = len(columns[tables.IDS])
        columns[tables.WANTED] += range(end - chunk.logits, end)
    return columns, blocks
