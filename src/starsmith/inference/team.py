"""Threads that carry out parts of a step side by side, and are there before the first of them.

PyTorch's own threads wait in a loop for what comes next, for longer than many steps take, and whoever computes beside
them shares a processor with that. Here every thread calls PyTorch with one thread and works on rows of its own; but
where there are many processors and PyTorch multiplies, rows are shared among MOST_SHARES threads, each with several.
"""

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue

import torch

MOST_SHARES = 8  # for each PyTorch brings the weights into order once more

Part = Callable[[], None]


@dataclass(frozen=True)
class _Begun:
    part: Part
    done: "SimpleQueue[BaseException | None]"


@dataclass(frozen=True)
class Pending:
    """Parts that are being carried out."""

    parts: int
    done: "SimpleQueue[BaseException | None]"

    def wait(self) -> None:
        """Return when all are done; raises what one that failed raised, not that others waited for it in vain."""
        errors = [error for _ in range(self.parts) if (error := self.done.get()) is not None]
        if errors:
            raise min(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError))


class Team:
    """So many threads."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._queues: list[SimpleQueue[_Begun | None]] = [SimpleQueue() for _ in range(count)]
        for number, queue in enumerate(self._queues):
            threading.Thread(target=_work, args=(queue,), name=f"step-{number}", daemon=True).start()
        before = torch.get_num_threads()
        self.begin([partial(_set_threads, max(count // MOST_SHARES, 1))] * count).wait()
        torch.set_num_threads(before)  # what a thread sets for itself, threads that come later take over
        self.close = weakref.finalize(self, _end, self._queues)  # the threads do not know of this object

    def begin(self, parts: Sequence[Part]) -> Pending:
        """Give each part to a thread of its own, of which there must be as many."""
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for part, queue in zip(parts, self._queues, strict=False):
            queue.put(_Begun(part, done))
        return Pending(len(parts), done)


def _set_threads(count: int) -> None:
    """Of PyTorch, for the thread that calls this."""
    torch.get_num_threads()  # or the first call that asks for the number would set it to that of other threads
    torch.set_num_threads(count)


def _end(queues: "Sequence[SimpleQueue[_Begun | None]]") -> None:
    for queue in queues:
        queue.put(None)


def _work(queue: "SimpleQueue[_Begun | None]") -> None:
    while (begun := queue.get()) is not None:
        try:
            begun.part()
        except BaseException as error:  # noqa: BLE001  who waits is told
            begun.done.put(error)
        else:
            begun.done.put(None)
        del begun
