"""What goes before and after an exact product of bytes, for many tokens at once: one pass over memory each.

As PyTorch operations the same is five passes over matrices that no cache holds, which took longer than the product.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from starsmith.model.kernels.arithmetic import to_bytes
from starsmith.model.kernels.compiling import SOURCES, entry
from starsmith.model.kernels.tables import Floats, Levels

FEWEST = 32  # rows for which a second thread is worth waking


def round_rows(x_MK: Tensor) -> tuple[Tensor, Tensor]:
    """Contiguous float32 activations as int8, and (M,) what each row is to be multiplied with; see `to_bytes`."""
    levels, scales = torch.empty_like(x_MK, dtype=torch.int8), torch.empty(len(x_MK))
    x, out, factors = x_MK.numpy(), levels.numpy(), scales.numpy()
    _share(len(x), lambda start, end: _round_rows(x[start:end], out[start:end], factors[start:end]))
    return levels, scales


def scale_rows(exact_MN: Tensor, scale_N: Tensor, row_scale_M: Tensor, bias_N: Tensor | None) -> Tensor:
    """Exact int32 sums times the scales of their output and of their row, plus the bias: float32, in their place."""
    out_MN = exact_MN.view(torch.float32)
    exact, out, scale, factors = exact_MN.numpy(), out_MN.numpy(), scale_N.numpy(), row_scale_M.numpy()
    bias = np.zeros_like(scale) if bias_N is None else bias_N.numpy()
    _share(len(out), lambda start, end: _scale_rows(exact[start:end], out[start:end], scale, factors[start:end], bias))
    return out_MN


def _share(rows: int, work: Callable[[int, int], None]) -> None:
    """Divide the rows among as many threads as PyTorch takes."""
    threads = min(torch.get_num_threads(), max(rows // FEWEST, 1))
    if threads == 1:
        work(0, rows)
        return
    edges = [rows * number // threads for number in range(threads + 1)]
    others = [_pool().submit(work, *edges[number : number + 2]) for number in range(1, threads)]
    work(*edges[:2])
    for other in others:
        other.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="rows")


def _kept(sources: int) -> Any:
    @entry
    def round_rows(x: NDArray[np.float32], out: Levels, scales: Floats) -> None:
        if sources != 0:  # never; see SOURCES
            for m in range(x.shape[0]):
                scales[m] = to_bytes(x[m], out[m])

    return round_rows


@entry
def _scale_rows(
    exact: NDArray[np.int32], out: NDArray[np.float32], scale: Floats, row_scale: Floats, bias: Floats
) -> None:
    for m in range(exact.shape[0]):
        factor = row_scale[m]
        for n in range(exact.shape[1]):
            out[m, n] = np.float32(exact[m, n]) * scale[n] * factor + bias[n]


_round_rows = _kept(SOURCES)
