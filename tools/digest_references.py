"""Make `evalplus_digests.json`: what HumanEval+'s and MBPP+'s reference solutions return, as digests.

python tools/digest_references.py HumanEvalPlus.jsonl.gz MbppPlus.jsonl.gz

Runs the benchmarks' own reference solutions in this process. A wrong digest makes no wrong verdict: where digests
differ, outputs are compared with the reference's.
"""

import json
import sys
from pathlib import Path

from starsmith.evaluation.benchmarks import evalplus
from starsmith.evaluation.benchmarks.differential import digest
from starsmith.evaluation.export import read_rows
from starsmith.evaluation.problem import Row

TARGET = Path(evalplus.__file__).with_name("evalplus_digests.json")


def digests_of(row: Row) -> dict[str, str]:
    """Both sets of one task."""
    space: dict[str, object] = {}
    exec(row["prompt"] + row["canonical_solution"], space)  # noqa: S102 the benchmark's own answer
    found = {}
    for name in ("base", "plus"):
        value = digest(evalplus.reference_outputs(row, name, space[row["entry_point"]]))
        if value is not None:
            found[evalplus.digest_key(row, name)] = value
    return found


def main(paths: list[str]) -> None:
    """Write the digests of all files."""
    found: dict[str, str] = {}
    for path in paths:
        for row in read_rows(Path(path)):
            found |= digests_of(row)
    TARGET.write_text(json.dumps(dict(sorted(found.items())), indent=0) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
