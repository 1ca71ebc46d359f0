"""A stage that is deterministic and cheap is run once more, and must give the very files that were stored.

Training is neither, and the sources of a corpus are not kept, so models and corpora are not made again.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from starsmith.core import ancestry, artifact
from starsmith.core.config import build
from starsmith.core.errors import ConfigError, StarsmithError
from starsmith.core.version import source_sha256

Stage = Callable[[artifact.Manifest, Mapping[str, Path], Path], None]

# What the code of such a stage can be of; the digest of any other folder would say nothing.
_PACKAGES = ("core", "tokenizer", "provenance")


def rerun(directory: Path, manifest: artifact.Manifest) -> tuple[list[str], list[str]]:
    """(What is wrong, what could not be done): made again from its parents, every file's digest must be equal."""
    file = directory / artifact.MANIFEST
    if unknown := [room for room in _rooms(manifest) if room not in _PACKAGES]:
        return [f"{file}: code.rooms has {unknown[0]!r}, wanted: some of {', '.join(_PACKAGES)}"], []
    try:
        parents = {parent.role: ancestry.parent_directory(directory, parent.role) for parent in manifest.parents}
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / manifest.kind
            STAGES[manifest.kind](manifest, parents, out)
            seen = artifact.read(out)
    except ConfigError as error:
        return _judge(manifest, [f"{file}: with its settings the stage does not run: {error.message}"])
    except StarsmithError as error:
        return [], [f"{directory} was not made again: {error.message}"]
    differing = sorted(
        name for name in manifest.files.keys() | seen.files.keys() if manifest.files.get(name) != seen.files.get(name)
    )
    messages = [f"{directory / name}: the stage, run again, gives another file" for name in differing]
    if manifest.counts != seen.counts:
        messages.append(f"{file}: the stage, run again, gives other counts")
    return _judge(manifest, messages)


def is_other_code(manifest: artifact.Manifest) -> bool:
    """Whether the artefact says that it was made by other code than this; it may say so falsely."""
    return manifest.code.get("source_sha256") != source_sha256(_rooms(manifest))


def _judge(manifest: artifact.Manifest, messages: list[str]) -> tuple[list[str], list[str]]:
    """Differences are problems, but notes where other code may be what makes them."""
    if messages and is_other_code(manifest):
        return [], [f"{message}, but by other code than it was made with" for message in messages]
    return messages, []


def _rooms(manifest: artifact.Manifest) -> list[str]:
    return manifest.code.get("rooms", "").split()


def _tokenizer(manifest: artifact.Manifest, parents: Mapping[str, Path], out: Path) -> None:
    from starsmith.tokenizer import train

    config = build(train.TokenizerConfig, manifest.config, where="the manifest")
    train.run(config, corpus=_parent(parents, "corpus"), out=out)


def _tokens(manifest: artifact.Manifest, parents: Mapping[str, Path], out: Path) -> None:
    from starsmith.tokenizer import tokens

    config = build(tokens.TokensConfig, manifest.config, where="the manifest")
    tokens.run(config, corpus=_parent(parents, "corpus"), tokenizer=_parent(parents, "tokenizer"), out=out)


def _index(manifest: artifact.Manifest, parents: Mapping[str, Path], out: Path) -> None:
    from starsmith.provenance import index

    config = build(index.IndexConfig, manifest.config, where="the manifest")
    index.run(config, corpus=_parent(parents, "corpus"), out=out)


def _parent(parents: Mapping[str, Path], role: str) -> Path:
    if role not in parents:
        raise ConfigError(f"its manifest names no {role}")
    return parents[role]


STAGES: dict[str, Stage] = {"tokenizer": _tokenizer, "tokens": _tokens, "index": _index}
