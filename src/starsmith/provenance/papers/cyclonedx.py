"""A corpus or a model becomes a CycloneDX 1.6 machine-learning bill of materials, as JSON."""

from collections.abc import Sequence
from typing import Any

import starsmith
from starsmith.provenance.papers import identifiers, licences, markdown
from starsmith.provenance.papers.about import NOT_GIVEN, About
from starsmith.provenance.papers.bases import Base, Restrictions
from starsmith.provenance.papers.facts import CorpusFacts, Opened
from starsmith.provenance.papers.model_facts import Metric, ModelFacts

VERSION = "1.6"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
PREFIX = "starsmith:"  # of our properties


def write_corpus(corpus: CorpusFacts, about: About) -> dict[str, Any]:
    """The bill about a corpus."""
    return _bill(_dataset(corpus, about, is_root=True), [], {}, about)


def write_model(model: ModelFacts, about: About) -> dict[str, Any]:
    """The bill about a model: what it was made from are its components."""
    components = [_dataset(corpus, about, is_root=False) for corpus in model.corpora]
    components += [_data(one) for one in model.chain if one.manifest.kind != "corpus"]
    by_id = {one.manifest.id: _ref(one) for one in (model.artefact, *model.chain)}
    depends = {
        by_id[one.manifest.id]: sorted(by_id[parent.id] for parent in one.manifest.parents if parent.id in by_id)
        for one in (model.artefact, *model.chain)
    }
    bases = [base for base in model.bases if base.id != model.artefact.manifest.id]
    components += [_base(base, model.restrictions) for base in bases]
    depends[_ref(model.artefact)] += [_base_ref(base) for base in bases]
    depends |= {_base_ref(base): [] for base in bases}
    return _bill(_model(model, bases, about), components, depends, about)


def _bill(
    root: dict[str, Any], components: Sequence[dict[str, Any]], depends: dict[str, list[str]], about: About
) -> dict[str, Any]:
    depends = depends or {root["bom-ref"]: []}
    metadata: dict[str, Any] = {
        "tools": {"components": [{"type": "application", "name": "starsmith", "version": starsmith.__version__}]},
        "component": root,
    }
    if about.release.date:
        metadata["timestamp"] = f"{about.release.date}T00:00:00Z"
    if about.provider.name:
        metadata["supplier"] = _organisation(about)
    content = {
        "metadata": metadata,
        "components": list(components),
        "dependencies": [{"ref": ref, "dependsOn": refs} for ref, refs in sorted(depends.items())],
    }
    return {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": VERSION,
        "serialNumber": f"urn:uuid:{identifiers.of_content(content)}",
        "version": 1,
        **content,
    }


def _model(model: ModelFacts, bases: Sequence[Base], about: About) -> dict[str, Any]:
    manifest = model.artefact.manifest
    settings = {
        f"config:{key}": value for key, value in manifest.config.items() if isinstance(value, int | float | str)
    }
    counts = {f"count:{key}": value for key, value in manifest.counts.items()}
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _ref(model.artefact),
        "name": about.release.name or model.artefact.name,
        "version": about.release.version or manifest.id[:16],
        "description": about.use.summary or "A language model of source code.",
        "licenses": _licenses(model.licence, model.restrictions),
        "modelCard": _card(model, about),
        "components": _files(model.artefact),
        "properties": _properties(
            {
                **_identity(model.artefact),
                **settings,
                **counts,
                **_taints(model.taints),
                **_absent(about, model.licence),
            }
        ),
    }
    if about.release.url:
        found["externalReferences"] = [{"type": "distribution", "url": about.release.url}]
    if bases:
        found["pedigree"] = {
            "ancestors": [{**_base(base, None), "bom-ref": f"{_base_ref(base)}-ancestor"} for base in bases],
            "notes": _pedigree_notes(model),
        }
    return {name: value for name, value in found.items() if value}


def _pedigree_notes(model: ModelFacts) -> str:
    if model.restrictions is None:
        return f"made from {model.bases[0].name}"
    return (
        f"made from {model.bases[0].name}; the use restrictions of {model.restrictions.licence} bind this model and"
        f" everything made from it:\n\n{model.restrictions.text}"
    )


def _card(model: ModelFacts, about: About) -> dict[str, Any]:
    parameters = {
        "approach": {"type": "self-supervised"},
        "task": "text-generation",
        "architectureFamily": "transformer",
        "modelArchitecture": ", ".join(map(str, model.architecture.get("architectures") or [])),
        "datasets": [{"ref": _ref(corpus.artefact)} for corpus in model.corpora],
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "text"}],
    }
    metrics = [_metric(found.task, metric) for found in model.evaluations for metric in found.metrics]
    considerations = {
        "useCases": [*about.use.intended, *(f"out of scope: {text}" for text in about.use.out_of_scope)],
        "technicalLimitations": list(about.use.limitations),
    }
    card: dict[str, Any] = {
        "modelParameters": {name: value for name, value in parameters.items() if value},
        "quantitativeAnalysis": {"performanceMetrics": metrics} if metrics else {},
        "considerations": {name: value for name, value in considerations.items() if value},
    }
    return {name: value for name, value in card.items() if value}


def _metric(task: str, metric: Metric) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": metric.type,
        "value": f"{metric.value:.6g}",
        "slice": f"{task}: {metric.of}",
    }
    if metric.interval:
        low, high = metric.interval
        found["confidenceInterval"] = {"lowerBound": f"{low:.6g}", "upperBound": f"{high:.6g}"}
    return found


def _dataset(corpus: CorpusFacts, about: About, *, is_root: bool) -> dict[str, Any]:
    manifest = corpus.artefact.manifest
    name = (about.release.name if is_root else "") or corpus.artefact.name
    expressions = [expression for expression in corpus.rows.by["license"] if expression]
    total, unknown = corpus.rows.total, corpus.rows.unlicensed
    facts = {
        **_identity(corpus.artefact),
        "merkle-root": corpus.root,
        "size-bytes": total.size_bytes,
        **{f"count:{key}": value for key, value in corpus.counts.items()},
        **{f"files-under:{expression}": amount.files for expression, amount in sorted(corpus.rows.licenses.items())},
        "opt-out-lists": len(manifest.config["opt_outs"]),
        "opt-outs-as-of": manifest.config["opt_outs_as_of"] or NOT_GIVEN,
        "cleaned-of-benchmarks": ", ".join(corpus.benchmarks) or "none",
        **_taints(corpus.artefact.taints),
    }
    content: dict[str, Any] = {
        "type": "dataset",
        "name": name,
        "description": f"{total.files:,} files of source code, {markdown.size(total.size_bytes)}",
        "sensitiveData": ["texts may hold personal data and secrets that the rules of redaction did not find"],
    }
    if about.provider.name:
        content["governance"] = {"owners": [{"organization": _organisation(about)}]}
    if is_root and about.release.url:
        content["contents"] = {"url": about.release.url}
    found: dict[str, Any] = {
        "type": "data",
        "bom-ref": _ref(corpus.artefact),
        "name": name,
        "version": (about.release.version if is_root else "") or manifest.id[:16],
        # A file without a licence has no place in an expression for all.
        "licenses": []
        if unknown or not expressions
        else [{"expression": licences.concluded(expressions), "acknowledgement": "concluded"}],
        "data": [content],
        "components": _files(corpus.artefact),
        "properties": _properties({**facts, **(_absent(about, about.release.license) if is_root else {})}),
    }
    return {key: value for key, value in found.items() if value}


def _data(one: Opened) -> dict[str, Any]:
    """Another artefact of the chain: tokens, a tokenizer."""
    counts = {f"count:{key}": value for key, value in one.manifest.counts.items()}
    return {
        "type": "data",
        "bom-ref": _ref(one),
        "name": one.manifest.kind,
        "version": one.manifest.id[:16],
        "data": [{"type": "dataset" if one.manifest.kind == "tokens" else "other", "name": one.manifest.kind}],
        "components": _files(one),
        "properties": _properties({**_identity(one), **counts, **_taints(one.taints)}),
    }


def _base(base: Base, restrictions: Restrictions | None) -> dict[str, Any]:
    own = restrictions if restrictions is not None and restrictions.base == base.name else None
    found = {
        "type": "machine-learning-model",
        "bom-ref": _base_ref(base),
        "name": base.name,
        "version": base.revision or base.id[:16],
        "licenses": _licenses(base.licence, own),
    }
    return {name: value for name, value in found.items() if value}


def _licenses(licence: str, restrictions: Restrictions | None) -> list[dict[str, Any]]:
    if restrictions is not None:
        text = {"contentType": "text/plain", "content": "\n\n".join(restrictions.terms.values())}
        return [{"license": {"name": licence or restrictions.licence, "text": text}}]
    if not licence:
        return []
    if licences.is_expression(licence):
        return [{"expression": licence}]
    return [{"license": {"name": licence}}]


def _files(one: Opened) -> list[dict[str, Any]]:
    return [
        {
            "type": "file",
            "bom-ref": f"{_ref(one)}/{number}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for number, (name, digest, _) in enumerate(one.files)
    ]


def _identity(one: Opened) -> dict[str, Any]:
    code = one.manifest.code
    return {
        "artifact-id": one.manifest.id,
        "manifest-seal": one.manifest.seal,
        "made-by": code.get("package", ""),
        "commit": code.get("commit", ""),
        "made-on": one.built,
    }


def _taints(taints: Sequence[str]) -> dict[str, Any]:
    return {f"withdrawn-source:{number}": text for number, text in enumerate(taints, start=1)}


def _absent(about: About, licence: str) -> dict[str, Any]:
    named = {
        "supplier": about.provider.name,
        "contact": about.provider.contact,
        "release-date": about.release.date,
        "license": licence,
        "use-cases": about.use.intended,
    }
    return {f"provider:{name}": NOT_GIVEN for name, value in named.items() if not value}


def _properties(values: dict[str, Any]) -> list[dict[str, str]]:
    return [{"name": PREFIX + name, "value": str(value)} for name, value in values.items() if value != ""]


def _organisation(about: About) -> dict[str, Any]:
    contact = about.provider.contact
    found: dict[str, Any] = {"name": about.provider.name}
    if "://" in contact:
        found["url"] = [contact]
    elif contact:
        found["contact"] = [{"email": contact} if "@" in contact else {"name": contact}]
    return found


def _ref(one: Opened) -> str:
    return f"{one.manifest.kind}:{one.manifest.id}"


def _base_ref(base: Base) -> str:
    return f"base:{base.id or identifiers.of_content(base.name)}"
