"""Pull requests become documents: description, base files, diff, what was said about it and how it ended.

Selection and form are StarCoder2's (Lozhkov et al. 2024, arXiv 2402.19173), with two departures: ids of
reviews and comments count from 1, so that they do not say when it was, and the diff is that of the last head.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from starsmith.corpus import rendering
from starsmith.corpus.bots import is_bot, without_mail
from starsmith.corpus.files import Drop
from starsmith.corpus.rendering import CUT, Rendered, Writer, cut_middle
from starsmith.corpus.threads import (
    COMMENT,
    REVIEW,
    ChangedFile,
    Comment,
    Names,
    PullRequest,
    ThreadConfig,
    shown,
    spoken_by_people,
)

# Base files past these are data or were written by no one.
LARGEST_BASE_CHARS, MOST_BASE_LINES = 1_000_000, 100_000
LONGEST_MEAN_LINE, LONGEST_LINE = 100, 1000
LEAST_ALPHANUMERIC, MOST_HEXADECIMAL = 0.25, 0.25
DESCRIPTION_LINES, DESCRIPTION_TAIL = 80, 20  # a longer description keeps its first 60 lines and its last 20
OMITTED = "[OMITTED]"

_DEPENDENCIES = re.compile(r"(?i)\bdepend|release")
_DATA_NAME = re.compile(r"(?i)pack|lock|yarn|output|swagger|openapi")
_DATA_ENDING = re.compile(r"(?i)\.(?:ya?ml|json)$")
_HUNK = re.compile(r"^@@ -(\d{1,9})(?:,(\d{1,9}))? \+\d{1,9}(?:,\d{1,9})? @@", re.M)
_HEXADECIMAL = re.compile(r"(?:0[xX]|\\x)[\da-fA-F]+|\b[\da-fA-F]{8,}\b")


def render_pull_request(pull: PullRequest, settings: ThreadConfig, random: np.random.Generator) -> Rendered | Drop:
    """Description, base files, diff, then what was said about it and how it ended.

    Where the dump has no base file, the lines that its hunks show of it stand in.
    """
    description = without_mail(pull.body)
    if drop := _judge_pull_request(pull, description, settings):
        return drop
    files = [file for file in pull.files if file.patch and _is_readable(file)]
    if not files:
        return Drop("no_files", f"{len(pull.files):,} changed files, none with a diff and a readable base")
    if _is_mostly_data(files) and random.random() >= settings.data_share:
        return Drop("data_files", f"most of {len(files):,} changed files are data, of which a part is kept")
    said = spoken_by_people(pull.comments)
    names = Names()
    for user in (pull.user, *(comment.user for comment in said)):
        names.of(user)
    writer = Writer()
    _write_opening(writer, pull, _short(description, settings), names, settings)
    _write_base(writer, files, settings, random)
    _write_diff(writer, files, settings)
    _write_comments(writer, said, names, settings)
    if pull.closed:
        _write(writer, rendering.PR, names.of(pull.user))
        _write(writer, rendering.PR_STATUS, "closed")
        _write(writer, rendering.PR_IS_MERGED, str(pull.merged))
    if not settings.least_chars <= writer.length <= settings.most_pull_request_chars:
        wanted = f"{settings.least_chars:,} to {settings.most_pull_request_chars:,} are wanted"
        return Drop("thread_length", f"{writer.length:,} characters, {wanted}")
    return writer.rendered()


def _judge_pull_request(pull: PullRequest, description: str, settings: ThreadConfig) -> Drop | None:
    if is_bot(pull.user):
        return Drop("bot", f"opened by {pull.user}")
    if pull.base_changed:
        return Drop("base_changed", "it was moved to another base branch")
    if not (pull.merged or pull.approved):
        return Drop("not_approved", "neither approved nor merged")
    if not any(file.patch for file in pull.files):
        return Drop("no_diff", f"{len(pull.files):,} changed files, none with a diff")
    if len(pull.title) < settings.least_title_chars:
        return Drop("short_title", f"{len(pull.title)} characters, at least {settings.least_title_chars} are wanted")
    if found := _DEPENDENCIES.search(pull.title):
        return Drop("release", f"{found[0]!r} in the title: about a release or dependencies")
    if len(description.strip()) < settings.least_description_chars:
        wanted = f"at least {settings.least_description_chars} are wanted"
        return Drop("short_description", f"{len(description.strip())} characters, {wanted}")
    if "Qwiet" in description:
        return Drop("generated", "a report of a scanner (Qwiet)")
    return None


def _short(description: str, settings: ThreadConfig) -> str:
    text = cut_middle(description, most_lines=DESCRIPTION_LINES, last_lines=DESCRIPTION_TAIL)
    return text[: settings.most_description_chars]


def _is_readable(file: ChangedFile) -> bool:
    """Whether a file, as far as it is known, is one that people write and read."""
    text = file.patch if file.base is None else file.base
    if not text or len(text) > LARGEST_BASE_CHARS:
        return not text
    lines = text.split("\n")
    if len(lines) > MOST_BASE_LINES or max(map(len, lines)) > LONGEST_LINE:
        return False
    hexadecimal = sum(len(found[0]) for found in _HEXADECIMAL.finditer(text))
    return (
        len(text) <= LONGEST_MEAN_LINE * len(lines)
        and hexadecimal <= MOST_HEXADECIMAL * len(text)
        and _alphanumeric(text) >= LEAST_ALPHANUMERIC * len(text)
    )


def _alphanumeric(text: str) -> int:
    """Letters and digits, all that is not ASCII counted among them."""
    codes = np.frombuffer(text.encode("utf-32-le", "replace"), dtype=np.uint32)
    return int(_alphanumeric_codes()[np.minimum(codes, 128)].sum())


@cache
def _alphanumeric_codes() -> NDArray[np.bool_]:
    return np.array([chr(code).isalnum() or code == 128 for code in range(129)])


def _is_mostly_data(files: Sequence[ChangedFile]) -> bool:
    """Whether more than half of the files are YAML or JSON, or a path is one of a lock file or of what tools wrote."""
    data = sum(bool(_DATA_ENDING.search(file.path)) for file in files)
    return data > len(files) / 2 or any(_DATA_NAME.search(file.path) for file in files)


def _write(writer: Writer, token: str, *texts: str) -> None:
    writer.control(token)
    writer.text(*texts)


def _write_opening(writer: Writer, pull: PullRequest, description: str, names: Names, settings: ThreadConfig) -> None:
    title = pull.title[: settings.most_title_chars]
    _write(writer, rendering.PR, f"Title: {title}\n{names.of(pull.user)}: {names.in_text(description)}")
    _write(writer, rendering.PR_STATUS, "opened")
    _write(writer, rendering.REPO_NAME, pull.repository)


def _write_base(
    writer: Writer, files: Iterable[ChangedFile], settings: ThreadConfig, random: np.random.Generator
) -> None:
    """Files as they were; what is added has no before, and of what is removed the diff has all."""
    writer.control(rendering.PR_BASE)
    for file in files:
        if file.status not in ("added", "removed"):
            _write(writer, rendering.PR_FILE, file.path)
            _write(writer, rendering.PR_BASE_CODE, _base_shown(file, settings, random))


def _base_shown(file: ChangedFile, settings: ThreadConfig, random: np.random.Generator) -> str:
    if file.base is None:
        return f"\n{CUT}\n".join(_lines_before(hunk) for hunk in _hunks(file.patch))
    ranges = [(int(found[1]), int(found[2] or 1)) for found in _HUNK.finditer(file.patch)]
    if random.random() < settings.whole_base_share or not ranges:
        return file.base
    above, below = (int(count) for count in random.integers(0, settings.base_context_lines + 1, size=2))
    first = min(start for start, _ in ranges) - 1 - above
    last = max(start - 1 + count for start, count in ranges) + below
    return "\n".join(file.base.split("\n")[max(first, 0) : last])


def _hunks(patch: str) -> list[str]:
    """The hunks of a unified diff, each with its @@ line; what stands before the first is left out."""
    starts = [found.start() for found in _HUNK.finditer(patch)]
    return [patch[start:end].rstrip("\n") for start, end in pairwise([*starts, len(patch)])]


def _lines_before(hunk: str) -> str:
    return "\n".join(line[1:] for line in hunk.split("\n")[1:] if line[:1] in (" ", "-", ""))


def _write_diff(writer: Writer, files: Iterable[ChangedFile], settings: ThreadConfig) -> None:
    writer.control(rendering.PR_DIFF)
    for file in files:
        _write(writer, rendering.PR_FILE, file.path)
        for hunk in _hunks(file.patch):
            _write(writer, rendering.PR_DIFF_HUNK, _hunk_shown(hunk, settings))


def _hunk_shown(hunk: str, settings: ThreadConfig) -> str:
    return hunk if len(hunk) <= settings.most_hunk_chars else OMITTED


def _write_comments(writer: Writer, said: Iterable[Comment], names: Names, settings: ThreadConfig) -> None:
    numbers: dict[str, str] = {}

    def number(identity: str) -> str:
        return numbers.setdefault(identity, str(len(numbers) + 1))

    for position, comment in enumerate(said):
        own = number(comment.id or f"without id {position}")
        words = f"{names.of(comment.user)}: {shown(comment.body, names, settings)}"
        if comment.kind == COMMENT:
            _write(writer, rendering.PR_COMMENT, words)
            _write(writer, rendering.PR_EVENT_ID, own)
        elif comment.kind == REVIEW:
            _write(writer, rendering.PR_REVIEW, words, "\n")
            _write(writer, rendering.PR_EVENT_ID, own)
            _write(writer, rendering.PR_REVIEW_STATE, comment.state)
        else:
            writer.control(rendering.PR_REVIEW_COMMENT)
            _write(writer, rendering.PR_EVENT_ID, own)
            if comment.review:
                _write(writer, rendering.PR_IN_REPLY_TO_REVIEW, number(comment.review))
            if comment.answers:
                _write(writer, rendering.PR_IN_REPLY_TO_COMMENT, number(comment.answers))
            _write(writer, rendering.PR_FILE, comment.path)
            _write(writer, rendering.PR_COMMENT_LINE, "" if comment.line is None else str(comment.line))
            _write(writer, rendering.PR_DIFF_HUNK, _hunk_shown(comment.hunk, settings))
            _write(writer, rendering.PR_COMMENT, words)
