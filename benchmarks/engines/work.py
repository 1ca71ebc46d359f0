"""The same work for every engine, and the process in which one of them does it.

An adapter here is a script that opens its engine and hands it to `measure`. Each runs in a process of its own, so that
memory and threads are its own too; vLLM's runs in another environment, so this file needs the standard library alone.

prefill  a prompt of `prompt` tokens that the engine has not seen, up to its next token
decode   one token after another behind such a prompt, one sequence, greedy
step     `step` tokens at once behind a prompt whose keys and values are kept, as verifying drafts does
"""

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

FIRST_ID = 64  # control tokens are below
BITS = {"bf16": 16.0, "q8_0": 8.5, "w8a8": 8.0, "int8": 8.0, "q4_0": 4.5, "int4": 4.5}  # of a weight, with scales
LIKELIEST = 20  # tokens whose log-probabilities are compared


@dataclass(frozen=True)
class Work:
    """What is to be done."""

    model: str
    weights: str  # kind of numbers, for engines that convert
    device: str  # cpu or cuda, for engines that have both
    threads: int
    vocabulary: int
    prompt: int = 512
    decode: int = 24
    step: int = 8
    repeats: int = 3

    def ids(self, number: int, count: int) -> list[int]:
        """Random ids: the same of the same number for every engine."""
        draw = random.Random(number)
        return [draw.randrange(FIRST_ID, self.vocabulary) for _ in range(count)]

    @property
    def positions(self) -> int:
        """Room in the cache that one sequence needs."""
        return self.prompt + max(self.decode, self.step) + 1

    def arguments(self) -> list[str]:
        """The command line that `main` reads it back from."""
        return [part for name, value in asdict(self).items() for part in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Report:
    """What came of it. Times in seconds, one a repeat; no step where an engine cannot be asked for one."""

    load_s: float
    prefill_s: list[float]
    decode_s: list[float]  # a token
    step_s: list[float]
    weights_bytes: int
    before_bytes: int  # resident after the imports, before the model is loaded
    peak_bytes: int  # most that was ever resident
    likeliest: list[tuple[int, float]]  # after the first prompt: ids and log-probabilities
    about: str = ""


class Engine(Protocol):
    """What an adapter offers."""

    weights_bytes: int
    about: str

    def likeliest(self, ids: Sequence[int]) -> list[tuple[int, float]]:
        """The likeliest next tokens with their log-probabilities."""
        ...

    def prefill(self, ids: Sequence[int]) -> float:
        """Seconds for a prompt that was not seen before."""
        ...

    def decode(self, ids: Sequence[int], count: int) -> float:
        """Seconds a token behind the prompt."""
        ...

    def step(self, ids: Sequence[int], new: Sequence[int]) -> float | None:
        """Seconds for all of `new` behind the prompt, which is kept."""
        ...


def main(open_engine: Callable[[Work], Engine]) -> None:
    """The command line of an adapter: the work, and the file for the report."""
    parser = argparse.ArgumentParser()
    for name, kind in Work.__annotations__.items():
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--out", type=Path, required=True)
    values = vars(parser.parse_args())
    out: Path = values.pop("out")
    out.write_text(json.dumps(asdict(measure(open_engine, Work(**values)))))


def measure(open_engine: Callable[[Work], Engine], work: Work) -> Report:
    """Load, warm up, and do everything `repeats` times."""
    before = resident()[0]
    began = time.perf_counter()
    engine = open_engine(work)
    load = time.perf_counter() - began
    first = work.ids(0, work.prompt)
    likeliest = engine.likeliest(first)
    engine.decode(first, 2)
    engine.step(first, work.ids(1, work.step))
    prefill, decode, step = [], [], []
    for number in range(2, 2 + work.repeats):
        prompt = work.ids(number, work.prompt)
        prefill.append(engine.prefill(prompt))
        decode.append(engine.decode(prompt, work.decode))
        step.append(engine.step(prompt, work.ids(1000 + number, work.step)))
    steps = [seconds for seconds in step if seconds is not None]
    peak = resident()[1]
    return Report(load, prefill, decode, steps, engine.weights_bytes, before, peak, likeliest, engine.about)


def resident() -> tuple[int, int]:
    """Bytes of this process in memory, now and at most."""
    status = Path("/proc/self/status").read_text()
    now, most = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
    return now, most


def file_bytes(model: str) -> int:
    """Bytes of a checkpoint's weights, or of the one file."""
    path = Path(model)
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
