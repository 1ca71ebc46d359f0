"""What the inner loops are written in: LLVM's vectors of LANES numbers, their addresses, and sums of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

LANES = 16  # float32 or int32 in a vector: 64 bytes, one register of AVX-512 or two of AVX2

I8, I16, I32, I64, F32 = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
I32S, F32S = ir.VectorType(I32, LANES), ir.VectorType(F32, LANES)
Value = Any  # llvmlite's values have no types
Loader = Callable[[Any, Value], Value]


@dataclass(frozen=True)
class Loop:
    """How to write a loop, and how many addresses and sizes (int64) it is called with."""

    generate: Callable[[Any, Any], None]
    arguments: int


def pointer(builder: Any, address: Value, kind: Any) -> Value:
    """An address as LLVM's pointer to a kind."""
    return builder.inttoptr(address, kind.as_pointer())


def read(builder: Any, address: Value, kind: Any) -> Value:
    """What is at an address, wherever that is."""
    return builder.load(pointer(builder, address, kind), align=1)


def constant(lanes: Any, value: int) -> Value:
    """A vector of equal integers."""
    return ir.Constant(lanes, [value] * lanes.count)


def splat(builder: Any, value: Value, lanes: Any) -> Value:
    """A vector of one value in every lane."""
    first = builder.insert_element(ir.Constant(lanes, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, lanes.count), [0] * lanes.count))


def added_lanes(builder: Any, vector: Value, add: Callable[..., Value]) -> Value:
    """The sum of the lanes, halves first: always in this order."""
    width = LANES
    while width > 1:
        width //= 2
        halves = [
            builder.shuffle_vector(
                vector, vector, ir.Constant(ir.VectorType(I32, width), list(range(start, start + width)))
            )
            for start in (0, width)
        ]
        vector = add(*halves)
    return builder.extract_element(vector, ir.Constant(I32, 0))


def f32(builder: Any, address: Value) -> Value:
    """LANES float32."""
    return read(builder, address, F32S)


def bf16(builder: Any, address: Value) -> Value:
    """LANES bfloat16 as float32."""
    halves = read(builder, address, ir.VectorType(I16, LANES))
    return builder.bitcast(builder.shl(builder.zext(halves, I32S), constant(I32S, 16)), F32S)


def i8(builder: Any, address: Value) -> Value:
    """LANES signed bytes as float32."""
    return builder.sitofp(builder.sext(read(builder, address, ir.VectorType(I8, LANES)), I32S), F32S)


def external(builder: Any, name: str, returns: Any, arguments: list[Any]) -> Value:
    """A function of LLVM's, or of the processor's, by its name."""
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(returns, arguments), name)


def fma(builder: Any, a: Value, b: Value, c: Value) -> Value:
    """a * b + c, rounded once."""
    return builder.call(external(builder, "llvm.fma.v16f32", F32S, [F32S] * 3), [a, b, c])


class Sums:
    """R x M running sums, which LLVM keeps in registers."""

    def __init__(self, builder: Any, rows: int, most: int, kind: Any) -> None:
        self.builder, self.most = builder, most
        self.places = [cgutils.alloca_once_value(builder, ir.Constant(kind, None)) for _ in range(rows * most)]

    def get(self, row: int, m: int) -> Value:
        """One of them."""
        return self.builder.load(self.places[row * self.most + m])

    def put(self, row: int, m: int, value: Value) -> None:
        """Make it another."""
        self.builder.store(value, self.places[row * self.most + m])


def offset(builder: Any, address: Value, stride: Value, number: int) -> Value:
    """The address so many strides on."""
    return builder.add(address, builder.mul(stride, ir.Constant(I64, number)))


def scaled(builder: Any, index: Value, size: int) -> Value:
    """An index times a size that is known."""
    return builder.mul(index, ir.Constant(I64, size))


def beside(builder: Any, address: Value, size: int, number: int) -> Value:
    """The address so many vectors behind another, of numbers of so many bytes."""
    return builder.add(address, ir.Constant(I64, LANES * size * number))


def size(value: int) -> Value:
    """A number of bytes, rows or steps that is known."""
    return ir.Constant(I64, value)


def write(builder: Any, vector: Value, address: Value) -> None:
    """To an address, wherever that is."""
    builder.store(vector, pointer(builder, address, vector.type), align=1)


def room(builder: Any, count: int) -> Value:
    """The address of so many bytes that last as long as the call."""
    place = cgutils.alloca_once(builder, ir.ArrayType(I8, count))
    place.align = 64
    return builder.ptrtoint(place, I64)


def turned(builder: Any, rows: list[Value]) -> list[Value]:
    """The columns of LANES vectors: blocks of half the size change places, and so on down to single numbers."""
    rows = list(rows)
    distance = LANES // 2
    while distance:
        for upper in (number for number in range(LANES) if not number & distance):
            pair = rows[upper], rows[upper + distance]
            # Lanes from LANES on are the second vector's.
            first = [lane + LANES - distance if lane & distance else lane for lane in range(LANES)]
            second = [lane + LANES if lane & distance else lane + distance for lane in range(LANES)]
            rows[upper], rows[upper + distance] = (
                builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, LANES), order))
                for order in (first, second)
            )
        distance //= 2
    return rows
