"""What the tiny worlds of several test folders are made of."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from starsmith.core.records import TRAIN, SourceFile, sha256_of, swhid_of
from starsmith.provenance.index import COLUMNS

MakeCorpus = Callable[[Path, Sequence[SourceFile]], Path]
Files = Mapping[str, str | bytes]
Write = Callable[[Path, Files], Path]
Commit = Callable[[Path, Files], str]

MIT = """MIT License

Copyright (c) 2026 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def source_file(path: str, text: str, *, split: str = TRAIN, license: str = "MIT") -> SourceFile:  # noqa: A002
    content = text.encode()
    return SourceFile(
        path=path,
        text=text,
        language="Python",
        license=license,
        license_evidence="LICENSE (text)",
        repository="https://example.org/tiny.git",
        commit="c" * 40,
        swhid=swhid_of(content),
        sha256=sha256_of(content),
        split=split,
    )


def batch_of(files: Sequence[SourceFile]) -> pa.RecordBatch:
    """Files as the index stage reads them from a corpus."""
    columns = [pa.array([getattr(file, name) for file in files], pa.string()) for name in COLUMNS]
    return pa.record_batch(columns, names=list(COLUMNS))


def function_text(seed: int, lines: int = 12) -> str:
    """A small, regular piece of Python, different for each seed."""
    names = [WORDS[(seed * 7 + step * 3) % len(WORDS)] for step in range(lines)]
    body = "".join(f"    {name}_{step} = {name}({seed} + {step})\n" for step, name in enumerate(names))
    return f"def {names[0]}_{seed}(value):\n{body}    return value\n"
