"""The small model that comes with the package, so that the server answers before anybody has trained one."""

from pathlib import Path

import starsmith
from starsmith.core.errors import InputError


def starter_directory(package: Path = Path(starsmith.__file__).parent) -> Path:
    """Where the starter model is; raises InputError in an installation that has none."""
    directory = package / "data" / "starter"
    if not (directory / "config.json").is_file():
        raise InputError(
            f"no model was named, and this installation has no starter model in {directory}",
            hint="name one: a model's directory, a .gguf file, or the address of a server",
        )
    return directory
