"""Products of a few rows of activations with a matrix: rows made ready, dot products by the inner loops, and scales.

The inner loops are given numbers alone: an array among the arguments of a call costs as much as the call's work.
"""

import numpy as np

from starsmith.model.kernels.arithmetic import gelu, normalize, to_bytes
from starsmith.model.kernels.compiling import compiled, reordered
from starsmith.model.kernels.lanes import LANES
from starsmith.model.kernels.memory import (
    call_4,
    call_6,
    call_8,
    floats,
    from_bits,
    integers,
    levels,
    put_float,
    wholes,
)
from starsmith.model.kernels.tables import (
    ADDED,
    ADDED_STRIDE,
    ATTEND,
    BF16,
    BIAS,
    EPSILON,
    F32,
    FEWEST_TILED,
    FINISH,
    GELU,
    GROUP,
    HOW,
    INPUTS,
    INT4,
    INT8,
    KIND,
    LOOPS,
    MOST,
    NORM,
    OUT_STRIDE,
    OUTPUTS,
    OWN_GROUP_STRIDE,
    OWN_GROUPS,
    OWN_LEVEL_STRIDE,
    OWN_LEVELS,
    OWN_PACKED,
    OWN_ROW_STRIDE,
    OWN_ROWS,
    OWN_SCALES,
    OWN_SUMS,
    PACK_LOOP,
    PORTION,
    ROWS,
    SCALES,
    SHIFT,
    SOURCE,
    SOURCE_STRIDE,
    SUMS,
    TILE_LOOP,
    TOKENS,
    W8A8,
    WANTED,
    WANTED_TOKENS,
    WEIGHTS,
    WIDTH,
    Floats,
    Levels,
    Table,
)
from starsmith.model.kernels.threads import draw


@compiled
def prepare(product: Table, kind: int, plan: Table, own: Table) -> int:
    """What a product multiplies, as its matrices want it, to the thread's own rows; how many rows there are."""
    how, width = product[HOW], product[WIDTH]
    rows = plan[WANTED_TOKENS] if how == FINISH else plan[TOKENS]
    wanted = integers(plan[WANTED], plan[WANTED_TOKENS])
    for m in range(rows):
        token = wanted[m] if how == FINISH else m
        x = floats(product[SOURCE] + token * product[SOURCE_STRIDE], width)
        out = floats(own[OWN_ROWS] + m * own[OWN_ROW_STRIDE], width)
        if how == GELU:
            gelu(x, out)
        elif how == ATTEND:
            for i in range(width):
                out[i] = x[i]
        else:
            weight, bias = floats(product[NORM], width), floats(product[NORM] + width * 4, width)
            normalize(x, weight, bias, from_bits(np.int32(plan[EPSILON])), out)
        if kind >= W8A8:
            row = levels(own[OWN_LEVELS] + m * own[OWN_LEVEL_STRIDE], width)
            put_float(own[OWN_SCALES] + m * 4, to_bytes(out, row))
            if kind == INT4:
                _sum_groups(row, floats(own[OWN_GROUPS] + m * own[OWN_GROUP_STRIDE], width // GROUP))
    if kind == W8A8 and own[PACK_LOOP] and rows >= FEWEST_TILED:
        call_4(own[PACK_LOOP], own[OWN_LEVELS], own[OWN_LEVEL_STRIDE], width, own[OWN_PACKED])
    return rows  # type: ignore[no-any-return]


@compiled
def _sum_groups(row: Levels, out: Floats) -> None:
    for group in range(out.shape[0]):
        total = np.int32(0)
        for i in range(group * GROUP, (group + 1) * GROUP):
            total += np.int32(row[i])
        out[group] = np.float32(8 * total)


@compiled
def multiply(matrix: Table, rows: int, own: Table, product: Table, out: int, counter: int) -> None:
    """The thread's rows times a matrix, by portions of it that threads draw."""
    kind, outputs, width, weights = matrix[KIND], matrix[OUTPUTS], matrix[INPUTS], matrix[WEIGHTS]
    if kind >= W8A8:
        activations, stride = own[OWN_LEVELS], own[OWN_LEVEL_STRIDE]
    else:
        activations, stride = own[OWN_ROWS], own[OWN_ROW_STRIDE]
    row_bytes = width // 2 if kind == INT4 else width * (4 if kind == F32 else 2 if kind == BF16 else 1)
    scales, group_bytes = matrix[SCALES], width // GROUP * 4
    portions = max(outputs // PORTION, 1)
    in_tiles = kind == W8A8 and own[TILE_LOOP] and rows >= FEWEST_TILED and outputs >= PORTION
    portion = draw(counter)
    while portion < portions:
        first = portion * PORTION
        end = outputs if portion == portions - 1 else first + PORTION
        if in_tiles:
            for start in range(first, end, PORTION):
                row = min(start, end - PORTION)
                sums = own[OWN_SUMS] + (row - first) * LANES * 4
                call_4(own[TILE_LOOP], weights + row * row_bytes, width, own[OWN_PACKED], sums)
            for m in range(rows):
                _finish(matrix, first, end - first, rows, m, own[OWN_SUMS] + m * 4, LANES, own, product, out)
            portion = draw(counter)
            continue
        for start in range(first, end, ROWS):
            row = min(start, end - ROWS)  # at the end some rows are computed twice, to the same numbers
            place = weights + row * row_bytes
            for m in range(0, rows, MOST):
                most = min(MOST, rows - m)
                loop, seen = matrix[LOOPS + most - 1], activations + m * stride
                sums = own[OWN_SUMS] + (m * 2 * PORTION + (row - first) * most) * 4
                if kind == INT4:
                    call_8(loop, place, row_bytes, seen, stride, width, sums, scales + row * group_bytes, group_bytes)
                else:
                    call_6(loop, place, row_bytes, seen, stride, width, sums)
        for m in range(rows):
            begin = m // MOST * MOST
            place = own[OWN_SUMS] + (begin * 2 * PORTION + m - begin) * 4
            _finish(matrix, first, end - first, rows, m, place, min(MOST, rows - begin), own, product, out)
        portion = draw(counter)


@compiled
def _finish(
    matrix: Table,
    first: int,
    count: int,
    rows: int,
    m: int,
    place: int,
    most: int,
    own: Table,
    product: Table,
    out: int,
) -> None:
    """One token's sums, from `place` on every `most`-th, to products, with what is added to them, to where they go."""
    kind, token_scale = matrix[KIND], floats(own[OWN_SCALES], rows)[m]
    sums, exact = floats(place, count * most), wholes(place, count * most)
    scale, to = floats(matrix[SCALES] + first * 4, count), floats(out + m * product[OUT_STRIDE] + first * 4, count)
    if kind == W8A8:
        excess = wholes(matrix[SUMS] + first * 4, count)
        has_excess = matrix[SUMS] != 0 and most <= MOST  # which tiles do not have
        for i in range(count):
            more = np.int32(SHIFT) * excess[i] if has_excess else np.int32(0)
            to[i] = np.float32(exact[i * most] - more) * scale[i] * token_scale
    elif kind == INT4:
        groups = matrix[INPUTS] // GROUP
        eights = floats(own[OWN_GROUPS] + m * own[OWN_GROUP_STRIDE], groups)
        for i in range(count):
            more = _dot(floats(matrix[SCALES] + (first + i) * groups * 4, groups), eights)
            to[i] = (sums[i * most] - more) * token_scale
    else:
        for i in range(count):
            to[i] = sums[i * most] * scale[i] if kind == INT8 else sums[i * most]
    if matrix[BIAS]:
        bias = floats(matrix[BIAS] + first * 4, count)
        for i in range(count):
            to[i] += bias[i]
    if product[ADDED]:
        added = floats(product[ADDED] + m * product[ADDED_STRIDE] + first * 4, count)
        for i in range(count):
            to[i] += added[i]


@reordered
def _dot(one: Floats, other: Floats) -> np.float32:
    total = np.float32(0)
    for i in range(one.shape[0]):
        total += one[i] * other[i]
    return total
