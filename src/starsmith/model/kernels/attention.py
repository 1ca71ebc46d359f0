"""Attention of a step's tokens to the blocks of their sequences."""

import numpy as np

from starsmith.model.kernels.arithmetic import rotate, softmax
from starsmith.model.kernels.compiling import compiled
from starsmith.model.kernels.memory import as_bits, call_7, floats, integers, put_float, put_half
from starsmith.model.kernels.tables import (
    ATTENDED,
    BLOCK_TOKENS,
    COSINES,
    HEAD_DIM,
    HEADS,
    KEYS,
    KV_BYTES,
    KV_HEADS,
    MIX_LOOPS,
    MOST,
    OWN_SCORE_STRIDE,
    OWN_SCORES,
    POOL_BLOCKS,
    POSITIONS,
    PROJECTED,
    SCORE_LOOPS,
    SINES,
    SLOTS,
    STARTS,
    TABLES,
    TOKENS,
    VALUES,
    WINDOW,
    Table,
)
from starsmith.model.kernels.threads import draw


@compiled
def store(layer: int, thread: int, threads: int, plan: Table) -> None:
    """Rotate queries and keys, and put keys and values into the pool."""
    width, heads, kv_heads, tokens = plan[HEAD_DIM], plan[HEADS], plan[KV_HEADS], plan[TOKENS]
    parts, half, is_float = heads + 2 * kv_heads, width // 2, plan[KV_BYTES] == 4
    positions, slots = integers(plan[POSITIONS], tokens), integers(plan[SLOTS], tokens)
    for task in range(thread, tokens * parts, threads):
        m, part = task // parts, task % parts
        row = floats(plan[PROJECTED] + task * width * 4, width)
        if part < heads + kv_heads:
            turn = positions[m] * half * 4
            rotate(row, floats(plan[COSINES] + turn, half), floats(plan[SINES] + turn, half))
        if part >= heads:
            group = (part - heads) % kv_heads
            pool = plan[KEYS] if part < heads + kv_heads else plan[VALUES]
            first = (_group_base(layer, group, plan) * plan[BLOCK_TOKENS] + slots[m]) * width
            for i in range(width):
                if is_float:
                    put_float(pool + (first + i) * 4, row[i])
                else:
                    put_half(pool + (first + i) * 2, row[i])


@compiled
def _group_base(layer: int, group: int, plan: Table) -> int:
    """Blocks in the pool before those of a layer's key/value head."""
    return (layer * plan[KV_HEADS] + group) * plan[POOL_BLOCKS]  # type: ignore[no-any-return]


@compiled
def attend(layer: int, plan: Table, own: Table, counter: int) -> None:
    """By tasks that threads draw: a token, and a few heads that share keys."""
    kv_heads, together = plan[KV_HEADS], plan[HEADS] // plan[KV_HEADS]
    portions = (together + MOST - 1) // MOST
    task = draw(counter)
    while task < plan[TOKENS] * kv_heads * portions:
        m, rest = task // (kv_heads * portions), task % (kv_heads * portions)
        group, first = rest // portions, rest % portions * MOST
        _attend_heads(layer, m, group, group * together + first, min(MOST, together - first), plan, own)
        task = draw(counter)


@compiled
def _attend_heads(layer: int, m: int, group: int, head: int, most: int, plan: Table, own: Table) -> None:
    """Positions before the token's window and behind the token are never mixed in: their values may be anything."""
    width, block_tokens = plan[HEAD_DIM], plan[BLOCK_TOKENS]
    seen = integers(plan[POSITIONS], plan[TOKENS])[m] + 1
    first = max(seen - plan[WINDOW], 0)
    start = first // block_tokens * block_tokens  # of the first block that is looked at
    table = plan[TABLES] + integers(plan[STARTS], plan[TOKENS])[m] * 8
    blocks = integers(table, (seen + block_tokens - 1) // block_tokens)
    queries = plan[PROJECTED] + (m * (plan[HEADS] + 2 * plan[KV_HEADS]) + head) * width * 4
    base, block_bytes = _group_base(layer, group, plan), block_tokens * width * plan[KV_BYTES]
    loop, factor = integers(plan[SCORE_LOOPS], MOST)[most - 1], as_bits(np.float32(1.0 / np.sqrt(width)))
    for begin in range(start, seen, block_tokens):  # with the positions of the last block that are not there yet
        keys = plan[KEYS] + (base + blocks[begin // block_tokens]) * block_bytes
        scores_at = own[OWN_SCORES] + (begin - start) * 4
        call_7(loop, keys, queries, width * 4, width, scores_at, own[OWN_SCORE_STRIDE], factor)
    out = plan[ATTENDED] + (m * plan[HEADS] + head) * width * 4
    for j in range(most):
        scores = floats(own[OWN_SCORES] + j * own[OWN_SCORE_STRIDE] + (first - start) * 4, seen - first)
        total = softmax(scores)
        for i in range(seen - first):
            scores[i] /= total
        sums = floats(out + j * width * 4, width)
        for i in range(width):
            sums[i] = np.float32(0)
    loop = integers(plan[MIX_LOOPS], MOST)[most - 1]
    for begin in range(start, seen, block_tokens):
        skipped = max(first - begin, 0)
        values = plan[VALUES] + (base + blocks[begin // block_tokens]) * block_bytes
        values += skipped * width * plan[KV_BYTES]
        weights = own[OWN_SCORES] + (begin - start + skipped) * 4
        count = min(block_tokens, seen - begin) - skipped
        call_7(loop, values, weights, own[OWN_SCORE_STRIDE], count, out, width * 4, width)
