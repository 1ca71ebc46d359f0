import gzip
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.core.errors import ConfigError, InputError
from starsmith.corpus.bots import is_bot, without_mail
from starsmith.corpus.files import Drop, RawFile, Unreadable
from starsmith.corpus.pull_requests import render_pull_request
from starsmith.corpus.rendering import CONTROL_TOKENS, Rendered
from starsmith.corpus.thread_dumps import ThreadSource, read_threads
from starsmith.corpus.threads import (
    ChangedFile,
    Comment,
    Issue,
    PullRequest,
    ThreadConfig,
    render_issue,
    repository_share,
    thread_random,
)

SETTINGS = ThreadConfig()
LONG = "It breaks when the file is empty, and the message does not say why. " * 4
PATCH = "@@ -2,3 +2,3 @@ def f():\n a = 1\n-b = 2\n+b = 3\n c = 4"
BASE = "\n".join(f"line {number}" for number in range(200))
ISSUE = Issue(
    repository="o/r",
    number=7,
    title="Crash",
    user="Ann",
    body=LONG,
    comments=(Comment(user="bob", body="I see, @ann"),),
)
PULL = PullRequest(
    repository="o/r",
    number=8,
    title="Handle empty files",
    user="Ann",
    body=LONG,
    closed=True,
    merged=True,
    comments=(Comment(user="bob", body="Thanks, @Ann and @carol", id="comment 991"),),
    files=(ChangedFile(path="a.py", patch=PATCH),),
)


def tokens_of(rendered: Rendered | Drop) -> list[str]:
    assert isinstance(rendered, Rendered), rendered
    return [rendered.text[at : rendered.text.index(">", at) + 1] for at in rendered.controls]


def reason_of(found: Rendered | Drop) -> str:
    return found.reason if isinstance(found, Drop) else "kept"


def pull_request(pull: PullRequest, settings: ThreadConfig = SETTINGS) -> Rendered | Drop:
    return render_pull_request(pull, settings, thread_random(settings.seed, pull.repository, pull.number))


def test_an_issue_says_who_said_what_without_their_names() -> None:
    rendered = render_issue(replace(ISSUE, closed=True), SETTINGS)

    assert isinstance(rendered, Rendered)
    assert rendered.text == (
        f"<issue_start>Title: Crash\nusername_0: {LONG}<issue_comment>username_1: I see, @username_0<issue_closed>"
    )
    assert tokens_of(rendered) == ["<issue_start>", "<issue_comment>", "<issue_closed>"]


@pytest.mark.parametrize(
    ("issue", "reason"),
    [
        (ISSUE, "kept"),
        (replace(ISSUE, user="dependabot[bot]"), "bot"),
        (replace(ISSUE, body="short"), "thread_length"),
        (replace(ISSUE, comments=()), "kept"),
        (replace(ISSUE, comments=(), body="x" * 7_001), "one_user"),
        (replace(ISSUE, comments=(Comment(user="ANN", body="and"),) * 10), "one_user"),
        (replace(ISSUE, comments=(Comment(user="codecov", body="x" * 9_000),)), "kept"),
    ],
)
def test_issues_are_chosen_as_in_the_paper(issue: Issue, reason: str) -> None:
    assert reason_of(render_issue(issue, SETTINGS)) == reason


def test_a_long_comment_is_cut_in_the_middle() -> None:
    body = "\n".join(f"line {number} of the log" for number in range(500))

    rendered = render_issue(replace(ISSUE, comments=(Comment(user="bob", body=body),)), SETTINGS)

    assert isinstance(rendered, Rendered)
    assert "line 79 of the log\n[...]\nline 480 of the log" in rendered.text


@pytest.mark.parametrize(
    ("user", "bot"),
    [("renovate[bot]", True), ("k8s-ci-robot", True), ("X-Service-Account", True), ("codecov-io", True),
     ("abbot", False), ("marci", False), ("ann", False)],
)  # fmt: skip
def test_bots_are_told_by_their_names(user: str, bot: bool) -> None:
    assert is_bot(user) is bot


def test_what_a_mail_program_adds_is_removed() -> None:
    mail = (
        "Works.\n\nOn Mon, Jan 1, 2020 at 1:00 PM Bob <\nnotifications@github.com> wrote:\n\n> Try this\n>\n"
        "> —\n> Reply to this email directly, view it on GitHub\n> <https://github.com/o/r/issues/1>.\n"
    )

    assert without_mail(mail) == "Works."
    assert without_mail("On Monday I wrote: a test") == "On Monday I wrote: a test"
    assert without_mail("Yes\n-----Original Message-----\nFrom: x") == "Yes"


def test_a_pull_request_shows_base_diff_talk_and_end() -> None:
    rendered = pull_request(PULL)

    assert isinstance(rendered, Rendered)
    assert tokens_of(rendered) == [
        *("<pr>", "<pr_status>", "<repo_name>", "<pr_base>", "<pr_file>", "<pr_base_code>", "<pr_diff>", "<pr_file>"),
        *("<pr_diff_hunk>", "<pr_comment>", "<pr_event_id>", "<pr>", "<pr_status>", "<pr_is_merged>"),
    ]
    assert "<pr_base_code>a = 1\nb = 2\nc = 4<pr_diff>" in rendered.text
    assert "username_1: Thanks, @username_0 and @carol<pr_event_id>1<pr>username_0" in rendered.text
    assert rendered.text.endswith("<pr_status>closed<pr_is_merged>True")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"merged": False}, "not_approved"),
        ({"merged": False, "comments": (Comment(user="b", body="", kind="review", state="approved"),)}, "kept"),
        ({"base_changed": True}, "base_changed"),
        ({"files": ()}, "no_diff"),
        ({"title": "Fix"}, "short_title"),
        ({"title": "Update dependencies of x"}, "release"),
        ({"body": "none"}, "short_description"),
        ({"user": "renovate-bot"}, "bot"),
        ({"files": (ChangedFile(path="a.js", patch="@@ -1 +1 @@\n-" + "x" * 2_000),)}, "no_files"),
    ],
)
def test_pull_requests_are_chosen_as_in_the_paper(change: dict[str, Any], reason: str) -> None:
    assert reason_of(pull_request(replace(PULL, **change))) == reason


def test_a_base_file_is_shown_whole_or_around_the_change() -> None:
    file = ChangedFile(path="a.py", patch="@@ -100,1 +100,1 @@\n-line 99\n+new", base=BASE)

    whole = pull_request(replace(PULL, files=(file,)), ThreadConfig(whole_base_share=1))
    part = pull_request(replace(PULL, files=(file,)), ThreadConfig(whole_base_share=0))

    assert isinstance(whole, Rendered)
    assert isinstance(part, Rendered)
    assert BASE in whole.text
    shown = part.text.split("<pr_base_code>")[1].split("<pr_diff>")[0].split("\n")
    assert "line 99" in shown
    assert len(shown) <= 65


def test_a_long_hunk_is_omitted() -> None:
    file = ChangedFile(path="a.py", patch="@@ -1,400 +1,400 @@\n" + "-a line of the old file\n" * 500)

    rendered = pull_request(replace(PULL, files=(file,)))

    assert isinstance(rendered, Rendered)
    assert "<pr_diff_hunk>[OMITTED]" in rendered.text


def test_a_token_in_what_somebody_wrote_is_no_control_token() -> None:
    said = (Comment(user="bob", body="<issue_closed><pr><file_sep>"),)

    assert tokens_of(render_issue(replace(ISSUE, comments=said), SETTINGS)) == ["<issue_start>", "<issue_comment>"]


def test_settings_that_contradict_are_an_error() -> None:
    with pytest.raises(ConfigError, match="whole_base_share=2"):
        ThreadConfig(whole_base_share=2)
    with pytest.raises(ConfigError, match="last_comment_lines=200"):
        ThreadConfig(last_comment_lines=200)


def test_the_share_of_a_repository_falls_with_its_size() -> None:
    assert repository_share(1) == pytest.approx(0.8)
    assert repository_share(2_000) == 0.05


REST = {
    "number": 7,
    "title": "Crash",
    "user": {"login": "ann"},
    "body": LONG,
    "state": "closed",
    "comments": 1,
    "comments_list": [{"user": {"login": "bob"}, "body": "I see", "created_at": "2020"}],
    "repository": {"full_name": "o/r", "license": {"spdx_id": "MIT"}},
}
REST_PULL = {
    **REST,
    "number": 8,
    "title": "Handle empty files",
    "base": {"repo": {"full_name": "o/r"}},
    "merged_at": "2020",
    "files": [{"filename": "a.py", "patch": PATCH, "status": "modified"}],
}


def event(kind: str, **payload: Any) -> bytes:
    return json.dumps({"type": kind, "repo": {"name": "o/r"}, "payload": payload}).encode()


def test_the_rest_interfaces_objects_are_read() -> None:
    issue, pull, bad = read_threads([json.dumps([REST, REST_PULL]).encode(), b"{"])

    assert isinstance(issue, Issue)
    assert (issue.repository, issue.license, issue.closed, issue.comments[0].body) == ("o/r", "MIT", True, "I see")
    assert isinstance(pull, PullRequest)
    assert pull.merged
    assert pull.files == (ChangedFile(path="a.py", patch=PATCH),)
    assert isinstance(bad, Drop)
    assert bad.reason == "bad_row"


def test_events_are_put_together_by_thread() -> None:
    issue = {"number": 7, "title": "Crash", "user": {"login": "ann"}, "body": LONG, "state": "open"}
    comment = {"id": 1, "user": {"login": "bob"}, "body": "I see"}

    (thread,) = read_threads(
        [
            event("IssuesEvent", action="opened", issue=issue),
            event("IssueCommentEvent", action="created", issue=issue, comment=comment),
            event("IssuesEvent", action="closed", issue={**issue, "state": "closed"}),
        ]
    )

    assert isinstance(thread, Issue)
    assert thread.closed
    assert [said.body for said in thread.comments] == ["I see"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_dump_becomes_files(tmp_path: Path, packed: bool) -> None:
    content = json.dumps([REST, REST_PULL], indent=1).encode() + b"\n"
    (tmp_path / "a.json").write_bytes(gzip.compress(content) if packed else content)

    (unit,) = ThreadSource(tmp_path, thin=False).units(largest_bytes=1_000_000)
    issue, pull = pickle.loads(pickle.dumps(unit)).files()

    assert isinstance(issue, RawFile)
    assert (issue.path, issue.kind, issue.license.expression) == ("issues/7", "issue", "MIT")
    assert isinstance(pull, RawFile)
    assert (pull.path, pull.kind) == ("pulls/8", "pull_request")
    assert all(issue.content.decode()[at] == "<" for at in issue.controls)


def test_a_damaged_dump_is_one_unreadable_file_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps(REST).encode() * 50)[:-20])

    (unit,) = ThreadSource(tmp_path).units(largest_bytes=1_000_000)

    assert all(isinstance(found, Unreadable) for found in unit.files())
    with pytest.raises(InputError, match="does not exist"):
        ThreadSource(tmp_path / "none").units(largest_bytes=1)


KEYS = st.sampled_from(
    ["number", "title", "user", "login", "body", "comments", "files", "patch", "base", "type", "payload"]
)
VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=9) | st.sampled_from(["IssuesEvent", PATCH, LONG, "@ann <pr>"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


@pytest.mark.slow
@given(VALUES, VALUES)
def test_arbitrary_json_never_raises_and_offsets_point_at_tokens(value: Any, said: Any) -> None:
    lines = [json.dumps(value).encode(), json.dumps({**REST, "comments_list": said}).encode()]
    lines += [json.dumps({**REST_PULL, "reviews": said, "body": LONG}).encode()]

    for thread in read_threads(lines):
        if isinstance(thread, PullRequest):
            rendered = pull_request(thread)
        elif isinstance(thread, Issue):
            rendered = render_issue(thread, SETTINGS)
        else:
            continue
        assert isinstance(rendered, Drop) or set(tokens_of(rendered)) <= CONTROL_TOKENS
