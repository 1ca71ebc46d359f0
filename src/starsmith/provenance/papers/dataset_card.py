"""A corpus becomes a dataset card: front matter that the hub and `datasets` read, and the facts in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from starsmith.core.records import TRAIN
from starsmith.provenance.papers import markdown
from starsmith.provenance.papers.about import NOT_GIVEN, About
from starsmith.provenance.papers.facts import Amounts, CorpusFacts, largest
from starsmith.provenance.papers.licences import hub_fields

TOP = 20  # rows of a table; the rest is one row
OPTED_OUT = "opted_out"

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_LARGER = ((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"))


def write(corpus: CorpusFacts, about: About, *, data_files: Mapping[str, str]) -> str:
    """The card; `data_files` gives the pattern of the files of each split, or one pattern for all rows."""
    name = about.release.name or corpus.artefact.name
    body = markdown.render(
        "dataset_card.md",
        name=name,
        corpus=corpus,
        about=about,
        not_given=NOT_GIVEN,
        licenses=rows(corpus.rows.licenses, by_files=True),
        languages=rows(corpus.rows.languages),
        owners=rows(corpus.rows.owners),
        kinds=rows(corpus.rows.by["kind"]),
        splits=rows(corpus.splits),
        settings=corpus.artefact.manifest.config,
        dropped=corpus.counted("dropped_"),
        redacted=corpus.counted("redacted_"),
        opted_out=corpus.counts.get(f"dropped_{OPTED_OUT}", 0),
        columns=[(column.name, str(column.type)) for column in corpus.schema or ()],
        whole=set(data_files) == {"all"},
    )
    return markdown.front_matter(metadata(corpus, about, data_files)) + "\n" + body


def metadata(corpus: CorpusFacts, about: About, data_files: Mapping[str, str]) -> dict[str, Any]:
    """The front matter."""
    # "all" rows are one split to `datasets`, which wants one name for it.
    files = [{"split": TRAIN if name == "all" else name, "path": path} for name, path in data_files.items()]
    licence = hub_fields(about.release.license) or {"license": "other", "license_name": "as-each-file-says"}
    languages = [
        name.lower().replace(" ", "-") for name, _ in largest(corpus.rows.languages, TOP)[:TOP] if name != "unknown"
    ]
    return {
        "pretty_name": about.release.name or corpus.artefact.name,
        **licence,
        "language": ["code"],
        "task_categories": ["text-generation"],
        "size_categories": [size_category(corpus.rows.total.files)],
        "tags": ["code", "starsmith", *languages, *(["tainted"] if corpus.artefact.taints else [])],
        "configs": [{"config_name": "default", "default": True, "data_files": files}],
    }


def size_category(rows_in_all: int) -> str:
    """The hub's name for a number of rows."""
    return next((name for bound, name in (*_SIZES, *_LARGER) if rows_in_all < bound), "100B<n<1T")


def rows(amounts: Amounts, *, by_files: bool = False) -> Sequence[tuple[str, int, int, str]]:
    """(name, files, bytes, share) of the largest; the share is of files or of bytes."""
    found = largest(amounts, TOP, by_files=by_files)
    whole = sum(amount.files if by_files else amount.size_bytes for _, amount in found)
    return [
        (
            name,
            amount.files,
            amount.size_bytes,
            markdown.percent(amount.files if by_files else amount.size_bytes, whole),
        )
        for name, amount in found
    ]
