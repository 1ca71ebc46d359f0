"""A small training job on several real processes, started with the variables that torchrun sets; or on one, in place.

The processes are copies of the one that tests: torch takes seconds to import, and each would import it anew.
"""

import contextlib
import json
import os
import random
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from starsmith.core.errors import StarsmithError
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.training import muon
from starsmith.training.loss import IGNORED, cross_entropy_sum
from starsmith.training.muon import Muon
from starsmith.training.parallel import (
    ParallelConfig,
    Ranks,
    clip_gradients,
    launched,
    own_parameters,
    place,
    whole_weights,
)
from starsmith.training.states import Contents, States

ROWS_PER_STEP = 12
MODEL = ModelConfig(
    vocab_size=96,
    hidden_size=48,
    intermediate_size=100,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.2,
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to train, and what to do beside it."""

    out: str  # folder of the results
    steps: int = 3
    with_muon: bool = False
    tensor: int = 1
    replicas: int = 1
    dtype: str = "float64"
    compute: str | None = None  # type of a sharded model's layers
    checkpoint_layers: bool = False
    watched: bool = False  # passes without gradients after each step
    round_elements: int | None = None  # for Muon
    states: str | None = None  # folder of saved states, taken up at the start
    save_every: int | None = None
    kill_at: int | None = None  # step after which rank 1 is killed, the first time it comes there
    odd_rank: int | None = None  # one that was started with other settings


@dataclass(frozen=True)
class Apart:
    """Work in a process of its own."""

    process: BaseProcess
    says: Path  # what it writes to stdout and stderr

    def finish(self, seconds: float = 150) -> tuple[int, str]:
        """Exit code, negative for a signal, and what it said."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.terminate()  # a launcher then ends its ranks
            self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode, self.says.read_text()


def apart(says: Path, work: Callable[..., None], *arguments: Any) -> Apart:
    """Start the work in a copy of this process; in a new process where CUDA is in use, which allows no copies."""
    says.parent.mkdir(parents=True, exist_ok=True)
    context = get_context("spawn" if torch.cuda.is_initialized() else "fork")
    process = context.Process(target=_begin, args=(says, work, *arguments))
    process.start()
    return Apart(process, says)


def _begin(says: Path, work: Callable[..., None], *arguments: Any) -> None:
    """Make the copy like a fresh process, then work."""
    stream = says.open("w", buffering=1)  # until the process ends
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    warnings.simplefilter("default")  # pytest makes errors of them
    torch.set_num_threads(1)
    work(*arguments)


def start(job: Job, ranks: int) -> dict[str, Any]:
    """Run one job and give what rank 0 found; see `start_all`."""
    return start_all([job], ranks)[0]


def start_all(jobs: Sequence[Job], ranks: int) -> list[dict[str, Any]]:
    """Run the jobs one after the other on that many processes; on one process, in this one."""
    if ranks == 1:
        for job in jobs:
            train(job)
    else:
        for code, said in finish(launch(jobs, ranks)):
            assert code == 0, said
    return [result(job) for job in jobs]


def launch(jobs: Sequence[Job], ranks: int) -> list[Apart]:
    ports, said = _free_ports(len(jobs)), Path(jobs[0].out)
    return [apart(said / f"rank-{rank}.txt", _be_rank, rank, ranks, ports, jobs) for rank in range(ranks)]


def finish(ranks: Sequence[Apart]) -> list[tuple[int, str]]:
    """What became of the ranks, all of them within the same time."""
    end = time.monotonic() + 150
    return [rank.finish(max(end - time.monotonic(), 0.1)) for rank in ranks]


def launch_with_torchrun(job: Job, ranks: int, restarts: int) -> Apart:
    return apart(Path(job.out) / "torchrun.txt", _be_torchrun, job, ranks, restarts)


def _be_torchrun(job: Job, ranks: int, restarts: int) -> None:
    """Its own settings, launcher and agent; the ranks that it starts are copies, too."""
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    standalone = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--start-method=fork"]
    config, _, _ = config_from_args(
        parse_args([*standalone, f"--nproc-per-node={ranks}", f"--max-restarts={restarts}", __file__])
    )
    elastic_launch(config, train)(job)


def _free_ports(number: int) -> list[int]:
    """Below those that the system hands out: any connection may be given one of these before its rank listens."""
    found: list[int] = []
    while len(found) < number:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            found.append(port)
    return found


def result(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(job.out) / "result.json").read_text())
    return {**found, "weights": torch.load(Path(job.out) / "weights.pt", weights_only=True)}


def train(job: Job) -> None:
    with launched(ParallelConfig(tensor=job.tensor, replicas=job.replicas, timeout_minutes=1)) as ranks:
        ranks.agree({"settings": "other" if ranks.rank == job.odd_rank else "same", "torch": torch.__version__})
        model = place(lambda: make_model(job), MODEL, ranks, compute=getattr(torch, job.compute or "", None))
        model.checkpoint_layers = job.checkpoint_layers
        optimizers = make_optimizers(model, ranks, with_muon=job.with_muon)
        losses, norms = _steps(job, ranks, model, optimizers)
        received = ranks.gather([getattr(optimizer, "received_elements", 0) for optimizer in optimizers])
        weights = whole_weights(model, ranks)
        if ranks.is_first:
            Path(job.out).mkdir(parents=True, exist_ok=True)
            torch.save(weights, Path(job.out) / "weights.pt")
            found = {"losses": losses, "norms": norms, "received": received}
            (Path(job.out) / "result.json").write_text(json.dumps(found))


def _steps(
    job: Job, ranks: Ranks, model: Transformer, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[list[float], list[float]]:
    contents = Contents(model, optimizers)
    states = States(Path(job.states), ranks) if job.states else None
    saved = states.load_latest(contents) if states else None
    losses, norms = (saved.facts["losses"], saved.facts["norms"]) if saved else ([], [])
    for step in range(saved.step if saved else 0, job.steps):
        loss, norm = one_step(model, optimizers, ranks, step)
        if job.watched:
            _watch(model)
        losses.append(loss)
        norms.append(norm)
        if states and job.save_every and (step + 1) % job.save_every == 0:
            states.save(contents, step + 1, {"losses": losses, "norms": norms})
        if step + 1 == job.kill_at and ranks.rank == 1:
            _die_once(Path(job.out), states)
    if states:
        states.close()
    return losses, norms


@torch.no_grad()
def _watch(model: Transformer) -> None:
    """Look at the model with other weights in place, such as an average of them, and put its own ones back."""
    ids, _, lengths = _row(0)
    parameters = list(own_parameters(model).values())
    model.eval()
    for factor in (2.0, 4.0):
        for parameter in parameters:
            parameter.mul_(factor)
        seen = model(ids[None], lengths=lengths) if factor == 2 else model.hidden(ids[None], lengths=lengths)
        assert seen.isfinite().all()
        for parameter in parameters:
            parameter.div_(factor)
    model.train()


def _die_once(out: Path, states: States | None) -> None:
    mark = out / "died"
    if not mark.exists():
        if states:
            states.wait()
        out.mkdir(parents=True, exist_ok=True)
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def make_model(job: Job) -> Transformer:
    torch.manual_seed(0)
    return Transformer(MODEL).to(getattr(torch, job.dtype))


def make_optimizers(model: torch.nn.Module, ranks: Ranks, *, with_muon: bool) -> list[torch.optim.Optimizer]:
    parameters = own_parameters(model)
    matrices = [value for name, value in parameters.items() if with_muon and value.ndim == 2 and ".layers." in name]
    others = [value for value in parameters.values() if all(value is not matrix for matrix in matrices)]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, lr=1e-2, fused=True)]
    return [*optimizers, Muon(matrices, lr=0.02, group=ranks.copy_group)] if matrices else optimizers


def one_step(
    model: Transformer, optimizers: Sequence[torch.optim.Optimizer], ranks: Ranks, step: int
) -> tuple[float, float]:
    """Loss and gradient norm of a step over all rows of all ranks."""
    rows = [_row(number) for number in ranks.rows(step, ROWS_PER_STEP)]
    (trained,) = ranks.sum(sum(int((targets != IGNORED).sum()) for _, targets, _ in rows))
    total = 0.0
    for ids, targets, lengths in rows:
        hidden = model.hidden(ids[None], lengths=lengths).flatten(0, 1)
        loss = cross_entropy_sum(hidden, model.lm_head.weight, targets) / trained
        loss.backward()
        total += float(loss.detach())
    norm = clip_gradients(model.parameters(), ranks, max_norm=1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return ranks.sum(total)[0], norm


def _row(number: int) -> tuple[Tensor, Tensor, list[int]]:
    """Ids, targets and lengths of a row; the rows differ in the tokens that they train on."""
    generator = torch.Generator().manual_seed(number)
    ids = torch.randint(0, MODEL.vocab_size, (32,), generator=generator)
    targets = torch.cat([ids[1:], torch.tensor([IGNORED])])
    targets[: number % 7] = IGNORED
    return ids, targets, [20, 12]


def _be_rank(rank: int, ranks: int, ports: Sequence[int], jobs: Sequence[Job]) -> None:
    """What one of the processes that `launch` starts does."""
    usual = muon.ROUND_ELEMENTS
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
    for job, port in zip(jobs, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        muon.ROUND_ELEMENTS = job.round_elements or usual
        try:
            train(job)
        except StarsmithError as error:
            sys.stdout.write(f"error: {error.message}\n hint: {error.hint}\n")
            sys.exit(1)
