"""What the machine can do: bytes read a second, and operations a second in bfloat16 and in int8. Best of some runs.

A script of its own, so that its large arrays are gone when the engines run.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

READ_BYTES = 2 * 1024**3  # more than any cache holds
SIDE = 2048  # of the square matrices on a CPU
GPU_SIDE = 8192
RUNS = 5


@dataclass(frozen=True)
class Machine:
    """Bytes and operations a second."""

    read: float
    bf16: float
    int8: float


def measure(threads: int, device: torch.device) -> Machine:
    """With so many threads."""
    torch.set_num_threads(threads)
    read = _read(device)
    side = GPU_SIDE if device.type == "cuda" else SIDE
    operations = 2 * side**3
    halves = torch.randn(side, side, device=device).bfloat16()
    bf16 = operations / _best(lambda: float((halves @ halves)[0, 0]))
    bytes_ = torch.randint(-100, 100, (side, side), dtype=torch.int8, device=device)
    other = bytes_.t() if device.type == "cuda" else bytes_  # the GPU's kernel wants it this way
    int8 = operations / _best(lambda: int(torch._int_mm(bytes_, other)[0, 0]))
    return Machine(read, bf16, int8)


def _read(device: torch.device) -> float:
    values = torch.ones(READ_BYTES // 4, device=device)
    return READ_BYTES / _best(lambda: float(values.sum()))


def _best(work: Callable[[], float]) -> float:
    """Shortest of some runs, in seconds; each reads its outcome, so that a GPU has come to its end."""
    times = []
    for _ in range(1 + RUNS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times[1:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(json.dumps(asdict(measure(arguments.threads, torch.device(arguments.device)))))
