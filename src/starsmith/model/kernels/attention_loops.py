"""Inner loops of attention: a block of keys against queries, and values mixed by weights. See `vectors`."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from starsmith.model.kernels.lanes import (
    F32,
    F32S,
    I32,
    I32S,
    I64,
    LANES,
    Loader,
    Loop,
    Sums,
    Value,
    beside,
    f32,
    fma,
    offset,
    pointer,
    read,
    scaled,
    splat,
)


def key_scores(load: Loader, key_bytes: int, most: int) -> Loop:
    """`(keys, queries, query_stride, width, out, out_stride, factor)`: out[m][s] = factor * queries[m] . keys[s].

    For attention: `keys` are LANES rows of `width` numbers, `queries` and `out` float32, strides in bytes, `factor` the
    bits of a float32. All of a query's scores are added up together: one after the other took most of the time.
    """

    def generate(builder: Any, arguments: Any) -> None:
        keys, queries, query_stride, width, out, out_stride, factor = arguments
        row_bytes = scaled(builder, width, key_bytes)
        factors = splat(builder, builder.bitcast(builder.trunc(factor, I32), F32), F32S)
        for m in range(most):
            sums = Sums(builder, LANES, 1, F32S)
            with cgutils.for_range(builder, builder.udiv(width, ir.Constant(I64, LANES))) as loop:
                at_query = builder.add(
                    offset(builder, queries, query_stride, m), scaled(builder, loop.index, LANES * 4)
                )
                query = f32(builder, at_query)
                at_key = builder.add(keys, scaled(builder, loop.index, LANES * key_bytes))
                for row in range(LANES):
                    key = load(builder, offset(builder, at_key, row_bytes, row))
                    sums.put(row, 0, fma(builder, key, query, sums.get(row, 0)))
            totals = _totals(builder, [sums.get(row, 0) for row in range(LANES)])
            target = pointer(builder, offset(builder, out, out_stride, m), F32S)
            builder.store(builder.fmul(totals, factors), target, align=1)

    return Loop(generate, 7)


def _totals(builder: Any, vectors: list[Value]) -> Value:
    """The sum of the lanes of each of LANES vectors, in a lane of its own; halves first, as in `total`.

    Two vectors, of parts that are a sum each, become one with twice as many parts of half the width.
    """
    width = LANES
    while width > 1:
        low = [lane for start in range(0, LANES, width) for lane in range(start, start + width // 2)]
        order = [
            [part + vector * LANES + shift for start in range(0, len(low), width // 2) for vector in range(2)
             for part in low[start : start + width // 2]]
            for shift in (0, width // 2)
        ]  # fmt: skip
        orders = [ir.Constant(I32S, lanes) for lanes in order]
        half = len(vectors) // 2
        vectors = [
            builder.fadd(*(builder.shuffle_vector(one, other, lanes) for lanes in orders))
            for one, other in zip(vectors[:half], vectors[half:], strict=True)
        ]
        width //= 2
    return vectors[0]


def value_mix(load: Loader, value_bytes: int, most: int) -> Loop:
    """`(values, weights, weight_stride, positions, out, out_stride, width)`: out[m] += sum of weights[m][s] values[s].

    For attention: `values` are `positions` rows of `width` numbers, `weights` and `out` float32, strides in bytes.
    """

    def generate(builder: Any, arguments: Any) -> None:
        values, weights, weight_stride, positions, out, out_stride, width = arguments
        row_bytes = scaled(builder, width, value_bytes)

        def mix(first: Value, count: int) -> None:
            """`count` vectors of the width from the `first` on; two at once hide the latency of their sums."""
            at_out, at_value = scaled(builder, first, LANES * 4), scaled(builder, first, LANES * value_bytes)
            places = [builder.add(offset(builder, out, out_stride, m), at_out) for m in range(most)]
            targets = [[beside(builder, place, 4, number) for number in range(count)] for place in places]
            sums = Sums(builder, count, most, F32S)
            for number in range(count):
                for m in range(most):
                    sums.put(number, m, f32(builder, targets[m][number]))
            with cgutils.for_range(builder, positions) as loop:
                place = builder.add(builder.add(values, at_value), builder.mul(loop.index, row_bytes))
                mixed = [load(builder, beside(builder, place, value_bytes, number)) for number in range(count)]
                at_weight = scaled(builder, loop.index, 4)
                for m in range(most):
                    weight = read(builder, builder.add(offset(builder, weights, weight_stride, m), at_weight), F32)
                    factors = splat(builder, weight, F32S)
                    for number in range(count):
                        sums.put(number, m, fma(builder, factors, mixed[number], sums.get(number, m)))
            for number in range(count):
                for m in range(most):
                    builder.store(sums.get(number, m), pointer(builder, targets[m][number], F32S), align=1)

        vectors = builder.udiv(width, ir.Constant(I64, LANES))
        with cgutils.for_range(builder, builder.lshr(vectors, ir.Constant(I64, 1))) as pairs:
            mix(scaled(builder, pairs.index, 2), 2)
        with builder.if_then(builder.trunc(vectors, ir.IntType(1))):
            mix(builder.sub(vectors, ir.Constant(I64, 1)), 1)

    return Loop(generate, 7)
