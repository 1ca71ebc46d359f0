"""Plain data between a program and its tests: values of exact built-in types as JSON, and nothing else.

No class of the program's own ever arrives: what comes out of `decode` is made here, of the types below, so an object
that claims to equal everything is the plain value it extends, or a stand-in that equals nothing. A scalar is itself;
all others are a list whose first item is a tag. An iterator arrives as an iterator over all its items.
"""

import base64
import binascii
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple, cast

MOST_ITEMS = 5_000_000  # of one iterator
MOST_DEPTH = 500
_SAFE_INT = 1 << 63  # larger ones are written in hexadecimal: Python limits decimal digits
_LEAVES = frozenset({type(None), bool, str, float})
_LEAVES_AND_INTS = _LEAVES | {int}
_EXTENDED: tuple[Callable[[Any], object], ...] = (str, float, int, tuple, list, dict, frozenset, set, bytes, complex)
_ARRAY_KINDS = "biufcSUmM"  # of numpy's dtypes: those without pointers


class NotPlainError(Exception):
    """A value that cannot cross, or bytes that are no value."""


class ForeignError(NotPlainError):
    """A stand-in was to be handed back."""


class Foreign:
    """Stands for an object of the program's own: true, and equal to nothing else."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<an object of type {self.kind}>"


def encode(value: object, *, foreign: bool = False) -> bytes:
    """Raises NotPlainError for what is no plain data; with `foreign`, a stand-in is sent for that."""
    try:
        try:
            return json.dumps(_pack(value, 0, how=_How(True, foreign))).encode()
        except ValueError:  # an integer with too many digits
            return json.dumps(_pack(value, 0, how=_How(False, foreign))).encode()
    except RecursionError:
        raise NotPlainError("a value nested too deeply") from None


def decode(data: bytes) -> Any:
    """The value; raises NotPlainError for anything that `encode` would not have written."""
    try:
        return _unpack(json.loads(data), 0)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise NotPlainError(f"not plain data: {type(error).__name__}") from None


class _How(NamedTuple):
    quick: bool  # integers are taken to be short
    foreign: bool


def _pack(value: object, depth: int, *, how: _How) -> object:
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is int:
        return _pack_int(value) if not -_SAFE_INT < value < _SAFE_INT else value  # type: ignore[operator]
    if depth > MOST_DEPTH:
        raise NotPlainError("a value nested too deeply")
    if kind is list:
        return ["l", *_pack_all(value, depth, how=how)]  # type: ignore[arg-type]
    if kind is tuple:
        return ["t", *_pack_all(value, depth, how=how)]  # type: ignore[arg-type]
    if kind is dict:
        return ["d", *_pack_all((part for pair in value.items() for part in pair), depth, how=how)]  # type: ignore[attr-defined]
    return _pack_rare(value, kind, depth, how=how)


def _pack_all(values: Iterable[object], depth: int, *, how: _How) -> list[object]:
    items = list(values)
    kinds = set(map(type, items))
    if kinds <= (_LEAVES_AND_INTS if how.quick else _LEAVES):
        return items
    return [_pack(item, depth + 1, how=how) for item in items]


def _pack_int(value: Any) -> list[str]:
    return ["i", hex(value)]


def _pack_rare(value: Any, kind: type, depth: int, *, how: _How) -> object:
    if kind is set or kind is frozenset:
        return ["s" if kind is set else "f", *_pack_all(value, depth, how=how)]
    if kind is bytes or kind is bytearray:
        return ["b" if kind is bytes else "B", _text(value)]
    if kind is complex:
        return ["c", value.real, value.imag]
    if kind is range:
        return ["r", *(_pack(part, depth, how=how) for part in (value.start, value.stop, value.step))]
    if kind.__module__ == "numpy":
        return _pack_numpy(value, depth, how=how)
    plain = _plainer(value)
    if plain is None:
        return _refuse(kind, how)
    if isinstance(plain, _Iterated):
        return ["g", *_pack_all(plain.items, depth, how=how)]
    return _pack(plain, depth, how=how)


class _Iterated:
    def __init__(self, items: list[object]) -> None:
        self.items = items


def _plainer(value: Any) -> object:
    """The plain value that an instance of a subclass extends, an iterator's items, or None."""
    for base in _EXTENDED:
        if isinstance(value, cast("type", base)):
            return base(value)
    if isinstance(value, deque | type({}.keys()) | type({}.values()) | type({}.items())):
        return list(value)
    if isinstance(value, Iterator):
        items = list(islice(value, MOST_ITEMS + 1))
        if len(items) > MOST_ITEMS:
            raise NotPlainError(f"an iterator of more than {MOST_ITEMS} items")
        return _Iterated(items)
    return None


def _pack_numpy(value: Any, depth: int, *, how: _How) -> object:
    import numpy as np

    if isinstance(value, np.generic):
        known = value.dtype.kind in _ARRAY_KINDS
        return ["n0", value.dtype.str, _text(value.tobytes())] if known else _refuse(type(value), how)
    if isinstance(value, np.ndarray) and value.dtype.kind in _ARRAY_KINDS:
        return ["n", value.dtype.str, list(value.shape), _text(np.ascontiguousarray(value).tobytes())]
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return ["no", list(value.shape), *_pack_all(value.ravel().tolist(), depth, how=how)]
    return _refuse(type(value), how)


def _refuse(kind: type, how: _How) -> object:
    if kind is Foreign:
        raise ForeignError("an object of its own, handed back")
    if how.foreign:
        return ["o", kind.__qualname__[:100]]
    raise NotPlainError(f"a value of type {kind.__qualname__!r}, which is no plain data")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unpack(packed: Any, depth: int) -> Any:
    kind = type(packed)
    if kind is not list:
        if kind in _LEAVES_AND_INTS:
            return packed
        raise NotPlainError("not plain data: a JSON object")
    if depth > MOST_DEPTH:
        raise NotPlainError("a value nested too deeply")
    tag = packed[0]
    if tag in _CONTAINERS:
        rest = packed[1:]
        kinds = set(map(type, rest))
        if not kinds <= _LEAVES_AND_INTS:
            rest = [_unpack(item, depth + 1) for item in rest]
        return _CONTAINERS[tag](rest)
    return _unpack_rare(tag, packed[1:], depth)


def _unpack_rare(tag: str, rest: list[Any], depth: int) -> Any:
    if tag == "i":
        (digits,) = rest
        return int(digits, 16)
    if tag in ("b", "B"):
        (text,) = rest
        return _bytes(text) if tag == "b" else bytearray(_bytes(text))
    if tag == "o":
        return Foreign(str(rest[0])[:100])
    if tag == "c":
        real, imaginary = rest
        return complex(float(real), float(imaginary))
    if tag == "r":
        start, stop, step = (_unpack(part, depth) for part in rest)
        return range(start, stop, step)
    if tag in ("n", "n0", "no"):
        return _unpack_numpy(tag, rest, depth)
    raise NotPlainError(f"not plain data: tag {str(tag)[:20]!r}")


def _unpack_numpy(tag: str, rest: list[Any], depth: int) -> Any:
    import numpy as np

    if tag == "no":
        array = np.empty(len(rest) - 1, dtype=object)
        array[:] = [_unpack(item, depth + 1) for item in rest[1:]]
        return array.reshape([int(length) for length in rest[0]])
    dtype = np.dtype(str(rest[0]))
    if dtype.kind not in _ARRAY_KINDS:
        raise NotPlainError(f"an array of {dtype}")
    flat = np.frombuffer(_bytes(rest[-1]), dtype=dtype)
    return flat[0] if tag == "n0" else flat.reshape([int(length) for length in rest[1]]).copy()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


_CONTAINERS: dict[str, Callable[[list[Any]], Any]] = {
    "l": lambda items: items,
    "t": tuple,
    "d": _pairs,
    "s": set,
    "f": frozenset,
    "g": iter,
}
