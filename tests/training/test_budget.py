"""What a run will need: against published arithmetic, against torch's own counts, and what would make it fit."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.config import build
from starsmith.core.errors import ConfigError
from starsmith.model.config import PRESETS, ModelConfig
from starsmith.model.transformer import Transformer
from starsmith.training.budget import (
    ADAM_BYTES,
    GIB,
    GRADIENT_BYTES,
    MASTER_BYTES,
    SECONDS_A_DAY,
    Cluster,
    Workload,
    activation_bytes,
    check_shares,
    hidden_matrix_parameters,
    memory_per_gpu,
    orthogonalization_flops,
    plan,
    seconds_for,
    workload,
)
from starsmith.training.gpus import GPUS

pytestmark = pytest.mark.slow

SIZES = ("starcoder2-3b", "starcoder2-7b", "starcoder2-15b")


def work(**changes: object) -> Workload:
    """The 3B's base stage, in 256 rows a step."""
    plain = Workload(
        model=PRESETS["starcoder2-3b"],
        context_tokens=4096,
        row_tokens=10_240,
        rows=256,
        tokens=3_100_000_000_000,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def on(gpus: int, gpu: str = "h100", **more: float) -> Cluster:
    return Cluster(gpu=GPUS[gpu], gpus=gpus, **more)


@pytest.mark.parametrize(
    ("size", "parameters"), list(zip(SIZES, (3_030_371_328, 7_173_923_840, 15_957_889_024), strict=True))
)
def test_parameters_are_those_of_the_published_checkpoints(size: str, parameters: int) -> None:
    assert PRESETS[size].parameters == parameters


# Days by 6 N D alone, worked out by hand from the data sheets: 989 and 312 TFLOP/s.
@pytest.mark.parametrize(
    ("size", "tokens", "flops", "h100s", "a100s", "many_h100s"),
    [
        ("starcoder2-3b", 3.3e12, 6.0e22, 195, 17.4, 6.9),
        ("starcoder2-7b", 3.7e12, 1.6e23, 518, 46, 18.2),
        ("starcoder2-15b", 4.3e12, 4.0e23, 1313, 117, 46),
    ],
)
def test_days_of_the_published_runs(
    size: str, tokens: float, flops: float, h100s: float, a100s: float, many_h100s: float
) -> None:
    found = 6 * PRESETS[size].matrix_parameters * tokens

    assert found == pytest.approx(flops, rel=0.02)
    assert seconds_for(found, on(8, mfu=0.45)) / SECONDS_A_DAY == pytest.approx(h100s, rel=0.01)
    assert seconds_for(found, on(256, "a100-80gb", mfu=0.5)) / SECONDS_A_DAY == pytest.approx(a100s, rel=0.01)
    assert seconds_for(found, on(256, mfu=0.4)) / SECONDS_A_DAY == pytest.approx(many_h100s, rel=0.01)


# 16 bytes a parameter. The 15B's head is a matrix of its own: with it, 238 GiB; 233 if it were the embedding.
@pytest.mark.parametrize(("size", "gib"), list(zip(SIZES, (45, 107, 238), strict=True)))
def test_states_take_sixteen_bytes_a_parameter(size: str, gib: float) -> None:
    found = memory_per_gpu(work(model=PRESETS[size]), on(1))
    states = found.weights + found.gradients + found.optimizer

    assert states == (MASTER_BYTES + GRADIENT_BYTES + ADAM_BYTES) * PRESETS[size].parameters
    assert states / GIB == pytest.approx(gib, rel=0.01)


def test_states_of_the_tied_15b_are_the_233_gib_that_are_often_quoted() -> None:
    found = memory_per_gpu(work(model=replace(PRESETS["starcoder2-15b"], tie_word_embeddings=True)), on(1))

    assert (found.weights + found.gradients + found.optimizer) / GIB == pytest.approx(233, rel=0.01)


@pytest.mark.parametrize(("gpus", "gib"), [(8, (5.6, 13.4, 29.7)), (256, (0.2, 0.4, 0.9))])
def test_sharding_divides_the_states(gpus: int, gib: tuple[float, ...]) -> None:
    for size, expected in zip(SIZES, gib, strict=True):
        found = memory_per_gpu(work(model=PRESETS[size]), on(gpus))

        assert (found.weights + found.gradients + found.optimizer) / GIB == pytest.approx(expected, abs=0.06)


# Shares of all operations, over the whole context; at 16,384 tokens without a window.
@pytest.mark.parametrize(
    ("size", "short", "long"), list(zip(SIZES, (0.11, 0.08, 0.06), (0.33, 0.25, 0.20), strict=True))
)
def test_attention_has_its_share_and_a_window_caps_it(size: str, short: float, long: float) -> None:
    def share(context: int, window: int | None) -> float:
        model = replace(PRESETS[size], sliding_window=window)
        found = plan(work(model=model, context_tokens=context, row_tokens=16_384), on(256))
        return found.attention_flops / found.flops

    assert share(4096, 4096) == pytest.approx(short, abs=0.005)
    assert share(16_384, None) == pytest.approx(long, abs=0.01)
    assert share(4096, 4096) < share(16_384, 4096) < 0.75 * share(16_384, None)


def kept_by_autograd(model: ModelConfig, tokens: int, dtype: torch.dtype, *, checkpointing: bool = False) -> int:
    """Bytes that a forward pass saves for the backward pass, parameters aside."""
    network = Transformer(model).to(dtype)
    network.checkpoint_layers = checkpointing
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}
    tensors = []

    def see(tensor: torch.Tensor) -> torch.Tensor:
        tensors.append(tensor)  # alive, so that no address is used twice
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        out = network.hidden(torch.zeros(1, tokens, dtype=torch.long), lengths=[tokens])
    assert out.requires_grad
    return sum(kept.values())


def model_of(layers: int, heads: int = 4, *, width: int = 256) -> ModelConfig:
    return ModelConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
    )


@pytest.mark.parametrize(("dtype", "width"), [(torch.bfloat16, 2), (torch.float32, 4)])
def test_what_a_layer_keeps_is_what_autograd_counts(dtype: torch.dtype, width: int) -> None:
    tokens = 256
    found = kept_by_autograd(model_of(3), tokens, dtype) - kept_by_autograd(model_of(2), tokens, dtype)

    # The processor's way of attention copies the outcome once more than the kernels of GPUs.
    copy = width * 256
    assert found / tokens == pytest.approx(activation_bytes(model_of(1), width=width) + copy, rel=0.01)


def test_with_checkpointing_a_layer_keeps_its_input_alone() -> None:
    tokens = 256
    found = [kept_by_autograd(model_of(layers), tokens, torch.bfloat16, checkpointing=True) for layers in (2, 3)]

    assert (found[1] - found[0]) / tokens == pytest.approx(2 * 256, rel=0.01)


def test_checkpointing_and_tensor_parallelism_save_activations() -> None:
    plain = memory_per_gpu(work(), on(8))
    checkpointed = memory_per_gpu(work(checkpointing=True), on(8))
    divided = memory_per_gpu(work(tensor=2), on(8))

    assert checkpointed.activations < plain.activations / 10
    assert checkpointed.workspace > plain.workspace
    assert plain.activations / 2 < divided.activations < plain.activations


def test_replicas_hold_whole_copies_of_the_states() -> None:
    assert memory_per_gpu(work(replicas=4), on(32)).weights == memory_per_gpu(work(), on(8)).weights


def test_muon_keeps_one_number_where_adam_keeps_two() -> None:
    adam, muon = (memory_per_gpu(work(muon=muon), on(8)).optimizer for muon in (False, True))
    hidden = hidden_matrix_parameters(PRESETS["starcoder2-3b"])

    assert adam - muon == 4 * hidden / 8


def test_orthogonalization_is_counted_like_the_products_that_muon_makes() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from starsmith.training.muon import orthogonalize

    model = model_of(1)
    shapes = [parameter.shape for name, parameter in Transformer(model).named_parameters()
              if ".layers." in name and parameter.ndim == 2]  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        for shape in shapes:
            orthogonalize(torch.ones(1, *shape))

    assert counter.get_total_flops() == orthogonalization_flops(model)


def test_operations_of_a_pass_are_those_that_torch_counts() -> None:
    """Forward and backward, embeddings aside; torch counts the attention without its mask, so one token each."""
    from torch.utils.flop_counter import FlopCounterMode

    model = model_of(2)
    network, tokens = Transformer(model), 32
    with FlopCounterMode(display=False) as counter:
        logits = network(torch.zeros(tokens, 1, dtype=torch.long))
        logits.sum().backward()
    attention = 12 * model.num_hidden_layers * model.hidden_size * tokens

    assert counter.get_total_flops() == pytest.approx(6 * model.matrix_parameters * tokens + attention, rel=0.02)


def test_a_plan_adds_up() -> None:
    found = plan(work(), on(256, price=2.5))

    assert found.steps == 1_182_557
    assert found.tokens == found.steps * 2_621_440 >= 3.1e12
    assert found.rows_per_gpu == 1
    assert found.flops == pytest.approx(found.tokens * PRESETS["starcoder2-3b"].flops_per_token(4096))
    assert found.seconds == pytest.approx(found.flops / (256 * 989e12 * 0.4))
    assert found.cost == pytest.approx(2.5 * 256 * found.days * 24)
    assert found.fits
    assert found.remedies == ()


def test_the_settings_of_a_recipe_are_what_is_planned() -> None:
    from starsmith.training.config import PretrainConfig

    settings = {
        "model": {"hidden_size": 256, "layers": 2, "heads": 4, "kv_heads": 2},
        "optimizer": {"averaging": 0.999},
        "parallel": {"tensor": 2, "replicas": 2},
        "batch_tokens": 65_536,
        "micro_batch_tokens": 8192,
        "steps": 100,
        "activation_checkpointing": True,
    }
    found = workload(build(PretrainConfig, settings, where="test"), vocab_size=1000)

    assert (found.rows, found.row_tokens, found.tokens) == (8, 8192, 6_553_600)
    assert (found.muon, found.average, found.checkpointing) == (True, True, True)
    assert (found.tensor, found.replicas, found.precision) == (2, 2, "bfloat16")
    assert (found.model.vocab_size, found.model.num_key_value_heads) == (1000, 2)
    assert plan(found, on(8)).steps == 100
    assert memory_per_gpu(found, on(8)).average == memory_per_gpu(found, on(8)).weights


def test_float8_is_refused_where_there_is_none() -> None:
    assert plan(work(precision="float8"), on(256)).fits
    with pytest.raises(ConfigError, match="a100-80gb has no float8"):
        plan(work(precision="float8"), on(256, "a100-80gb"))


def test_a_time_box_becomes_as_many_steps_as_fit() -> None:
    found = plan(work(tokens=None, seconds=3600.0), on(256))

    assert found.seconds == pytest.approx(3600, rel=0.01)


def test_float32_is_slower_and_larger() -> None:
    half, whole = plan(work(), on(256)), plan(work(precision="float32"), on(256))

    assert whole.seconds == pytest.approx(half.seconds * 989 / 67, rel=0.01)
    assert whole.memory.activations > 1.9 * half.memory.activations


@pytest.mark.parametrize(
    ("changes", "gpus", "message", "hint"),
    [
        ({"rows": 160, "row_tokens": 16_384}, 256, "160 rows of 16,384: 256 GPUs", "--gpus 160, or --set"),
        ({"rows": 160, "row_tokens": 16_384}, 256, "cannot share", "micro_batch_tokens=10240"),
        ({"rows": 3}, 8, "3 rows", "--gpus 3"),
        ({"tensor": 4}, 8, "4 tensor ranks cannot share 2 key/value heads", "divisor of 2"),
        ({"tensor": 2, "replicas": 3}, 8, "8 GPUs cannot form 3 replicas of 2", "product"),
    ],
)
def test_shares_that_do_not_come_out_even_are_refused(
    changes: dict[str, int], gpus: int, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(work(**changes), on(gpus))

    assert message in caught.value.message
    assert hint in caught.value.hint


def test_what_the_hint_of_an_uneven_batch_proposes_can_be_shared() -> None:
    check_shares(work(rows=160, row_tokens=16_384), on(160))
    check_shares(work(rows=256, row_tokens=10_240), on(256))


@pytest.mark.parametrize(
    "wrong", [{"gpus": 0}, {"gpus": 8, "mfu": 0.0}, {"gpus": 8, "mfu": 40}, {"gpus": 8, "price": -1}]
)
def test_a_cluster_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        on(**wrong)  # type: ignore[arg-type]


def test_what_does_not_fit_says_what_would() -> None:
    too_much = work(model=PRESETS["starcoder2-7b"], row_tokens=13_824)

    found = plan(too_much, on(8))

    assert not found.fits
    assert "--set pretrain.activation_checkpointing=true" in found.remedies
    assert "--set pretrain.micro_batch_tokens=4608" in found.remedies
    assert plan(replace(too_much, checkpointing=True), on(8)).fits
    assert plan(replace(too_much, row_tokens=4608, rows=768), on(8)).fits


def test_when_no_single_change_helps_several_are_proposed_together() -> None:
    found = plan(work(model=PRESETS["starcoder2-15b"], row_tokens=16_384), on(1, "rtx4090"))

    assert len(found.remedies) == 1
    assert found.remedies[0].startswith("--gpus 32 ")
    assert "activation_checkpointing" in found.remedies[0]
    assert plan(
        work(model=PRESETS["starcoder2-15b"], row_tokens=4096, rows=1024, checkpointing=True), on(32, "rtx4090")
    ).fits


@given(
    size=st.sampled_from(SIZES),
    gpus=st.sampled_from([1, 2, 8, 64, 256]),
    gpu=st.sampled_from(sorted(GPUS)),
    row=st.sampled_from([4096, 8192, 16_384]),
    checkpointing=st.booleans(),
)
def test_every_remedy_that_is_a_setting_really_makes_it_fit(
    size: str, gpus: int, gpu: str, row: int, checkpointing: bool
) -> None:
    wanted = work(model=PRESETS[size], row_tokens=row, rows=256, checkpointing=checkpointing)

    found = plan(wanted, on(gpus, gpu))

    assert not (found.fits and found.remedies)
    for remedy in found.remedies:
        changed, cluster = _applied(remedy, wanted, on(gpus, gpu))
        assert plan(changed, cluster).fits, remedy


def _applied(remedy: str, wanted: Workload, cluster: Cluster) -> tuple[Workload, Cluster]:
    """The workload and the cluster with the options that a remedy names."""
    words = remedy.split()
    for option, value in zip(words[::2], words[1::2], strict=True):
        key, _, setting = value.partition("=")
        if option == "--gpus":
            cluster = replace(cluster, gpus=int(value))
        elif option == "--gpu":
            cluster = replace(cluster, gpu=GPUS[value])
        elif key == "pretrain.activation_checkpointing":
            wanted = replace(wanted, checkpointing=True)
        elif key == "pretrain.micro_batch_tokens":
            row = int(setting)
            wanted = replace(wanted, row_tokens=row, rows=wanted.step_tokens // row)
        else:
            wanted = replace(wanted, **{key.rpartition(".")[2]: int(setting)})
    return wanted, cluster
