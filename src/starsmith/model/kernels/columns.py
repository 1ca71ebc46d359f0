"""What goes between two exact products of bytes, for many tokens: 16 of them at a time, each in a lane of a vector.

As PyTorch operations the same is a dozen passes over matrices that no cache holds, which took longer than the products.
Row by row it is three passes, but every sum and every largest number of a row is one over lanes, and the products'
outcome, which has the tokens beside each other (`tiles`), would have to be turned.

A group is LANES tokens. Its numbers are K vectors, the first number of every token in the first of them, and groups
follow one another. `sums` are the int32 sums of a product; times the scale of their output and that of their token,
plus the bias, they are its outcome. What is written for the next product is bytes as `tiles` wants them, and in
`scales` what each token's are to be multiplied with. Halves are the bits of bfloat16, `bits` those of a float32.

Loops, by their names, and their arguments in a program (addresses and sizes):

normalize      LayerNorm. groups, k, x, weight, bias, epsilon bits, bytes, scales
add            A product added to `x` in place, and the LayerNorm of that; `scales` has those of the product before.
               groups, k, sums, scale, bias, x, norm's weight, norm's bias, epsilon bits, bytes, scales
gelu           GELU of a product; `sums` is overwritten. groups, k, sums, scale, bias, bytes, scales
heads          A product as the halves of its heads: of head a and token t of a group at `out[a, slots[t]]`; of each
               group that there are the first `counts`. `sums` is overwritten.
               groups, heads, width, sums, scale, bias, scales, counts, slots, out, bytes from head to head
turned_heads   As `heads`, turned by their position; cosines and sines are groups of `width / 2` vectors.
               …, cosines, sines
query_tiles    The same for queries, times a factor, as `tile_attention` wants them.
               groups, heads, width, sums, scale, bias, scales, out, factor bits, cosines, sines
numbers        float32 as they are. groups, k, vectors, bytes, scales
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from starsmith.model.kernels import native
from starsmith.model.kernels.lane_code import I16S, VECTOR, WORD, Lanes
from starsmith.model.kernels.lanes import (
    F32,
    F32S,
    I32,
    I64,
    LANES,
    Loop,
    Value,
    external,
    f32,
    read,
    room,
    scaled,
    size,
    splat,
    turned,
    write,
)

Name = Literal["normalize", "add", "gelu", "heads", "turned_heads", "query_tiles", "numbers"]


@cache
def addresses() -> dict[Name, int]:
    """Where the loops are, compiled when they are first asked for."""
    loops: dict[Name, Loop] = {
        "normalize": Loop(_normalize, 8),
        "add": Loop(_add, 11),
        "gelu": Loop(_gelu, 7),
        "heads": Loop(_heads, 11),
        "turned_heads": Loop(_heads, 13),
        "query_tiles": Loop(_query_tiles, 11),
        "numbers": Loop(_numbers, 5),
    }
    named: dict[str, Loop] = {str(name): loop for name, loop in loops.items()}
    return dict(zip(loops, native.addresses(named, from_row=True), strict=True))


class _Totals:
    """Sums over a row, as four that do not wait for one another."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._variables = [lanes.variable() for _ in range(WORD)]

    def begin(self) -> None:
        """At nothing."""
        for variable in self._variables:
            self._lanes.set_zero(variable)

    def add(self, place: int, vector: Value) -> None:
        """To one of them."""
        builder, variable = self._lanes.builder, self._variables[place]
        builder.store(builder.fadd(builder.load(variable), vector), variable)

    def all(self) -> Value:
        """Their sum."""
        builder = self._lanes.builder
        one, two, three, four = (builder.load(variable) for variable in self._variables)
        return builder.fadd(builder.fadd(one, two), builder.fadd(three, four))


@dataclass(frozen=True)
class _Norm:
    """LayerNorm of a group whose sum is known."""

    weight: Value
    bias: Value
    epsilon: Value  # bits
    k: Value

    def put(self, lanes: Lanes, x: Value, totals: _Totals, out: Value, scales: Value) -> None:
        builder = lanes.builder
        count = splat(builder, builder.sitofp(self.k, F32), F32S)
        epsilon = splat(builder, builder.bitcast(builder.trunc(self.epsilon, I32), F32), F32S)
        mean = builder.fdiv(totals.all(), count)
        totals.begin()
        with lanes.words(self.k) as indices:
            for place, index in enumerate(indices):
                apart = builder.fsub(lanes.load(x, index), mean)
                totals.add(place, builder.fmul(apart, apart))
        variance = builder.fadd(builder.fdiv(totals.all(), count), epsilon)
        root = builder.call(external(builder, "llvm.sqrt.v16f32", F32S, [F32S]), [variance])
        scale = builder.fdiv(lanes.number(1), root)

        def normed(index: Value) -> Value:
            apart = builder.fmul(builder.fsub(lanes.load(x, index), mean), scale)
            return lanes.fma(apart, lanes.one(self.weight, index), lanes.one(self.bias, index))

        lanes.put_bytes(normed, self.k, out, scales)


def _normalize(builder: Any, arguments: Sequence[Value]) -> None:
    groups, k, x, weight, bias, epsilon, out, scales = arguments
    lanes, norm = Lanes(builder), _Norm(weight, bias, epsilon, k)
    totals = _Totals(lanes)
    with lanes.groups(groups, k, x, out, scales) as (x, out, scales):
        totals.begin()
        with lanes.words(k) as indices:
            for place, index in enumerate(indices):
                totals.add(place, lanes.load(x, index))
        norm.put(lanes, x, totals, out, scales)


def _add(builder: Any, arguments: Sequence[Value]) -> None:
    groups, k, sums, scale, bias, x, weight, norm_bias, epsilon, out, scales = arguments
    lanes, norm = Lanes(builder), _Norm(weight, norm_bias, epsilon, k)
    totals = _Totals(lanes)
    with lanes.groups(groups, k, x, out, scales, sums) as (x, out, scales, sums):
        its = f32(builder, scales)
        totals.begin()
        with lanes.words(k) as indices:
            for place, index in enumerate(indices):
                vector = builder.fadd(lanes.load(x, index), lanes.outcome(sums, scale, bias, its, index))
                lanes.store(vector, x, index)
                totals.add(place, vector)
        norm.put(lanes, x, totals, out, scales)


def _gelu(builder: Any, arguments: Sequence[Value]) -> None:
    groups, k, sums, scale, bias, out, scales = arguments
    lanes = Lanes(builder)
    with lanes.groups(groups, k, sums, out, scales) as (sums, out, scales):
        its = f32(builder, scales)
        with lanes.words(k) as indices:
            for index in indices:
                lanes.store(lanes.gelu(lanes.outcome(sums, scale, bias, its, index)), sums, index)
        lanes.put_bytes(partial(lanes.load, sums), k, out, scales)


def _heads(builder: Any, arguments: Sequence[Value]) -> None:
    groups, heads, width, sums, scale, bias, scales, counts, slots, out, head_bytes, *angles = arguments
    lanes, scratch = Lanes(builder), room(builder, LANES * LANES * 2)
    k = builder.mul(heads, width)
    with lanes.loop(groups) as group:
        count = read(builder, lanes.at(counts, group, 8), I64)
        of_group = lanes.group_of(sums, k, group, VECTOR)
        its = f32(builder, lanes.at(scales, group, VECTOR))
        turns = [lanes.group_of(angle, builder.udiv(width, size(2)), group, VECTOR) for angle in angles]
        with lanes.loop(heads) as head:
            begin = builder.mul(head, width)
            _turn(lanes, of_group, scale, bias, its, begin, width, turns)
            of_head = builder.add(out, builder.mul(head, head_bytes))
            with lanes.loop(builder.udiv(width, size(LANES))) as block:
                start = builder.add(begin, scaled(builder, block, LANES))
                rows = turned(builder, [lanes.load(of_group, builder.add(start, size(row))) for row in range(LANES)])
                for number, row in enumerate(rows):
                    half = builder.trunc(lanes.halved(row), I16S)
                    write(builder, half, builder.add(scratch, size(2 * LANES * number)))
                with lanes.loop(count) as token:
                    place = builder.add(scaled(builder, group, LANES), token)
                    slot = read(builder, lanes.at(slots, place, 8), I64)
                    to = builder.add(of_head, builder.mul(slot, scaled(builder, width, 2)))
                    half = read(builder, lanes.at(scratch, token, 2 * LANES), I16S)
                    write(builder, half, lanes.at(to, block, 2 * LANES))


def _turn(
    lanes: Lanes, sums: Value, scale: Value, bias: Value, scales: Value, begin: Value, width: Value, turns: list[Value]
) -> None:
    """A head's outcome, in place of its sums, and rotated if there are cosines and sines."""
    builder = lanes.builder
    half = builder.udiv(width, size(2))
    with lanes.loop(half) as index:
        places = builder.add(begin, index), builder.add(builder.add(begin, index), half)
        one, two = (lanes.outcome(sums, scale, bias, scales, place) for place in places)
        if turns:
            cosine, sine = (lanes.load(angle, index) for angle in turns)
            one, two = (
                builder.fsub(builder.fmul(one, cosine), builder.fmul(two, sine)),
                builder.fadd(builder.fmul(two, cosine), builder.fmul(one, sine)),
            )
        for vector, place in zip((one, two), places, strict=True):
            lanes.store(vector, sums, place)


def _query_tiles(builder: Any, arguments: Sequence[Value]) -> None:
    groups, heads, width, sums, scale, bias, scales, out, factor, *angles = arguments
    lanes = Lanes(builder)
    factors = splat(builder, builder.bitcast(builder.trunc(factor, I32), F32), F32S)
    k = builder.mul(heads, width)
    with lanes.loop(groups) as group:
        of_group, to = lanes.group_of(sums, k, group, VECTOR), lanes.group_of(out, k, group, VECTOR // 2)
        its = f32(builder, lanes.at(scales, group, VECTOR))
        turns = [lanes.group_of(angle, builder.udiv(width, size(2)), group, VECTOR) for angle in angles]
        with lanes.loop(heads) as head:
            _turn(lanes, of_group, scale, bias, its, builder.mul(head, width), width, turns)
        with lanes.loop(builder.udiv(k, size(2))) as pair:
            first = scaled(builder, pair, 2)
            one, two = (
                builder.fmul(lanes.load(of_group, builder.add(first, size(number))), factors) for number in range(2)
            )
            lanes.put_pair(one, two, lanes.at(to, pair, VECTOR))


def _numbers(builder: Any, arguments: Sequence[Value]) -> None:
    groups, k, vectors, out, scales = arguments
    lanes = Lanes(builder)
    with lanes.groups(groups, k, vectors, out, scales) as (its, out, scales):
        lanes.put_bytes(partial(lanes.load, its), k, out, scales)
