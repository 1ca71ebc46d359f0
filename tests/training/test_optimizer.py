"""Which optimizer has which weights."""

import pytest
from torch import nn

from starsmith.core.errors import ConfigError
from starsmith.training.optimizer import OptimizerConfig, build_optimizers

pytestmark = pytest.mark.slow  # torch.distributed takes seconds to import


def test_embeddings_norms_and_biases_stay_with_adamw() -> None:
    model = nn.Module()
    model.model = nn.ModuleDict(
        {"embed_tokens": nn.Embedding(7, 4), "layers": nn.ModuleList([nn.Linear(4, 4)]), "norm": nn.LayerNorm(4)}
    )

    adamw, muon = build_optimizers(model, OptimizerConfig(matrix_weight_decay=0.3))

    assert [tuple(p.shape) for group in muon.param_groups for p in group["params"]] == [(4, 4)]
    assert muon.param_groups[0]["weight_decay"] == 0.3
    decayed, others = adamw.param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(7, 4)]
    assert others["weight_decay"] == 0.0
    assert len(others["params"]) == 3


def test_without_a_matrix_rate_adamw_trains_everything() -> None:
    model = nn.Linear(4, 4)

    optimizers = build_optimizers(model, OptimizerConfig(matrix_learning_rate=None, betas=(0.8, 0.99)))

    assert len(optimizers) == 1
    assert sum(len(group["params"]) for group in optimizers[0].param_groups) == 2
    assert optimizers[0].param_groups[0]["betas"] == (0.8, 0.99)


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.0}, {"betas": (0.9,)}, {"betas": (0.9, 1.0)}, {"averaging": 1.0}, {"clip_norm": 0.0},
     {"z_loss": -1.0}, {"matrix_learning_rate": -1.0}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        OptimizerConfig(**changes)  # type: ignore[arg-type]
