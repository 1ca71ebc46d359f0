"""One step of a StarCoder2 model on a few tokens, compiled: every thread runs `step`, and they share its work.

A step of one token reads every weight once, so its time is that of the memory, if nothing else costs any. As PyTorch
operations it is twenty calls a layer; here it is one call a thread. Each token's numbers are computed in an order that
does not depend on the other tokens of the step: a token read alone, with guesses behind it or beside other sequences
gives the same bits.

The matrices are given as a table of addresses and sizes (columns: KIND to COLUMNS) and stay where PyTorch has them.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from starsmith.model.kernels.arithmetic import gelu, normalize, reordered, rotate, softmax, to_bytes
from starsmith.model.kernels.threads import (
    byte_at,
    call_6,
    call_7,
    call_8,
    draw,
    float_at,
    half_at,
    integer_at,
    meet,
    put_float,
    put_half,
)
from starsmith.model.kernels.vectors import GROUP, MOST, ROWS, SHIFT

F32, BF16, INT8, W8A8, INT4 = range(5)  # KIND: int8 and int4 are by weight only, w8a8 rounds the activations, too
KIND, WEIGHTS, SCALES, SUMS, BIAS, OUTPUTS, INPUTS, LOOPS = range(8)
COLUMNS = LOOPS + MOST  # the last are the addresses of the inner loops, for 1 to MOST tokens
Q, K, V, O, FC, PROJ, MATRICES = range(7)  # noqa: E741 of a layer, in the table's order
PORTION = 32  # weight rows that a thread draws at once
COUNTERS = 16  # of a layer: six matrices, attention, and the places to meet

compiled = njit(nogil=True, cache=True, error_model="numpy")


class Shape(NamedTuple):
    """Sizes of the model and of the step."""

    rows: int  # tokens of the step
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    window: int  # positions that a token sees at most
    pool_blocks: int
    block_tokens: int
    kv_bytes: int  # of one number in the pool: 4 is float32, 2 is bfloat16
    epsilon: float


class Model(NamedTuple):
    """Where the model's numbers are."""

    matrices: Any  # (L * MATRICES + 2, COLUMNS) int64; the last two are the output head and the embedding
    norms: Any  # (2 L + 1, 2, H) float32: weights and biases of the norms
    cosines: Any  # (positions, D / 2) float32
    sines: Any
    keys: int  # addresses of the pool
    values: int
    score_loops: Any  # (MOST,) int64: addresses of the inner loops that multiply with keys ...
    mix_loops: Any  # ... and sum up values


class Tokens(NamedTuple):
    """What is read in the step: M tokens."""

    ids: Any  # (M,) int64
    positions: Any  # (M,) int64
    slots: Any  # (M,) int64: where the token's own keys and values go
    tables: Any  # (blocks of all sequences,) int64
    starts: Any  # (M,) int64: where in `tables` the blocks of the token's sequence begin
    wanted: Any  # (W,) int64: tokens of which logits are wanted


class Shared(NamedTuple):
    """What the threads write for one another; float32 but for the counters."""

    residual: Any  # (M, H)
    middle: Any  # (M, H): the residual after attention
    heads: Any  # (M, (A + 2 G) D): queries, keys and values
    attended: Any  # (M, A D)
    wide: Any  # (M, I)
    logits: Any  # (W, vocabulary)
    counters: Any  # (L + 1, COUNTERS) int64
    residual_at: int  # addresses of the above
    middle_at: int
    heads_at: int
    attended_at: int
    wide_at: int
    logits_at: int
    counters_at: int


class Own(NamedTuple):
    """What one thread has to itself."""

    rows: Any  # (M, widest) float32
    bytes: Any  # (M, widest) int8
    scales: Any  # (M,) float32
    byte_sums: Any  # (M, widest / GROUP) float32: eight times the sum of each group of bytes
    sums: Any  # (ROWS * MOST,) float32, or int32 where the sums are exact
    scores: Any  # (MOST, positions) float32
    rows_at: int  # addresses and, in bytes, strides of the above
    row_stride: int
    bytes_at: int
    byte_stride: int
    scales_at: int
    byte_sums_at: int
    byte_sum_stride: int
    sums_at: int
    scores_at: int
    score_stride: int


@compiled
def step(thread, threads, shape, model, tokens, shared, own):  # type: ignore[no-untyped-def]
    """All of it, by one of the threads."""
    for m in range(thread, shape.rows, threads):
        _embed(model.matrices[-1], tokens.ids[m], shared.residual[m])
    _meet(shared, shape.layers, COUNTERS - 1, threads)
    for layer in range(shape.layers):
        _attention(layer, thread, threads, shape, model, tokens, shared, own)
        _perceptron(layer, threads, shape, model, shared, own)
    head = model.matrices[-2]
    for w in range(tokens.wanted.shape[0]):
        _normalize(shared.residual[tokens.wanted[w]], model.norms[2 * shape.layers], shape.epsilon, own.rows[w])
    _round(head, tokens.wanted.shape[0], shape.hidden, own)
    counter = shared.counters_at + shape.layers * COUNTERS * 8
    _multiply(head, tokens.wanted.shape[0], own, shared.logits_at, head[OUTPUTS] * 4, 0, 0, counter)


@compiled
def _meet(shared, layer, place, threads):  # type: ignore[no-untyped-def]
    if threads > 1:
        meet(shared.counters_at + (layer * COUNTERS + place) * 8, threads)


@compiled
def _embed(matrix, token, out):  # type: ignore[no-untyped-def]
    width, kind = matrix[INPUTS], matrix[KIND]
    if kind == F32:
        for i in range(width):
            out[i] = float_at(matrix[WEIGHTS] + (token * width + i) * 4)
    elif kind == BF16:
        for i in range(width):
            out[i] = half_at(matrix[WEIGHTS] + (token * width + i) * 2)
    else:
        scale = float_at(matrix[SCALES] + token * 4)
        for i in range(width):
            out[i] = np.float32(byte_at(matrix[WEIGHTS] + token * width + i)) * scale


@compiled
def _normalize(x, norm, epsilon, out):  # type: ignore[no-untyped-def]
    normalize(x, norm[0], norm[1], np.float32(epsilon), out[: x.shape[0]])


@compiled
def _attention(layer, thread, threads, shape, model, tokens, shared, own):  # type: ignore[no-untyped-def]
    first, counters = layer * MATRICES, shared.counters_at + layer * COUNTERS * 8
    for m in range(shape.rows):
        _normalize(shared.residual[m], model.norms[2 * layer], shape.epsilon, own.rows[m])
    _round(model.matrices[first], shape.rows, shape.hidden, own)
    out, stride = shared.heads_at, (shape.heads + 2 * shape.kv_heads) * shape.head_dim * 4
    for number in range(Q, V + 1):
        matrix = model.matrices[first + number]
        _multiply(matrix, shape.rows, own, out, stride, 0, 0, counters + number * 8)
        out += matrix[OUTPUTS] * 4
    _meet(shared, layer, 8, threads)
    _store(layer, thread, threads, shape, model, tokens, shared)
    _meet(shared, layer, 9, threads)
    _attend(layer, shape, model, tokens, shared, own, counters)
    _meet(shared, layer, 10, threads)
    matrix = model.matrices[first + O]
    for m in range(shape.rows):
        own.rows[m, : shape.heads * shape.head_dim] = shared.attended[m]
    _round(matrix, shape.rows, shape.heads * shape.head_dim, own)
    stride = shape.hidden * 4
    _multiply(matrix, shape.rows, own, shared.middle_at, stride, shared.residual_at, stride, counters + O * 8)
    _meet(shared, layer, 11, threads)


@compiled
def _perceptron(layer, threads, shape, model, shared, own):  # type: ignore[no-untyped-def]
    first, counters = layer * MATRICES, shared.counters_at + layer * COUNTERS * 8
    for m in range(shape.rows):
        _normalize(shared.middle[m], model.norms[2 * layer + 1], shape.epsilon, own.rows[m])
    _round(model.matrices[first + FC], shape.rows, shape.hidden, own)
    wide, stride = shape.intermediate * 4, shape.hidden * 4
    _multiply(model.matrices[first + FC], shape.rows, own, shared.wide_at, wide, 0, 0, counters + FC * 8)
    _meet(shared, layer, 12, threads)
    for m in range(shape.rows):
        gelu(shared.wide[m], own.rows[m, : shape.intermediate])
    _round(model.matrices[first + PROJ], shape.rows, shape.intermediate, own)
    matrix = model.matrices[first + PROJ]
    _multiply(matrix, shape.rows, own, shared.residual_at, stride, shared.middle_at, stride, counters + PROJ * 8)
    _meet(shared, layer, 13, threads)


@compiled
def _round(matrix, rows, width, own):  # type: ignore[no-untyped-def]
    """Make bytes of the thread's rows where the matrix takes bytes."""
    if matrix[KIND] < W8A8:
        return
    for m in range(rows):
        own.scales[m] = to_bytes(own.rows[m, :width], own.bytes[m, :width])
    if matrix[KIND] == INT4:
        for m in range(rows):
            for group in range(width // GROUP):
                total = np.int32(0)
                for i in range(group * GROUP, (group + 1) * GROUP):
                    total += np.int32(own.bytes[m, i])
                own.byte_sums[m, group] = np.float32(8 * total)


@compiled
def _multiply(matrix, rows, own, out, out_stride, added, added_stride, counter):  # type: ignore[no-untyped-def]
    """Rows of the thread's times the matrix, by portions that threads draw.

    out, out_stride      where the product of the first row goes, and bytes from there to that of the next
    added, added_stride  what to add to the product, likewise; 0 for nothing

    The inner loops are given numbers alone: an array among the arguments of a call costs as much as the call's work.
    """
    kind, outputs, width = matrix[KIND], matrix[OUTPUTS], matrix[INPUTS]
    activations, stride = (own.bytes_at, own.byte_stride) if kind >= W8A8 else (own.rows_at, own.row_stride)
    row_bytes = width // 2 if kind == INT4 else width * (4 if kind == F32 else 2 if kind == BF16 else 1)
    weights, scales, weight_sums, bias = matrix[WEIGHTS], matrix[SCALES], matrix[SUMS], matrix[BIAS]
    group_bytes = width // GROUP * 4
    sums, token_scales, excess, excess_stride = own.sums_at, own.scales_at, own.byte_sums_at, own.byte_sum_stride
    portions = (outputs + PORTION - 1) // PORTION
    portion = draw(counter)
    while portion < portions:
        for start in range(portion * PORTION, min((portion + 1) * PORTION, outputs), ROWS):
            row = min(start, outputs - ROWS)  # at the end some rows are computed twice, to the same numbers
            for m in range(0, rows, MOST):
                most = min(MOST, rows - m)
                loop, seen = matrix[LOOPS + most - 1], activations + m * stride
                place, to, add = weights + row * row_bytes, out + m * out_stride + row * 4, 0
                if added:
                    add = added + m * added_stride + row * 4
                if kind == INT4:
                    row_scales = scales + row * group_bytes
                    call_8(loop, place, row_bytes, seen, stride, width, sums, row_scales, group_bytes)
                    tokens, seen = token_scales + m * 4, excess + m * excess_stride
                    _finish_groups(most, sums, row_scales, group_bytes, tokens, seen, excess_stride)
                else:
                    call_6(loop, place, row_bytes, seen, stride, width, sums)
                    if kind == W8A8:
                        _finish_bytes(most, sums, scales + row * 4, weight_sums + row * 4, token_scales + m * 4)
                    elif kind == INT8:
                        _finish_scaled(most, sums, scales + row * 4)
                _put(most, sums, bias + row * 4 if bias else 0, add, added_stride, to, out_stride)
        portion = draw(counter)


@compiled
def _finish_bytes(most, sums, scales, weight_sums, token_scales):  # type: ignore[no-untyped-def]
    """Exact sums to products, in place."""
    for i in range(ROWS):
        excess, scale = np.int32(SHIFT) * integer_at(weight_sums + i * 4), float_at(scales + i * 4)
        for j in range(most):
            place = sums + (i * most + j) * 4
            put_float(place, np.float32(integer_at(place) - excess) * scale * float_at(token_scales + j * 4))


@compiled
def _finish_groups(most, sums, scales, group_bytes, token_scales, excess, excess_stride):  # type: ignore[no-untyped-def]
    """Sums of unsigned weights to products, in place."""
    for i in range(ROWS):
        for j in range(most):
            place = sums + (i * most + j) * 4
            too_much = _products(scales + i * group_bytes, excess + j * excess_stride, group_bytes // 4)
            put_float(place, (float_at(place) - too_much) * float_at(token_scales + j * 4))


@compiled
def _finish_scaled(most, sums, scales):  # type: ignore[no-untyped-def]
    """Sums of weights without their scale to products, in place."""
    for i in range(ROWS):
        scale = float_at(scales + i * 4)
        for j in range(most):
            put_float(sums + (i * most + j) * 4, float_at(sums + (i * most + j) * 4) * scale)


@compiled
def _put(most, sums, bias, added, added_stride, out, out_stride):  # type: ignore[no-untyped-def]
    """Products with what is added to them, to where they go."""
    for i in range(ROWS):
        more = float_at(bias + i * 4) if bias else np.float32(0)
        for j in range(most):
            value = float_at(sums + (i * most + j) * 4) + more
            if added:
                value += float_at(added + j * added_stride + i * 4)
            put_float(out + j * out_stride + i * 4, value)


@reordered
def _products(one, other, count):  # type: ignore[no-untyped-def]
    """The sum of the products of the float32 at two addresses."""
    total = np.float32(0)
    for i in range(count):
        total += float_at(one + i * 4) * float_at(other + i * 4)
    return total


@compiled
def _store(layer, thread, threads, shape, model, tokens, shared):  # type: ignore[no-untyped-def]
    """Rotate queries and keys, and put keys and values into the pool."""
    width, heads, kv_heads = shape.head_dim, shape.heads, shape.kv_heads
    parts = heads + 2 * kv_heads
    for task in range(thread, shape.rows * parts, threads):
        m, part = task // parts, task % parts
        row = shared.heads[m, part * width : (part + 1) * width]
        if part < heads + kv_heads:
            rotate(row, model.cosines[tokens.positions[m]], model.sines[tokens.positions[m]])
        if part >= heads:
            group = (part - heads) % kv_heads
            pool = model.keys if part < heads + kv_heads else model.values
            slot = (layer * kv_heads + group) * shape.pool_blocks * shape.block_tokens + tokens.slots[m]
            for i in range(width):
                if shape.kv_bytes == 4:
                    put_float(pool + (slot * width + i) * 4, row[i])
                else:
                    put_half(pool + (slot * width + i) * 2, row[i])


@compiled
def _attend(layer, shape, model, tokens, shared, own, counters):  # type: ignore[no-untyped-def]
    """Attention of the step's tokens to their sequences: a task is a token and a few heads that share keys."""
    together = shape.heads // shape.kv_heads
    portions = (together + MOST - 1) // MOST
    tasks = shape.rows * shape.kv_heads * portions
    counter = counters + 7 * 8
    task = draw(counter)
    while task < tasks:
        m, rest = task // (shape.kv_heads * portions), task % (shape.kv_heads * portions)
        group, portion = rest // portions, rest % portions
        head = group * together + portion * MOST
        _attend_heads(layer, m, group, head, min(MOST, together - portion * MOST), shape, model, tokens, shared, own)
        task = draw(counter)


@compiled
def _attend_heads(layer, m, group, head, most, shape, model, tokens, shared, own):  # type: ignore[no-untyped-def]
    width, size, block_tokens = shape.head_dim, shape.kv_bytes, shape.block_tokens
    position = tokens.positions[m]
    first = max(position + 1 - shape.window, 0)
    base = (layer * shape.kv_heads + group) * shape.pool_blocks
    queries = shared.heads_at + (m * (shape.heads + 2 * shape.kv_heads) + head) * width * 4
    factor = np.float32(1.0 / np.sqrt(width))
    start = first // block_tokens * block_tokens  # of the first block that is looked at
    for begin in range(start, position + 1, block_tokens):
        block = base + tokens.tables[tokens.starts[m] + begin // block_tokens]
        keys = model.keys + block * block_tokens * width * size
        for offset in range(0, block_tokens, ROWS):
            if begin + offset <= position:
                address = keys + offset * width * size
                call_6(model.score_loops[most - 1], address, width * size, queries, width * 4, width, own.sums_at)
                for i in range(ROWS):
                    for j in range(most):
                        own.scores[j, begin - start + offset + i] = own.sums[i * most + j] * factor
    seen, hidden = position + 1 - start, first - start
    for j in range(most):
        total = softmax(own.scores[j, hidden:seen])
        for i in range(hidden):
            own.scores[j, i] = np.float32(0)
        for i in range(hidden, seen):
            own.scores[j, i] /= total
        shared.attended[m, (head + j) * width : (head + j + 1) * width] = np.float32(0)
    out = shared.attended_at + (m * shape.heads + head) * width * 4
    for begin in range(start, position + 1, block_tokens):
        block = base + tokens.tables[tokens.starts[m] + begin // block_tokens]
        values = model.values + block * block_tokens * width * size
        weights = own.scores_at + (begin - start) * 4
        count = min(block_tokens, position + 1 - begin)
        call_7(model.mix_loops[most - 1], values, weights, own.score_stride, count, out, width * 4, width)
