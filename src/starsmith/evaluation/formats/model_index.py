"""Hugging Face's model card: the `model-index` of a README's front matter, with our scores and where they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError

FENCE = "---"


@dataclass(frozen=True)
class CardScore:
    """One figure of a model card."""

    dataset: str
    metric: str
    value: float


def front_matter(name: str, all_results: Sequence[Mapping[str, Any]]) -> str:
    """YAML between two fences, to put at the head of a README.md. JSON's strings are YAML's as well."""
    lines = [FENCE, "model-index:", f"- name: {json.dumps(name)}", "  results:"]
    for results in all_results:
        lines += _entry(results)
    return "\n".join([*lines, FENCE]) + "\n"


def _entry(results: Mapping[str, Any]) -> list[str]:
    lines = [
        "  - task:",
        "      type: text-generation",
        "    dataset:",
        f"      name: {json.dumps(results['title'])}",
        f"      type: {json.dumps(results['task'])}",
        "    metrics:",
    ]
    several = len(results["scores"]) > 1
    for tests, figures in results["scores"].items():
        for metric, figure in figures.items():
            label = f"{metric} ({tests} tests)" if several else metric
            lines += [
                f"    - name: {json.dumps(label)}",
                f"      type: {json.dumps(metric)}",
                f"      value: {100 * figure['value']:.2f}",
                "      verified: false",
            ]
    return lines


def read_card(path: Path) -> list[CardScore]:
    """The scores of a card: a README.md with front matter, or YAML alone."""
    import yaml  # type: ignore[import-untyped]  # comes with tokenizers, by way of huggingface_hub

    text = path.read_text(encoding="utf-8")
    if text.startswith(FENCE):
        text = text[len(FENCE) :].partition(f"\n{FENCE}")[0]
    try:
        index = (yaml.safe_load(text) or {}).get("model-index") or []
        return [
            CardScore(str(result["dataset"]["type"]), str(metric.get("name") or metric["type"]), float(metric["value"]))
            for model in index
            for result in model["results"]
            for metric in result["metrics"]
        ]
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} has no model-index that can be read: {error!r}", hint="give a model card") from None
