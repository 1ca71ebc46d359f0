"""Issues become documents that say who said what; what an issue, a pull request and a comment are.

Selection and form are StarCoder2's (Lozhkov et al. 2024, arXiv 2402.19173). Names of users become
`username_0`, `username_1` ... in the order in which they first speak.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np

from starsmith.core.errors import ConfigError
from starsmith.corpus import rendering
from starsmith.corpus.bots import is_bot, without_mail
from starsmith.corpus.files import Drop
from starsmith.corpus.rendering import Rendered, Writer, cut_middle

COMMENT, REVIEW, REVIEW_COMMENT = "comment", "review", "review_comment"

_MENTION = re.compile(r"(?<![\w`/])@([A-Za-z\d][A-Za-z\d-]{0,38})")


@dataclass(frozen=True, kw_only=True)
class ThreadConfig:
    """Which issues and pull requests are learnt from, and how much of each is shown."""

    seed: int = 0  # of what is drawn for each pull request
    least_chars: int = 200  # of all text of an issue, or of a pull request as rendered
    most_comment_lines: int = 100  # a longer comment is cut in the middle
    last_comment_lines: int = 20  # of those, kept from the comment's end
    most_chars_of_one_user: int = 7_000  # of an issue in which only one person speaks
    most_events_of_one_user: int = 10  # comments of such an issue, its opening included
    least_title_chars: int = 10  # of a pull request
    most_title_chars: int = 500  # the rest is cut
    least_description_chars: int = 20
    most_description_chars: int = 1_000  # the rest is cut
    whole_base_share: float = 0.2  # of base files, shown whole; of the others the changed range
    base_context_lines: int = 32  # shown around the changed range of a base file, at most
    most_hunk_chars: int = 10_000  # a longer hunk is shown as [OMITTED]
    data_share: float = 0.1  # kept of pull requests that mostly change data or lock files
    most_pull_request_chars: int = 100_000  # as rendered

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (field.name.endswith("_share") and value > 1):
                wanted = "a share from 0 to 1" if field.name.endswith("_share") else "a number that is not negative"
                raise ConfigError(f"{field.name}={value}: {wanted} is wanted", hint=f"the default is {field.default}")
        if self.last_comment_lines > self.most_comment_lines:
            raise ConfigError(
                f"last_comment_lines={self.last_comment_lines} of most_comment_lines={self.most_comment_lines}",
                hint="the lines kept from a comment's end are part of those kept of it",
            )


@dataclass(frozen=True, kw_only=True)
class Comment:
    """What somebody said."""

    user: str
    body: str
    id: str = ""
    kind: str = COMMENT
    state: str = ""  # of a review: approved, changes_requested, commented, dismissed
    path: str = ""  # of a review comment: the file, the line and the hunk that it is about
    line: int | None = None
    hunk: str = ""
    review: str = ""  # id of the review that a review comment belongs to
    answers: str = ""  # id of the comment that it answers


@dataclass(frozen=True, kw_only=True)
class Issue:
    """An issue and its comments, oldest first."""

    repository: str
    number: int
    title: str
    user: str
    body: str
    closed: bool = False
    comments: tuple[Comment, ...] = ()
    license: str = ""  # SPDX id of its repository, where the dump has it


@dataclass(frozen=True, kw_only=True)
class ChangedFile:
    """A file that a pull request changes."""

    path: str
    patch: str  # hunks of a unified diff
    base: str | None = None  # the file before, where the dump has it
    status: str = "modified"  # added, removed, modified, renamed


@dataclass(frozen=True, kw_only=True)
class PullRequest(Issue):
    """A pull request; its comments include reviews and comments on the diff."""

    merged: bool = False
    base_changed: bool = False  # to another branch, so that the diff is no longer the one that was discussed
    files: tuple[ChangedFile, ...] = ()

    @property
    def approved(self) -> bool:
        """Whether a review approved it."""
        return any(comment.state == "approved" for comment in self.comments)


def thread_random(seed: int, repository: str, number: int) -> np.random.Generator:
    """Random numbers that depend on the seed and the thread alone, not on what was read before it."""
    thread = hashlib.blake2b(f"{repository}#{number}".encode("utf-8", "replace"), digest_size=8).digest()
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, int.from_bytes(thread, "little")]))


def repository_share(pull_requests: int) -> float:
    """The share of its pull requests that is kept of a repository with so many; large ones would drown the others."""
    return 0.8007 - 0.0007 * pull_requests if pull_requests <= 1000 else 100 / pull_requests


def render_issue(issue: Issue, settings: ThreadConfig) -> Rendered | Drop:
    """Title, then the speakers in turn."""
    if is_bot(issue.user):
        return Drop("bot", f"opened by {issue.user}")
    opening = Comment(user=issue.user, body=without_mail(issue.body))
    spoken = [opening, *spoken_by_people(issue.comments)]
    if drop := _judge_issue(issue.title, spoken, settings):
        return drop
    names = Names()
    writer = Writer()
    writer.control(rendering.ISSUE_START)
    writer.text(f"Title: {issue.title}\n")
    turns = [(names.of(said.user), said.body) for said in spoken]  # all speakers are known before the first mention
    for position, (name, body) in enumerate(turns):
        if position:
            writer.control(rendering.ISSUE_COMMENT)
        writer.text(f"{name}: {shown(body, names, settings)}")
    if issue.closed:
        writer.control(rendering.ISSUE_CLOSED)
    return writer.rendered()


class Names:
    """username_0, username_1 ... for the people of one thread, by their lower-cased login."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, user: str) -> str:
        """The name of a person, a new one for who is new."""
        return f"username_{self._numbers.setdefault(user.lower(), len(self._numbers))}"

    def in_text(self, text: str) -> str:
        """The text with the people of the thread mentioned by these names."""
        if "@" not in text:
            return text
        return _MENTION.sub(self._mention, text)

    def _mention(self, found: re.Match[str]) -> str:
        number = self._numbers.get(found[1].lower())
        return found[0] if number is None else f"@username_{number}"


def spoken_by_people(comments: Iterable[Comment]) -> list[Comment]:
    """Comments without those of bots and what mail left in them; a review without words still says its state."""
    found = []
    for comment in comments:
        if is_bot(comment.user):
            continue
        body = without_mail(comment.body)
        if body.strip() or comment.kind == REVIEW:
            found.append(comment if body is comment.body else replace(comment, body=body))
    return found


def _judge_issue(title: str, spoken: list[Comment], settings: ThreadConfig) -> Drop | None:
    chars = sum(len(comment.body) for comment in spoken)
    if len(title) + chars < settings.least_chars:
        return Drop("thread_length", f"{len(title) + chars:,} characters, at least {settings.least_chars:,} are wanted")
    if len({comment.user.lower() for comment in spoken}) > 1:
        return None
    if chars > settings.most_chars_of_one_user:
        return Drop("one_user", f"{chars:,} characters of one user, at most {settings.most_chars_of_one_user:,}")
    if len(spoken) > settings.most_events_of_one_user:
        return Drop("one_user", f"{len(spoken):,} comments of one user, at most {settings.most_events_of_one_user:,}")
    return None


def shown(body: str, names: Names, settings: ThreadConfig) -> str:
    """A comment as it stands in a document: cut where it is long, mentions by the names of the thread."""
    text = cut_middle(body, most_lines=settings.most_comment_lines, last_lines=settings.last_comment_lines)
    return names.in_text(text)
