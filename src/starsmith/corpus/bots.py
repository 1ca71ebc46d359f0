"""Who and what in a discussion is not a person speaking: bots, and what mail programs leave in a reply."""

import re
from functools import lru_cache

# Accounts of programs whose names do not say so; what says so is caught by its beginning, its end or a part.
_LISTED = """
    allcontributors apache-hbase asfgit autorestci bors cla-assistant claassistant cla-checker-service cmsbuild
    codacy codeclimate codecov codecov-commenter codecov-io copilot copilot-swe-agent coveralls coverallsapp danger
    danger-public deepsource-autofix facebook-github-tools fossabot github-actions gitguardian githubsonar
    google-cla google-oss-prow googlebot gopherbot graphite-app highfive homu houndci imgbot jenkins jenkinsci
    k8s-triage-robot linux-foundation-easycla mention-bot mergify msftclas netlify netlify-deploy pep8speaks
    pull-request-size pyup-bot qodo-merge-pro renovate review-notebook-app rust-highfive rust-log-analyzer rustbot
    salesforce-cla snyk-github-integration sonarcloud sonarqubecloud stale swarmia sweep-ai tensorflow-jenkins
    tidelift travis vercel whitesource-bolt-for-github wip
"""
_NAMES = frozenset(_LISTED.split())
_BEGINNINGS = ("bot-", "ci-", "robot-")
_ENDS = (
    *(
        "[bot]",
        "-bot",
        "_bot",
        "bot-",
        "-robot",
        "_robot",
        "robot",
        "-ci",
        "_ci",
        "-automation",
        "-autoroll",
        "-autoroller",
    ),
    *("-service-account", "-svc", "-jenkins", "-cla", "-builder", "-machine-user"),
)
_PARTS = ("dependabot", "greenkeeper", "renovatebot", "codecov", "mergebot", "buildbot", "stalebot", "autobot", "pyup-")

_CUES = re.compile(r"wrote:|Original Message|Reply to this email|You are receiving this|Sent from my |^From: ", re.M)
_REPLY_HEAD = re.compile(r"\s{0,8}(?:>\s?)?(?:On|Le|Am|El|Il|Em) .{4,300}")
_WROTE = re.compile(r".{0,300}\b(?:wrote|writes|a écrit|schrieb|escribió|ha scritto|escreveu) ?:\s{0,8}$")
_REPLY_FOOT = re.compile(r"Reply to this email directly|view it on GitHub")
_ORIGINAL = re.compile(r"\s{0,8}-{2,40}\s?Original Message\s?-{2,40}\s{0,8}$")
_MAIL_HEADER = re.compile(r"\s{0,8}\*{0,2}(?:To|Sent|Date|Subject|Cc|Reply-To):")
_NOTE = re.compile(r"\s{0,8}(?:>\s?)?(?:You are receiving this because |Sent from my [\w ]{2,40}\.?\s{0,8}$)")
_RULE = re.compile(r"\s{0,8}(?:[-—_]{1,80}\s?)$")
_LINK_REST = re.compile(r"\s{0,8}(?:>\s?)?[<(\[]?https?://\S{1,400}[>)\]]?\s?\.?\s{0,8}$|\s{0,8}[.>]{0,2}\s{0,8}$")


@lru_cache(maxsize=65536)
def is_bot(user: str) -> bool:
    """Whether an account is a program's, as far as its name tells."""
    name = user.lower()
    named = name in _NAMES or name.removesuffix("bot").rstrip("-_") in _NAMES
    return named or name.startswith(_BEGINNINGS) or name.endswith(_ENDS) or any(part in name for part in _PARTS)


def without_mail(text: str) -> str:
    """A comment without what a mail program added when somebody answered by mail: quoted mail, headers, footers."""
    if not _CUES.search(text):
        return text
    lines, kept, at = text.split("\n"), [], 0
    foot = max((number for number, line in enumerate(lines) if _REPLY_FOOT.search(line)), default=-1)
    while at < len(lines):
        line = lines[at]
        if _ORIGINAL.match(line) or _begins_forwarded(lines, at):
            break
        if head := _reply_head(lines, at):
            at = _after_quote(lines, at + head, foot)
        elif _NOTE.match(line) or _REPLY_FOOT.search(line):
            at = _after_link(lines, at + 1)
        else:
            kept.append(line)
            at += 1
            continue
        while kept and _RULE.match(kept[-1]):  # the dash above a footer
            kept.pop()
    return "\n".join(kept).strip("\n") if len(kept) < len(lines) else text


def _reply_head(lines: list[str], at: int) -> int:
    """Lines that "On <date>, <somebody> wrote:" takes from here; mail programs break it into up to three."""
    if not _REPLY_HEAD.match(lines[at]):
        return 0
    return next((count for count in (1, 2, 3) if _WROTE.match(" ".join(lines[at : at + count])[-300:])), 0)


def _after_quote(lines: list[str], at: int, foot: int) -> int:
    """The line after the quoted mail that begins here: what `>` marks, or all down to the footer."""
    if foot >= at:
        return _after_link(lines, foot + 1)
    while at < len(lines) and (lines[at].lstrip().startswith(">") or not lines[at].strip()):
        at += 1
    return at


def _after_link(lines: list[str], at: int) -> int:
    while at < len(lines) and lines[at].strip() and _LINK_REST.match(lines[at]):
        at += 1
    return at


def _begins_forwarded(lines: list[str], at: int) -> bool:
    if not lines[at].lstrip(" *").startswith("From: "):
        return False
    return sum(bool(_MAIL_HEADER.match(line)) for line in lines[at + 1 : at + 5]) >= 2
