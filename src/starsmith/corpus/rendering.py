"""Documents made of texts and control tokens, which stay apart: a text that spells a token out never becomes one."""

from dataclasses import dataclass

ISSUE_START, ISSUE_COMMENT, ISSUE_CLOSED = "<issue_start>", "<issue_comment>", "<issue_closed>"
JUPYTER_START, JUPYTER_TEXT, JUPYTER_CODE = "<jupyter_start>", "<jupyter_text>", "<jupyter_code>"
JUPYTER_OUTPUT, JUPYTER_SCRIPT, EMPTY_OUTPUT = "<jupyter_output>", "<jupyter_script>", "<empty_output>"
REPO_NAME, PR, PR_STATUS, PR_IS_MERGED = "<repo_name>", "<pr>", "<pr_status>", "<pr_is_merged>"
PR_BASE, PR_FILE, PR_BASE_CODE = "<pr_base>", "<pr_file>", "<pr_base_code>"
PR_DIFF, PR_DIFF_HUNK, PR_COMMENT, PR_EVENT_ID = "<pr_diff>", "<pr_diff_hunk>", "<pr_comment>", "<pr_event_id>"
PR_REVIEW, PR_REVIEW_STATE, PR_REVIEW_COMMENT = "<pr_review>", "<pr_review_state>", "<pr_review_comment>"
PR_IN_REPLY_TO_REVIEW, PR_IN_REPLY_TO_COMMENT = "<pr_in_reply_to_review_id>", "<pr_in_reply_to_comment_id>"
PR_COMMENT_LINE = "<pr_diff_hunk_comment_line>"

CONTROL_TOKENS = frozenset(
    (
        *(ISSUE_START, ISSUE_COMMENT, ISSUE_CLOSED, JUPYTER_START, JUPYTER_TEXT, JUPYTER_CODE, JUPYTER_OUTPUT),
        *(JUPYTER_SCRIPT, EMPTY_OUTPUT, REPO_NAME, PR, PR_STATUS, PR_IS_MERGED, PR_BASE, PR_FILE, PR_BASE_CODE),
        *(PR_DIFF, PR_DIFF_HUNK, PR_COMMENT, PR_EVENT_ID, PR_REVIEW, PR_REVIEW_STATE, PR_REVIEW_COMMENT),
        *(PR_IN_REPLY_TO_REVIEW, PR_IN_REPLY_TO_COMMENT, PR_COMMENT_LINE),
    )
)
CUT = "[...]"  # stands on a line of its own where a text was cut


@dataclass(frozen=True)
class Rendered:
    """A document as the model will read it, without the token that ends it."""

    text: str
    controls: tuple[int, ...] = ()  # character offsets, ascending, at which a control token stands


class Writer:
    """Puts a document together from texts and control tokens."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._controls: list[int] = []
        self.length = 0  # characters written so far

    def control(self, *tokens: str) -> None:
        """Append control tokens."""
        for token in tokens:
            self._controls.append(self.length)
            self._append(token)

    def text(self, *texts: str) -> None:
        """Append texts; half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark."""
        for text in texts:
            self._append(encodable(text))

    def rendered(self) -> Rendered:
        """What was written."""
        return Rendered("".join(self._parts), tuple(self._controls))

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self.length += len(text)


def encodable(text: str) -> str:
    """The text with a question mark for each half of a surrogate pair."""
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")


def cut_middle(text: str, *, most_lines: int, last_lines: int) -> str:
    """A text of at most `most_lines` lines and the mark of the cut: the first ones and the last `last_lines`."""
    if text.count("\n") < most_lines:
        return text
    lines = text.split("\n")
    tail = lines[len(lines) - last_lines :]
    return "\n".join([*lines[: most_lines - last_lines], CUT, *tail])
