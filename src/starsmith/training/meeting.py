"""How ranks find each other, also after `torchrun` has started some of them again.

`torchrun --max-restarts` keeps one key-value store for all attempts. In torch 2.13 nothing divides what the attempts
write into it, so that ranks of a second attempt connect to addresses of the first and wait for ever. (torchrun's own
variable TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 avoids that, if one knows of it; its count of restarts differs between
nodes and divides nothing.) Here rank 0 picks a name for the attempt, and tells it to each rank that is alive.
"""

import time
import uuid
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store

from starsmith.core.errors import InputError

_POLL_S = 0.02


def meet(store: Store, rank: int, size: int, timeout: timedelta) -> Store:
    """A part of `store` that no earlier attempt has written to, the same for all ranks of this one.

    Every rank greets with a word of its own and waits for the answer to just that word. Rank 0 answers the greetings
    that it finds, old ones included, until each rank has confirmed the name that it was told.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    name = _invite(store, size, deadline) if rank == 0 else _join(store, rank, deadline)
    return PrefixStore(f"attempt/{name}", store)


def _invite(store: Store, size: int, deadline: float) -> str:
    name = uuid.uuid4().hex
    missing = set(range(1, size))
    answered: set[bytes] = set()
    while missing:
        for rank in sorted(missing):
            greeting = store.get(f"greeting/{rank}") if store.check([f"greeting/{rank}"]) else b""
            if greeting and greeting not in answered:
                store.set(f"answer/{greeting.decode()}", name)
                answered.add(greeting)
            if store.check([f"confirmed/{name}/{rank}"]):
                missing.discard(rank)
        if missing:
            _pause(deadline, f"rank {min(missing)} has not come")
    return name


def _join(store: Store, rank: int, deadline: float) -> str:
    greeting = uuid.uuid4().hex
    store.set(f"greeting/{rank}", greeting)
    while not store.check([f"answer/{greeting}"]):
        _pause(deadline, "rank 0 has not come")
    name: str = store.get(f"answer/{greeting}").decode()
    store.set(f"confirmed/{name}/{rank}", "yes")
    return name


def _pause(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise InputError(f"{what} in time", hint="see what that rank says, or raise pretrain.parallel.timeout_minutes")
    time.sleep(_POLL_S)
