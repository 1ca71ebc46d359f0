"""One model on many ranks: who they are, what each holds of the model and of the data, and what they tell each other.

A rank is one process, started by `torchrun`; without it there is one process, the model stays a plain module, and
nothing here costs or changes anything. The ranks form a grid of replicas x shards x tensor ranks:

shards   each holds a part of every parameter, gradient and optimizer state; a layer is put together for the moment
         in which it computes, then dropped (FSDP: Zhao et al. 2023, arXiv 2304.11277; torch's `fully_shard`)
replicas copies of the whole sharded model, for clusters whose nodes are far apart (hybrid sharding)
tensor   ranks that compute each layer together, each with some of the heads (`tensor_parallel`)

Replicas and shards read different rows, tensor ranks the same ones. Gradients are summed, not averaged: the caller
divides the loss by the number of tokens trained on by all ranks, so that a token weighs the same wherever it is read.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, Shard

from starsmith.core.errors import ConfigError, InputError
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.training.meeting import meet
from starsmith.training.tensor_parallel import check_heads, split_layer

REPLICA, SHARD, TENSOR = "replica", "shard", "tensor"  # dimensions of the grid; tensor ranks are neighbours
_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")  # what torch's wrappers put into the names of parameters
_CLIP_EPSILON = 1e-6  # torch's own


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How the ranks of `torchrun` share the work; without effect on one process."""

    tensor: int = 1  # ranks that share each layer; within one node, and at most the key/value heads
    replicas: int = 1  # copies of the sharded model, for example one a node; 1 shards it over all ranks
    timeout_minutes: float = 10.0  # how long a rank waits for another before it gives up

    def __post_init__(self) -> None:
        if self.tensor < 1 or self.replicas < 1 or self.timeout_minutes <= 0:
            raise ConfigError(
                f"tensor={self.tensor}, replicas={self.replicas}, timeout_minutes={self.timeout_minutes}: "
                "must be at least 1, and the time above 0",
                hint="mend [pretrain.parallel]",
            )


@dataclass(frozen=True)
class Ranks:
    """This rank and the others."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    mesh: DeviceMesh | None = None  # replica x shard x tensor; None for one process
    copy_group: dist.ProcessGroup | None = None  # the ranks that together hold one copy of the model; None: all ranks

    @property
    def is_first(self) -> bool:
        """True for the one rank that writes files and shows progress."""
        return self.rank == 0

    @property
    def tensor_size(self) -> int:
        """Ranks that share each layer."""
        return 1 if self.mesh is None else int(self.mesh[TENSOR].size())

    @property
    def data_rank(self) -> int:
        """Place among the ranks that read different rows."""
        return self.rank // self.tensor_size

    @property
    def data_size(self) -> int:
        """Number of ranks that read different rows."""
        return self.size // self.tensor_size

    def rows(self, step: int, rows_per_step: int) -> range:
        """The rows of the data that this rank reads in `step`: every `data_size`-th of the step's."""
        if rows_per_step % self.data_size:
            raise ConfigError(
                f"a step of {rows_per_step} rows does not divide over {self.data_size} ranks that read data",
                hint=f"choose batch_tokens as micro_batch_tokens times a multiple of {self.data_size}",
            )
        first = step * rows_per_step
        return range(first + self.data_rank, first + rows_per_step, self.data_size)

    def sum(self, *values: float) -> tuple[float, ...]:
        """The values added up over the ranks that read data, the same on every rank."""
        if self.size == 1:
            return values
        counted = self.rank % self.tensor_size == 0  # tensor ranks have read the same
        total = torch.tensor(values, dtype=torch.float64) * float(counted)
        dist.all_reduce(total)
        return tuple(total.tolist())

    def gather(self, value: Any) -> list[Any]:
        """Everybody's value, in the order of the ranks; any picklable object."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def from_first(self, value: Any) -> Any:
        """The value that rank 0 has; what the others give is ignored."""
        if self.size == 1:
            return value
        box = [value if self.is_first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait_for_all(self) -> None:
        """Go on when every rank has come here."""
        self.gather(None)

    def agree(self, facts: Mapping[str, str]) -> None:
        """Stop on every rank, with the same message, where the ranks differ in a fact: settings, inputs, versions."""
        everybody = self.gather(dict(facts))
        for rank, theirs in enumerate(everybody):
            for name in {**everybody[0], **theirs}:
                here, there = everybody[0].get(name), theirs.get(name)
                if here != there:
                    raise InputError(
                        f"the ranks disagree on {name}: rank {rank} has {there}, rank 0 has {here}",
                        hint="start every node with the same command, files and installed versions",
                    )


@contextmanager
def launched(config: ParallelConfig) -> Iterator[Ranks]:
    """The ranks that `torchrun` has started, connected; or the one process that there is without it."""
    rank, size, local_rank = (_launcher(name, default) for name, default in _DEFAULTS.items())
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if size == 1:
        yield Ranks(device=device)
        return
    shape = _grid(config, size)
    if device.type == "cuda":
        _choose_gpu(device, rank)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    timeout = timedelta(minutes=config.timeout_minutes)
    found, _, _ = next(rendezvous("env://", rank, size, timeout=timeout))
    dist.init_process_group(
        backend, store=meet(found, rank, size, timeout), rank=rank, world_size=size, timeout=timeout
    )
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=(REPLICA, SHARD, TENSOR))
    yield Ranks(rank, size, device, mesh, _copy_group(shape, rank))
    # Not in a `finally`: a rank that fails must end at once, so that the launcher sees it and ends the others.
    dist.destroy_process_group()


def place(
    make: Callable[[], Transformer], config: ModelConfig, ranks: Ranks, *, compute: torch.dtype | None = None
) -> Transformer:
    """The model that `make` gives, on the device; on many ranks only rank 0 makes it, and each holds its part.

    compute  type of the weights in the forward and backward pass; masters, gradients and sums stay as they are
             (float32). None computes in that type, too. On one process autocast does this instead.
    """
    if ranks.mesh is None:
        return make().to(ranks.device)
    check_heads(config, ranks.tensor_size)
    weights = make().state_dict() if ranks.is_first else {}
    with torch.device("meta"):
        model = Transformer(config)
    dtype = ranks.from_first(next(iter(weights.values())).dtype if weights else None)
    _shard(model.to(dtype), ranks, compute)
    _spread(weights, model, ranks)
    return model


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by name as the optimizer has them, sharded on many ranks; a tied one once."""
    if isinstance(model, FSDPModule):
        model.reshard()  # after a pass without gradients the outermost ones are still whole
    return {_plain(name): parameter for name, parameter in model.named_parameters()}


@torch.no_grad()
def whole_weights(model: nn.Module, ranks: Ranks) -> dict[str, Tensor]:
    """Every parameter put together on the CPU of rank 0, one after the other; empty on the other ranks."""
    found = {}
    for name, parameter in own_parameters(model).items():
        whole = _whole(parameter, ranks) if isinstance(parameter, DTensor) else parameter.detach()
        if ranks.is_first:
            found[name] = whole.cpu()
    return found


def clip_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks, *, max_norm: float) -> float:
    """Scale the gradients so that their norm, over all ranks, is at most `max_norm`; returns what it was before."""
    held = list(parameters)
    if ranks.size == 1:
        return float(torch.nn.utils.clip_grad_norm_(held, max_norm))
    total = torch.zeros((), dtype=torch.float64, device=ranks.device)
    pieces: list[Tensor] = []
    for parameter in held:
        if isinstance(parameter.grad, DTensor):
            piece = parameter.grad.to_local()
            pieces.append(piece)
            split = _split_dimension(parameter.grad) is not None
            total += piece.double().square().sum() / (1 if split else ranks.tensor_size)
    dist.all_reduce(total, group=ranks.copy_group)
    norm = float(total.sqrt())
    for piece in pieces:
        piece.mul_(min(max_norm / (norm + _CLIP_EPSILON), 1.0))
    return norm


def local_slices(parameter: DTensor) -> list[tuple[slice, ...]]:
    """The part of the whole tensor that each rank of one copy of the model holds, in the order of these ranks.

    Tensor ranks divide first, then the shards divide each part by rows, as `torch.chunk` does.
    """
    mesh, split = parameter.device_mesh, _split_dimension(parameter)
    names = mesh.mesh_dim_names or ()
    shards = mesh[SHARD].size()
    tensors = mesh[TENSOR].size() if TENSOR in names else 1
    found: list[tuple[slice, ...]] = []
    for shard in range(shards):
        for tensor in range(tensors):
            bounds = [(0, size) for size in parameter.shape]
            if split is not None:
                bounds[split] = _chunk(bounds[split], tensors, tensor)
            bounds[0] = _chunk(bounds[0], shards, shard)
            found.append(tuple(slice(*bound) for bound in bounds))
    return found


def place_in_copy(parameter: DTensor) -> int:
    """Which of its `local_slices` this rank holds."""
    mesh = parameter.device_mesh
    if TENSOR not in (mesh.mesh_dim_names or ()):
        return mesh.get_local_rank(SHARD)
    return mesh.get_local_rank(SHARD) * mesh[TENSOR].size() + mesh.get_local_rank(TENSOR)


_DEFAULTS = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


def _launcher(name: str, default: int) -> int:
    """One of the numbers that `torchrun` gives to the processes that it starts."""
    text = os.environ.get(name)
    if text is None and name == "RANK" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("WORLD_SIZE is set and RANK is not", hint="start with torchrun, or unset WORLD_SIZE")
    if text is not None and not text.isdecimal():
        raise InputError(f"{name} is {text!r}, not a number", hint=f"start with torchrun, or unset {name}")
    return default if text is None else int(text)


def _grid(config: ParallelConfig, size: int) -> tuple[int, int, int]:
    if size % (config.tensor * config.replicas):
        raise ConfigError(
            f"{size} ranks cannot form {config.replicas} replicas of {config.tensor} tensor ranks each",
            hint="choose tensor and replicas so that their product divides the ranks",
        )
    return config.replicas, size // (config.tensor * config.replicas), config.tensor


def _choose_gpu(device: torch.device, rank: int) -> None:
    if (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"rank {rank} wants GPU {device.index}, and this node has {torch.cuda.device_count()}",
            hint="give torchrun --nproc-per-node the number of GPUs",
        )
    torch.cuda.set_device(device)


def _copy_group(shape: tuple[int, int, int], rank: int) -> dist.ProcessGroup | None:
    replicas, copy = shape[0], shape[1] * shape[2]
    if replicas == 1:
        return None
    groups: list[dist.ProcessGroup] = [
        dist.new_group(list(range(first, first + copy))) for first in range(0, replicas * copy, copy)
    ]
    return groups[rank // copy]


def _shard(model: Transformer, ranks: Ranks, compute: torch.dtype | None) -> None:
    """Turn a model without values into one of which this rank holds its part; a layer at a time is whole."""
    assert ranks.mesh is not None
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=None if compute is None else torch.float32)
    mesh = ranks.mesh[REPLICA, SHARD] if ranks.mesh[REPLICA].size() > 1 else ranks.mesh[SHARD]
    for layer in model.model.layers:
        layer.to_empty(device=ranks.device)
        if ranks.tensor_size > 1:
            split_layer(layer, ranks.mesh[TENSOR])
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    for outer in (model.model.embed_tokens, model.model.norm, model.lm_head):
        outer.to_empty(device=ranks.device)
    model.tie_weights()
    fully_shard(model, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "hidden")
    _drop_stale(model)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no scaled sum


def _drop_stale(model: Transformer) -> None:
    """Begin each pass by gathering the outermost parameters anew.

    Without a backward pass they stay whole, and the next pass would not see what has changed since then: an average
    of the weights that was put in place for a look at held-out files, or taken out again.
    """
    assert isinstance(model, FSDPModule)
    reshard, hidden = model.reshard, model.hidden

    def fresh(*arguments: Any, **named: Any) -> Tensor:
        reshard()
        return hidden(*arguments, **named)

    setattr(model, "hidden", fresh)  # noqa: B010 mypy allows no assignment to a method
    model.register_forward_pre_hook(lambda *_: reshard(), prepend=True)


@torch.no_grad()
def _spread(weights: Mapping[str, Tensor], model: nn.Module, ranks: Ranks) -> None:
    """Send the whole tensors of rank 0 to all, one after the other; each keeps its part."""
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor)
        whole = torch.empty(parameter.shape, dtype=parameter.dtype, device=ranks.device)
        if ranks.is_first:
            whole.copy_(weights[name])
        dist.broadcast(whole, src=0)
        parameter.to_local().copy_(whole[local_slices(parameter)[place_in_copy(parameter)]])


def _whole(parameter: DTensor, ranks: Ranks) -> Tensor:
    """All parts added up on the first rank of a copy, which is cheap to say for parts divided in two ways."""
    whole = torch.zeros(parameter.shape, dtype=parameter.dtype, device=ranks.device)
    if _split_dimension(parameter) is not None or ranks.rank % ranks.tensor_size == 0:
        whole[local_slices(parameter)[place_in_copy(parameter)]] = parameter.to_local()
    group = ranks.copy_group
    dist.reduce(whole, dst=0 if group is None else dist.get_global_rank(group, 0), group=group)
    return whole


def _split_dimension(tensor: DTensor) -> int | None:
    """The dimension that the tensor ranks divide; None for one that each of them has whole."""
    names = tensor.device_mesh.mesh_dim_names or ()
    placement = tensor.placements[names.index(TENSOR)] if TENSOR in names else None
    return placement.dim if isinstance(placement, Shard) else None


def _chunk(bounds: tuple[int, int], parts: int, part: int) -> tuple[int, int]:
    """The bounds of one part of a stretch: equal parts rounded up, so that the last may be short or empty."""
    first, end = bounds
    size = -(-(end - first) // parts)
    return min(first + part * size, end), min(first + (part + 1) * size, end)


def _plain(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
