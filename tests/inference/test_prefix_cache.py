"""The prefix cache: it finds the longest beginning that it was given, and forgets what was used longest ago."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from starsmith.inference.prefix_cache import Lease, PrefixCache

BLOCK = 4
TEXT = list(range(100, 130))


def keep(cache: PrefixCache, ids: list[int]) -> list[int]:
    """What a request that reads `ids` and ends does to the cache; its blocks."""
    lease = Lease()
    cache.adopt(lease, ids, len(ids))
    cache.branch(lease, ids, len(ids))
    assert cache.extend(lease, len(ids))
    blocks = list(lease.blocks)
    cache.close(lease, ids, len(ids))
    return blocks


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([*TEXT[:10], 1], 10),  # inside the last, half filled block
        (TEXT[:30], 14),  # all there is
        ([*TEXT[:8], 1, 2], 8),  # after a whole block
        ([*TEXT[:6], 1, 2], 6),  # inside a whole block
        ([1, *TEXT], 0),
        ([], 0),
    ],
)
def test_the_longest_common_beginning_is_found_to_the_token(ids: list[int], found: int) -> None:
    cache = PrefixCache(20, BLOCK)
    keep(cache, TEXT[:14])
    keep(cache, [*TEXT[:4], 7, 7, 7, 7, 7])

    assert cache.match(ids, len(ids)) == found


def test_no_more_is_found_than_is_asked_for() -> None:
    cache = PrefixCache(20, BLOCK)
    keep(cache, TEXT[:14])

    assert [cache.match(TEXT, limit) for limit in (0, 1, 4, 9, 13)] == [0, 1, 4, 9, 13]


def test_whole_blocks_are_shared_and_a_part_of_one_is_copied() -> None:
    cache = PrefixCache(20, BLOCK)
    first = keep(cache, TEXT[:14])
    lease = Lease()

    held = cache.adopt(lease, [*TEXT[:10], 1], 11)
    length, copy = cache.branch(lease, [*TEXT[:10], 1], 11)

    assert (held, length) == (8, 10)
    assert lease.blocks[:2] == first[:2]
    assert copy == (first[2], lease.blocks[2])
    assert lease.blocks[2] not in first


def test_the_last_block_to_be_had_becomes_its_own_copy() -> None:
    cache = PrefixCache(2, BLOCK)
    first = keep(cache, TEXT[:6])
    lease = Lease()
    cache.adopt(lease, TEXT[:8], 8)

    length, copy = cache.branch(lease, TEXT[:8], 8)

    assert (length, copy) == (6, None)
    assert lease.blocks == first


def test_a_sequence_that_goes_on_takes_the_place_of_its_beginning() -> None:
    cache = PrefixCache(20, BLOCK)
    for length in (1, 3, 5, 6, 7):
        keep(cache, TEXT[:length])

    assert cache.cached == 2
    assert cache.match(TEXT, 30) == 7


def test_the_beginning_of_what_is_there_adds_nothing() -> None:
    cache = PrefixCache(20, BLOCK)
    keep(cache, TEXT[:7])
    keep(cache, TEXT[:6])

    assert cache.cached == 2
    assert cache.match(TEXT, 30) == 7


def test_two_that_read_the_same_at_a_time_end_with_the_same_blocks() -> None:
    cache = PrefixCache(20, BLOCK)
    leases = [Lease(), Lease()]
    for lease in leases:
        assert cache.extend(lease, 9)

    for lease in leases:
        cache.commit(lease, TEXT, 9)

    assert leases[0].blocks[:2] == leases[1].blocks[:2]
    assert leases[0].blocks[2] != leases[1].blocks[2]
    assert cache.available == 20 - 4


def test_what_another_request_has_read_meanwhile_is_adopted() -> None:
    cache = PrefixCache(20, BLOCK)
    mine, theirs = Lease(), Lease()
    cache.extend(mine, 2)
    cache.extend(theirs, 9)
    cache.commit(theirs, TEXT, 9)

    assert cache.adopt(mine, TEXT, 12) == 8
    assert mine.blocks == theirs.blocks[:2]
    assert cache.available == 20 - 3


def test_the_least_recently_used_goes_first_and_from_its_end() -> None:
    cache = PrefixCache(6, BLOCK)
    keep(cache, [1] * 12)
    keep(cache, [2] * 12)
    keep(cache, [1] * 12)  # used again

    assert cache.extend(Lease(), 2 * BLOCK)

    assert cache.match([1] * 12, 12) == 12
    assert cache.match([2] * 12, 12) == 4
    assert cache.evictions == 2


def test_a_part_of_a_block_that_is_used_again_is_kept_longer() -> None:
    cache = PrefixCache(3, BLOCK)
    keep(cache, [1] * 3)
    keep(cache, [2] * 3)
    keep(cache, [1] * 2)

    assert cache.extend(Lease(), 2 * BLOCK)

    assert (cache.match([1] * 3, 3), cache.match([2] * 3, 3)) == (3, 0)


def test_blocks_that_a_request_holds_are_never_forgotten() -> None:
    cache = PrefixCache(4, BLOCK)
    keep(cache, TEXT[:8])
    lease = Lease()
    cache.adopt(lease, TEXT, 8)

    assert cache.available == 2
    assert not cache.extend(Lease(), 3 * BLOCK)
    assert cache.extend(Lease(), 2 * BLOCK)
    assert cache.match(TEXT, 8) == 8


def test_what_a_failed_request_held_is_forgotten_but_not_what_others_hold() -> None:
    cache = PrefixCache(10, BLOCK)
    keep(cache, TEXT[:16])
    failed, other = Lease(), Lease()
    cache.adopt(failed, TEXT, 16)
    cache.adopt(other, TEXT, 8)
    cache.extend(failed, 20)

    cache.discard(failed)

    assert cache.match(TEXT, 30) == 8
    assert cache.available == 10 - 2


def test_the_order_of_forgetting_takes_no_more_memory_than_the_blocks() -> None:
    cache = PrefixCache(8, BLOCK)

    for number in range(2000):
        keep(cache, [number % 2] * 4)

    assert len(cache._oldest) < 100


class Usage(RuleBasedStateMachine):
    """Requests come, read and go in any order; contents are followed by hand."""

    BLOCKS = 9
    leases: Bundle[tuple[Lease, list[int], list[int]]] = Bundle("leases")  # with its ids, and how many are read
    texts = st.lists(st.integers(0, 1), max_size=18)

    def __init__(self) -> None:
        super().__init__()
        self.cache = PrefixCache(self.BLOCKS, BLOCK)
        self.contents: list[list[int]] = [[] for _ in range(self.BLOCKS)]
        self.open: list[Lease] = []

    def holds(self, lease: Lease, ids: list[int], length: int) -> bool:
        """Whether a request's blocks hold the first ids."""
        parts = [self.contents[block] for block in lease.blocks]
        return all(parts[place // BLOCK][place % BLOCK] == ids[place] for place in range(length))

    def write(self, lease: Lease, ids: list[int], start: int) -> None:
        for place in range(start, len(ids)):
            part = self.contents[lease.blocks[place // BLOCK]]
            del part[place % BLOCK :]
            part.append(ids[place])

    @rule(target=leases, ids=texts)
    def begin(self, ids: list[int]) -> tuple[Lease, list[int], list[int]]:
        expected = self.cache.match(ids, len(ids))
        lease = Lease()
        self.cache.adopt(lease, ids, len(ids))
        length, copy = self.cache.branch(lease, ids, len(ids))
        if copy is not None:
            self.contents[copy[1]] = list(self.contents[copy[0]])
        assert self.holds(lease, ids, length)
        assert length == expected or self.cache.available == 0
        self.open.append(lease)
        return lease, ids, [length]

    @rule(one=leases)
    def read(self, one: tuple[Lease, list[int], list[int]]) -> None:
        lease, ids, (length,) = one
        if lease in self.open and self.cache.extend(lease, len(ids)):
            self.write(lease, ids, length)
            one[2][0] = len(ids)
            self.cache.commit(lease, ids, len(ids))
            assert self.holds(lease, ids, len(ids))

    @rule(target=leases, one=consumes(leases))
    def end(self, one: tuple[Lease, list[int], list[int]]) -> object:
        lease, ids, (length,) = one
        self.cache.close(lease, ids, length)
        self.open.remove(lease)
        assert self.cache.match(ids, length) == length
        return multiple()

    @rule(target=leases, one=consumes(leases))
    def fail(self, one: tuple[Lease, list[int], list[int]]) -> object:
        self.cache.discard(one[0])
        self.open.remove(one[0])
        return multiple()

    @invariant()
    def blocks_that_are_held_are_not_to_be_had(self) -> None:
        held = {block for lease in self.open for block in lease.blocks}
        assert self.cache.available == self.BLOCKS - len(held)


TestUsage = Usage.TestCase
TestUsage.settings = settings(max_examples=60, stateful_step_count=30)
