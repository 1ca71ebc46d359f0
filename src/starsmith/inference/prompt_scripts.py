"""What one thread does with its part of a prompt: programs, and what Python does between them."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from starsmith.inference.byte_products import Matrix
from starsmith.inference.prompt_rooms import Prompt, Room
from starsmith.model.kernels import columns, native, threads
from starsmith.model.kernels.native import Row
from starsmith.model.kernels.tables import Table


class Script:
    """Programs, and what Python does between them, in the order in which they are written down."""

    def __init__(self, room: Room, met: Table, shares: int, *, in_tiles: bool) -> None:
        self.room, self._met, self._shares, self._in_tiles = room, met, shares, in_tiles
        self._steps: list[list[Row] | Callable[[Prompt], None]] = []
        self._meetings = 0
        self._programs: list[NDArray[np.int64] | Callable[[Prompt], None]] = []

    def row(self, row: Row) -> None:
        """Of a program: see `native`."""
        if not (self._steps and isinstance(self._steps[-1], list)):
            self._steps.append([])
        rows = self._steps[-1]
        assert isinstance(rows, list)
        rows.append(row)

    def loop(self, name: columns.Name, *arguments: int) -> None:
        """One of the loops of `columns`."""
        self.row((columns.addresses()[name], *arguments))

    def call(self, function: Callable[[Prompt], None]) -> None:
        """Python's own work."""
        self._steps.append(function)

    def multiply(self, matrix: Matrix, part: slice = slice(None)) -> None:
        """The room's bytes with a matrix, or some of its outputs, to its sums."""
        if self._in_tiles:
            for row in matrix.products(self.room.bytes_at[0], self.room.groups, self.room.sums_at, part):
                self.row(row)
        else:
            self.call(lambda _: self.room.multiply(matrix, part))

    def meet(self) -> None:
        """All threads come to the same place."""
        if not self._in_tiles:
            self.call(_wait)
        elif self._shares > 1:
            self.row((threads.meeting(), self._met.ctypes.data + 8 * self._meetings, self._shares))
            self._meetings += 1

    def close(self) -> None:
        """Nothing more is written; what could fail has been done before any thread begins."""
        self._programs = [native.program(step) if isinstance(step, list) else step for step in self._steps]

    def run(self, prompt: Prompt) -> None:
        """Carry it out, in the thread whose it is."""
        for step in self._programs:
            if isinstance(step, np.ndarray):
                native.run(step)
            else:
                step(prompt)


def _wait(prompt: Prompt) -> None:
    prompt.barrier.wait()
