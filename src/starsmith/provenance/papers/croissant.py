"""A corpus becomes Croissant 1.1 metadata (MLCommons, 2026) with the responsible-AI vocabulary, as JSON-LD.

Every file has its sha256; the record set reads all of them, a row for each file of source code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from starsmith.provenance.papers import markdown
from starsmith.provenance.papers.about import NOT_GIVEN, About
from starsmith.provenance.papers.facts import CorpusFacts, largest
from starsmith.provenance.papers.licences import as_expression, ids_in

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
PARQUET = "application/x-parquet"
FILE_SET, RECORDS = "parquet-files", "files"
_TOP = 20

# The context that the specification prescribes.
_TERMS = """arrayShape citeAs column containedIn equivalentProperty extract field fileProperty fileObject fileSet format
    includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace
    samplingRate separator source subField transform"""
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{name: f"cr:{name}" for name in _TERMS.split()},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "sc": "https://schema.org/",
}

# What a row has; a column that is not listed is described by its type alone.
DESCRIPTIONS = {
    "path": "path of the file in its repository",
    "text": "the text, with secrets and personal data replaced",
    "language": "programming language, by Linguist's name",
    "license": "licence of the file, an SPDX expression; empty where none was found",
    "license_evidence": "what the licence was read from",
    "repository": "URL or name of the repository",
    "commit": "commit at which the repository was read",
    "swhid": "Software Heritage identifier (ISO/IEC 18670) of the content as its repository has it",
    "sha256": "SHA-256 of the content as its repository has it",
    "split": "train, or held_out and never to be trained on",
    "controls": "character offsets in the text at which a control token stands",
    "kind": "code, notebook, issue, ...",
    "size_bytes": "size of the content as its repository has it",
    "stars": "stars of the repository",
    "date": "date of the revision, ISO 8601",
    "cluster": "SWHID of the file that stands for its exact and near-duplicates",
    "cluster_size": "number of files that it stands for",
    "redactions": "number of values that were replaced in the text",
    "comment_ratio": "share of characters in comments",
    "average_line": "mean length of a line in characters",
    "alphabetic_share": "share of letters",
    "characters_per_token": "characters per code token",
    "is_test": "whether it is a test by its path",
    "weight": "weight in sampling; 1 is the natural distribution",
}


def write(corpus: CorpusFacts, about: About, *, files: Sequence[tuple[str, str, int]], includes: str) -> dict[str, Any]:
    """The metadata; `files` are (name, hex sha256, bytes) as they lie beside it, all of which `includes` matches."""
    release, provider = about.release, about.provider
    missing = [
        name
        for name, value in (
            ("creator", provider.name),
            ("url", release.url),
            ("datePublished", release.date),
            ("version", release.version),
        )
        if not value
    ]
    optional = {
        "url": release.url,
        "datePublished": release.date,
        "dateCreated": (corpus.artefact.built or release.built)[:10],
        "citeAs": release.citation,
    }
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": release.name or corpus.artefact.name,
        "description": _description(corpus, about, missing),
        # What comes after the plus is no order: an artefact is known by its id.
        "version": release.version or f"0.0.0+{corpus.artefact.manifest.id[:16]}",
        "license": licenses(corpus, about),
        "creator": {"@type": "sc:Organization", "name": provider.name or NOT_GIVEN},
        **{name: value for name, value in optional.items() if value},
        "inLanguage": "zxx",  # no linguistic content
        "keywords": ["source code", *(name for name, _ in largest(corpus.rows.languages, _TOP)[:_TOP])],
        **_responsible(corpus, about),
        "distribution": [*map(_file, files), _file_set(includes)],
        "recordSet": [_record_set(corpus.schema or pa.schema([]))],
    }


def licenses(corpus: CorpusFacts, about: About) -> list[str]:
    """URLs of the licences where SPDX lists them, else their names."""
    names = [as_expression(about.release.license)] if about.release.license else []
    names += ids_in(expression for expression in corpus.rows.by["license"] if expression)
    return [_url(name) for name in dict.fromkeys(names)] or [NOT_GIVEN]


def _url(name: str) -> str:
    """Where SPDX has the text; the name itself for an expression or a licence of another list."""
    return name if " " in name or name.startswith("LicenseRef-") else f"https://spdx.org/licenses/{name}"


def _description(corpus: CorpusFacts, about: About, missing: Sequence[str]) -> str:
    taints = "".join(f" A source was withdrawn: {taint}." for taint in corpus.artefact.taints)
    absent = f" Not given by the provider: {', '.join(missing)}." if missing else ""
    summary = about.use.summary or "Source code with where each file comes from and under which licence it stands."
    size = f" {corpus.rows.total.files:,} files, {markdown.size(corpus.rows.total.size_bytes)}."
    identity = f" Artefact {corpus.artefact.manifest.id}, Merkle root {corpus.root}."
    return summary + size + identity + absent + taints


def _responsible(corpus: CorpusFacts, about: About) -> dict[str, Any]:
    """The responsible-AI fields, as far as anybody knows them."""
    config = corpus.artefact.manifest.config
    dropped, redacted = corpus.counted("dropped_"), corpus.counted("redacted_")
    lists = "No opt-out list was applied."
    if config["opt_outs"]:
        day = config["opt_outs_as_of"] or "a day that was not recorded"
        lists = f"{markdown.plural(len(config['opt_outs']), 'opt-out list', 'opt-out lists')} of {day} applied."
    found: Mapping[str, Any] = {
        "rai:dataCollection": f"Read from {corpus.places}; nothing was executed.",
        "rai:dataCollectionType": "Others",
        "rai:dataCollectionTimeFrame": [
            day for day in (about.sources.acquired_from, about.sources.acquired_until) if day
        ],
        "rai:dataCollectionMissingData": _listing("Files left out, by reason", dropped),
        "rai:dataPreprocessingProtocol": corpus.steps,
        "rai:personalSensitiveInformation": [
            _listing("Replaced in the texts", redacted)
            + " Detection by rules misses some: the texts may hold personal data."
        ],
        "rai:dataUseCases": list(about.use.intended),
        "rai:dataLimitations": list(about.use.limitations),
        "rai:dataReleaseMaintenancePlan": f"{lists} Removal requests: {about.provider.contact or NOT_GIVEN}.",
    }
    return {name: value for name, value in found.items() if value}


def _listing(title: str, counts: Mapping[str, int]) -> str:
    rows = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items())
    return f"{title}: {rows or 'none'}."


def _file(file: tuple[str, str, int]) -> dict[str, Any]:
    name, digest, size_bytes = file
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size_bytes} B",
        "encodingFormat": PARQUET,
        "sha256": digest,
    }


def _file_set(includes: str) -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": FILE_SET, "name": FILE_SET, "encodingFormat": PARQUET, "includes": includes}


def _record_set(schema: pa.Schema) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": RECORDS,
        "name": RECORDS,
        "description": "One row for each file of source code.",
        "field": [_field(column) for column in schema],
    }


def _field(column: pa.Field) -> dict[str, Any]:
    is_list = pa.types.is_list(column.type)
    found: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{RECORDS}/{column.name}",
        "name": f"{RECORDS}/{column.name}",
        "description": DESCRIPTIONS.get(column.name, str(column.type)),
        "dataType": _data_type(column.type.value_type if is_list else column.type),
        "source": {"fileSet": {"@id": FILE_SET}, "extract": {"column": column.name}},
    }
    return {**found, "isArray": True, "arrayShape": "-1"} if is_list else found


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "cr:Int64" if kind.bit_width == 64 else "cr:Int32"
    if pa.types.is_floating(kind):
        return "cr:Float32" if kind.bit_width == 32 else "cr:Float64"
    return "sc:Text"
