"""An index of a few files, for tests of what a server does with it."""

from collections.abc import Sequence
from pathlib import Path

from starsmith.core import artifact
from starsmith.core.records import SourceFile, write_files
from starsmith.provenance import index
from starsmith.provenance.attribution import Attributor
from starsmith.serving.attribution import Policy, Rules
from starsmith.tokenizer.train import TokenizerConfig
from worlds import source_file

RECURSIVE = "# numbers\n\ndef fib(n):\n    return fib(n - 1) * 2\n"  # shares seven code tokens with `scripted.FIB`
LONG = "".join(f"value_{number} = make_{number * 7}(part, {number})\n" for number in range(40))  # 320 code tokens
LICENSES = {"numbers/recursive.py": "MIT", "parts/long.py": "GPL-3.0-only"}


def index_of(directory: Path, files: Sequence[SourceFile], **settings: int) -> Path:
    """An index of these files in `directory`, and its corpus beside it. Copies of six code tokens are found."""
    with artifact.create(directory / "corpus", kind="corpus", config=TokenizerConfig(), rooms=("core",)) as draft:
        write_files(files, draft.path / "shards")
        draft.count("kept", len(files))
    config = index.IndexConfig(**{"ngram_tokens": 6, "window": 1, **settings})
    index.run(config, corpus=directory / "corpus", out=directory / "index")
    return directory / "index"


def numbers_index(directory: Path) -> Path:
    """An index of RECURSIVE, which is under a permissive licence, and of LONG, which is not."""
    texts = {"numbers/recursive.py": RECURSIVE, "parts/long.py": LONG}
    return index_of(directory, [source_file(path, text, license=LICENSES[path]) for path, text in texts.items()])


def indexed(index_directory: Path, policy: Policy = "annotate", **fields: object) -> dict[str, object]:
    """Fields of a service with this index."""
    return {
        "attributor": Attributor.open(index_directory),
        "index_id": artifact.read(index_directory).id,
        "rules": Rules(policy=policy, permissive=lambda license_: license_ == "MIT"),
        **fields,
    }
