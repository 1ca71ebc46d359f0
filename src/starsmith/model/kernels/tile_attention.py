"""Attention of many tokens to the blocks of their sequences, in a processor's tiles (Intel AMX) of bfloat16.

A group's tokens are lanes here, too (`columns`): scores are a vector for each key, so what a softmax adds up or
compares it does between vectors, and what it makes is the right factor of the next product as it comes. Keys are the
left factor as they are kept; values have to be turned, once for all heads and tokens that look at them.

The scores of one head are all kept until their largest is known (Dao et al. 2022, arXiv 2205.14135, do without that by
multiplying what was added up before): a window of 4,096 keys is 256 kB, which a core's cache holds.

Shapes: D head width, a multiple of DIMENSIONS; pool blocks are SIDE positions of D bfloat16.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir

from starsmith.model.kernels import native
from starsmith.model.kernels.lane_code import I16S, VECTOR, WORD, Lanes
from starsmith.model.kernels.lanes import (
    I32,
    I32S,
    I64,
    LANES,
    Loop,
    Value,
    offset,
    read,
    scaled,
    size,
    splat,
    turned,
    write,
)
from starsmith.model.kernels.tiles import DEPTH, SIDE, TILE, configured, is_available, tile

DIMENSIONS = 32  # bfloat16 in a row of a tile
KEYS = 2 * SIDE  # that one tile of turned values has
# What is said of a group, int64: tokens in it and the position of the first; positions of its sequence from which on
# the chunk looks at keys, and that there are in the end; the address of its blocks; and whether the group before it is
# of another sequence.
COUNT, FIRST, FROM, END, BLOCKS, IS_NEW = range(6)
COLUMNS = 6


@cache
def address() -> int | None:
    """Where the loop is; None without such tiles. Its arguments in a program:

    groups, descriptions (COLUMNS for each), queries (of `query_tiles`), keys, values, bytes from one key/value head to
    the next, key/value heads, heads that share one, width, window, room for values (`value_bytes`), for scores
    (`score_bytes`) and for weights (half as much), out (heads times width vectors a group)
    """
    if not (is_available() and native.FEATURES.get("amx-bf16")):
        return None
    return native.addresses({"attend_in_tiles": Loop(_generate, 14)}, from_row=True)[0]


def value_bytes(keys: int, width: int) -> int:
    """Room for so many keys' values."""
    return (keys // KEYS + 2) * KEYS * width * 2


def score_bytes(keys: int) -> int:
    """Room for so many keys' scores."""
    return (keys // KEYS + 2) * KEYS * VECTOR


def _generate(builder: Any, arguments: Sequence[Value]) -> None:
    groups, descriptions, queries, keys, values, head_bytes, kv_heads, together, width, window, *rooms, out = arguments
    attention = _Attention(builder, width, window, rooms)
    lanes = attention.lanes
    with configured(builder), lanes.loop(kv_heads) as kv_head, lanes.loop(groups) as group:
        at = lanes.at(descriptions, group, 8 * COLUMNS)
        count, first, begin, end, blocks, is_new = (
            read(builder, builder.add(at, size(8 * column)), I64) for column in range(COLUMNS)
        )
        held = builder.mul(kv_head, head_bytes)
        with builder.if_then(builder.icmp_signed("!=", is_new, size(0))):
            attention.turn_values(builder.add(values, held), blocks, begin, end)
        with builder.if_then(builder.icmp_signed(">", count, size(0))):
            k = builder.mul(builder.mul(kv_heads, together), width)
            of_queries = lanes.group_of(queries, k, group, VECTOR // 2)
            to = lanes.group_of(out, k, group, VECTOR)
            span = attention.span(first, count, begin)
            with lanes.loop(together) as number:
                head = builder.mul(builder.add(builder.mul(kv_head, together), number), width)
                query, place = lanes.at(of_queries, head, VECTOR // 2), lanes.at(to, head, VECTOR)
                attention.score(builder.add(keys, held), blocks, query, span)
                total = attention.weigh(first, span)
                attention.mix(span, total, place)


class _Span:
    """The blocks that a group looks at, from an even number of them behind the first of the turned values."""

    def __init__(self, builder: Any, start: Value, skipped: Value, last: Value) -> None:
        self.start = start  # the first block
        self.skipped = skipped  # pairs of blocks before it
        self.last = last  # the last block
        count = builder.add(builder.sub(last, start), size(1))
        self.pairs = builder.udiv(builder.add(count, size(1)), size(2))


class _Attention:
    def __init__(self, builder: Any, width: Value, window: Value, rooms: Sequence[Value]) -> None:
        self.builder, self.lanes = builder, Lanes(builder)
        self.width, self.window = width, window
        self.values, self.scores, self.weights = rooms
        self.row_bytes = scaled(builder, width, 2)
        self.block_bytes = scaled(builder, self.row_bytes, SIDE)
        self.tiles_each = builder.udiv(width, size(SIDE))  # of turned values, for KEYS keys
        self._totals = [self.lanes.variable() for _ in range(2)]
        self._most = [self.lanes.variable() for _ in range(WORD)]

    def span(self, first: Value, count: Value, begin: Value) -> _Span:
        builder = self.builder
        from_block = builder.udiv(begin, size(SIDE))
        seen = builder.sub(builder.add(first, size(1)), self.window)
        seen = builder.select(builder.icmp_signed(">", seen, begin), seen, begin)
        skipped = builder.udiv(builder.sub(builder.udiv(seen, size(SIDE)), from_block), size(2))
        start = builder.add(from_block, scaled(builder, skipped, 2))
        last = builder.udiv(builder.sub(builder.add(first, count), size(1)), size(SIDE))
        return _Span(builder, start, skipped, last)

    def turn_values(self, values: Value, blocks: Value, begin: Value, end: Value) -> None:
        """Tiles with a row for each dimension; where there is no position of the sequence, zeros.

        Whatever is there, a weight of nothing times it must be nothing.
        """
        builder, lanes = self.builder, self.lanes
        first, last = builder.udiv(begin, size(SIDE)), builder.udiv(builder.sub(end, size(1)), size(SIDE))
        count = builder.add(builder.sub(last, first), size(1))
        even = builder.and_(builder.add(count, size(1)), size(-2))
        with lanes.loop(even) as index:
            number = builder.add(first, index)
            known = builder.select(builder.icmp_signed("<", number, last), number, last)
            block = builder.add(values, builder.mul(read(builder, lanes.at(blocks, known, 8), I64), self.block_bytes))
            pair = builder.mul(builder.udiv(index, size(2)), self.tiles_each)
            half = scaled(builder, builder.and_(index, size(1)), DEPTH // 2)
            position = scaled(builder, number, SIDE)
            with lanes.loop(self.tiles_each) as dimensions:
                at = lanes.at(block, dimensions, 2 * SIDE)
                rows = []
                for row in range(SIDE):
                    place = builder.add(position, size(row))
                    is_there = builder.and_(
                        builder.icmp_signed(">=", place, begin), builder.icmp_signed("<", place, end)
                    )
                    held = read(builder, offset(builder, at, self.row_bytes, row), I16S)
                    rows.append(builder.zext(builder.select(is_there, held, ir.Constant(I16S, None)), I32S))
                to = builder.add(lanes.at(self.values, builder.add(pair, dimensions), TILE), half)
                for row, vector in enumerate(turned(builder, rows)):
                    write(builder, builder.trunc(vector, I16S), builder.add(to, size(DEPTH * row)))

    def score(self, keys: Value, blocks: Value, query: Value, span: _Span) -> None:
        """A vector for each key of two blocks at a time; beyond the last it is seen twice, and not looked at."""
        builder, lanes = self.builder, self.lanes
        with lanes.loop(span.pairs) as pair:
            places = []
            for number in range(2):
                block = builder.add(span.start, builder.add(scaled(builder, pair, 2), size(number)))
                block = builder.select(builder.icmp_signed("<", block, span.last), block, span.last)
                held = builder.mul(read(builder, lanes.at(blocks, block, 8), I64), self.block_bytes)
                places.append(builder.add(keys, held))
                tile(builder, "tilezero", [number])
            with lanes.loop(builder.udiv(self.width, size(DIMENSIONS))) as part:
                tile(builder, "tileloadd64", [4], lanes.at(query, part, TILE), size(DEPTH))
                for number, place in enumerate(places):
                    tile(builder, "tileloadd64", [5 + number], lanes.at(place, part, DEPTH), self.row_bytes)
                    tile(builder, "tdpbf16ps", [number, 5 + number, 4])
            for number in range(2):
                to = builder.add(lanes.at(self.scores, pair, 2 * TILE), size(TILE * number))
                tile(builder, "tilestored64", [number], to, size(DEPTH))

    def weigh(self, first: Value, span: _Span) -> Value:
        """Scores to what they are e to the power of, as pairs of halves; their sum.

        e to the lowest is about 1e-38, so what must not be seen counts for nothing.
        """
        builder, lanes = self.builder, self.lanes
        for variable in self._totals:
            lanes.set_zero(variable)
        for variable in self._most:
            builder.store(lanes.number(-np.inf), variable)
        with lanes.loop(span.pairs) as pair:
            key = builder.add(scaled(builder, span.start, SIDE), scaled(builder, pair, KEYS))
            scores = lanes.at(self.scores, pair, KEYS * VECTOR)
            oldest = builder.sub(builder.add(first, size(LANES - 1)), self.window)  # that the last token does not see
            is_whole = builder.and_(
                builder.icmp_signed("<=", builder.add(key, size(KEYS - 1)), first),
                builder.icmp_signed(">", key, oldest),
            )
            with builder.if_then(builder.not_(is_whole)):
                self._hide(scores, key, first)
            with lanes.words(size(KEYS)) as indices:
                for variable, index in zip(self._most, indices, strict=True):
                    score, most = lanes.load(scores, index), builder.load(variable)
                    builder.store(builder.select(builder.fcmp_ordered(">", score, most), score, most), variable)
        most = builder.load(self._most[0])
        for variable in self._most[1:]:
            other = builder.load(variable)
            most = builder.select(builder.fcmp_ordered(">", other, most), other, most)
        with lanes.loop(scaled(builder, span.pairs, SIDE)) as pair:
            powers: list[Value] = []
            for number, variable in enumerate(self._totals):
                score = lanes.load(self.scores, builder.add(scaled(builder, pair, 2), size(number)))
                powers.append(lanes.exponential(builder.fsub(score, most), is_small=True))
                builder.store(builder.fadd(builder.load(variable), powers[-1]), variable)
            lanes.put_powers(powers[0], powers[1], lanes.at(self.weights, pair, VECTOR))
        return builder.fadd(*(builder.load(variable) for variable in self._totals))

    def _hide(self, scores: Value, key: Value, first: Value) -> None:
        """Of KEYS scores those that a token must not see."""
        builder, lanes = self.builder, self.lanes
        position = builder.add(splat(builder, builder.trunc(first, I32), I32S), ir.Constant(I32S, list(range(LANES))))
        oldest = builder.sub(position, splat(builder, builder.trunc(self.window, I32), I32S))
        with lanes.loop(size(KEYS)) as index:
            place = splat(builder, builder.trunc(builder.add(key, index), I32), I32S)
            is_seen = builder.and_(builder.icmp_signed("<=", place, position), builder.icmp_signed(">", place, oldest))
            lanes.store(builder.select(is_seen, lanes.load(scores, index), lanes.number(-np.inf)), scores, index)

    def mix(self, span: _Span, total: Value, out: Value) -> None:
        """The values by their weights, over the sum of these."""
        builder, lanes = self.builder, self.lanes
        values = lanes.at(self.values, builder.mul(span.skipped, self.tiles_each), TILE)
        with lanes.loop(builder.udiv(self.tiles_each, size(2))) as two:
            first = scaled(builder, two, 2)
            for number in range(2):
                tile(builder, "tilezero", [number])
            with lanes.loop(span.pairs) as pair:
                tile(builder, "tileloadd64", [4], lanes.at(self.weights, pair, TILE), size(DEPTH))
                at = builder.add(builder.mul(pair, self.tiles_each), first)
                for number in range(2):
                    place = lanes.at(values, builder.add(at, size(number)), TILE)
                    tile(builder, "tileloadd64", [5 + number], place, size(DEPTH))
                    tile(builder, "tdpbf16ps", [number, 5 + number, 4])
            for number in range(2):
                to = lanes.at(out, builder.add(first, size(number)), TILE)
                tile(builder, "tilestored64", [number], to, size(DEPTH))
        share = lanes.reciprocal(total)
        with lanes.loop(self.width) as index:
            lanes.store(builder.fmul(lanes.load(out, index), share), out, index)
