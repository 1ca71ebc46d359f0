"""A small run to write papers about: a corpus of several owners, what is made of it, and bases with their licences."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from builds import build, module
from starsmith.cli import export as command
from starsmith.core import artifact
from starsmith.tokenizer import tokens, train

ABOUT = """
[provider]
name = "Example Ltd"
contact = "code@example.org"

[release]
name = "example-code"
version = "1.2.0"
url = "https://example.org/code"
date = 2026-03-01
built = 2026-02-20
license = "Apache-2.0"

[use]
summary = "Small, for tests."
intended = ["completing code"]
limitations = ["small"]

[sources]
url = "https://example.org/corpus"
date = 2026-02-10
built = 2026-02-05
acquired_from = 2026-01-01
acquired_until = 2026-02-01
"""
# No real licence: tests want a text with the shape of one.
RAIL = """BigExample OpenRAIL-M License Agreement

4. Distribution. Give every recipient the use restrictions of Attachment A.

ATTACHMENT A
USE RESTRICTIONS
You agree not to use the Model:
(a) to do what this test forbids.
"""
RESULTS = {
    "task": "held-out",
    "bits_per_byte": {"model": 1.5, "baseline": 1.75, "files": 2, "bytes": 4321},
    "infilling": {
        "holes": 40,
        "exact": 10,
        "exact_95": [0.1419, 0.4019],
        "similarity": 0.5,
        "syntax_checked": 40,
        "syntax_valid": 30,
        "baseline": {"holes": 40, "exact": 4, "similarity": 0.25, "syntax_checked": 40, "syntax_valid": 20},
    },
    "baseline": "a plain n-gram table",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of an artefact made by hand."""

    learning_rate: float = 0.01
    base: dict[str, str] | None = None
    imported: dict[str, str] | None = None


def row(number: int, repository: str, licence: str, **values: Any) -> dict[str, Any]:
    """A row of a table in the schema of a corpus."""
    return {
        "path": f"pkg/m{number}.py",
        "text": module(number),
        "repository": repository,
        "commit": "c" * 40,
        "language": "Python",
        "license": licence,
        "date": f"2025-0{1 + number % 9}-01T00:00:00Z",
        **values,
    }


def corpus_rows() -> list[dict[str, Any]]:
    """Thirty files of three owners under three licences; one has an address, one is a copy."""
    rows = [row(number, "https://github.com/alpha/one.git", "MIT") for number in range(18)]
    rows += [row(number, "https://github.com/beta/two.git", "Apache-2.0 OR MIT") for number in range(18, 24)]
    rows += [row(number, "https://gitlab.com/gamma/three.git", "BSD-3-Clause") for number in range(24, 30)]
    rows[3]["text"] += "author = 'jane.doe@acme-widgets.com'\n"
    return [*rows, row(0, "https://github.com/beta/two.git", "MIT", path="copy.py")]


def build_corpus(
    out: Path, rows: Sequence[Mapping[str, Any]] = (), *, benchmarks: Path | None = None, **settings: Any
) -> Path:
    """The corpus of these rows, or of `corpus_rows`."""
    table = out.with_name("rows.jsonl")
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(json.dumps(row) + "\n" for row in rows or corpus_rows()))
    build(out, table, benchmarks=benchmarks, **{"held_out": 0.2, **settings})
    return out


def make_model(
    out: Path,
    *,
    parents: Mapping[str, Path] | None = None,
    base: dict[str, str] | None = None,
    imported: dict[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> Path:
    """A model artefact with no weights worth the name."""
    config = Settings(base=base, imported=imported)
    with artifact.create(out, kind="model", config=config, rooms=("core",), parents=parents) as draft:
        (draft.path / "config.json").write_text(json.dumps({"architectures": ["Starcoder2ForCausalLM"]}))
        (draft.path / "model.safetensors").write_bytes(b"weights of " + out.name.encode())
        for name, text in (files or {}).items():
            (draft.path / name).write_text(text)
        draft.counts.update(parameters=1234, steps=10, tokens=5678)
    return out


def make_evaluation(out: Path, *, model: Path, corpus: Path, results: Mapping[str, Any] = RESULTS) -> Path:
    """An evaluation artefact with these results."""
    parents = {"model": model, "corpus": corpus}
    with artifact.create(out, kind="evaluation", config=Settings(), rooms=("core",), parents=parents) as draft:
        (draft.path / "results.json").write_text(json.dumps(results))
    return out


def make_run(folder: Path) -> Path:
    """Corpus, tokenizer, tokens, a model trained from scratch and its evaluation, side by side."""
    corpus = build_corpus(folder / "corpus")
    train.run(train.TokenizerConfig(vocab_size=400), corpus=corpus, out=folder / "tokenizer")
    tokens.run(tokens.TokensConfig(), corpus=corpus, tokenizer=folder / "tokenizer", out=folder / "tokens")
    made_of = {"tokens": folder / "tokens", "tokenizer": folder / "tokenizer"}
    model = make_model(folder / "model", parents=made_of)
    make_evaluation(folder / "evaluation", model=model, corpus=corpus)
    return folder


def write_about(folder: Path, text: str = ABOUT) -> Path:
    """The file for --about."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "about.toml").write_text(text)
    return folder / "about.toml"


def export(directory: Path, form: str, out: Path, *options: str | Path) -> Result:
    """The command, as a user gives it; an error of ours is raised."""
    arguments = [directory, "--format", form, "--out", out, *options]
    result = CliRunner().invoke(command.export, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def text_of(place: Path) -> str:
    """A paper, or the card of a directory."""
    return (place / "README.md" if place.is_dir() else place).read_text()
