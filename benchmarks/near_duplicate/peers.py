"""The peers of near_duplicates.py: each a program that runs in an environment of its own and writes its outcome."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from real_files import BENCH

from starsmith.core.console import note

SCRATCH = BENCH / "near-duplicates" / "scratch"

# What the peers' programs share. Arguments: Parquet file, empty folder, variant; writes outcome.json there.
PRELUDE = """
import json, re, resource, struct, subprocess, sys
from collections import defaultdict
from pathlib import Path
import numpy as np
import pyarrow.parquet as pq

source, folder, variant = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
BANDS, ROWS, WORDS = 25, 10, 5
WORD = re.compile("[A-Za-z_0-9]+")

def cpu_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)

def texts():
    for batch in pq.ParquetFile(source).iter_batches(columns=["content"]):
        yield from batch.column(0).to_pylist()

def shingles(words):
    return {" ".join(gram) for gram in zip(*(words[start:] for start in range(WORDS)))}

def write(seconds, labels):
    (folder / "outcome.json").write_text(json.dumps({"seconds": seconds, "labels": labels}))

def run(signature):
    started = cpu_seconds()
    tables, parent, count = [defaultdict(set) for _ in range(BANDS)], {}, 0
    for number, text in enumerate(texts()):
        count += 1
        values = signature(text)
        if values is not None:
            for band in range(BANDS):
                tables[band][values[band * ROWS : (band + 1) * ROWS].tobytes()].add(number)
    def find(x):
        while parent.setdefault(x, x) != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x
    for table in tables:
        for cluster in table.values():
            if len(cluster) > 1:
                first = min(cluster)
                for x in cluster:
                    one, other = find(x), find(first)
                    parent[one] = parent[other] = min(one, other)
    labels = [find(number) for number in range(count)]
    write(cpu_seconds() - started, labels)
"""

# Plainly from the description of BigCode's minhash_deduplication.py: sha1, 256 affine permutations modulo 2**61 - 1.
BIGCODE = """
import hashlib
PRIME, MOST, PERMUTATIONS = np.uint64(2**61 - 1), np.uint64(2**32 - 1), 256
random = np.random.RandomState(42)
a, b = (random.randint(low, PRIME, size=PERMUTATIONS, dtype=np.uint64) for low in (1, 0))
SEPARATOR = re.compile("[^A-Za-z_0-9]")

def signature(text):
    words = SEPARATOR.split(text) if variant == "published" else WORD.findall(text.lower())
    grams = shingles(words)
    if not grams:
        return None
    hashes = np.array([struct.unpack("<I", hashlib.sha1(gram.encode()).digest()[:4])[0] for gram in grams], np.uint64)
    return (((hashes[:, None] * a + b) % PRIME) & MOST).min(axis=0)

run(signature)
"""

RENSA = """
from rensa import RMinHash

def signature(text):
    grams = shingles(WORD.findall(text.lower()))
    if not grams:
        return None
    sketch = RMinHash(num_perm=BANDS * ROWS, seed=42)
    sketch.update(list(grams))
    return np.array(sketch.digest(), np.uint32)

run(signature)
"""

# Its own command line and its own Parquet reading; the imports are measured with --help and subtracted.
TEXT_DEDUP = """
import pickle
command = [sys.executable, "-m", "text_dedup.minhash"]
arguments = ["--path", "parquet", "--data_files", str(source), "--split", "train", "--column", "content",
    "--cache_dir", str(folder / "cache"), "--output", str(folder / "kept"), "--debug", "--num_proc", "1",
    "--ngram", str(WORDS), "--num_perm", "250", "--b", str(BANDS), "--r", str(ROWS), "--hash_func", "xxh3"]
subprocess.run([*command, "--help"], check=True, capture_output=True)  # compiles its modules
started = cpu_seconds()
subprocess.run([*command, "--help"], check=True, capture_output=True)
imported = cpu_seconds()
subprocess.run([*command, *arguments], check=True, capture_output=True)
seconds = cpu_seconds() - imported - (imported - started)
from datasets import load_from_disk
from text_dedup.utils import UnionFind
kept = set(load_from_disk(str(folder / "kept"))["id"])
clusters = pickle.loads((folder / "kept" / "uf.pkl").read_bytes())
count = pq.ParquetFile(source).metadata.num_rows
roots = [clusters.find(number) for number in range(count)]
stands = {roots[number]: number for number in range(count) if number in kept}
write(seconds, [stands.get(root, number) for number, root in enumerate(roots)])
"""

DATATROVE = """
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature)
from datatrove.pipeline.readers import ParquetReader
from datatrove.utils.logging import logger
from datatrove.utils.text import TextNormConfig
logger.remove()

class Words:
    def word_tokenize(self, text):
        return WORD.findall(text)

def read():
    reader = ParquetReader(str(source.parent), glob_pattern=source.name, text_key="content", read_metadata=False)
    return reader.run(None, 0, 1)

plain = TextNormConfig(norm_whitespace=False, remove_punctuation=False, norm_unicode_diacritics=False,
    norm_numbers=False)
options = {"norm_config": plain} if variant == "same words" else {}
config = MinhashConfig(n_grams=WORDS, num_buckets=BANDS, hashes_per_bucket=ROWS, **options)
values, pairs, clusters = (str(folder / name) for name in ("values", "pairs", "clusters"))
signature = MinhashDedupSignature(values, config)
if variant == "same words":
    signature.word_tokenizer = Words()
else:
    signature.word_tokenizer.word_tokenize("loads it")
started = cpu_seconds()
signature.run(read(), 0, 1)
for bucket in range(BANDS):
    MinhashDedupBuckets(values, pairs, config=config).run(None, bucket, BANDS)
MinhashDedupCluster(pairs, clusters, config=config, save_cluster_id=True).run(None, 0, 1)
kept = sum(1 for _ in MinhashDedupFilter(clusters).run(read(), 0, 1))
seconds = cpu_seconds() - started
count = pq.ParquetFile(source).metadata.num_rows
gone = set(np.fromfile(folder / "clusters" / "000000.remove", "<u4").tolist())
cluster_of = dict(np.fromfile(folder / "clusters" / "000000.clusters", "<u4").reshape(-1, 2).tolist())
assert count - len(gone) == kept
stands = {cluster: number for number, cluster in cluster_of.items() if number not in gone}
write(seconds, [stands[cluster_of[number]] if number in gone else number for number in range(count)])
"""


@dataclass(frozen=True)
class Peer:
    """A peer, or a variant of it."""

    name: str
    program: str
    packages: tuple[str, ...] = ()  # none: it runs in our environment
    variant: str = ""
    bar: float | None = None  # how many times faster we want to be

    @property
    def python(self) -> Path:
        """Of its environment below .bench/, made when it is not there."""
        if not self.packages:
            return Path(sys.executable)
        folder = BENCH / self.packages[0].partition("==")[0].partition("[")[0]
        ready = folder / ".ready"
        if not ready.exists():
            note(f"installing {self.packages[0]}")
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, *self.packages], check=True)
            ready.touch()
        return folder / "bin" / "python"


PEERS = (
    Peer("BigCode's script, our words", BIGCODE, variant="same words", bar=15),
    Peer("BigCode's script, its words", BIGCODE, variant="published"),
    Peer("text-dedup 0.4.0", TEXT_DEDUP, ("text-dedup==0.4.0",), bar=5),
    Peer("datatrove 0.10.1, our words", DATATROVE, ("datatrove[io,processing]==0.10.1", "spacy"), "same words", 5),
    Peer("datatrove 0.10.1, its words", DATATROVE, ("datatrove[io,processing]==0.10.1", "spacy")),
    Peer("rensa 0.5.0, our words", RENSA, ("rensa==0.5.0", "numpy", "pyarrow"), bar=3),
)


def outcome(peer: Peer, place: Path) -> tuple[float, list[int]]:
    """(CPU seconds, for each file of the Parquet file the one that was kept for it)."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    command = [str(peer.python), "-c", PRELUDE + peer.program, str(place), str(SCRATCH), peer.variant]
    offline = {**os.environ, "HF_HOME": str(SCRATCH / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=offline, cwd=SCRATCH, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{peer.name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    answer = json.loads((SCRATCH / "outcome.json").read_text())
    return answer["seconds"], answer["labels"]
