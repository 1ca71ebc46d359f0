"""What a GPU can do at most, by its makers' data sheets: for plans, and for the MFU of a run.

Peaks are dense (without 2:4 sparsity, with which the sheets like to advertise) and sum in float32. Memory is the
nominal size; a program gets a little less. Prices are not here: they change by the month.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from starsmith.core.errors import ConfigError


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    name: str
    reported: tuple[str, ...]  # parts of the name that torch.cuda.get_device_name gives, all of which must be in it
    bf16_tflops: float  # tensor cores
    fp32_tflops: float  # plain cores: torch's float32 without TF32
    fp8_tflops: float | None  # tensor cores; None where there are none for it
    memory_gib: int
    source: str


_AMPERE = "NVIDIA A100 Tensor Core GPU data sheet, 2021"
_H100_PCIE = "NVIDIA H100 Tensor Core GPU data sheet, 2022"
_H100 = "NVIDIA H100 Tensor Core GPU data sheet, 2024"
_H200 = "NVIDIA H200 Tensor Core GPU data sheet, 2024"
_ADA = "NVIDIA Ada GPU architecture white paper, 2023, appendix A"

# A name that is part of another's comes after it.
_GPUS = (
    Gpu("a100-40gb", ("A100", "40GB"), 312, 19.5, None, 40, _AMPERE),
    Gpu("a100-80gb", ("A100",), 312, 19.5, None, 80, _AMPERE),
    Gpu("h100-pcie", ("H100", "PCIe"), 756, 51, 1513, 80, _H100_PCIE),
    Gpu("h100-nvl", ("H100", "NVL"), 835, 60, 1671, 94, _H100),
    Gpu("h100", ("H100",), 989, 67, 1979, 80, _H100),
    Gpu("h200-nvl", ("H200", "NVL"), 835, 60, 1671, 141, _H200),
    Gpu("h200", ("H200",), 989, 67, 1979, 141, _H200),
    Gpu("b200", ("B200",), 2250, 75, 4500, 180, "NVIDIA DGX B200 data sheet, 2024: an eighth of a system"),
    Gpu("l40s", ("L40S",), 362, 91.6, 733, 48, "NVIDIA L40S data sheet, 2023"),
    Gpu("l4", ("L4",), 121, 30.3, 242, 24, "NVIDIA L4 data sheet, 2023"),
    Gpu("a10g", ("A10G",), 70, 31.5, None, 24, "Amazon EC2 G5 pages, 2021; half of an A10's tensor rate"),
    Gpu("rtx4090", ("RTX 4090",), 165.2, 82.6, 330.3, 24, _ADA),
    Gpu("rtx3090", ("RTX 3090",), 71, 35.6, None, 24, "NVIDIA Ampere GA102 white paper, 2021, appendix A"),
)
GPUS = {gpu.name: gpu for gpu in _GPUS}


def find_gpu(name: str) -> Gpu:
    """The GPU that a user names."""
    gpu = GPUS.get(name.lower())
    if gpu is None:
        near = get_close_matches(name.lower(), GPUS, n=1)
        raise ConfigError(
            f"GPU {name!r} is not in the table",
            hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(GPUS)}",
        )
    return gpu


def reported_gpu(device_name: str) -> Gpu | None:
    """The GPU that calls itself so to CUDA; None for one that is not in the table."""
    words = device_name.replace("-", " ").split()
    return next(
        (gpu for gpu in _GPUS if all(_reports(part, device_name, words) for part in gpu.reported)),
        None,
    )


def peak_flops(device_name: str, precision: str) -> float | None:
    """Dense operations a second of the GPU that calls itself so; the precision is a recipe's.

    MFU is counted against the bfloat16 peak for float8 too, as is usual: what float8 gains then shows.
    """
    gpu = reported_gpu(device_name)
    return None if gpu is None else peak_of(gpu, precision)


def peak_of(gpu: Gpu, precision: str) -> float:
    """Dense operations a second that a run in this precision is measured by; see `peak_flops`."""
    return (gpu.fp32_tflops if precision == "float32" else gpu.bf16_tflops) * 1e12


def _reports(part: str, device_name: str, words: list[str]) -> bool:
    """Whether a part of a GPU's name is in what it reports: as whole words, so that an L40 is no L4, nor a laptop's
    RTX 4090 a desktop's."""
    return part in words or (" " in part and device_name.endswith(part))
