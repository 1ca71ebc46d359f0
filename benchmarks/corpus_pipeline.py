"""The whole corpus pipeline on real files: MB a CPU-second, peak memory and how both grow with the input.

Each size is one `starsmith corpus build` in a process of its own, from Parquet to the finished artefact with its card,
start-up and just-in-time code included. CPU time and memory are those of the process and all it starts, read from
/proc five times a second; memory is the sum of what each holds for itself (Pss). The input has no licences, so the
build takes unlicensed files.

The bar is for a second of one core, so the builds are held to one. Where two processors are threads of one physical
core, as on most rented machines, a second of each is worth less when both are at work: the largest size is built once
more on all of them, which shows by how much, and how long a user waits.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pyarrow as pa
import pyarrow.parquet as pq
from real_files import BENCH, ROOT, gather

from starsmith.core.artifact import read
from starsmith.core.console import note, table

BAR = 20.0  # MB a CPU-second
MOST_MEMORY_MB = 2000
LONGEST_MARGINAL = 1.3  # cost of a further MB between the largest sizes, against the average: 1 is linear
ROUNDS = 3  # of the largest size, of which the median counts
SETTINGS = ("corpus.licenses.unlicensed=true",)
PLOT = ROOT / "docs" / "plots" / "corpus_pipeline.svg"


@dataclass(frozen=True)
class Measured:
    """One build."""

    cores: int
    input_mb: float
    cpu_s: float
    wall_s: float
    peak_mb: float
    kept_mb: float

    @property
    def rate(self) -> float:
        """MB of input a CPU-second."""
        return self.input_mb / self.cpu_s


def main() -> None:
    """Measure, print and plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small size, no plot")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    parser.add_argument("--benchmarks", type=Path, help="also decontaminate, with this artefact")
    arguments = parser.parse_args()
    whole = gather(60_000_000 if arguments.quick else 1_050_000_000)
    shares = (1.0,) if arguments.quick else (0.25, 0.5, 1.0)
    _build(_part(whole, 0.02), arguments.benchmarks, 1)  # compiles and caches the kernels
    found = [_build(_part(whole, share), arguments.benchmarks, 1) for share in shares[:-1]]
    rounds = [_build(_part(whole, shares[-1]), arguments.benchmarks, 1) for _ in range(ROUNDS)]
    found.append(sorted(rounds, key=lambda one: one.cpu_s)[ROUNDS // 2])
    on_all = _build(_part(whole, shares[-1]), arguments.benchmarks, len(os.sched_getaffinity(0)))
    rows = [
        (f"{one.cores}", f"{one.input_mb:,.0f}", f"{one.cpu_s:.1f}", f"{one.wall_s:.1f}", f"{one.rate:.1f}",
         f"{one.peak_mb:,.0f}", f"{one.kept_mb:,.0f}")
        for one in (*found, on_all)
    ]  # fmt: skip
    columns = ("cores", "MB in", "CPU s", "wall s", "MB/CPU-s", "peak MB", "MB kept")
    table("starsmith corpus build", columns, rows, right=columns)
    last = found[-1]
    marginal = 1.0
    print(f"rounds of the largest: {', '.join(f'{one.rate:.1f}' for one in rounds)} MB/CPU-s")
    if len(found) > 1:
        before = found[-2]
        marginal = (last.cpu_s - before.cpu_s) / (last.input_mb - before.input_mb) * last.rate
        print(f"cost of a further MB against the average: {marginal:.2f} (1 is linear; bar {LONGEST_MARGINAL})")
        _plot(found)
    peak_mb = max(last.peak_mb, on_all.peak_mb)
    holds = last.rate >= BAR and peak_mb < MOST_MEMORY_MB and marginal <= LONGEST_MARGINAL
    if arguments.json:
        print(
            json.dumps(
                {"name": "corpus_pipeline", "ours": last.rate, "peer": None, "peer_name": None, "unit": "MB/CPU-s",
                 "ratio": None, "bar": BAR, "on_all_cores": on_all.rate, "peak_mb": peak_mb, "marginal": marginal,
                 "holds": holds}
            )
        )  # fmt: skip


def _part(whole: Path, share: float) -> Path:
    """A share of the files as a table in the schema of the-stack-smol."""
    folder = BENCH / "pipeline" / f"{whole.name}-{share:g}"
    if folder.exists():
        return folder
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for part in sorted(whole.glob("*.parquet")):
        rows = pq.read_table(part, columns=["repo", "path", "content"])
        rows = rows.slice(0, max(int(share * len(rows)), 1))
        columns = {"repository_name": rows["repo"], "path": rows["path"], "content": rows["content"]}
        pq.write_table(pa.table(columns), partial / part.name, compression="zstd", row_group_size=1024)
    partial.rename(folder)
    return folder


def _build(source: Path, benchmarks: Path | None, cores: int) -> Measured:
    size = sum(len(text) for part in source.glob("*.parquet") for text in _contents(part)) / 1e6
    out = BENCH / "pipeline" / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "starsmith.cli.main", "corpus", "build", str(source), "--out", str(out)]
    command += [word for setting in SETTINGS for word in ("--set", setting)]
    command += ["--benchmarks", str(benchmarks)] if benchmarks else []
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:cores])  # what it starts inherits this
    cpu, peak = _watch(process)
    wall = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with status {process.returncode}")
    kept = read(out, kind="corpus").counts["kept_bytes"] / 1e6
    note(f"{size:,.0f} MB on {cores}: {cpu:.1f} CPU s, {wall:.0f} s, peak {peak:,.0f} MB")
    return Measured(cores, size, cpu, wall, peak, kept)


def _contents(part: Path) -> list[bytes]:
    return [text.encode() for text in pq.read_table(part, columns=["content"])["content"].to_pylist()]


def _watch(process: "subprocess.Popen[bytes]") -> tuple[float, float]:
    """(CPU seconds, peak MB) of a process and everything below it, until it ends."""
    ticks, peak = {}, 0.0
    while process.poll() is None:
        memory = 0.0
        for pid in _tree(process.pid):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks[pid] = int(fields[11]) + int(fields[12])
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                memory += int(rollup.partition("\nPss:")[2].split()[0]) / 1024
            except (OSError, ValueError, IndexError):
                continue  # it has ended
        peak = max(peak, memory)
        time.sleep(0.2)
    return sum(ticks.values()) / 100, peak


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for listing in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in listing.read_text().split()]
            except OSError:
                continue
    return found


def _plot(found: list[Measured]) -> None:
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "starsmith"
    from matplotlib import pyplot as plt

    figure, (time_axis, memory_axis) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    sizes = [0.0, *(one.input_mb for one in found)]
    time_axis.plot(sizes, [0.0, *(one.cpu_s for one in found)], marker="o", color="#3554a5")
    time_axis.plot(
        sizes, [size / BAR for size in sizes], linestyle="--", color="#888", label=f"{BAR:g} MB a CPU-second"
    )
    time_axis.set(xlabel="MB of source files", ylabel="CPU seconds", ylim=(0, None), xlim=(0, None))
    memory_axis.plot(sizes[1:], [one.peak_mb for one in found], marker="o", color="#3554a5")
    memory_axis.axhline(MOST_MEMORY_MB, linestyle="--", color="#888", label="2,000 MB")
    memory_axis.set(xlabel="MB of source files", ylabel="peak memory, MB", ylim=(0, None), xlim=(0, None))
    for axis in (time_axis, memory_axis):
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    main()
