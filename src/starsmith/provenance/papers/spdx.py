"""A corpus or a model becomes an SPDX 3.0.1 document in JSON-LD, with the profiles Dataset and AI.

The profiles want what no manifest knows: who gives the thing out, where it can be had, when it was made and when it was
given out. SPDX has no word for "not given" there, so without these no document is written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import starsmith
from starsmith.core.errors import InputError
from starsmith.provenance.papers import identifiers, licences, markdown
from starsmith.provenance.papers.about import About
from starsmith.provenance.papers.bases import Base, Restrictions
from starsmith.provenance.papers.facts import CorpusFacts, Opened
from starsmith.provenance.papers.model_card import training_data
from starsmith.provenance.papers.model_facts import ModelFacts, settings_of

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
VERSION = "3.0.1"
NO_LICENSE_ASSERTED = "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense"
_CREATION = "_:creationinfo"
# Stands for the document's own name, which is made from its content and so is known at the end.
_NAME = "urn:uuid:00000000-0000-0000-0000-000000000000"
_MOST_TEXT = 20_000  # characters of a comment


@dataclass
class _Document:
    """The graph while it grows."""

    about: About
    elements: list[dict[str, Any]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    @property
    def provider(self) -> str:
        """IRI of who gives everything out."""
        return f"{_NAME}#Provider"

    def add(self, kind: str, iri: str, **properties: Any) -> str:
        """An element, once; properties without a value are left out."""
        if iri not in self.seen:
            self.seen.add(iri)
            kept = {name: value for name, value in properties.items() if value not in ("", [], None)}
            self.elements.append({"type": kind, "spdxId": iri, "creationInfo": _CREATION, **kept})
        return iri

    def relate(self, kind: str, source: str, to: Sequence[str], comment: str = "") -> None:
        """A relationship, known by what it says."""
        if to:
            self.add(
                "Relationship",
                f"{_NAME}#Relationship{len(self.elements)}",
                relationshipType=kind,
                **{"from": source},
                to=list(to),
                comment=comment,
            )


def write_corpus(corpus: CorpusFacts, about: About) -> dict[str, Any]:
    """The document about a corpus."""
    check(about, corpus.artefact.directory, root=corpus.artefact)
    document = _Document(about)
    root = _dataset(document, corpus)
    return _finish(document, root, ["core", "software", "dataset", "simpleLicensing"])


def write_model(model: ModelFacts, about: About) -> dict[str, Any]:
    """The document about a model, its corpora and its bases."""
    corpora = [corpus.artefact for corpus in model.corpora]
    check(about, model.artefact.directory, root=model.artefact, corpora=corpora)
    document = _Document(about)
    root = _model(document, model)
    datasets = {corpus.artefact.manifest.id: _dataset(document, corpus) for corpus in model.corpora}
    document.relate("trainedOn", root, list(datasets.values()))
    tested = {datasets[found.corpus] for found in model.evaluations if found.corpus in datasets}
    document.relate("testedOn", root, sorted(tested), "on the held-out files, which were not trained on")
    bases = [base for base in model.bases if base.id != model.artefact.manifest.id]
    for number, base in enumerate(bases, start=1):
        document.relate("descendantOf", root, [_base(document, base, number, model.restrictions)])
    profiles = ["core", "software", "ai", "simpleLicensing"]
    return _finish(document, root, [*profiles, "dataset"] if datasets else profiles)


def check(about: About, directory: Path, *, root: Opened | None = None, corpora: Sequence[Opened] = ()) -> None:
    """Raise where something that the document must say was not said; the day of making only of what was read."""
    release, sources = about.release, about.sources
    wanted: dict[str, str | bool] = {
        "[provider] name": about.provider.name,
        "[release] url": release.url,
        "[release] date": release.date,
        "[release] built": root is None or root.built or release.built,
    }
    if corpora:
        wanted |= {
            "[sources] url": sources.url,
            "[sources] date": sources.date,
            "[sources] built": sources.built or all(corpus.built for corpus in corpora),
        }
    if missing := [name for name, value in wanted.items() if not value]:
        raise InputError(
            f"SPDX wants what no manifest of {directory} knows: {', '.join(missing)}",
            hint="write it into a TOML file and give that: --about FILE",
        )


def _dataset(document: _Document, corpus: CorpusFacts) -> str:
    """The package of a corpus, which is what the document is about, or a model's."""
    about, manifest = document.about, corpus.artefact.manifest
    is_root = not document.elements
    said = about.release if is_root else about.sources
    iri = document.add(
        "dataset_DatasetPackage",
        f"{_NAME}#Corpus-{manifest.id[:16]}",
        name=(about.release.name if is_root else "") or corpus.artefact.name,
        summary=f"{corpus.rows.total.files:,} files of source code, {markdown.size(corpus.rows.total.size_bytes)}",
        description=about.use.summary if is_root else "",
        comment=_taints(corpus.artefact.taints),
        originatedBy=[document.provider],
        suppliedBy=document.provider,
        builtTime=corpus.artefact.built or _moment(said.built),
        releaseTime=_moment(said.date),
        externalIdentifier=_identity(corpus.artefact, f"Merkle root of the rows {corpus.root}"),
        software_packageVersion=(about.release.version if is_root else "") or manifest.id[:16],
        software_primaryPurpose="data",
        software_downloadLocation=said.url,
        dataset_datasetType=["text"],
        dataset_datasetSize=corpus.rows.total.size_bytes,
        dataset_dataCollectionProcess=_collection(corpus, about),
        dataset_dataPreprocessing=[*_preprocessing(corpus)],
        dataset_anonymizationMethodUsed=[
            f"{name.replace('_', ' ')}: {count:,} replaced" for name, count in corpus.counted("redacted_").items()
        ],
        dataset_hasSensitivePersonalInformation="noAssertion",  # redaction by rules misses some
        dataset_intendedUse="; ".join(about.use.intended) if is_root else "",
    )
    _files(document, iri, corpus.artefact, "data")
    unknown = corpus.rows.unlicensed
    declared = about.release.license if is_root else ""
    _license(document, "hasDeclaredLicense", iri, licences.as_expression(declared) if declared else "")
    comment = "of all files, each under its own part"
    if unknown:
        comment = f"no licence was found for {markdown.plural(unknown, 'file', 'files')}"
    # What the rows say was held against SPDX' list when the corpus was built.
    concluded = "" if unknown else licences.concluded(corpus.rows.by["license"])
    _license(document, "hasConcludedLicense", iri, concluded, comment)
    return iri


def _model(document: _Document, model: ModelFacts) -> str:
    about, manifest = document.about, model.artefact.manifest
    counts = manifest.counts
    hyperparameters = {
        key: value for key, value in settings_of(manifest.config) if isinstance(value, int | float | str)
    }
    metrics = {
        f"{found.task}: {metric.type}": f"{metric.value:.6g}"
        + (f" (95 %: {metric.interval})" if metric.interval else "")
        for found in model.evaluations
        for metric in found.metrics
    }
    iri = document.add(
        "ai_AIPackage",
        f"{_NAME}#Model-{manifest.id[:16]}",
        name=about.release.name or model.artefact.name,
        summary="language model of source code" + _counted(", {:,} parameters", counts.get("parameters")),
        description=about.use.summary,
        comment=_taints(model.taints),
        originatedBy=[document.provider],
        suppliedBy=document.provider,
        builtTime=model.artefact.built or _moment(about.release.built),
        releaseTime=_moment(about.release.date),
        externalIdentifier=_identity(model.artefact, ""),
        software_packageVersion=about.release.version or manifest.id[:16],
        software_primaryPurpose="model",
        software_downloadLocation=about.release.url,
        ai_typeOfModel=["transformer decoder", *map(str, model.architecture.get("architectures") or [])],
        ai_domain=["source code"],
        ai_hyperparameter=_dictionary(hyperparameters),
        ai_metric=_dictionary(metrics),
        ai_informationAboutTraining=_counted("{:,} tokens of ", counts.get("tokens")) + training_data(model.corpora),
        ai_informationAboutApplication="; ".join(about.use.intended),
        ai_limitation="; ".join(about.use.limitations),
        ai_useSensitivePersonalInformation="noAssertion",
    )
    _files(document, iri, model.artefact, "model")
    for kind in ("hasDeclaredLicense", "hasConcludedLicense"):
        licence = licences.as_expression(model.licence) if model.licence else ""
        _license(document, kind, iri, licence, restrictions=model.restrictions)
    return iri


def _base(document: _Document, base: Base, number: int, restrictions: Restrictions | None) -> str:
    """A plain package: nobody here can say of a base what the AI profile wants to know."""
    iri = document.add(
        "software_Package",
        f"{_NAME}#Base{number}",
        name=base.name,
        software_packageVersion=base.revision or base.id[:16],
        software_primaryPurpose="model",
    )
    own = restrictions if restrictions is not None and restrictions.base == base.name else None
    for kind in ("hasDeclaredLicense", "hasConcludedLicense"):
        licence = licences.as_expression(base.licence) if base.licence else ""
        _license(document, kind, iri, licence, restrictions=own)
    return iri


def _license(
    document: _Document,
    kind: str,
    package: str,
    expression: str,
    comment: str = "",
    *,
    restrictions: Restrictions | None = None,
) -> None:
    """One licence relationship; the text of use restrictions stands in the document itself."""
    if not expression:
        document.relate(kind, package, [NO_LICENSE_ASSERTED], comment)
        return
    texts = [_text(document, expression, restrictions)] if restrictions is not None else []
    iri = document.add(
        "simplelicensing_LicenseExpression",
        f"{_NAME}#License-{identifiers.of_content([expression, texts])}",
        simplelicensing_licenseExpression=expression,
        simplelicensing_customIdToUri=texts,
    )
    document.relate(kind, package, [iri], comment)


def _text(document: _Document, expression: str, restrictions: Restrictions) -> dict[str, str]:
    terms = "\n\n".join(restrictions.terms.values())
    iri = document.add(
        "simplelicensing_SimpleLicensingText",
        f"{_NAME}#LicenseText",
        name=f"{restrictions.licence}, with its use restrictions",
        simplelicensing_licenseText=terms,
    )
    return {"type": "DictionaryEntry", "key": expression, "value": iri}


def _files(document: _Document, package: str, artefact: Opened, purpose: str) -> None:
    files = [
        document.add(
            "software_File",
            f"{_NAME}#File-{artefact.manifest.id[:16]}-{number}",
            name=name,
            software_primaryPurpose=purpose if name.endswith((".parquet", ".safetensors")) else "other",
            verifiedUsing=[{"type": "Hash", "algorithm": "sha256", "hashValue": digest}],
        )
        for number, (name, digest, _) in enumerate(artefact.files)
    ]
    document.relate("contains", package, files)


def _finish(document: _Document, root: str, profiles: list[str]) -> dict[str, Any]:
    about = document.about
    document.add("Organization", document.provider, name=about.provider.name, externalIdentifier=[*_contact(about)])
    tool = document.add("Tool", f"{_NAME}#Tool", name="starsmith", comment=f"version {starsmith.__version__}")
    ids = [element["spdxId"] for element in document.elements]
    sbom = document.add(
        "software_Sbom",
        f"{_NAME}#Sbom",
        profileConformance=profiles,
        rootElement=[root],
        element=ids,
        software_sbomType=["build"],
    )
    document.add(
        "SpdxDocument",
        f"{_NAME}#Document",
        profileConformance=profiles,
        rootElement=[sbom],
        element=[*ids, sbom],
    )
    creation = {
        "type": "CreationInfo",
        "@id": _CREATION,
        "specVersion": VERSION,
        "created": _moment(about.release.date),
        "createdBy": [document.provider],
        "createdUsing": [tool],
    }
    whole = {"@context": CONTEXT, "@graph": [creation, *document.elements]}
    named: dict[str, Any] = _renamed(whole, f"urn:uuid:{identifiers.of_content(whole)}")
    return named


def _renamed(value: Any, name: str) -> Any:
    """The same with the document's name where its place was kept."""
    if isinstance(value, dict):
        return {key: _renamed(item, name) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, name) for item in value]
    if isinstance(value, str) and value.startswith(f"{_NAME}#"):
        return name + value.removeprefix(_NAME)
    return value


def _identity(artefact: Opened, comment: str) -> list[dict[str, str]]:
    found = {
        "type": "ExternalIdentifier",
        "externalIdentifierType": "other",
        "identifier": f"starsmith:{artefact.manifest.kind}:{artefact.manifest.id}",
        "issuingAuthority": "starsmith",
        "comment": ", ".join(filter(None, (f"seal of the manifest {artefact.manifest.seal}", comment))),
    }
    return [found]


def _contact(about: About) -> Iterable[dict[str, Any]]:
    if contact := about.provider.contact:
        kind = "email" if "@" in contact and "://" not in contact else "urlScheme"
        yield {"type": "ExternalIdentifier", "externalIdentifierType": kind, "identifier": contact}


def _collection(corpus: CorpusFacts, about: About) -> str:
    days = [day for day in (about.sources.acquired_from, about.sources.acquired_until) if day]
    when = f", {' to '.join(days)}" if days else ""
    return f"read from {corpus.places}{when}; nothing was executed"


def _preprocessing(corpus: CorpusFacts) -> Iterable[str]:
    yield from corpus.steps
    yield from (
        f"left out as {reason.replace('_', ' ')}: {markdown.plural(count, 'file', 'files')}"
        for reason, count in corpus.counted("dropped_").items()
    )
    if corpus.benchmarks:
        yield f"cleaned of the texts of {', '.join(corpus.benchmarks)}"


def _counted(form: str, number: int | None) -> str:
    return form.format(number) if number else ""


def _moment(day: str) -> str:
    return f"{day}T00:00:00Z"


def _dictionary(values: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"type": "DictionaryEntry", "key": key, "value": str(value)}
        for key, value in sorted(values.items())
        if value is not None
    ]


def _taints(taints: Sequence[str]) -> str:
    return ("a source was withdrawn: " + "; ".join(taints))[:_MOST_TEXT] if taints else ""
