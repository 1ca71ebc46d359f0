"""The tables that are known, The Stack's and our own, and how a row of one becomes a file.

The licences of a list hold side by side (AND): The Stack lists all that it detected, without saying which of them are
alternatives.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starsmith.core.errors import InputError
from starsmith.corpus.files import CODE, Drop, RawFile, Unreadable
from starsmith.corpus.licenses import NOTHING, UNRECOGNISED, Finding

_ENCODING = re.compile(r"(?i)(?:utf|iso|latin|windows|cp|koi8|mac|big5|gb|euc|shift|sjis|ascii|us-ascii|tis|hz)[\w-]*")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Which column of a known table holds what; "" where it has none."""

    name: str
    content: tuple[str, ...]  # the first that there is
    path: str
    repository: str
    known_by: tuple[str, ...] = ()  # columns that it must have besides these three
    commit: str = ""
    licenses: str = ""  # a list of SPDX ids, or one expression
    evidence: str = ""  # what the licence was read from; else the column is named
    repository_license: str = ""  # holds where `licenses` is empty
    language: str = ""
    stars: str = ""
    date: str = ""
    encoding: str = ""  # of content in bytes
    kind: str = ""

    def columns(self) -> tuple[str, ...]:
        """Every column that is read, if it is there."""
        others = (self.commit, self.licenses, self.evidence, self.repository_license, self.language, self.stars)
        named = (*self.content, self.path, self.repository, *others, self.date, self.encoding, self.kind)
        return tuple(name for name in named if name)


SCHEMAS = (
    Schema(
        name="The Stack v1",
        content=("content",),
        path="max_stars_repo_path",
        repository="max_stars_repo_name",
        commit="max_stars_repo_head_hexsha",
        licenses="max_stars_repo_licenses",
        language="lang",
        stars="max_stars_count",
    ),
    Schema(
        name="The Stack v2",
        content=("content", "text"),
        path="path",
        repository="repo_name",
        known_by=("blob_id",),
        commit="revision_id",
        licenses="detected_licenses",
        repository_license="gha_license_id",
        language="language",
        stars="star_events_count",
        date="committer_date",
        encoding="src_encoding",
    ),
    Schema(
        name="the-stack-smol",
        content=("content",),
        path="path",
        repository="repository_name",
        licenses="licenses",
        language="lang",
    ),
    Schema(
        name="a Starsmith corpus",
        content=("text",),
        path="path",
        repository="repository",
        known_by=("language", "license"),
        commit="commit",
        licenses="license",
        evidence="license_evidence",
        language="language",
        stars="stars",
        date="date",
        kind="kind",
    ),
)


def schema_of(columns: Sequence[str], name: str) -> Schema:
    """The schema that has these columns; InputError names them and what is known."""
    there = set(columns)
    for schema in SCHEMAS:
        if there >= {schema.path, schema.repository, *schema.known_by} and there & set(schema.content):
            return schema
    if {"blob_id", "repo_name"} <= there or {"files", "repo_name"} <= there:
        hint = "The Stack v2 lists ids only: fetch the blobs from Software Heritage into a column `content` first"
        raise InputError(f"{name} has no column `content` or `text`", hint=hint)
    known = "; ".join(
        f"{schema.name} ({', '.join((schema.path, schema.repository, *schema.known_by, schema.content[0]))})"
        for schema in SCHEMAS
    )
    seen = ", ".join(list(columns)[:30]) or "none"
    raise InputError(f"{name} has the columns {seen}, which is no known schema", hint=f"known: {known}")


def file_of(schema: Schema, row: Mapping[str, Any], where: str) -> RawFile | Unreadable:
    """The file of a row; `content` are its bytes."""
    path, content = _text(row, schema.path).lstrip("/"), row["content"]
    if content is None or not path:
        drop = Drop("bad_row", f"a row of {where} without {'content' if path else schema.path}")
        return refused(schema, row, where, drop)
    if ".." in path and ".." in path.split("/"):
        return refused(schema, row, where, Drop("unsafe_path", "the path leads out of the repository"))
    if encoding := _text(row, schema.encoding):
        content = _as_utf8(content, encoding)
    stars = row.get(schema.stars)
    return RawFile(
        path=path,
        content=content,
        repository=_text(row, schema.repository),
        commit=_text(row, schema.commit),
        license=_license(schema, row),
        language=_text(row, schema.language) or None,
        stars=int(stars) if isinstance(stars, int | float) and abs(stars) < 2**53 else None,
        date=_text(row, schema.date),
        kind=_text(row, schema.kind) or CODE,
    )


def refused(schema: Schema, row: Mapping[str, Any], where: str, drop: Drop) -> Unreadable:
    """A row that gives no file, with as much of its place as it tells."""
    return Unreadable(_text(row, schema.path).lstrip("/"), _text(row, schema.repository) or where, drop)


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _license(schema: Schema, row: Mapping[str, Any]) -> Finding:
    """What the row declares; a repository whose licence nobody could name (NOASSERTION) has one all the same."""
    for column in filter(None, (schema.licenses, schema.repository_license)):
        value = row.get(column)
        names = [name.strip() for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
        named = sorted({UNRECOGNISED if name in ("NOASSERTION", "other") else name for name in names if name})
        if named:
            parts = [f"({name})" if len(named) > 1 and " OR " in name else name for name in named]
            evidence = _text(row, schema.evidence) or f"declared: {column} of {schema.name}"
            return Finding(" AND ".join(parts), evidence)
    return NOTHING


def _as_utf8(content: bytes, encoding: str) -> bytes:
    """Bytes of another encoding in UTF-8; as they are if they are not in it, or nobody knows it."""
    if not _ENCODING.fullmatch(encoding) or _is_utf8(content):
        return content
    try:
        return content.decode(encoding).encode()
    except (LookupError, UnicodeError):
        return content


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
