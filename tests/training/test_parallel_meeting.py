"""Ranks of one attempt meet, whatever earlier attempts have left in the store."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from starsmith.core.errors import InputError
from starsmith.training.meeting import meet

pytestmark = pytest.mark.slow  # torch.distributed takes seconds to import

TIMEOUT = timedelta(seconds=20)


def attempt(store: dist.Store, ranks: list[int], size: int, timeout: timedelta = TIMEOUT) -> list[dist.Store]:
    """All ranks at once, the last one first; the parts of the store that they find."""
    with ThreadPoolExecutor(size) as pool:
        waiting = [pool.submit(meet, store, rank, size, timeout) for rank in reversed(ranks)]
        return [found.result() for found in reversed(waiting)]


def test_ranks_meet_in_one_part_of_the_store() -> None:
    parts = attempt(dist.HashStore(), [0, 1, 2], 3)

    parts[0].set("key", "value")

    assert [part.get("key") for part in parts] == [b"value"] * 3


def test_a_second_attempt_sees_nothing_of_the_first() -> None:
    store = dist.HashStore()
    first = attempt(store, [0, 1], 2)
    first[0].set("address", "old")

    second = attempt(store, [0, 1], 2)

    assert not second[0].check(["address"])
    second[1].set("address", "new")
    assert second[0].get("address") == b"new"


def test_an_attempt_that_never_met_does_not_matter() -> None:
    store = dist.HashStore()
    with pytest.raises(InputError, match="rank 0 has not come in time"):
        attempt(store, [1, 2], 3, timedelta(seconds=0.1))
    with pytest.raises(InputError, match="rank 1 has not come in time"):
        attempt(store, [0, 2], 3, timedelta(seconds=0.1))

    parts = attempt(store, [0, 1, 2], 3)

    parts[2].set("key", "value")
    assert parts[1].get("key") == b"value"
