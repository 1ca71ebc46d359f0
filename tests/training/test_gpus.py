"""GPUs by the name a user gives and by the name that they give to CUDA."""

import pytest

from starsmith.core.errors import ConfigError
from starsmith.training.gpus import GPUS, find_gpu, peak_flops, reported_gpu


@pytest.mark.parametrize(
    ("device_name", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
    ],
)
def test_a_gpu_is_known_by_what_it_calls_itself(device_name: str, name: str) -> None:
    assert reported_gpu(device_name) == GPUS[name]


@pytest.mark.parametrize("device_name", ["NVIDIA L40", "NVIDIA T1000", "Tesla V100-SXM2-16GB", "", "cpu"])
def test_another_gpu_is_not_taken_for_one_of_the_table(device_name: str) -> None:
    assert reported_gpu(device_name) is None
    assert peak_flops(device_name, "bfloat16") is None


def test_float8_is_measured_by_the_bfloat16_peak_and_float32_by_its_own() -> None:
    name = "NVIDIA H100 80GB HBM3"

    assert peak_flops(name, "bfloat16") == peak_flops(name, "float8") == peak_flops(name, "auto") == 989e12
    assert peak_flops(name, "float32") == 67e12


@pytest.mark.parametrize("gpu", GPUS.values(), ids=GPUS)
def test_every_gpu_has_its_source_and_plausible_figures(gpu: object) -> None:
    from starsmith.training.gpus import Gpu

    assert isinstance(gpu, Gpu)
    assert gpu.source
    assert 1 < gpu.bf16_tflops / gpu.fp32_tflops < 40
    assert gpu.fp8_tflops is None or 1.9 < gpu.fp8_tflops / gpu.bf16_tflops < 2.1


def test_a_name_with_a_slip_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="'h10'") as caught:
        find_gpu("h10")

    assert "did you mean" in caught.value.hint
    assert find_gpu("H100").name == "h100"
