"""The public summary of training content that Article 53(1)(d) of the EU AI Act asks of a provider.

In the sections of the Commission's template (C(2025) 8311): general information, list of data sources, data processing.
Sizes, domains, owners, what was removed and which opt-outs were honoured come from the manifests and rows. Whether a
source counts as crawled, licensed or private is for the provider to say, and nothing is guessed from a domain.
"""

from collections.abc import Sequence
from typing import Any

from starsmith.core.records import HELD_OUT
from starsmith.provenance.papers import markdown
from starsmith.provenance.papers.about import NOT_GIVEN, About
from starsmith.provenance.papers.facts import FOLDERS, Amount, Amounts, CorpusFacts, largest, merged, sum_of
from starsmith.provenance.papers.model_facts import ModelFacts

LAW = "Article 53(1)(d) of Regulation (EU) 2024/1689"
NOT_RECORDED = "not recorded in the sources"
MOST_LISTED = 1_000  # domains and owners in the JSON form: the template asks small providers for no more
MOST_SHOWN = 25  # in the Markdown form
# Ranges of the template for text.
_RANGES = ((10**9, "less than 1 billion tokens"), (10**13, "1 billion to 10 trillion tokens"))
_LARGEST_RANGE = "more than 10 trillion tokens"
_UNWANTED = ("malware", "opted_out", "no_license", "not_permissive")


def of_model(model: ModelFacts, about: About) -> dict[str, Any]:
    """The summary of a model's training content."""
    tokens = sum(one.manifest.counts.get("train_tokens", 0) for one in model.chain if one.manifest.kind == "tokens")
    dependencies = [
        " ".join(filter(None, (base.name, base.revision and f"revision {base.revision}")))
        for base in model.bases
        if base.id != model.artefact.manifest.id
    ]
    name = about.release.name or model.artefact.name
    identity = {
        "name": name,
        "artifact": model.artefact.manifest.id,
        "dependencies": dependencies,
        "base_content": "described in the summaries of the models it depends on" if dependencies else "",
    }
    read = model.artefact.manifest.counts.get("tokens", 0)
    return _summary(identity, model.corpora, (tokens, read), model.taints, about)


def of_corpus(corpus: CorpusFacts, about: About) -> dict[str, Any]:
    """The same of a corpus, for whoever trains on it; nothing is said of a model."""
    identity = {"name": NOT_GIVEN, "artifact": NOT_GIVEN, "dependencies": [], "base_content": ""}
    return _summary(identity, [corpus], (0, 0), corpus.artefact.taints, about)


def to_markdown(summary: dict[str, Any]) -> str:
    """The summary as a page."""
    sources = summary["data_sources"]["online_sources"]
    return markdown.render(
        "eu_summary.md",
        s=summary,
        general=summary["general_information"],
        sources=summary["data_sources"],
        processing=summary["data_processing"],
        not_given=NOT_GIVEN,
        domains=sources["domains"][:MOST_SHOWN],
        owners=sources["owners"][:MOST_SHOWN],
    )


def size_range(tokens: int) -> str:
    """The template's range for a number of tokens."""
    return next((name for bound, name in _RANGES if tokens < bound), _LARGEST_RANGE)


def _summary(
    model: dict[str, Any],
    corpora: Sequence[CorpusFacts],
    tokens: tuple[int, int],  # in the training data, and read in training
    taints: Sequence[str],
    about: About,
) -> dict[str, Any]:
    return {
        "title": "Public summary of training content",
        "law": LAW,
        "version": about.release.version or NOT_GIVEN,
        "last_update": about.release.date or NOT_GIVEN,
        "withdrawn_sources": list(taints),
        "general_information": _general(model, corpora, tokens, about),
        "data_sources": _sources(corpora, about),
        "data_processing": _processing(corpora, about),
    }


def _general(
    model: dict[str, Any], corpora: Sequence[CorpusFacts], tokens: tuple[int, int], about: About
) -> dict[str, Any]:
    in_data, read = tokens
    total = sum_of(corpus.training.total for corpus in corpora)
    languages = _merged([corpus.training.languages for corpus in corpora])
    kinds = _merged([corpus.training.by["kind"] for corpus in corpora])
    last = max((corpus.last_day for corpus in corpora), default="")
    return {
        "provider": {
            "name": about.provider.name or NOT_GIVEN,
            "contact": about.provider.contact or NOT_GIVEN,
            "authorised_representative": about.provider.authorised_representative or NOT_GIVEN,
        },
        "model": {**model, "placed_on_the_market": about.release.date or NOT_GIVEN},
        "data": {
            "text": {
                "tokens": in_data or NOT_GIVEN,
                "tokens_read_in_training": read or NOT_GIVEN,
                "size_range": size_range(in_data) if in_data else NOT_GIVEN,
                "files": total.files,
                "bytes": total.size_bytes,
                "types_of_content": [_named(row) for row in largest(kinds, MOST_SHOWN)],
            },
            "image": "none",
            "audio": "none",
            "video": "none",
            "latest_acquisition": about.sources.acquired_until or NOT_GIVEN,
            "latest_revision": last or NOT_RECORDED,
            "programming_languages": [_named(row) for row in largest(languages, MOST_LISTED)],
        },
    }


def _sources(corpora: Sequence[CorpusFacts], about: About) -> dict[str, Any]:
    given = about.sources
    domains = _merged([corpus.training.hosts for corpus in corpora])
    owners = _merged([corpus.training.owners for corpus in corpora])
    licenses = _merged([corpus.training.licenses for corpus in corpora])
    return {
        "corpora": [
            {
                "id": corpus.artefact.manifest.id,
                "merkle_root": corpus.root,
                "files": corpus.training.total.files,
                "bytes": corpus.training.total.size_bytes,
                "held_out_files": corpus.splits[HELD_OUT].files if HELD_OUT in corpus.splits else 0,
                "repositories": len(corpus.training.repositories),
            }
            for corpus in corpora
        ],
        "public_datasets": list(given.public_datasets) or NOT_GIVEN,
        "licensed_datasets": given.licensed or NOT_GIVEN,
        "other_private_datasets": given.private or NOT_GIVEN,
        "online_sources": {
            "crawlers": given.crawlers or NOT_GIVEN,
            "collected_from": given.acquired_from or NOT_GIVEN,
            "collected_until": given.acquired_until or NOT_GIVEN,
            "first_revision": min(filter(None, (corpus.first_day for corpus in corpora)), default=NOT_RECORDED),
            "last_revision": max((corpus.last_day for corpus in corpora), default="") or NOT_RECORDED,
            "number_of_domains": len(domains.keys() - {FOLDERS}),
            "domains": [_named(row) for row in largest(domains, MOST_LISTED)],
            "number_of_owners": len(owners.keys() - {FOLDERS}),
            "owners": [_named(row) for row in largest(owners, MOST_LISTED)],
        },
        "licences": [_named(row) for row in largest(licenses, MOST_LISTED, by_files=True)],
        "user_data": given.user_data or NOT_GIVEN,
        "synthetic_data": given.synthetic or NOT_GIVEN,
        "other": given.other or NOT_GIVEN,
    }


def _processing(corpora: Sequence[CorpusFacts], about: About) -> dict[str, Any]:
    given = about.measures
    dropped, redacted = _added(corpora, "dropped_"), _added(corpora, "redacted_")
    signed = {None: NOT_GIVEN, True: "yes", False: "no"}[given.code_of_practice]
    return {
        "reservation_of_rights": {
            "code_of_practice": signed,
            "opt_out_lists": sum(len(corpus.artefact.manifest.config["opt_outs"]) for corpus in corpora),
            "opt_out_lists_of": sorted(
                {day for corpus in corpora if (day := corpus.artefact.manifest.config["opt_outs_as_of"])}
            ),
            "files_left_out_by_opt_out": dropped.get("opted_out", 0),
            "files_left_out_without_a_licence": dropped.get("no_license", 0),
            "files_left_out_by_licence": dropped.get("not_permissive", 0),
            "measures": given.reservation_of_rights or NOT_GIVEN,
        },
        "illegal_content": {
            "malware_scanners": sorted({name for corpus in corpora for name in corpus.scanners}),
            "files_left_out_as_malware": dropped.get("malware", 0),
            "measures": given.illegal_content or NOT_GIVEN,
        },
        "other": {
            "steps": list(dict.fromkeys(name for corpus in corpora for name in corpus.steps)),
            "files_left_out": {name: count for name, count in dropped.items() if name not in _UNWANTED},
            "personal_data_and_secrets_replaced": redacted,
            "benchmarks_removed": sorted({name for corpus in corpora for name in corpus.benchmarks}),
            "notes": given.other or NOT_GIVEN,
        },
    }


def _merged(amounts: Sequence[Amounts]) -> Amounts:
    return merged(item for each in amounts for item in each.items())


def _added(corpora: Sequence[CorpusFacts], prefix: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for corpus in corpora:
        for name, count in corpus.counted(prefix).items():
            found[name] = found.get(name, 0) + count
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _named(row: tuple[str, Amount]) -> dict[str, Any]:
    name, amount = row
    return {"name": name, "files": amount.files, "bytes": amount.size_bytes}
