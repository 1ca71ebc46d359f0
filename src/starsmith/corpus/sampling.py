"""How often each file is to be drawn: the natural distribution, unless a recipe says otherwise.

The paper draws naturally but for a cap on the bytes of some languages (Lozhkov et al. 2024, section 4: Java and
JavaScript 200 GB, HTML 100 GB, JSON, XML and YAML 8 GB each).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from starsmith.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Weights in the column `weight`; what is not named has 1."""

    languages: dict[str, float] = field(default_factory=dict)  # weight of each language's files
    repositories: dict[str, float] = field(default_factory=dict)  # and of each repository's
    most_bytes: dict[str, float] = field(default_factory=dict)  # of a language, by drawing its files less often

    def __post_init__(self) -> None:
        for table in ("languages", "repositories", "most_bytes"):
            for name, value in getattr(self, table).items():
                if not value >= 0:
                    raise ConfigError(f"{table} {name} = {value}: must be 0 or more", hint="1 is the natural weight")


def language_weights(config: SamplingConfig, kept_bytes: Mapping[str, int]) -> dict[str, float]:
    """The weight of each language's files, from the bytes that are kept of each."""
    return {
        language: config.languages.get(language, 1.0) * min(1.0, config.most_bytes.get(language, size) / size)
        for language, size in kept_bytes.items()
        if size
    }
