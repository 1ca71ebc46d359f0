"""Loops are compiled once for a processor, kept, and carried out as programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from starsmith.model.kernels import native
from starsmith.model.kernels.lanes import I64, Loop, pointer


def add_to_place(builder: Any, arguments: Any) -> None:
    place, value = arguments
    held = pointer(builder, place, I64)
    builder.store(builder.add(builder.load(held), value), held)


LOOPS = {"add_to_place": Loop(add_to_place, 2)}


def added(*values: int) -> int:
    (address,) = native.addresses(LOOPS, from_row=True)
    total = np.zeros(1, np.int64)
    native.run(native.program([(address, total.ctypes.data, value) for value in values]))
    return int(total[0])


def test_a_program_does_one_row_after_the_other() -> None:
    assert added(3, 4, 5) == 12


def test_what_was_compiled_is_taken_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_place", lambda _: tmp_path / "kept" / "code.o")
    assert added(1, 2) == 3
    monkeypatch.setattr(native, "_compile", refuse)

    assert added(1, 2, 3) == 6
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["code.o"]


def refuse(*_: object) -> bytes:
    raise AssertionError("compiled again")


def test_where_nothing_can_be_kept_it_is_compiled_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(native, "_place", lambda _: tmp_path / "file" / "code.o")

    assert added(2, 2) == 4
    assert added(2, 3) == 5


def test_code_of_other_loops_is_kept_elsewhere() -> None:
    assert native._place("one") != native._place("two")
