"""Training steps a second against transformers: the same model, batches and optimizer, in turn, in one process.

Peer: transformers' Starcoder2ForCausalLM with its own loss. Work: full rows of the context, forward, backward and one
fused AdamW step. Before the clock starts, both must give the same loss for the same weights.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import Starcoder2Config, Starcoder2ForCausalLM

from starsmith.core.console import table
from starsmith.model.config import ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.training.data import Batch, pack
from starsmith.training.loop import batch_losses
from starsmith.training.loss import IGNORED

CONFIG = ModelConfig(
    vocab_size=4096,
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    initializer_range=128**-0.5,
)
CONTEXT, ROWS = 512, 8
BAR = 0.95  # of the peer's speed: on a CPU the same kernels do nearly all the work


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="last line as JSON")
    arguments = parser.parse_args()
    rounds = 5 if arguments.quick else 15

    torch.manual_seed(0)
    ours = Transformer(CONFIG)
    theirs = _peer(ours)
    ids = np.random.default_rng(0).integers(38, CONFIG.vocab_size, (ROWS, CONTEXT))
    batch, rows = pack(ids.tolist()), torch.from_numpy(ids)
    losses = (
        float(loss_sum(ours, batch).detach()) / batch.trained_tokens,
        float(theirs(rows, labels=rows).loss.detach()),
    )
    assert abs(losses[0] - losses[1]) < 1e-4, f"not the same work: losses {losses}"

    steps = {
        "starsmith": _our_step(ours, batch, loss_sum),
        "starsmith, all logits at once": _our_step(copy.deepcopy(ours), batch, plain_loss_sum),
        "transformers": _their_step(theirs, rows),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if turn:  # the first is to warm up
                times[name].append(time.perf_counter() - started)
    speed = {name: ROWS * CONTEXT / statistics.median(found) for name, found in times.items()}
    ratio = speed["starsmith"] / speed["transformers"]
    rows_shown = [(name, f"{value:,.0f}") for name, value in speed.items()] + [("ratio", f"{ratio:.2f}")]
    table(
        f"Training, {CONFIG.parameters:,} parameters, {rounds} rounds",
        ("", "tokens/s"),
        rows_shown,
        right=("tokens/s",),
    )
    if arguments.json:
        print(
            json.dumps(
                {
                    "name": "training_speed",
                    "ours": speed["starsmith"],
                    "peer": speed["transformers"],
                    "peer_name": "transformers",
                    "unit": "tokens/s",
                    "ratio": ratio,
                    "bar": BAR,
                    "holds": ratio >= BAR,
                }
            )
        )


def _peer(model: Transformer) -> Starcoder2ForCausalLM:
    values = {key: value for key, value in CONFIG.to_json().items() if key not in ("architectures", "model_type")}
    for key in ("dtype", "torch_dtype"):
        values.pop(key)
    peer = Starcoder2ForCausalLM(Starcoder2Config(**values, attn_implementation="sdpa"))
    peer.load_state_dict(model.state_dict(), strict=True)
    return peer.train()


def loss_sum(model: Transformer, batch: Batch) -> torch.Tensor:
    """The loss as training has it."""
    return batch_losses(model, batch).objective


def plain_loss_sum(model: Transformer, batch: Batch) -> torch.Tensor:
    """The loss by way of the whole logits: what `starsmith.training.loss` saves."""
    logits = model(torch.from_numpy(batch.ids)[None], lengths=batch.lengths).flatten(0, 1)
    targets = torch.from_numpy(batch.targets)
    return torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def _our_step(
    model: Transformer, batch: Batch, loss: Callable[[Transformer, Batch], torch.Tensor]
) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        (loss(model, batch) / batch.trained_tokens).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _their_step(model: Starcoder2ForCausalLM, rows: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model(rows, labels=rows, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


if __name__ == "__main__":
    main()
