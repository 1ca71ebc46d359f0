"""The peers of attribution.py: infini-gram in an environment of its own, and a suffix array of the same bytes."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pydivsufsort
from numba import njit
from numpy.typing import NDArray
from real_files import BENCH

from starsmith.core.console import note
from starsmith.core.winnowing import scan

INFINI_GRAM = ("infini-gram==2.6.0", "transformers==5.24.0", "numpy", "tqdm", "zstandard")
SHORTEST_BYTES = 190  # of a copy: about 40 code tokens

# Arguments: folder with the texts and queries.json; writes outcome.json there. Byte mode: its tokenizers are downloads.
_PROGRAM = """
import json, resource, subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "index").mkdir()
command = [sys.executable, "-m", "infini_gram.indexing", "--data_dir", str(folder / "data"),
           "--save_dir", str(folder / "index"), "--token_dtype", "u8", "--cpus", "2", "--mem", "8",
           "--ulimit", str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])]
began = time.perf_counter()
subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - began
from infini_gram.engine import InfiniGramEngine
engine = InfiniGramEngine(index_dir=[str(folder / "index")], eos_token_id=254, vocab_size=255, token_dtype="u8",
                          precompute_unigram_logprobs=False)
times, found = {}, {}
for name, queries in json.loads((folder / "queries.json").read_text()).items():
    times[name], found[name] = [], 0
    for query in queries:
        ids = list(query.encode())
        began = time.perf_counter()
        answer = engine.attribute(input_ids=ids, delim_ids=[], min_len=int(sys.argv[2]), max_cnt=5, enforce_bow=False)
        times[name].append(time.perf_counter() - began)
        found[name] += bool(answer["spans"])
size = sum(path.stat().st_size for path in (folder / "index").iterdir())
(folder / "outcome.json").write_text(json.dumps({"seconds": seconds, "bytes": size, "times": times, "found": found}))
"""


@dataclass(frozen=True)
class Outcome:
    """What a peer took for the same texts and queries."""

    build_s: float
    index_bytes: int
    times_s: dict[str, list[float]]  # by kind of query
    found: dict[str, int]  # queries of which something was found


def infini_gram(texts: Sequence[str], queries: dict[str, list[str]]) -> Outcome:
    """Index and ask in a process of its own, CPU count two, as it is meant to be used."""
    python = _environment()
    folder = BENCH / "infini-gram" / "scratch"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "data" / "texts.jsonl").write_text(lines)
    (folder / "queries.json").write_text(json.dumps(queries))
    subprocess.run([python, "-c", _PROGRAM, str(folder), str(SHORTEST_BYTES)], check=True)
    outcome = json.loads((folder / "outcome.json").read_text())
    shutil.rmtree(folder)
    return Outcome(outcome["seconds"], outcome["bytes"], outcome["times"], outcome["found"])


def suffix_array(content: bytes, queries: dict[str, list[str]]) -> Outcome:
    """pydivsufsort's array of the bytes; a query is the longest equal stretch from each of its tokens on."""
    began = time.perf_counter()
    array = pydivsufsort.divsufsort(content)
    seconds = time.perf_counter() - began
    text = np.frombuffer(content, np.uint8)
    longest(text, array, text[:9], np.zeros(1, np.int64))  # compile
    times: dict[str, list[float]] = {}
    found: dict[str, int] = {}
    for name, texts in queries.items():
        times[name], found[name] = [], 0
        for query in texts:
            began = time.perf_counter()
            data = query.encode()
            lengths = longest(text, array, np.frombuffer(data, np.uint8), scan(data, 24, 17).starts)
            times[name].append(time.perf_counter() - began)
            found[name] += bool((lengths >= SHORTEST_BYTES).any())
    return Outcome(seconds, text.nbytes + array.nbytes, times, found)


@njit(cache=True)
def longest(
    text: NDArray[np.uint8], array: NDArray[np.int32], query: NDArray[np.uint8], starts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Bytes from each start on that stand somewhere in the text, by binary search."""
    lengths = np.zeros(len(starts), np.int64)
    for number in range(len(starts)):
        start, low, high = starts[number], 0, len(array)
        while low < high:
            middle = (low + high) // 2
            place, same = array[middle], 0
            while start + same < len(query) and place + same < len(text) and query[start + same] == text[place + same]:
                same += 1
            lengths[number] = max(lengths[number], same)
            if start + same == len(query):
                break
            if place + same == len(text) or text[place + same] < query[start + same]:
                low = middle + 1
            else:
                high = middle
    return lengths


def _environment() -> str:
    folder = BENCH / "infini-gram"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        note(f"installing {INFINI_GRAM[0]}")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *INFINI_GRAM], check=True)
        ready.touch()
    return str(python)
