"""A runner for CPUs: steps of a few tokens by the compiled kernel, long pieces of prompts by PyTorch.

Decoding reads all weights for each step, so there the kernel wins by doing nothing else; a prompt of hundreds of tokens
is matrix products, which PyTorch's libraries do best. Both read the same weights, of which there is one copy.
"""

import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from starsmith.model.kernels import step as kernel
from starsmith.model.kernels import vectors
from starsmith.model.kernels.vectors import GROUP, LANES, MOST, ROWS
from starsmith.inference.runner import TorchRunner
from starsmith.model.config import ModelConfig
from starsmith.model.kv_cache import BLOCK_TOKENS, BlockPool, Chunk
from starsmith.model.quantization import QuantizedEmbedding, QuantizedLinear
from starsmith.model.transformer import Transformer

STEP_TOKENS = 16  # longer chunks are PyTorch's

_KINDS = {
    torch.float32: kernel.F32,
    torch.bfloat16: kernel.BF16,
    "int8": kernel.INT8,
    "w8a8": kernel.W8A8,
    "int4": kernel.INT4,
}
_LOOPS: dict[int, vectors.Name] = {
    kernel.F32: "f32",
    kernel.BF16: "bf16",
    kernel.INT8: "i8_f32",
    kernel.W8A8: "i8",
    kernel.INT4: "u4",
}


def is_supported(model: Transformer, pool: BlockPool) -> bool:
    """Whether the kernel can read the model: widths of whole vectors, types that it knows, on a CPU."""
    config = model.config
    quantized = isinstance(model.lm_head, QuantizedLinear)
    widths = (config.hidden_size, config.intermediate_size)
    return (
        pool.keys.device.type == "cpu"
        and pool.keys.dtype in (torch.float32, torch.bfloat16)
        and (quantized or model.lm_head.weight.dtype in _KINDS)
        and all(width % (GROUP if quantized else LANES) == 0 for width in widths)
        and config.head_dim % LANES == 0
        and min(config.vocab_size, config.num_key_value_heads * config.head_dim) >= ROWS
    )


class CompiledRunner:
    """Implements `inference.runner.Runner`."""

    def __init__(self, model: Transformer, pool: BlockPool, *, threads: int | None = None) -> None:
        self._by_torch = TorchRunner(model, pool)
        self.model, self.pool = model, pool
        self.blocks, self.vocab_size = pool.blocks, model.config.vocab_size
        self.context_tokens = model.config.max_position_embeddings
        self._steps = _Steps(model, pool, threads or torch.get_num_threads())

    def forward(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See `Runner.forward`."""
        short = [chunk for chunk in chunks if len(chunk.ids) <= STEP_TOKENS]
        long = [chunk for chunk in chunks if len(chunk.ids) > STEP_TOKENS]
        from_long = iter(self._by_torch.forward(long) if long else [])
        from_short = iter([logits for batch in _batches(short) for logits in self._steps.run(batch)])
        return [next(from_short if len(chunk.ids) <= STEP_TOKENS else from_long) for chunk in chunks]

    def copy_block(self, source: int, target: int) -> None:
        """See `Runner.copy_block`."""
        self.pool.copy_block(source, target)

    def close(self) -> None:
        """See `Runner.close`."""
        self._steps.close()


def _batches(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Chunks of at most STEP_TOKENS tokens together."""
    batches: list[list[Chunk]] = []
    room = 0
    for chunk in chunks:
        if len(chunk.ids) > room:
            batches.append([])
            room = STEP_TOKENS
        batches[-1].append(chunk)
        room -= len(chunk.ids)
    return batches


@dataclass(frozen=True)
class _Job:
    arguments: tuple[Any, ...]
    done: "SimpleQueue[None]"


class _Steps:
    """The kernel's arguments and threads."""

    def __init__(self, model: Transformer, pool: BlockPool, threads: int) -> None:
        self._config, self._pool, self._threads = model.config, pool, threads
        self._kept: list[Tensor] = []  # copies that are pointed at: biases in float32
        self._model = self._tables(model)
        widest = max(model.config.intermediate_size, model.config.hidden_size)
        seen = min(model.config.max_position_embeddings, model.config.sliding_window or 2**62) + 2 * BLOCK_TOKENS
        self._shared = _shared(model.config)
        self._own = [_own(widest, seen) for _ in range(threads)]
        self._queues: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in range(threads - 1)]
        for number, queue in enumerate(self._queues, start=1):
            threading.Thread(target=_work, args=(number, queue), name=f"step-{number}", daemon=True).start()
        self.close = weakref.finalize(self, _end, self._queues)  # the threads do not know of this object

    def run(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Read chunks of at most STEP_TOKENS tokens together; their logits."""
        tokens = _tokens(chunks)
        rows, wanted = len(tokens.ids), len(tokens.wanted)
        logits = np.empty((wanted, self._config.vocab_size), np.float32)
        self._shared.counters.fill(0)
        shared = self._shared._replace(logits=logits, logits_at=logits.ctypes.data)
        done: SimpleQueue[None] = SimpleQueue()
        arguments = (self._threads, self._shape(rows), self._model, tokens, shared)
        for number, queue in enumerate(self._queues, start=1):
            queue.put(_Job((*arguments, self._own[number]), done))
        kernel.step(0, *arguments, self._own[0])
        for _ in self._queues:
            done.get()
        return list(torch.from_numpy(logits).split([chunk.logits for chunk in chunks]))

    def _shape(self, rows: int) -> kernel.Shape:
        config = self._config
        return kernel.Shape(
            rows=rows,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            layers=config.num_hidden_layers,
            window=config.sliding_window or config.max_position_embeddings,
            pool_blocks=self._pool.blocks,
            block_tokens=BLOCK_TOKENS,
            kv_bytes=self._pool.keys.dtype.itemsize,
            epsilon=config.norm_epsilon,
        )

    def _tables(self, model: Transformer) -> kernel.Model:
        matrices, norms = [], []
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for module in (
                attention.q_proj,
                attention.k_proj,
                attention.v_proj,
                attention.o_proj,
                mlp.c_fc,
                mlp.c_proj,
            ):
                matrices.append(self._row(module))
            norms += [layer.input_layernorm, layer.post_attention_layernorm]
        matrices += [self._row(model.lm_head), self._row(model.model.embed_tokens)]
        norms.append(model.model.norm)
        cosines, sines = _rotations(model.config)
        is_float = self._pool.keys.dtype == torch.float32
        return kernel.Model(
            matrices=np.array(matrices, np.int64),
            norms=np.stack(
                [[norm.weight.detach().float().numpy(), norm.bias.detach().float().numpy()] for norm in norms]
            ),
            cosines=cosines,
            sines=sines,
            keys=self._pool.keys.data_ptr(),
            values=self._pool.values.data_ptr(),
            score_loops=np.array(vectors.addresses("f32" if is_float else "bf16"), np.int64),
            mix_loops=np.array(vectors.addresses("mix_f32" if is_float else "mix_bf16"), np.int64),
        )

    def _row(self, module: nn.Module) -> list[int]:
        """A matrix as the kernel's table has it."""
        row = [0] * kernel.COLUMNS
        weight = module.weight
        assert isinstance(weight, Tensor) and weight.is_contiguous()
        quantized = isinstance(module, QuantizedLinear | QuantizedEmbedding)
        row[kernel.KIND] = _KINDS[
            module.kind if isinstance(module, QuantizedLinear) else "int8" if quantized else weight.dtype
        ]
        row[kernel.WEIGHTS] = weight.data_ptr()
        if isinstance(module, QuantizedLinear | QuantizedEmbedding):
            row[kernel.SCALES] = module.weight_scale.data_ptr()
        if isinstance(module, QuantizedLinear) and module.kind == "w8a8":
            row[kernel.SUMS] = module.weight_sum.data_ptr()
        bias = getattr(module, "bias", None)
        if bias is not None:
            self._kept.append(bias.detach().float().contiguous())
            row[kernel.BIAS] = self._kept[-1].data_ptr()
        row[kernel.LOOPS :] = vectors.addresses(_LOOPS[row[kernel.KIND]])
        row[kernel.OUTPUTS] = len(weight)
        row[kernel.INPUTS] = module.in_features if isinstance(module, QuantizedLinear) else weight.size(1)
        return row


def _end(queues: "Sequence[SimpleQueue[_Job | None]]") -> None:
    for queue in queues:
        queue.put(None)


def _work(number: int, queue: "SimpleQueue[_Job | None]") -> None:
    while (job := queue.get()) is not None:
        kernel.step(number, *job.arguments)
        job.done.put(None)


def _shared(config: ModelConfig) -> kernel.Shared:
    heads = (config.num_attention_heads + 2 * config.num_key_value_heads) * config.head_dim
    widths = (config.hidden_size, config.hidden_size, heads, config.hidden_size, config.intermediate_size)
    buffers = [np.zeros((STEP_TOKENS, width), np.float32) for width in widths]
    logits = np.zeros((STEP_TOKENS, config.vocab_size), np.float32)
    counters = np.zeros((config.num_hidden_layers + 1, kernel.COUNTERS), np.int64)
    held = (*buffers, logits, counters)
    return kernel.Shared(*held, *(array.ctypes.data for array in held))


def _own(widest: int, seen: int) -> kernel.Own:
    rows = np.zeros((STEP_TOKENS, widest), np.float32)
    levels = np.zeros((STEP_TOKENS, widest), np.int8)
    scales = np.zeros(STEP_TOKENS, np.float32)
    byte_sums = np.zeros((STEP_TOKENS, widest // GROUP + 1), np.float32)
    sums = np.zeros(ROWS * MOST, np.float32)
    scores = np.zeros((MOST, seen), np.float32)
    return kernel.Own(
        rows=rows,
        bytes=levels,
        scales=scales,
        byte_sums=byte_sums,
        sums=sums,
        scores=scores,
        rows_at=rows.ctypes.data,
        row_stride=rows.strides[0],
        bytes_at=levels.ctypes.data,
        byte_stride=levels.strides[0],
        scales_at=scales.ctypes.data,
        byte_sums_at=byte_sums.ctypes.data,
        byte_sum_stride=byte_sums.strides[0],
        sums_at=sums.ctypes.data,
        scores_at=scores.ctypes.data,
        score_stride=scores.strides[0],
    )


def _tokens(chunks: Sequence[Chunk]) -> kernel.Tokens:
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    tables: list[int] = []
    starts: list[int] = []
    wanted: list[int] = []
    for chunk in chunks:
        places = range(chunk.past, chunk.end)
        ids += chunk.ids
        positions += places
        slots += [chunk.blocks[place // BLOCK_TOKENS] * BLOCK_TOKENS + place % BLOCK_TOKENS for place in places]
        starts += [len(tables)] * len(chunk.ids)
        tables += chunk.blocks
        wanted += range(len(ids) - chunk.logits, len(ids))
    return kernel.Tokens(*(np.array(values, np.int64) for values in (ids, positions, slots, tables, starts, wanted)))


def _rotations(config: ModelConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(positions, D / 2) cosines and sines, by the same steps as the model's own."""
    width = config.head_dim
    exponents = torch.arange(0, width, 2, dtype=torch.int64).float() / width
    frequencies = 1.0 / (config.rope_theta**exponents)
    angles = torch.arange(config.max_position_embeddings).float()[:, None] * frequencies[None, :]
    return angles.cos().numpy(), angles.sin().numpy()
