"""Products of bytes in a processor's tiles (Intel AMX): 16 rows of 64 bytes by 16 tokens, in one instruction.

The weights are the left factor and the tokens the right one, for the sake of the weights: rows of the left factor lie
in a tile as they lie in memory, while of the right one four numbers of each column have to be side by side. So a
matrix is multiplied as it is stored, and the tokens come in that order from where they are made (`columns`). Libraries
that take the tokens for the left factor bring the weights into order, at every call, or hold them twice.

Shapes: K inputs. Tokens come in groups of SIDE, of which there is an even number.
"""

import ctypes
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from starsmith.model.kernels import native
from starsmith.model.kernels.lanes import (
    I8,
    I32S,
    I64,
    Loop,
    Value,
    external,
    offset,
    pointer,
    read,
    room,
    size,
    turned,
    write,
)

SIDE, DEPTH = 16, 64  # rows of a tile, and bytes in each
TILE = SIDE * DEPTH  # bytes
AT_ONCE = 2 * SIDE  # outputs and tokens, as four tiles of sums: each tile that is loaded is multiplied twice
CACHED = 1 << 20  # bytes of tokens that stay in a core's cache while a matrix passes by
CONFIG_BYTES, PALETTE, TILES = 64, 1, 8
_SUMS, _WEIGHTS, _TOKENS = ((0, 1), (2, 3)), (4, 5), (6, 7)  # numbers of tiles
_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA = 158, 0x1023, 18  # Linux's, of x86-64


@cache
def is_available() -> bool:
    """Whether the processor has tiles and the system lets this process use them, which it wants to be asked for."""
    if sys.platform != "linux" or not native.FEATURES.get("amx-int8"):
        return False
    return bool(ctypes.CDLL(None).syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XTILEDATA) == 0)


def fits(outputs: int, inputs: int) -> bool:
    """Whether a matrix of this size can be multiplied."""
    return outputs >= AT_ONCE and inputs % DEPTH == 0


def products(
    weights: int, k: int, outputs: int, packed: int, groups: int, out: int, group_bytes: int
) -> list[native.Row]:
    """What a program does to multiply outputs of a matrix, to exact sums; addresses and sizes.

    weights      where the first of the outputs has its K bytes; the others' follow
    packed       of each group K / DEPTH tiles
    out          the sums of a group are a vector of SIDE int32 for each output
    group_bytes  from one group's sums to the next
    """
    panel = max(CACHED // (groups * TILE), 1) * DEPTH
    if outputs % AT_ONCE:  # some are computed twice, and must not be added twice
        panel = k
    return [
        (
            _multiply(),
            weights + start,
            k,
            outputs,
            packed + start * SIDE,
            groups,
            out,
            group_bytes,
            min(panel, k - start),
            start,
        )
        for start in range(0, k, panel)
    ]


@cache
def for_steps() -> tuple[int, int]:
    """Loops for the few tokens of a step, all in one group; they have exact sums, too, and so the same.

    The first brings bytes into order: `(rows, bytes from one to the next, k, out)`; SIDE rows must be there. The second
    multiplies AT_ONCE outputs: `(weights, k, packed, out)`, of sums a vector for each.
    """
    pack, multiply = native.addresses({"pack_step": Loop(_generate_pack, 4), "multiply_step": Loop(_generate_step, 4)})
    return pack, multiply


@cache
def _multiply() -> int:
    return native.addresses({"multiply_tiles": Loop(_generate, 9)}, from_row=True)[0]


def _generate(builder: Any, arguments: Sequence[Value]) -> None:
    """`(weights, k, outputs, packed, groups, out, group_bytes, depth, start)`; from a `start` on sums are added to."""
    weights, k, outputs, packed, groups, out, group_bytes, depth, start = arguments
    last = builder.sub(outputs, size(AT_ONCE))
    strips = builder.udiv(builder.add(outputs, size(AT_ONCE - 1)), size(AT_ONCE))
    is_first = builder.icmp_signed("==", start, size(0))
    with configured(builder), cgutils.for_range(builder, strips) as strip:
        row = builder.mul(strip.index, size(AT_ONCE))
        row = builder.select(builder.icmp_signed("<", row, last), row, last)
        matrix = builder.add(weights, builder.mul(row, k))
        sums = builder.add(out, builder.mul(row, size(DEPTH)))
        with cgutils.for_range(builder, builder.udiv(groups, size(2))) as pair:
            first = builder.mul(pair.index, size(2))
            tokens = [builder.add(first, size(number)) for number in range(2)]
            columns = [builder.add(packed, builder.mul(token, builder.mul(k, size(SIDE)))) for token in tokens]
            places = [builder.add(sums, builder.mul(token, group_bytes)) for token in tokens]
            _sum(builder, matrix, columns, places, k, depth, is_first)


def _sum(
    builder: Any,
    matrix: Value,
    columns: Sequence[Value],
    places: Sequence[Value],
    k: Value,
    depth: Value,
    is_first: Value,
) -> None:
    """Four tiles of sums, of two groups of tokens."""
    sums = [
        (number, builder.add(place, size(TILE * outputs)))
        for outputs, numbers in enumerate(_SUMS)
        for number, place in zip(numbers, places, strict=True)
    ]
    with builder.if_else(is_first) as (begin, go_on):
        with begin:
            for number, _ in sums:
                tile(builder, "tilezero", [number])
        with go_on:
            for number, place in sums:
                tile(builder, "tileloadd64", [number], place, size(DEPTH))
    with cgutils.for_range(builder, builder.udiv(depth, size(DEPTH))) as block:
        for number, column in zip(_TOKENS, columns, strict=True):
            tile(
                builder, "tileloadd64", [number], builder.add(column, builder.mul(block.index, size(TILE))), size(DEPTH)
            )
        at = builder.add(matrix, builder.mul(block.index, size(DEPTH)))
        for half, number in enumerate(_WEIGHTS):
            tile(builder, "tileloadd64", [number], builder.add(at, builder.mul(k, size(SIDE * half))), k)
            for of_sums, of_tokens in zip(_SUMS[half], _TOKENS, strict=True):
                tile(builder, "tdpbssd", [of_sums, number, of_tokens])
    for number, place in sums:
        tile(builder, "tilestored64", [number], place, size(DEPTH))


def _generate_pack(builder: Any, arguments: Sequence[Value]) -> None:
    rows, row_bytes, k, out = arguments
    with cgutils.for_range(builder, builder.udiv(k, size(DEPTH))) as block:
        at = builder.add(rows, builder.mul(block.index, size(DEPTH)))
        words = turned(builder, [read(builder, offset(builder, at, row_bytes, row), I32S) for row in range(SIDE)])
        to = builder.add(out, builder.mul(block.index, size(TILE)))
        for number, word in enumerate(words):
            write(builder, word, builder.add(to, size(DEPTH * number)))


def _generate_step(builder: Any, arguments: Sequence[Value]) -> None:
    weights, k, packed, out = arguments
    halves = list(zip(_WEIGHTS, (first for first, _ in _SUMS), strict=True))
    with configured(builder):
        for _, sums in halves:
            tile(builder, "tilezero", [sums])
        with cgutils.for_range(builder, builder.udiv(k, size(DEPTH))) as block:
            column = builder.add(packed, builder.mul(block.index, size(TILE)))
            tile(builder, "tileloadd64", [_TOKENS[0]], column, size(DEPTH))
            at = builder.add(weights, builder.mul(block.index, size(DEPTH)))
            for half, (number, sums) in enumerate(halves):
                tile(builder, "tileloadd64", [number], builder.add(at, builder.mul(k, size(SIDE * half))), k)
                tile(builder, "tdpbssd", [sums, number, _TOKENS[0]])
        for half, (_, sums) in enumerate(halves):
            tile(builder, "tilestored64", [sums], builder.add(out, size(TILE * half)), size(DEPTH))


@contextmanager
def configured(builder: Any) -> Iterator[None]:
    """Within it all tiles are whole; behind it they are as before, since PyTorch's libraries do not look every time."""
    before, now = room(builder, CONFIG_BYTES), room(builder, CONFIG_BYTES)
    config = struct.pack("<BB14x8H16x8B8x", PALETTE, 0, *[DEPTH] * TILES, *[SIDE] * TILES)
    for start in range(0, CONFIG_BYTES, 8):
        word = ir.Constant(I64, int.from_bytes(config[start : start + 8], "little"))
        builder.store(word, pointer(builder, builder.add(now, size(start)), I64))
    tile(builder, "sttilecfg", [], before)
    tile(builder, "ldtilecfg", [], now)
    yield
    tile(builder, "ldtilecfg", [], before)


def tile(builder: Any, name: str, tiles: Sequence[int], address: Value | None = None, *sizes: Value) -> None:
    """An instruction about tiles, whose numbers are part of it, and an address."""
    places = [] if address is None else [pointer(builder, address, I8)]
    given = [*(ir.Constant(I8, number) for number in tiles), *places, *sizes]
    builder.call(external(builder, f"llvm.x86.{name}", ir.VoidType(), [value.type for value in given]), given)
