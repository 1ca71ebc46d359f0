"""Dumps of issues and pull requests, as GitHub's REST interface or GH Archive give them, become threads and documents.

A line is an issue or pull request with its comments, or an event of one; events are put together by thread, in the
order in which they come. Files are read a line at a time; what belongs to a thread must lie in one file.
"""

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from starsmith.core.errors import InputError
from starsmith.corpus.files import ISSUE, PULL_REQUEST, Drop, RawFile, Unreadable
from starsmith.corpus.licenses import NOTHING, Finding
from starsmith.corpus.pull_requests import render_pull_request
from starsmith.corpus.threads import (
    COMMENT,
    REVIEW,
    REVIEW_COMMENT,
    ChangedFile,
    Comment,
    Issue,
    PullRequest,
    ThreadConfig,
    render_issue,
    repository_share,
    thread_random,
)
from starsmith.corpus.trees import Unit

LONGEST_LINE_BYTES = 64 * 2**20  # a JSON array that is spread over lines is one line here
MOST_FILE_BYTES = 64 * 2**30  # unpacked
MOST_OPEN_CHARS = 512 * 2**20  # of threads whose events are still being put together
MOST_COMMENTS = 10_000  # of one thread; later ones are left out
ENDINGS = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")

_SNIFFED_BYTES = 2**20
_NOT_A_LICENSE = frozenset({"", "NOASSERTION", "NONE", "other"})
_EVENTS = frozenset(
    {
        "IssuesEvent",
        "IssueCommentEvent",
        "PullRequestEvent",
        "PullRequestReviewEvent",
        "PullRequestReviewCommentEvent",
    }
)


@dataclass(frozen=True)
class ThreadSource:
    """A dump file, or a folder of them: one unit for each file."""

    root: Path
    repository: str = ""  # of threads that do not name theirs
    commit: str = ""
    settings: ThreadConfig = field(default_factory=ThreadConfig)
    thin: bool = True  # keep fewer pull requests of repositories that have many, by the paper's share

    def units(self, *, largest_bytes: int) -> list[Unit]:
        """Every dump file below the root, sorted by path."""
        if not self.root.exists():
            raise InputError(f"{self.root} does not exist", hint="give a dump of issues or a folder of dumps")
        found = [self.root] if self.root.is_file() else sorted(self.root.rglob("*"))
        paths = [path for path in found if path.name.endswith(ENDINGS) and path.is_file() and not path.is_symlink()]
        if not paths:
            raise InputError(f"{self.root} has no dump of issues", hint=f"names end in {', '.join(ENDINGS)}")
        return [self._unit(path, largest_bytes) for path in paths]

    def _unit(self, path: Path, largest_bytes: int) -> "ThreadUnit":
        status = path.stat()
        read = (path.name, status.st_size, status.st_mtime_ns, self.repository, self.settings, self.thin, largest_bytes)
        return ThreadUnit(
            path=path,
            size_bytes=status.st_size,
            fingerprint=hashlib.sha256(repr(read).encode()).hexdigest(),
            largest_bytes=largest_bytes,
            source=self,
        )


@dataclass(frozen=True, kw_only=True)
class ThreadUnit:
    """One dump file."""

    path: Path
    size_bytes: int
    fingerprint: str
    largest_bytes: int
    source: ThreadSource

    @property
    def label(self) -> str:
        """Name of the file."""
        return self.path.name

    def files(self) -> Iterator[RawFile | Unreadable]:
        """Every thread as a document, or why there is none, in the order of the dump."""
        counts = Counter(self._repositories()) if self.source.thin else Counter()
        for thread in self._threads():
            if isinstance(thread, Drop):
                yield Unreadable(self.path.name, self.source.repository, thread)
            else:
                named = replace(thread, repository=thread.repository or self.source.repository)
                yield self._document(named, counts[thread.repository])

    def _threads(self) -> Iterator[Issue | PullRequest | Drop]:
        try:
            yield from read_threads(_lines(self.path))
        except (OSError, EOFError, zlib.error) as error:  # gzip: damaged or cut off
            yield Drop("unreadable_dump", f"{str(error)[:200]}; what came before was read")

    def _repositories(self) -> Iterator[str]:
        return (thread.repository for thread in self._threads() if isinstance(thread, PullRequest))

    def _document(self, thread: Issue | PullRequest, pull_requests: int) -> RawFile | Unreadable:
        settings = self.source.settings
        kind, folder = (PULL_REQUEST, "pulls") if isinstance(thread, PullRequest) else (ISSUE, "issues")
        path = f"{folder}/{thread.number}"
        if isinstance(thread, PullRequest):
            random = thread_random(settings.seed, thread.repository, thread.number)
            if pull_requests and random.random() >= repository_share(pull_requests):
                share = f"{repository_share(pull_requests):.3f}"
                drop = Drop("many_pull_requests", f"one of {pull_requests:,} of its repository, {share} are kept")
                return Unreadable(path, thread.repository, drop)
            rendered = render_pull_request(thread, settings, random)
        else:
            rendered = render_issue(thread, settings)
        if isinstance(rendered, Drop):
            return Unreadable(path, thread.repository, rendered)
        content = rendered.text.encode()
        if len(content) > self.largest_bytes:
            drop = Drop("too_large", f"{len(content):,} bytes, at most {self.largest_bytes:,}")
            return Unreadable(path, thread.repository, drop)
        return RawFile(
            path=path,
            content=content,
            repository=thread.repository,
            license=Finding(thread.license, "declared: the repository's, in the dump") if thread.license else NOTHING,
            language="Markdown",
            kind=kind,
            controls=rendered.controls,
        )


def is_dump(path: Path) -> bool:
    """Whether the first record of a JSON file is a thread or an event of one, and not a row of a table."""
    if not path.name.endswith(ENDINGS) or not path.is_file():
        return False
    try:
        first = next(_lines(path), b"")
        record = next(iter(_values(first)), None) if len(first) <= _SNIFFED_BYTES or first[:1] == b"[" else None
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return False
    if not isinstance(record, Mapping):
        return False
    return record.get("type") in _EVENTS or ("title" in record and ("number" in record or "user" in record))


def read_threads(lines: Iterable[bytes]) -> Iterator[Issue | PullRequest | Drop]:
    """Threads of the lines of a dump; each line holds a JSON object or an array of them.

    Whole threads come as they are read, those of events once all are read, or once too many are open: then a thread
    may come in two parts.
    """
    opened: dict[tuple[str, int], Issue | PullRequest] = {}
    open_chars = 0
    for number, line in enumerate(lines, 1):
        for value in _values(line):
            if not isinstance(value, dict):
                yield value if isinstance(value, Drop) else Drop("bad_row", f"line {number:,}: no JSON object")
            elif _text(value.get("type")) in _EVENTS and isinstance(value.get("payload"), dict):
                open_chars += _add_event(opened, value)
            else:
                thread = _thread(value)
                yield thread if thread is not None else Drop("bad_row", f"line {number:,}: no title and number")
        if open_chars > MOST_OPEN_CHARS:
            yield from opened.values()
            opened.clear()
            open_chars = 0
    yield from opened.values()


def _values(line: bytes) -> list[Any]:
    if not line.strip():
        return []
    if len(line) > LONGEST_LINE_BYTES:
        return [Drop("too_large", f"a line of more than {LONGEST_LINE_BYTES:,} bytes")]
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return [Drop("bad_row", f"{str(error)[:200]}; a JSON object is wanted")]
    return value if isinstance(value, list) else [value]


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a dump; a file that holds one array over several lines is one line."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    total = 0
    with gzip.open(path, "rb") if packed else path.open("rb") as stream:
        first = stream.readline(LONGEST_LINE_BYTES + 1)
        if first.strip() in (b"[", b"{") or (first.lstrip().startswith(b"[") and not _values_end(first)):
            yield first + stream.read(LONGEST_LINE_BYTES + 1 - len(first))
            return
        for line in chain([first], iter(lambda: stream.readline(LONGEST_LINE_BYTES + 1), b"")):
            yield line
            total += len(line)
            if total > MOST_FILE_BYTES:
                yield b"the rest, after the most bytes that are read of a file"
                return
            while len(line) > LONGEST_LINE_BYTES and not line.endswith(b"\n"):  # skip the rest of it
                line = stream.readline(LONGEST_LINE_BYTES)
                total += len(line)
                if not line:
                    return


def _values_end(line: bytes) -> bool:
    return line.rstrip().endswith(b"]")


def _thread(data: Mapping[str, Any]) -> Issue | PullRequest | None:
    """An issue or a pull request as the REST interface gives it, with lists of what it has addresses of."""
    number, title = data.get("number"), data.get("title")
    if not isinstance(number, int) or not isinstance(title, str):
        return None
    base = _table(_table(data.get("base")).get("repo"))
    repository = _table(data.get("repository")) or base
    comments = [
        *_comments(data, COMMENT, "comments_list", "comments"),
        *_comments(data, REVIEW, "reviews_list", "reviews"),
    ]
    comments += _comments(data, REVIEW_COMMENT, "review_comments_list", "review_comments")
    comments.sort(key=lambda dated: dated[0])
    issue = Issue(
        repository=_repository_name(data, repository),
        number=number,
        title=title,
        user=_user(data),
        body=_text(data.get("body")),
        closed=data.get("state") == "closed",
        comments=tuple(comment for _, comment in comments[:MOST_COMMENTS]),
        license=_license(repository) or _license(data),
    )
    if "pull_request" not in data and not isinstance(data.get("base"), dict):
        return issue
    return _pull_request(issue, data)


def _pull_request(issue: Issue, data: Mapping[str, Any]) -> PullRequest:
    link = _table(data.get("pull_request"))
    events = chain(_list(data, "events"), _list(data, "timeline"))
    return PullRequest(
        **vars(issue),
        merged=bool(data.get("merged") or data.get("merged_at") or link.get("merged_at")),
        base_changed=any(_table(event).get("event") == "base_ref_changed" for event in events),
        files=tuple(_files(data)),
    )


def _files(data: Mapping[str, Any]) -> Iterator[ChangedFile]:
    """Changed files: as listed, or of the unified diff."""
    listed = _list(data, "files_list", "files")
    for file in map(_table, listed):
        base = file.get("base_content")
        path, patch = _text(file.get("filename")) or _text(file.get("path")), _text(file.get("patch"))
        status = _text(file.get("status")) or "modified"
        yield ChangedFile(path=path, patch=patch, base=base if isinstance(base, str) else None, status=status)
    if not listed:
        for part in ("\n" + _text(data.get("diff"))).split("\ndiff --git ")[1:]:
            head, _, patch = part.partition("\n@@ ")
            status = "added" if "\nnew file" in head else "removed" if "\ndeleted file" in head else "modified"
            path = head.split("\n", 1)[0].rpartition(" b/")[2]
            yield ChangedFile(path=path, patch=f"@@ {patch}" if patch else "", status=status)


def _comments(data: Mapping[str, Any], kind: str, *names: str) -> list[tuple[str, Comment]]:
    found = [raw for raw in _list(data, *names) if isinstance(raw, dict)]
    return [(_text(raw.get("created_at")) or _text(raw.get("submitted_at")), _comment(raw, kind)) for raw in found]


def _comment(raw: Mapping[str, Any], kind: str) -> Comment:
    line = next((raw[name] for name in ("line", "original_line") if isinstance(raw.get(name), int)), None)
    return Comment(
        user=_user(raw),
        body=_text(raw.get("body")),
        id=f"{kind} {raw['id']}" if "id" in raw else "",
        kind=kind,
        state=_text(raw.get("state")).lower() if kind == REVIEW else "",
        path=_text(raw.get("path")),
        line=line,
        hunk=_text(raw.get("diff_hunk")),
        review=_reference(raw, "pull_request_review_id", REVIEW) if kind == REVIEW_COMMENT else "",
        answers=_reference(raw, "in_reply_to_id", REVIEW_COMMENT) if kind == REVIEW_COMMENT else "",
    )


def _reference(raw: Mapping[str, Any], name: str, kind: str) -> str:
    return f"{kind} {raw[name]}" if raw.get(name) is not None else ""


def _add_event(opened: dict[tuple[str, int], Issue | PullRequest], event: Mapping[str, Any]) -> int:
    """Put an event into its thread; the characters that this adds."""
    payload = event["payload"]
    subject = _table(payload.get("pull_request")) or _table(payload.get("issue"))
    repository = _text(_table(event.get("repo")).get("name"))
    thread = _thread({"number": payload.get("number"), **subject, "comments": []})
    if thread is None:
        return 0
    is_pull = isinstance(thread, PullRequest) or event["type"].startswith("PullRequest")
    if is_pull and not isinstance(thread, PullRequest):
        thread = _pull_request(thread, subject)
    key = (repository or thread.repository, thread.number)
    before = opened.get(key)
    said = before.comments if before is not None else ()
    newer = _newer(before, thread, key[0], (*said, *_event_comment(event, payload, said)))
    if isinstance(newer, PullRequest) and "base" in _table(payload.get("changes")):
        newer = replace(newer, base_changed=True)
    opened[key] = newer
    return sum(len(comment.body) + len(comment.hunk) for comment in newer.comments[len(said) :]) + (
        0 if before is not None else len(thread.body)
    )


def _newer(
    before: Issue | PullRequest | None, thread: Issue | PullRequest, repository: str, comments: tuple[Comment, ...]
) -> Issue | PullRequest:
    """The thread as the newest event has it; an issue's event says less of a pull request than its own."""
    thread = replace(thread, repository=repository, comments=comments)
    if not isinstance(before, PullRequest):
        return thread
    if not isinstance(thread, PullRequest):
        return replace(before, comments=comments, closed=thread.closed)
    return replace(
        thread,
        merged=thread.merged or before.merged,
        base_changed=before.base_changed,
        files=thread.files or before.files,
        license=thread.license or before.license,
    )


def _event_comment(event: Mapping[str, Any], payload: Mapping[str, Any], said: tuple[Comment, ...]) -> list[Comment]:
    """What an event adds to its thread; an edit of what was said already adds nothing."""
    kinds = {
        "IssueCommentEvent": COMMENT,
        "PullRequestReviewEvent": REVIEW,
        "PullRequestReviewCommentEvent": REVIEW_COMMENT,
    }
    kind = kinds.get(event["type"])
    raw = _table(payload.get("review" if kind == REVIEW else "comment"))
    if kind is None or not raw or len(said) >= MOST_COMMENTS or payload.get("action") in ("edited", "deleted"):
        return []
    return [_comment(raw, kind)]


def _repository_name(data: Mapping[str, Any], repository: Mapping[str, Any]) -> str:
    named = _text(repository.get("full_name")) or _text(data.get("repository")) or _text(data.get("repo"))
    if named:
        return named
    for address in (data.get("repository_url"), data.get("html_url")):
        parts = _text(address).split("/")
        if len(parts) > 4:  # https://api.github.com/repos/owner/name or https://github.com/owner/name/issues/1
            at = 4 if parts[3] == "repos" else 3
            return "/".join(parts[at : at + 2])
    return ""


def _license(data: Mapping[str, Any]) -> str:
    found = data.get("license")
    name = _text(found) or _text(_table(found).get("spdx_id"))
    return "" if name in _NOT_A_LICENSE else name


def _user(raw: Mapping[str, Any]) -> str:
    """Login; "ghost" for an account that is gone, as GitHub shows it."""
    user = raw.get("user")
    login = user if isinstance(user, str) else _table(user).get("login")
    return login if isinstance(login, str) and login else "ghost"


def _list(data: Mapping[str, Any], *names: str) -> list[Any]:
    return next((data[name] for name in names if isinstance(data.get(name), list)), [])


def _text(value: Any) -> str:
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
