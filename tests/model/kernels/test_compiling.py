"""What is compiled is told once, and what is kept is forgotten when any file that it came from changes."""

from pathlib import Path

import pytest
from numba import njit

from starsmith.model.kernels import step
from starsmith.model.kernels.compiling import SOURCES, announced

pytestmark = pytest.mark.slow


def test_compiling_is_told_once_however_many_functions_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    @njit
    def one(x: int) -> int:
        return x + 1

    @njit
    def two(x: int) -> int:
        return one(x) + one(x + 1)

    with announced():
        two(1)
        two(1.0)

    assert capsys.readouterr().err == "compiling for this processor, some seconds; later starts take what is kept\n"


def test_nothing_is_told_where_nothing_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    @njit
    def one(x: int) -> int:
        return x + 1

    one(1)
    with announced():
        one(2)

    assert capsys.readouterr().err == ""


def test_what_calls_functions_of_other_files_is_kept_for_these_sources_alone() -> None:
    assert f"{SOURCES:x}" in step.step.py_func.__qualname__
    assert f"{SOURCES:x}" in Path(step.step._cache._cache_file._index_path).name
