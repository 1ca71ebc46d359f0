"""What crosses between a program and its tests arrives as it was, or as nothing that could pass for it."""

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.evaluation.sandbox.inside.plain import Foreign, ForeignError, NotPlainError, decode, encode

pytestmark = pytest.mark.slow  # tries thousands of values

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
hashable = st.recursive(scalars, lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=3), max_leaves=5)
values = st.recursive(
    scalars | st.complex_numbers(allow_nan=False) | hashable,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(hashable, inner) | st.sets(hashable),
    max_leaves=20,
)


@given(values)
def test_plain_values_arrive_with_their_types(value: object) -> None:
    arrived = decode(encode(value))

    assert arrived == value
    assert repr(_sorted(arrived)) == repr(_sorted(value))


def _sorted(value: object) -> object:
    """Sets have no order, so that their texts are compared sorted."""
    if isinstance(value, set | frozenset):
        return (type(value), sorted(map(repr, map(_sorted, value))))
    if isinstance(value, list | tuple):
        return (type(value), [_sorted(item) for item in value])
    if isinstance(value, dict):
        return [(_sorted(key), _sorted(item)) for key, item in value.items()]
    return value


def test_odd_numbers_and_texts_arrive() -> None:
    arrived = decode(encode([math.inf, math.nan, -0.0, 10**5000, -(1 << 63), "\ud800\0"]))

    assert arrived[0] == math.inf
    assert math.isnan(arrived[1])
    assert str(arrived[2]) == "-0.0"
    assert arrived[3:] == [10**5000, -(1 << 63), "\ud800\0"]


def test_what_extends_a_plain_type_arrives_as_that_type() -> None:
    class Colour(IntEnum):
        RED = 1

    pair = namedtuple("pair", "a b")
    lists: defaultdict[int, list[int]] = defaultdict(list, {1: [2]})

    arrived = decode(
        encode([Counter("aab"), OrderedDict(a=1), lists, pair(1, 2), Colour.RED, deque([1]), {1: 2}.keys()])
    )

    assert arrived == [{"a": 2, "b": 1}, {"a": 1}, {1: [2]}, (1, 2), 1, [1], [1]]
    assert [type(item) for item in arrived] == [dict, dict, dict, tuple, int, list, list]


def test_a_value_that_claims_to_equal_everything_is_the_plain_value_it_extends() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert decode(encode(Liar(3))) != 4
    assert type(decode(encode(Liar(3)))) is int


def test_an_object_of_its_own_is_refused_or_becomes_a_stand_in_that_equals_nothing() -> None:
    class Liar:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = object.__hash__

    with pytest.raises(NotPlainError, match="Liar"):
        encode(Liar())
    arrived = decode(encode([Liar()], foreign=True))[0]

    assert isinstance(arrived, Foreign)
    assert arrived != 1
    assert arrived
    with pytest.raises(ForeignError):
        encode(arrived)


def test_iterators_arrive_with_all_their_items() -> None:
    arrived = decode(encode(number * 2 for number in range(3)))

    assert next(arrived) == 0
    assert list(arrived) == [2, 4]


def test_arrays_arrive_with_shape_and_type() -> None:
    sent = [np.arange(6, dtype=np.int16).reshape(2, 3).T, np.float64(0.5), np.array(["a", None], dtype=object)]

    arrived = decode(encode([*sent, np.bool_(True)]))

    assert arrived[0].dtype == np.int16
    assert (arrived[0] == sent[0]).all()
    assert arrived[1] == 0.5
    assert arrived[2].tolist() == ["a", None]
    assert arrived[3]


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80\x04.", b"{}", b'["z", 1]', b'["d", 1]', b"[]", b'[["l"]]', b'["s", ["l"]]', b'["n", "O", [1], ""]',
     b'["n", "<i8", [9], ""]', b'["i", "zz"]', b'["b", "*"]', b'["c", "x", 1]', b"[" * 100_000, b'["l", {"a": 1}]',
     b'["r", 1, 2, 0]', b'["n", ["evil"], [1], ""]', b'["n0", "<i8", ""]'],
)  # fmt: skip
def test_bytes_that_are_no_value_are_refused(data: bytes) -> None:
    with pytest.raises(NotPlainError):
        decode(data)


def test_nesting_without_end_is_refused_and_not_followed() -> None:
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(NotPlainError, match="deeply"):
        encode(endless)
    with pytest.raises(NotPlainError):
        decode(json.dumps(_nested(900)).encode())


def _nested(depth: int) -> list[object]:
    value: list[object] = ["l"]
    for _ in range(depth):
        value = ["l", value]
    return value
