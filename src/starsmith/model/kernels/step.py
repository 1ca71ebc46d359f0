"""One step of a StarCoder2 model on a few tokens, compiled: every thread runs `step`, and they share its work.

A step of one token reads every weight once, so its time is that of the memory, if nothing else costs any. As PyTorch
operations it is twenty calls a layer; here it is one call a thread. Each token's numbers are computed in an order that
does not depend on the other tokens of the step: a token read alone, with guesses behind it or beside other sequences
gives the same bits.

A step is a list of products, and there is one place that multiplies: with six, compiling took four times as long.
"""

import numpy as np

from starsmith.model.kernels.attention import attend, store
from starsmith.model.kernels.compiling import compiled, entry
from starsmith.model.kernels.memory import byte_at, float_at, floats, half_at, integers
from starsmith.model.kernels.products import multiply, prepare
from starsmith.model.kernels.tables import (
    ATTEND,
    BF16,
    COUNT,
    COUNTERS,
    DRAW_HEADS,
    DRAWN,
    EMBEDDING,
    F32,
    HOW,
    IDS,
    INPUTS,
    KIND,
    LAYERS,
    MATRICES,
    MATRIX,
    MATRIX_COLUMNS,
    MEET_ATTENDED,
    MEET_BEFORE,
    MEET_STORED,
    OUT,
    OUTPUTS,
    PRODUCT,
    PRODUCTS,
    PRODUCTS_OF_A_LAYER,
    SCALES,
    SOURCE,
    SOURCE_STRIDE,
    TOKENS,
    WEIGHTS,
    Table,
)
from starsmith.model.kernels.threads import meet


@entry
def step(thread: int, threads: int, plan: Table, own: Table) -> None:
    """Carry out a thread's part of a plan, with the tables that are its own."""
    _embed(thread, threads, plan)
    for number in range(PRODUCTS_OF_A_LAYER * plan[LAYERS] + 1):
        product = integers(plan[PRODUCTS] + number * PRODUCT * 8, PRODUCT)
        counters = plan[DRAWN] + number * COUNTERS * 8
        _meet(counters, MEET_BEFORE, threads)
        if product[HOW] == ATTEND:
            layer = number // PRODUCTS_OF_A_LAYER
            store(layer, thread, threads, plan)
            _meet(counters, MEET_STORED, threads)
            attend(layer, plan, own, counters + DRAW_HEADS * 8)
            _meet(counters, MEET_ATTENDED, threads)
        matrix = integers(plan[MATRICES] + product[MATRIX] * MATRIX_COLUMNS * 8, MATRIX_COLUMNS)
        rows = prepare(product, matrix[KIND], plan, own)
        out = product[OUT]
        for count in range(product[COUNT]):
            matrix = integers(plan[MATRICES] + (product[MATRIX] + count) * MATRIX_COLUMNS * 8, MATRIX_COLUMNS)
            multiply(matrix, rows, own, product, out, counters + count * 8)
            out += matrix[OUTPUTS] * 4


@compiled
def _meet(counters: int, place: int, threads: int) -> None:
    if threads > 1:
        meet(counters + place * 8, threads)


@compiled
def _embed(thread: int, threads: int, plan: Table) -> None:
    """The embeddings of the thread's share of the tokens, to where the first product looks for them."""
    first, matrix = integers(plan[PRODUCTS], PRODUCT), integers(plan[EMBEDDING], MATRIX_COLUMNS)
    width, kind, weights = matrix[INPUTS], matrix[KIND], matrix[WEIGHTS]
    for m in range(thread, plan[TOKENS], threads):
        token = integers(plan[IDS], plan[TOKENS])[m]
        out = floats(first[SOURCE] + m * first[SOURCE_STRIDE], width)
        if kind == F32:
            for i in range(width):
                out[i] = float_at(weights + (token * width + i) * 4)
        elif kind == BF16:
            for i in range(width):
                out[i] = half_at(weights + (token * width + i) * 2)
        else:
            scale = float_at(matrix[SCALES] + token * 4)
            for i in range(width):
                out[i] = np.float32(byte_at(weights + token * width + i)) * scale
