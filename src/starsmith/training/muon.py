"""Muon: the momentum of a matrix, replaced by its nearest orthogonal matrix before it is taken as the step.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/: five Newton-Schulz steps find that matrix well enough.

The steps want the whole matrix, and on many ranks each holds a stretch of its rows. Having every rank put together
every matrix, as a plain optimizer does on sharded tensors, sends and computes all of it once a rank. Moonlight (Liu et
al. 2025, arXiv 2502.16982, section 2.3) shards the momentum and gathers one matrix at a time; nanochat
(https://github.com/karpathy/nanochat, `optim.py`) gives each matrix of equal shape to one rank that works on it alone.
Here each matrix has one owner, whatever the shapes:

1. every rank brings the momentum of its own stretches up to date; it stays sharded
2. one all-to-all sends each stretch to the owner of its matrix
3. the owner puts its matrices together and orthogonalizes them, those of one shape at once
4. one all-to-all sends the stretches of the results back, and every rank takes its step

So that is two collectives a step (a round, for models whose matrices exceed `ROUND_ELEMENTS` a rank). With P elements
in all matrices and W ranks, a rank receives about 2 P (W - 1) / W^2 elements, against P (W - 1) / W when everybody
gathers everything, and computes 1/W of the work. Owners are chosen so that the costs are even: the dearest matrix
first, each to the rank with the least to do so far (Graham 1969). With more ranks than matrices some own none.
Replicas of a sharded model each do all of this among their own ranks.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from starsmith.training.parallel import local_slices, place_in_copy

ROUND_ELEMENTS = 2**28  # of matrices for each rank at a time: 1 GiB in float32, and a few times that as work space

# Quintic iteration tuned for speed over exactness: singular values end between about 0.7 and 1.2 (Jordan et al.).
_NEWTON_SCHULZ, _NEWTON_SCHULZ_STEPS = (3.4445, -4.7750, 2.0315), 5

Slices = tuple[slice, ...]


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the row and column spaces of (K, R, C) `matrices`, all K at once."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    found: Tensor = x.mT if tall else x
    return found


def cost(rows: int, columns: int) -> int:
    """Multiplications in `orthogonalize` of one matrix."""
    short, long = sorted((rows, columns))
    return _NEWTON_SCHULZ_STEPS * short * short * (2 * long + short)


def owners(shapes: Sequence[tuple[int, int]], ranks: int) -> list[int]:
    """For each matrix the rank that orthogonalizes it, so that the ranks have about equally much to do."""
    load = [0] * ranks
    found = [0] * len(shapes)
    for index in sorted(range(len(shapes)), key=lambda index: -cost(*shapes[index])):
        found[index] = min(range(ranks), key=load.__getitem__)
        load[found[index]] += cost(*shapes[index])
    return found


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized. Parameters are 2-D; equal shapes are stacked, so small models pay few calls.

    group  the ranks that together hold one copy of sharded parameters (`Ranks.copy_group`); None for all ranks. It
           matters only where the parameters are sharded.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._group = group
        self._rounds: dict[tuple[int, ...], list[_Round]] = {}
        self.received_elements = 0  # by this rank from others, in all steps so far

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002 the base class has it
        """Update every matrix from its gradient."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["weight_decay"]:  # decoupled, as AdamW's; what large models want (Moonlight, section 2.2)
                for parameter in parameters:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
            if parameters and isinstance(parameters[0], DTensor):
                for part in self._divided(parameters):
                    self._step_together(part, lr=group["lr"], momentum=group["momentum"])
            else:
                self._step_alone(parameters, lr=group["lr"], momentum=group["momentum"])

    def _step_alone(self, parameters: Sequence[nn.Parameter], *, lr: float, momentum: float) -> None:
        for members in _by_shape([tuple(parameter.shape) for parameter in parameters]):
            chosen = [parameters[member] for member in members]
            wanted = torch.stack([self._momentum(parameter, momentum) for parameter in chosen])
            updates = orthogonalize(wanted.to(_work_type(wanted)))
            for parameter, update in zip(chosen, updates, strict=True):
                parameter.sub_(update.to(parameter.dtype), alpha=_scale(parameter, lr))

    def _step_together(self, part: "_Round", *, lr: float, momentum: float) -> None:
        """The same for sharded parameters; see the head of this file for the four moves."""
        wanted = [self._momentum(parameter, momentum) for parameter in part.parameters]
        work = _work_type(wanted[0])
        sent = torch.cat([wanted[index].to(work).flatten() for index in part.by_owner()])
        pieces = self._exchange(sent, part.held_by_owner(), part.owned_by_rank())
        whole = self._assemble(part, pieces)
        for members in _by_shape([tuple(matrix.shape) for matrix in whole]):
            for member, update in zip(members, orthogonalize(torch.stack([whole[m] for m in members])), strict=True):
                whole[member] = update
        parts = [whole[number][place] for place_of in part.places for number, place in _numbered(part, place_of)]
        answer = torch.cat([piece.flatten() for piece in parts]) if parts else sent.new_empty(0)
        updates = self._exchange(answer, part.owned_by_rank(), part.held_by_owner())
        sizes = [wanted[index].numel() for index in part.by_owner()]
        for index, update in zip(part.by_owner(), torch.split(updates, sizes), strict=True):
            parameter, held = part.parameters[index], wanted[index]
            _local(parameter).sub_(update.view(held.shape).to(held.dtype), alpha=_scale(parameter, lr))

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """Nesterov momentum of one matrix, or of this rank's part of it."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        buffer: Tensor = _local(state["momentum"]).lerp_(_local(gradient), 1 - momentum)
        return _local(gradient).lerp(buffer, momentum)

    def _divided(self, parameters: Sequence[nn.Parameter]) -> list["_Round"]:
        key = tuple(id(parameter) for parameter in parameters)
        if key not in self._rounds:
            self._rounds[key] = list(_rounds(parameters, dist.get_rank(self._group), dist.get_world_size(self._group)))
        return self._rounds[key]

    def _exchange(self, sent: Tensor, send_sizes: list[int], receive_sizes: list[int]) -> Tensor:
        """All-to-all of stretches of one vector."""
        received = sent.new_empty(sum(receive_sizes))
        dist.all_to_all_single(received, sent, receive_sizes, send_sizes, group=self._group)
        own = dist.get_rank(self._group)
        self.received_elements += sum(receive_sizes) - receive_sizes[own]
        return received

    def _assemble(self, part: "_Round", pieces: Tensor) -> list[Tensor]:
        """The whole matrices that this rank owns, from what it was sent: rank after rank, matrix after matrix."""
        whole = [pieces.new_empty(part.parameters[index].shape) for index in part.owned]
        start = 0
        for place_of in part.places:
            for number, place in _numbered(part, place_of):
                target = whole[number][place]
                target.copy_(pieces[start : start + target.numel()].view(target.shape))
                start += target.numel()
        return whole


@dataclass(frozen=True)
class _Round:
    """Matrices that are exchanged at once, and who has what of them."""

    parameters: list[DTensor]
    owner: list[int]  # of each matrix
    places: list[list[Slices]]  # for each rank, the part of each matrix that it holds
    rank: int  # this one

    @property
    def owned(self) -> list[int]:
        """The matrices that this rank works on."""
        return [index for index, owner in enumerate(self.owner) if owner == self.rank]

    def by_owner(self) -> list[int]:
        """The matrices in the order in which their parts are sent."""
        return sorted(range(len(self.owner)), key=lambda index: (self.owner[index], index))

    def held_by_owner(self) -> list[int]:
        """Elements of this rank's parts, added up for each owner."""
        sizes = [0] * len(self.places)
        for index, owner in enumerate(self.owner):
            sizes[owner] += _size(self.places[self.rank][index])
        return sizes

    def owned_by_rank(self) -> list[int]:
        """Elements of the matrices that this rank owns, added up for each rank that holds parts of them."""
        return [sum(_size(place_of[index]) for index in self.owned) for place_of in self.places]


def _rounds(parameters: Sequence[nn.Parameter], rank: int, ranks: int) -> Iterator[_Round]:
    """Matrices in their order, as many together as `ROUND_ELEMENTS` for each rank allow."""
    batch: list[DTensor] = []
    size = 0
    for parameter in parameters:
        assert isinstance(parameter, DTensor)
        if batch and size + parameter.numel() > ROUND_ELEMENTS * ranks:
            yield _round(batch, rank, ranks)
            batch, size = [], 0
        batch.append(parameter)
        size += parameter.numel()
    yield _round(batch, rank, ranks)


def _round(parameters: list[DTensor], rank: int, ranks: int) -> _Round:
    of_matrix = [local_slices(parameter) for parameter in parameters]
    assert all(len(parts) == ranks for parts in of_matrix)
    assert all(place_in_copy(parameter) == rank for parameter in parameters)
    owner = owners([(parameter.size(0), parameter.size(1)) for parameter in parameters], ranks)
    return _Round(parameters, owner, [[parts[other] for parts in of_matrix] for other in range(ranks)], rank)


def _numbered(part: _Round, place_of: Sequence[Slices]) -> Iterator[tuple[int, Slices]]:
    """(number among the owned matrices, the part of it) for one rank's parts."""
    return ((number, place_of[index]) for number, index in enumerate(part.owned))


def _by_shape(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Positions grouped by equal shape."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for position, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(position)
    yield from groups.values()


def _size(place: Slices) -> int:
    size = 1
    for stretch in place:
        size *= stretch.stop - stretch.start
    return size


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _scale(parameter: Tensor, lr: float) -> float:
    """A unit step in the spectral norm must move the outputs of tall matrices as much as of square ones."""
    rows, columns = parameter.shape
    return float(lr * max(1.0, rows / columns) ** 0.5)


def _work_type(wanted: Tensor) -> torch.dtype:
    """On a GPU bfloat16, as Jordan et al.: half the bytes to send, and the iteration needs no more digits."""
    return torch.bfloat16 if wanted.device.type == "cuda" else wanted.dtype
