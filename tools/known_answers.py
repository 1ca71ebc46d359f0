#!/usr/bin/env python3
"""A benchmark's known answers as samples, one a problem: scored, all should pass, or say what is missing here.

tools/known_answers.py mbpp+ --data DATA > known.jsonl
starsmith evaluate score mbpp+ known.jsonl --data DATA --out scores/known
"""

import argparse
import json
import sys
from pathlib import Path

from starsmith.core.errors import StarsmithError
from starsmith.evaluation.benchmarks import tasks


def main() -> None:
    """Print EvalPlus's lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--data", type=Path, help="folder with the benchmarks' files, or the file itself")
    arguments = parser.parse_args()
    try:
        problems = tasks.load(arguments.task, data=arguments.data).problems
    except StarsmithError as error:
        sys.exit(f"error: {error.message}\n hint: {error.hint}")
    for problem in problems:
        if problem.reference is not None:
            sys.stdout.write(json.dumps({"task_id": problem.id, "completion": problem.reference}) + "\n")


if __name__ == "__main__":
    main()
