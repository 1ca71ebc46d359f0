"""Several ranks compute one layer together: each has some of the heads and a part of the MLP's width.

The first matrices of each half (q, k, v, c_fc) are divided by their outputs and the second ones (o_proj, c_proj) by
their inputs, so that a layer sums over the ranks twice and no more (Shoeybi et al. 2019, arXiv 1909.08053, section 3).
Norms, embeddings and the head stay whole on every tensor rank. Made with torch's DTensor.

With dropout in the attention the tensor ranks drop at the same places of different heads: their random streams are
one, since the residual's dropout must be the same on all of them.
"""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from starsmith.core.errors import ConfigError
from starsmith.model.config import ModelConfig

BY_OUTPUT = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.c_fc")
BY_INPUT = ("self_attn.o_proj", "mlp.c_proj")


def check_heads(config: ModelConfig, tensor_ranks: int) -> None:
    """Refuse a model whose heads or width cannot be divided among the tensor ranks."""
    sizes = {
        "key/value heads": config.num_key_value_heads,
        "heads": config.num_attention_heads,
        "intermediate size": config.intermediate_size,
    }
    for what, size in sizes.items():
        if size % tensor_ranks:
            raise ConfigError(
                f"{tensor_ranks} tensor ranks cannot share {size} {what} evenly",
                hint=f"set pretrain.parallel.tensor to a divisor of {size}",
            )


def split_layer(layer: nn.Module, mesh: DeviceMesh) -> None:
    """Divide the matrices of one layer over a mesh of tensor ranks."""
    plan: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in BY_OUTPUT}
    plan |= {name: RowwiseParallel() for name in BY_INPUT}
    # The values come later: nothing is sent now.
    parallelize_module(layer, mesh, plan, src_data_rank=None)
