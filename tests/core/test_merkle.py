"""The root of RFC 6962, held against the recursion that the RFC writes."""

import hashlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from starsmith.core import merkle
from starsmith.core.records import write_files
from worlds import source_file

# Of the test vectors of Certificate Transparency's reference implementation: inputs and the root of the first n.
INPUTS = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
}


def reference(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + reference(leaves[:split]) + reference(leaves[split:])).digest()


@given(leaves=st.lists(st.binary(min_size=32, max_size=32), max_size=70))
def test_the_root_is_that_of_the_recursive_definition(leaves: list[bytes]) -> None:
    assert merkle.root(leaves) == reference(leaves)


def test_the_root_is_that_of_certificate_transparency() -> None:
    leaves = [hashlib.sha256(b"\0" + content).digest() for content in INPUTS]

    assert {count: merkle.root(leaves[:count]).hex() for count in ROOTS} == ROOTS


def test_a_leaf_is_the_hash_of_the_row_as_json() -> None:
    values = ["a/b", "", "x\n\u00e9.py"]

    found = merkle.leaf(values)

    assert found == hashlib.sha256(b"\0" + '["a/b","","x\\n\u00e9.py"]'.encode()).digest()


def test_values_cannot_be_moved_between_columns() -> None:
    assert merkle.leaf(["ab", "c"]) != merkle.leaf(["a", "bc"])


def test_any_changed_row_changes_the_root() -> None:
    leaves = [merkle.leaf([str(number)]) for number in range(9)]

    changed = [merkle.root([*leaves[:place], merkle.leaf(["x"]), *leaves[place + 1 :]]) for place in range(9)]

    assert len({merkle.root(leaves), *changed}) == 10


def test_the_tree_names_what_is_in_a_leaf(tmp_path: Path) -> None:
    from starsmith.core.records import SCHEMA

    assert {"kind"} == set(merkle.COLUMNS) - set(SCHEMA.names)  # the rest is of every corpus
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_files([source_file("a.py", "x = 1\n"), source_file("b.py", "y = 2\n")], tmp_path / "plain")
    table = pq.read_table(tmp_path / "plain" / "00000.parquet")
    (tmp_path / "shards").mkdir()
    pq.write_table(table.append_column("kind", pa.array(["code", "code"])), tmp_path / "shards" / "00000.parquet")

    merkle.write_tree(tmp_path)

    tree = json.loads((tmp_path / "merkle.json").read_text())
    rows = table.append_column("kind", pa.array(["code", "code"])).to_pylist()
    assert tree["leaves"] == 2
    assert tree["root"] == reference([merkle.leaf(row[name] for name in tree["leaf"]) for row in rows]).hex()


def reference_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1, over leaf hashes."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*reference_path(index, leaves[:split]), reference(leaves[split:])]
    return [*reference_path(index - split, leaves[split:]), reference(leaves[:split])]


@given(leaves=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), data=st.data())
def test_a_path_is_that_of_the_recursive_definition_and_leads_to_the_root(
    leaves: list[bytes], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))

    path = merkle.inclusion_path(leaves, index)

    assert path == reference_path(index, leaves)
    assert merkle.is_included(leaves[index], index, len(leaves), path, merkle.root(leaves))


def test_a_path_proves_nothing_else() -> None:
    leaves = [merkle.leaf([str(number)]) for number in range(11)]
    wanted = merkle.root(leaves)

    for index in range(len(leaves)):
        path = merkle.inclusion_path(leaves, index)
        others = [place for place in range(-1, 12) if place != index]
        assert not any(merkle.is_included(leaves[index], place, 11, path, wanted) for place in others)
        assert not merkle.is_included(leaves[index - 1], index, 11, path, wanted)
        assert not merkle.is_included(leaves[index], index, 11, path[:-1], wanted)
        assert not merkle.is_included(leaves[index], index, 11, [*path, path[0]], wanted)
        assert not merkle.is_included(leaves[index], index, 11, path[::-1], wanted)
        assert not merkle.is_included(leaves[index], index, 11, path, merkle.root(leaves[:-1]))


def test_a_tree_of_one_leaf_needs_no_path() -> None:
    only = merkle.leaf(["a"])

    assert merkle.inclusion_path([only], 0) == []
    assert merkle.is_included(only, 0, 1, [], only)
    assert not merkle.is_included(only, 0, 0, [], only)
