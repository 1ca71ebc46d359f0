import re
from pathlib import Path
from typing import Any

import pytest

from starsmith.core.errors import InputError
from starsmith.evaluation import score_page
from starsmith.evaluation.pass_at_k import estimates
from starsmith.evaluation.scored import Scored

pytestmark = pytest.mark.slow


def scores(label: str, right: list[int], *, samples: int = 20, task: str = "humaneval") -> Scored:
    counts = {f"HumanEval/{number}": (samples, found) for number, found in enumerate(right)}
    figures = {name: value.as_json() for name, value in estimates(list(counts.values())).items()}
    results: dict[str, Any] = {
        "task": task, "title": "HumanEval", "model": "model abc", "scores": {"base": figures},
        "verdicts": {"pass": sum(right), "fail": 3, "timeout": 1}, "groups": {}, "modes": {"split": len(right)},
        "protocol": {"samples": samples, "temperature": 0.2, "top_p": 0.95, "max_tokens": 512},
        "protocol_source": "a paper", "deviations": {"samples": {"published": 1, "used": samples}},
        "data": {"file": "HumanEval.jsonl", "sha256": "a" * 64}, "harness_errors": 0, "environment": "Python 3",
        "sandbox": {"kind": "namespaces", "layers": ["seccomp"], "warnings": []},
    }  # fmt: skip
    return Scored(label, {"base": counts}, results)


def test_a_page_has_the_figures_with_intervals_beside_the_published_ones(tmp_path: Path) -> None:
    page = score_page.write([scores("mine", [20, 0, 10, 5])], tmp_path / "p.html").read_text()

    assert "<td>mine</td><td>base</td><td>pass@1</td>" in page
    assert "StarCoder2-15B" in page
    assert "46.3" in page
    assert page.count("<rect") >= 4
    assert "HumanEval/2: 10 of 20" in page
    assert "Solved with k samples" in page


def test_a_page_about_two_names_the_problems_that_changed(tmp_path: Path) -> None:
    one, other = scores("old", [1, 0, 1, 1], samples=1), scores("new", [1, 1, 0, 1], samples=1)

    page = score_page.write([one, other], tmp_path / "p.html").read_text()

    assert "<b>1 gained:</b>" in page
    assert "HumanEval/1 (0 → 100 %)" in page
    assert "exact McNemar" in page
    assert "Solved with k samples" not in page


def test_a_page_asks_for_nothing_and_runs_nothing(tmp_path: Path) -> None:
    page = score_page.write([scores('<script>"x"</script>', [1])], tmp_path / "p.html").read_text()

    assert "<script" not in page
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", page)


def test_scores_of_two_tasks_make_no_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="of humaneval, b of mbpp"):
        score_page.write([scores("a", [1]), scores("b", [1], task="mbpp")], tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()
