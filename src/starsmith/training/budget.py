"""What a training run will need, before it is begun: operations, memory on each GPU, days and money.

Operations are counted as `ModelConfig.flops_per_token` does: 6 N and attention, the latter as if every sequence filled
the context, which real documents do not: an upper bound. Memory is what the parts of `training` hold at the worst
moment, counted from their code: the sharded states of `parallel`, what autograd keeps of `model.transformer` (the
tests count it there), and the pieces of logits of `loss`. Compiled, the layers keep less: an upper bound again.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starsmith.core.errors import ConfigError
from starsmith.model.config import ModelConfig
from starsmith.training.gpus import GPUS, Gpu, peak_of
from starsmith.training.loss import GPU_PIECE_ELEMENTS

if TYPE_CHECKING:
    from starsmith.training.config import PretrainConfig

# Of the peak. torchtitan's own page has 33 to 39 % for Llama 3.1 8B in bfloat16 on 8 and on 128 H100s; the 10,000
# tokens a second and A100 that are told of StarCoder2-3B's training are 58 % by 6 N alone.
ASSUMED_MFU = 0.4
USABLE_SHARE = 0.9  # of the memory: the rest is for CUDA, the communication's buffers and gaps between allocations
MASTER_BYTES, GRADIENT_BYTES = 4, 4  # float32, whatever the layers compute in: `parallel` reduces in float32
ADAM_BYTES, MUON_BYTES, AVERAGE_BYTES = 8, 4, 4  # two moments; one; the moving average of the weights
LAYERS_WHOLE = 2  # one that computes, and the next, which is already being put together
MOST_GPUS = 16_384  # that a remedy proposes
NEWTON_SCHULZ_STEPS = 5

SECONDS_A_DAY, GIB = 86_400, 1 << 30


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What of a recipe decides its cost."""

    model: ModelConfig
    context_tokens: int
    row_tokens: int  # one forward pass of one GPU
    rows: int  # of one optimizer step, all GPUs together
    tokens: int | None = None  # to read in all; None for a time box ...
    seconds: float | None = None  # ... of so long
    precision: str = "bfloat16"
    muon: bool = False
    average: bool = False  # a moving average of the weights is kept
    checkpointing: bool = False
    tensor: int = 1  # GPUs that share each layer
    replicas: int = 1  # copies of the sharded states

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.rows * self.row_tokens


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What it is to run on."""

    gpu: Gpu
    gpus: int
    mfu: float = ASSUMED_MFU
    price: float | None = None  # of one GPU for one hour, in whatever money

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise ConfigError(f"{self.gpus} GPUs: at least one is needed", hint="give --gpus 8, for example")
        if not 0 < self.mfu <= 1:
            raise ConfigError(f"an MFU of {self.mfu:g}: it lies above 0 and at most at 1", hint="give --mfu 0.4")
        if self.price is not None and self.price < 0:
            raise ConfigError(f"a price of {self.price:g}: must be at least 0", hint="give the price of a GPU-hour")

    def flops(self, precision: str) -> float:
        """Useful operations a second, of all GPUs together."""
        return self.gpus * peak_of(self.gpu, precision) * self.mfu


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes on one GPU at the worst moment of a step."""

    weights: float
    gradients: float
    optimizer: float
    average: float
    working_weights: float  # those that are whole for the moment, in the type that is computed in
    activations: float  # what is kept for the backward pass
    workspace: float  # what a layer's own backward pass, and with checkpointing its second forward pass, holds
    logits: float  # the pieces of the loss, and its gradients

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(vars(self).values()))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a workload costs on a cluster."""

    matrix_flops: float  # of the whole run
    attention_flops: float
    orthogonalization_flops: float  # Muon's
    memory: Memory
    usable_bytes: float
    remedies: tuple[str, ...]  # settings that alone make it fit; empty when it fits
    tokens: int
    steps: int
    seconds: float
    cost: float | None
    rows_per_gpu: int
    network_bytes_per_second: float  # in and out of each GPU, that sharding must move while the GPU computes

    @property
    def flops(self) -> float:
        """Of the model: what MFU is counted by."""
        return self.matrix_flops + self.attention_flops

    @property
    def fits(self) -> bool:
        """Whether one GPU's part has room."""
        return self.memory.total <= self.usable_bytes

    @property
    def days(self) -> float:
        """Of computing without a stop."""
        return self.seconds / SECONDS_A_DAY


def workload(config: "PretrainConfig", *, vocab_size: int) -> Workload:
    """The settings of a recipe that decide its cost; `auto` is bfloat16 on every GPU of the table."""
    step_tokens = config.rows_per_step * config.micro_batch_tokens
    tokens = config.tokens if config.steps is None else config.steps * step_tokens
    return Workload(
        model=config.model.model(vocab_size=vocab_size, context_tokens=config.data.context_tokens),
        context_tokens=config.data.context_tokens,
        row_tokens=config.micro_batch_tokens,
        rows=config.rows_per_step,
        tokens=tokens,
        seconds=None if config.minutes is None else config.minutes * 60,
        precision="bfloat16" if config.precision == "auto" else config.precision,
        muon=config.optimizer.matrix_learning_rate is not None,
        average=config.optimizer.averaging is not None,
        checkpointing=config.activation_checkpointing,
        tensor=config.parallel.tensor,
        replicas=config.parallel.replicas,
    )


def plan(work: Workload, cluster: Cluster) -> Plan:
    """What the workload costs on the cluster; a batch that the GPUs cannot share evenly is refused."""
    check_shares(work, cluster)
    per_token = work.model.flops_per_token(work.context_tokens)
    speed = cluster.flops(work.precision) / per_token  # tokens a second
    muon = orthogonalization_flops(work.model) if work.muon else 0.0
    step_seconds = work.step_tokens / speed + muon / cluster.flops(work.precision)
    steps = _steps(work, step_seconds)
    tokens, matrix = steps * work.step_tokens, 6 * work.model.matrix_parameters
    seconds = steps * step_seconds
    ranks = cluster.gpus // work.tensor
    memory = memory_per_gpu(work, cluster)
    usable = USABLE_SHARE * cluster.gpu.memory_gib * GIB
    fits = memory.total <= usable
    return Plan(
        matrix_flops=float(matrix * tokens),
        attention_flops=(per_token - matrix) * tokens,
        orthogonalization_flops=muon * steps,
        memory=memory,
        usable_bytes=usable,
        remedies=() if fits else tuple(_remedies(work, cluster)),
        tokens=tokens,
        steps=steps,
        seconds=seconds,
        cost=None if cluster.price is None else cluster.price * cluster.gpus * seconds / 3600,
        rows_per_gpu=work.rows // ranks,
        network_bytes_per_second=_sharding_bytes(work, cluster) * work.rows / ranks / step_seconds,
    )


def check_shares(work: Workload, cluster: Cluster) -> None:
    """Refuse GPUs without the precision, or that cannot share layers or rows evenly; say what would do."""
    model, group = work.model, work.tensor * work.replicas
    if work.precision == "float8" and cluster.gpu.fp8_tflops is None:
        raise ConfigError(f"{cluster.gpu.name} has no float8", hint="--set pretrain.precision=bfloat16")
    if model.num_key_value_heads % work.tensor:
        raise ConfigError(
            f"{work.tensor} tensor ranks cannot share {model.num_key_value_heads} key/value heads evenly",
            hint=f"set pretrain.parallel.tensor to a divisor of {model.num_key_value_heads}",
        )
    if cluster.gpus % group:
        raise ConfigError(
            f"{cluster.gpus} GPUs cannot form {work.replicas} replicas of {work.tensor} tensor ranks each",
            hint="choose pretrain.parallel.tensor and .replicas so that their product divides the GPUs",
        )
    ranks = cluster.gpus // work.tensor
    if work.rows % ranks:
        wanted = f"give --gpus {_most_gpus(work, cluster.gpus)}"
        if (row := _row_for(work, ranks)) is not None:
            wanted += f", or --set pretrain.micro_batch_tokens={row}"
        raise ConfigError(
            f"a step of {work.step_tokens:,} tokens is {work.rows} rows of {work.row_tokens:,}: "
            f"{ranks} GPUs that read data cannot share them evenly",
            hint=wanted,
        )


def seconds_for(flops: float, cluster: Cluster, precision: str = "bfloat16") -> float:
    """How long the cluster takes over so many operations of the model."""
    return flops / cluster.flops(precision)


def orthogonalization_flops(model: ModelConfig) -> float:
    """Operations of Muon's Newton-Schulz steps for all hidden matrices, once: the ranks share them."""
    h, i, kv = model.hidden_size, model.intermediate_size, model.num_key_value_heads * model.head_dim
    shapes = [(h, h), (h, h), (kv, h), (kv, h), (h, i), (h, i)]
    each = ((min(shape), max(shape)) for shape in shapes)
    # Two products of the short side with the long one, one of the short side with itself.
    return model.num_hidden_layers * NEWTON_SCHULZ_STEPS * sum(4.0 * r * r * c + 2.0 * r**3 for r, c in each)


def memory_per_gpu(work: Workload, cluster: Cluster) -> Memory:
    """Bytes on one GPU."""
    model, width = work.model, 4 if work.precision == "float32" else 2
    held = _parameters_held(work, cluster)
    hidden = hidden_matrix_parameters(model) / model.parameters if work.muon else 0.0
    kept, layer = activation_bytes(model, width=width, tensor=work.tensor), work.row_tokens
    row = work.row_tokens * model.hidden_size * width
    layers = row * model.num_hidden_layers if work.checkpointing else kept * layer * model.num_hidden_layers
    again = kept * layer if work.checkpointing else 0.0
    # Gradients of the MLP's two wide tensors and of two states.
    backward = work.row_tokens * width * (2 * model.intermediate_size / work.tensor + 2 * model.hidden_size)
    return Memory(
        weights=MASTER_BYTES * held,
        gradients=GRADIENT_BYTES * held,
        optimizer=held * (MUON_BYTES * hidden + ADAM_BYTES * (1 - hidden)),
        average=AVERAGE_BYTES * held if work.average else 0.0,
        working_weights=_working_weights(work, cluster, width),
        activations=layers + 3 * row,  # the embedding's output, the last norm's input and output
        workspace=again + backward,
        logits=_loss_bytes(work, width),
    )


def hidden_matrix_parameters(model: ModelConfig) -> int:
    """Those of the layers' matrices, which Muon trains."""
    return model.matrix_parameters - model.vocab_size * model.hidden_size


def activation_bytes(model: ModelConfig, *, width: int, tensor: int = 1) -> float:
    """What autograd keeps of one layer for each token, with a flash kernel for the attention and no dropout.

    Whole on every GPU: the two norms' inputs and outputs. Divided among `tensor` GPUs: queries, keys, values, the
    attention's outcome and its log-sums, and the MLP's two wide tensors. (Korthikanti et al. 2022, arXiv 2205.05198,
    count 34 H bytes in half precision with dropout, attention scores aside; with neither it is 28 H and the keys.)
    """
    h, kv = model.hidden_size, model.num_key_value_heads * model.head_dim
    whole = 4 * h
    divided = 2 * h + 2 * kv + 2 * model.intermediate_size
    log_sums, dropped = 4 * model.num_attention_heads, 2 * h if model.residual_dropout else 0
    return whole * width + (divided * width + log_sums) / tensor + dropped


def _parameters_held(work: Workload, cluster: Cluster) -> float:
    """Parameters whose states lie on one GPU. Tensor ranks divide the layers' matrices, not the embeddings."""
    shards = cluster.gpus // work.tensor // work.replicas
    layers = hidden_matrix_parameters(work.model)
    return (layers / work.tensor + work.model.parameters - layers) / shards


def _working_weights(work: Workload, cluster: Cluster, width: int) -> float:
    """Copies that the layers compute with: all of them on one GPU, else those that are whole at the worst moment."""
    model = work.model
    layers = hidden_matrix_parameters(model) / work.tensor
    rest = model.parameters - hidden_matrix_parameters(model)
    if cluster.gpus == 1:
        return 0.0 if work.precision == "float32" else float(width * model.parameters)
    one = layers / model.num_hidden_layers
    return width * (rest + LAYERS_WHOLE * one) + width * one  # and the gradient of a layer before it is shared out


def _loss_bytes(work: Workload, width: int) -> float:
    """A piece of logits as a product, in float32 and as a gradient; gradients of the states and of the head."""
    model = work.model
    piece = min(GPU_PIECE_ELEMENTS, work.row_tokens * model.vocab_size) * (4 + 2 * width)
    head = model.vocab_size * model.hidden_size * (4 + 2 * width)
    return float(piece + head + 2 * work.row_tokens * model.hidden_size * width)


def _sharding_bytes(work: Workload, cluster: Cluster) -> float:
    """What one GPU takes in for one row: weights put together for each of the two passes, gradients summed."""
    shards = cluster.gpus // work.tensor // work.replicas
    width = 4 if work.precision == "float32" else 2
    layers = hidden_matrix_parameters(work.model)
    held = layers / work.tensor + work.model.parameters - layers
    return held * (2 * width + GRADIENT_BYTES) * (shards - 1) / shards


def _steps(work: Workload, step_seconds: float) -> int:
    if work.tokens is not None:
        return max(math.ceil(work.tokens / work.step_tokens), 1)
    assert work.seconds is not None
    return max(round(work.seconds / step_seconds), 1)


def _most_gpus(work: Workload, at_most: int) -> int:
    """The largest number of GPUs, up to `at_most`, that share the rows of a step evenly."""
    group = work.tensor * work.replicas
    good = (
        number for number in range(at_most - at_most % group, 0, -group) if work.rows % (number // work.tensor) == 0
    )
    return next(good, group)


def _row_for(work: Workload, ranks: int) -> int | None:
    """The longest row, no longer than the recipe's, that divides the same batch evenly among `ranks`."""
    if work.step_tokens % ranks:
        return None
    share = work.step_tokens // ranks
    lengths = (share // parts for parts in range(1, share // work.context_tokens + 1) if share % parts == 0)
    return next((length for length in lengths if length <= work.row_tokens), None)


def _remedies(work: Workload, cluster: Cluster) -> Iterator[str]:
    """Changes of one thing that make the workload fit; if none does, all the cheap ones together."""
    changes = list(_changes(work, cluster))
    alone = [what for what, changed, on in changes if _fits(changed, on)]
    if alone:
        yield from alone
        return
    least = replace(_in_shortest_rows(work) or work, checkpointing=True)
    settings = [f"pretrain.micro_batch_tokens={least.row_tokens}", "pretrain.activation_checkpointing=true"]
    for gpus in _more_gpus(least, cluster.gpus):
        if _fits(least, replace(cluster, gpus=gpus)):
            yield f"--gpus {gpus} " + " ".join(f"--set {setting}" for setting in settings)
            return


def _changes(work: Workload, cluster: Cluster) -> Iterator[tuple[str, Workload, Cluster]]:
    if not work.checkpointing:
        yield "--set pretrain.activation_checkpointing=true", replace(work, checkpointing=True), cluster
    if (shorter := _in_shortest_rows(work)) is not None:
        yield f"--set pretrain.micro_batch_tokens={shorter.row_tokens}", shorter, cluster
    if work.replicas > 1:
        yield "--set pretrain.parallel.replicas=1", replace(work, replicas=1), cluster
    for tensor in (2, 4, 8):
        if tensor > work.tensor:
            yield f"--set pretrain.parallel.tensor={tensor}", replace(work, tensor=tensor), cluster
    for gpus in _more_gpus(work, cluster.gpus):
        more = replace(cluster, gpus=gpus)
        if _fits(work, more):
            yield f"--gpus {gpus}", work, more
            break
    larger = sorted(
        (gpu for gpu in GPUS.values() if gpu.memory_gib > cluster.gpu.memory_gib), key=lambda gpu: gpu.memory_gib
    )
    for gpu in larger:
        other = replace(cluster, gpu=gpu)
        if _fits(work, other):
            yield f"--gpu {gpu.name}", work, other
            break


def _in_shortest_rows(work: Workload) -> Workload | None:
    """The batch in rows of one context, or of the next longer that divides it; None if they are that already."""
    for length in range(work.context_tokens, work.row_tokens):
        if work.step_tokens % length == 0 and (work.step_tokens // length) % work.rows == 0:
            return replace(work, row_tokens=length, rows=work.step_tokens // length)
    return None


def _more_gpus(work: Workload, gpus: int) -> Iterator[int]:
    while (gpus := gpus * 2) <= MOST_GPUS:
        if work.rows % (gpus // work.tensor) == 0:
            yield gpus


def _fits(work: Workload, cluster: Cluster) -> bool:
    """Whether it fits, with a batch and layers that the GPUs can share."""
    try:
        check_shares(work, cluster)
    except ConfigError:
        return False
    return memory_per_gpu(work, cluster).total <= USABLE_SHARE * cluster.gpu.memory_gib * GIB
