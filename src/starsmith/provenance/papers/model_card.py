"""A model becomes a model card: front matter with the model index, and the facts in Markdown."""

from collections.abc import Sequence
from typing import Any

from starsmith.provenance.papers import markdown
from starsmith.provenance.papers.about import NOT_GIVEN, About
from starsmith.provenance.papers.dataset_card import rows
from starsmith.provenance.papers.facts import CorpusFacts
from starsmith.provenance.papers.licences import hub_fields
from starsmith.provenance.papers.model_facts import EvaluationFacts, Metric, ModelFacts, settings_of

# Settings of a training run in words; others stand under their own names.
SETTINGS = {
    "batch_tokens": "tokens in a batch",
    "context_tokens": "tokens of context in training",
    "fim_rate": "share of documents cut for filling in the middle",
    "learning_rate": "learning rate",
    "matrix_learning_rate": "learning rate of matrices",
    "seed": "seed",
    "spm_rate": "share of those with the suffix first",
    "steps": "steps",
    "weight_decay": "weight decay",
}
_ARCHITECTURE = {
    "hidden_size": "hidden size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "attention heads",
    "num_key_value_heads": "key and value heads",
    "max_position_embeddings": "longest context in tokens",
    "vocab_size": "vocabulary",
}


def write(model: ModelFacts, about: About, *, license_link: str = "") -> str:
    """The card; `license_link` is the file beside it that has the terms."""
    body = markdown.render(
        "model_card.md",
        name=about.release.name or model.artefact.name,
        model=model,
        about=about,
        not_given=NOT_GIVEN,
        counts=model.artefact.manifest.counts,
        architecture=[
            (text, model.architecture[key]) for key, text in _ARCHITECTURE.items() if key in model.architecture
        ],
        settings=[
            (SETTINGS[key], value)
            for key, value in sorted(settings_of(model.artefact.manifest.config))
            if key in SETTINGS and value is not None
        ],
        corpora=[
            (corpus, rows(corpus.rows.licenses, by_files=True), rows(corpus.rows.languages)) for corpus in model.corpora
        ],
        evaluations=[(found, [_row(metric) for metric in found.metrics]) for found in model.evaluations],
    )
    return markdown.front_matter(metadata(model, about, license_link)) + "\n" + body


def metadata(model: ModelFacts, about: About, license_link: str = "") -> dict[str, Any]:
    """The front matter."""
    name = about.release.name or model.artefact.name
    values: dict[str, Any] = {
        "language": ["code"],
        **hub_fields(model.licence),
        **({"license_link": license_link} if license_link else {}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["code", "starsmith", *(["tainted"] if model.taints else [])],
    }
    if model.is_derivative:
        values["base_model"] = model.bases[0].name
    if about.release.datasets:
        values["datasets"] = list(about.release.datasets)
    if results := [_result(found) for found in model.evaluations if found.metrics]:
        values["model-index"] = [{"name": name, "results": results}]
    return values


def interval_of(metric: Metric) -> str:
    """The interval as people read it, "" without one."""
    return f"{metric.interval[0]:.4g} to {metric.interval[1]:.4g}" if metric.interval else ""


def training_data(corpora: Sequence[CorpusFacts]) -> str:
    """The corpora in a sentence."""
    texts = [
        f"{corpus.rows.total.files:,} files ({markdown.size(corpus.rows.total.size_bytes)}) of source code,"
        f" corpus {corpus.artefact.manifest.id}"
        for corpus in corpora
    ]
    return "; ".join(texts) or "no corpus is recorded"


def _result(found: EvaluationFacts) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation", "name": found.task},
        "dataset": {"type": found.task, "name": f"{found.task} files of corpus {found.corpus[:12]}"},
        "metrics": [
            {"type": metric.type, "value": round(metric.value, 6), "name": _full_name(metric)}
            for metric in found.metrics
        ],
    }


def _full_name(metric: Metric) -> str:
    interval = f"95 % interval {interval_of(metric)}; " if metric.interval else ""
    return f"{metric.name} ({interval}{metric.of})"


def _row(metric: Metric) -> tuple[str, str, str, str, str]:
    plain = f"{metric.baseline:.4g}" if metric.baseline is not None else "-"
    return metric.name, f"{metric.value:.4g}", interval_of(metric) or "-", plain, metric.of
