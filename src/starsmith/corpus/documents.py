"""Documentation becomes Markdown: HTML pages by their main text, other formats as they are.

StarCoder2 used trafilatura for this (Lozhkov et al. 2024, arXiv 2402.19173). It was left out for its speed and its many
dependencies: documentation pages mark their main part, so there is little to guess.
"""

import re
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from starsmith.corpus.files import Drop
from starsmith.corpus.rendering import Rendered, encodable

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

LARGEST_PAGE_CHARS = 2_000_000
DEEPEST_PAGE = 2_000  # elements within each other; the parser's time grows with the square of it
LEAST_LINKS, MOST_LINKED = 5, 0.9  # a list with so many links, whose text they are to this share, is for navigation

_MARKDOWN = frozenset({".md", ".markdown", ".mdx", ".mkd", ".mdown", ".qmd", ".rmd"})
_HTML = frozenset({".html", ".htm", ".xhtml"})
_AS_IT_IS = frozenset({".rst", ".rest", ".adoc", ".asciidoc", ".asc", ".org", ".rdoc", ".textile", ".txt"})

_FRONT_MATTER = re.compile(
    r"---[ \t]*\r?\n(?=[ \t]*(?:#|[\w\"'-]+[ \t]*:)|---)"
    r"(?:(?!(?:---|\.\.\.)[ \t]*\r?$).*\n)*?(?:---|\.\.\.)[ \t]*(?:\r?\n|$)"
    r"|\+\+\+[ \t]*\r?\n(?:(?!\+\+\+[ \t]*\r?$).*\n)*?\+\+\+[ \t]*(?:\r?\n|$)",
    re.M,
)
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]{0,30})")
_FENCE = re.compile(r"`{3,}")
_CODE_LANGUAGE = re.compile(r"(?:^|\s)(?:language|lang|highlight|brush|sourceCode)[-: ]\s?([\w+#.-]{1,30})")

_MAIN = ("main", "[role=main]", "article", "div.document div.body", "#main-content", "#content", "#main")
# elements that hold nothing, or that the next of their kind ends
_UNCLOSED_LIST = """
    area base br col embed hr img input link meta source track wbr p li dt dd tr td th option thead tbody
"""
_UNCLOSED = frozenset(_UNCLOSED_LIST.split())
_DROPPED_LIST = """
    script style nav aside form button svg iframe noscript template select textarea input object embed canvas video
    audio head title dialog -comment
"""
_DROPPED = frozenset(_DROPPED_LIST.split())
_DROPPED_ROLES = frozenset({"navigation", "search", "banner", "contentinfo", "complementary", "dialog", "alert"})
_DROPPED_CLASSES_LIST = """
    headerlink hash-link anchorjs-link sphinxsidebar sphinxsidebarwrapper related sidebar toc table-of-contents
    toctree-wrapper breadcrumb breadcrumbs wy-breadcrumbs pagination navbar nav menu footer skip-link edit-link
    prev-next-footer prev-next-area rst-footer-buttons nav-wrapper nav-chapters mobile-nav-chapters linenos lineno
    line-numbers visually-hidden sr-only cookie-banner toolbar src srclink viewcode-link copybtn
"""
_DROPPED_CLASSES = frozenset(_DROPPED_CLASSES_LIST.split())
_BLOCKS_LIST = """
    p div section article main header footer figure figcaption details summary dl dt dd ul ol li blockquote table tr
    td th caption thead tbody fieldset address center hr h1 h2 h3 h4 h5 h6 body
"""
_BLOCKS = frozenset(_BLOCKS_LIST.split())
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*", "code": "`", "kbd": "`", "samp": "`", "tt": "`"}


def render_document(path: str, content: str) -> Rendered | Drop:
    """The text of a documentation file, by its name's ending."""
    ending = PurePosixPath(path).suffix.lower()
    if ending in _HTML:
        text = _page(content)
    elif ending in _MARKDOWN:
        text = without_front_matter(content)
    elif ending in _AS_IT_IS:
        text = content
    else:
        return Drop("not_documentation", f"a name that ends in {ending!r}; Markdown, HTML or another text is wanted")
    if isinstance(text, Drop):
        return text
    return Rendered(encodable(text)) if text.strip() else Drop("empty", "no text is left of the page")


def without_front_matter(text: str) -> str:
    """Markdown without the YAML or TOML that site generators want at its head."""
    start = 1 if text.startswith("\ufeff") else 0
    if not text.startswith(("---", "+++"), start):
        return text[start:]
    found = _FRONT_MATTER.match(text, start)
    return text[found.end() :].lstrip("\r\n") if found else text[start:]


def _page(html: str) -> str | Drop:
    from selectolax.lexbor import LexborHTMLParser

    if len(html) > LARGEST_PAGE_CHARS:
        return Drop("too_large", f"{len(html):,} characters of HTML, at most {LARGEST_PAGE_CHARS:,}")
    if _is_too_deep(html):
        return Drop("too_deep", f"elements more than {DEEPEST_PAGE:,} deep")
    tree = LexborHTMLParser(encodable(html).replace("\0", ""))
    if tree.body is None:
        return ""
    for selector in _MAIN:
        found = tree.body.css_first(selector)
        if found is not None and (text := _Markdown().of(found)):
            return text
    return _Markdown().of(tree.body)


def _is_too_deep(html: str) -> bool:
    """Whether elements lie too deep within each other, as far as the tags alone tell."""
    opened: Counter[str] = Counter()
    depth = 0
    for found in _TAG.finditer(html) if html.count("<") > DEEPEST_PAGE else ():
        name = found[2].lower()
        if name in _UNCLOSED:
            continue
        if not found[1]:
            opened[name] += 1
            depth += 1
            if depth > DEEPEST_PAGE:
                return True
        elif opened[name]:
            opened[name] -= 1
            depth -= 1
    return False


def _walk(root: "LexborNode") -> Generator[tuple["LexborNode", bool], bool | None]:
    """Each node twice: (node, True) before its children and (node, False) after; no recursion, trees may be deep.

    `send(True)` after the first skips the children and the second.
    """
    stack: list[tuple[LexborNode, bool]] = [(root, True)]
    while stack:
        node, entering = stack.pop()
        skip = yield node, entering
        if skip or not entering:
            continue
        stack.append((node, False))
        child = node.last_child
        while child is not None:
            stack.append((child, True))
            child = child.prev


class _Markdown:
    """Writes the Markdown of one element."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._inline: list[str] = []
        self._indents: list[list[str]] = []  # of each open list item or quotation: for its first line, for the others
        self._lists: list[int | None] = []  # of each open list: the next number, or None
        self._tight = False  # whether the next block follows the last one without a blank line

    def of(self, root: "LexborNode") -> str:
        """Main text of the element, as Markdown."""
        walk = _walk(root)
        skip = False
        while True:
            try:
                node, entering = walk.send(skip or None)
            except StopIteration:
                break
            skip = self._enter(node, node.mem_id == root.mem_id) if entering else self._leave(node)
        self._flush()
        return "".join(self._blocks).strip("\n") + "\n" if self._blocks else ""

    def _enter(self, node: "LexborNode", is_root: bool) -> bool:
        """Write what begins here; True to skip what is inside."""
        tag = node.tag or ""
        if tag == "-text":
            self._inline.append(node.text_content or "")
            return False
        if not is_root and _is_dropped(node, tag):
            return True
        if tag == "pre":
            self._flush()
            self._fenced(node)
            return True
        if tag in ("ul", "ol") and not self._lists and _is_navigation(node):
            return True
        if tag == "table" and (rows := _rows(node)):
            self._flush()
            self._table(rows)
            return True
        if tag == "br":
            self._flush()
            self._tight = True
        elif tag in _MARKS:
            self._inline.append(_MARKS[tag])
        elif tag in _BLOCKS:
            self._flush()
            self._open(tag)
        return False

    def _open(self, tag: str) -> None:
        if tag in ("ul", "ol"):
            self._lists.append(1 if tag == "ol" else None)
        elif tag == "li":
            number = self._lists[-1] if self._lists else None
            marker = "- " if number is None else f"{number}. "
            if number is not None:
                self._lists[-1] = number + 1
            self._indents.append([marker, " " * len(marker)])
            self._tight = number != 1 and bool(self._blocks) and bool(self._lists)
        elif tag == "dd":
            self._indents.append([": ", "  "])
            self._tight = True
        elif tag == "blockquote":
            self._indents.append(["> ", "> "])
        elif tag == "hr":
            self._block(["---"])

    def _leave(self, node: "LexborNode") -> bool:
        tag = node.tag or ""
        if mark := _MARKS.get(tag):
            if self._inline and self._inline[-1] == mark:  # nothing in it
                self._inline.pop()
            else:
                self._inline.append(mark)
        elif tag in _BLOCKS:
            self._flush("#" * int(tag[1]) + " " if tag[0] == "h" and tag[1:].isdigit() else "")
            if tag in ("ul", "ol") and self._lists:
                self._lists.pop()
                self._tight = False
            elif tag in ("li", "dd", "blockquote") and self._indents:
                self._indents.pop()
        return False

    def _flush(self, before: str = "") -> None:
        text = " ".join("".join(self._inline).split())
        self._inline.clear()
        if text:
            self._block([before + text])

    def _block(self, lines: Sequence[str]) -> None:
        if self._blocks:
            self._blocks.append("" if self._tight else "\n")
        self._tight = False
        for line in lines:
            prefix = "".join(first for first, _ in self._indents)
            for indent in self._indents:
                indent[0] = indent[1]
            self._blocks.append(f"{prefix}{line}".rstrip() + "\n")

    def _fenced(self, node: "LexborNode") -> None:
        code = (node.text(deep=True) or "").strip("\n")
        if code.strip():
            fence = "`" * max(3, *(len(run) + 1 for run in _FENCE.findall(code)), 3)
            self._block([fence + _code_language(node), *code.split("\n"), fence])

    def _table(self, rows: Sequence[Sequence[str]]) -> None:
        width = max(map(len, rows))
        filled = [[*row, *[""] * (width - len(row))] for row in rows]
        lines = [filled[0], ["---"] * width, *filled[1:]]
        self._block([f"| {' | '.join(line)} |" for line in lines])


def _is_dropped(node: "LexborNode", tag: str) -> bool:
    if tag in _DROPPED or (tag in ("header", "footer") and node.parent is not None and node.parent.tag == "body"):
        return True
    attributes = node.attributes
    if not attributes:
        return False
    if "hidden" in attributes or attributes.get("aria-hidden") == "true" or attributes.get("role") in _DROPPED_ROLES:
        return True
    names = attributes.get("class")
    return bool(names) and not _DROPPED_CLASSES.isdisjoint((names or "").split())


def _is_navigation(node: "LexborNode") -> bool:
    links = node.css("a")
    if len(links) < LEAST_LINKS:
        return False
    linked = sum(len(_flat(link)) for link in links)
    return linked >= MOST_LINKED * len("".join(_flat(node).split()))


def _rows(table: "LexborNode") -> list[list[str]]:
    """Cells of a table of data; nothing for one that is only there for the layout."""
    if table.css_first("pre, table table, ul, ol, h1, h2, h3") is not None:
        return []
    rows = [[_flat(cell).replace("|", "\\|") for cell in row.css("td, th")] for row in table.css("tr")]
    rows = [row for row in rows if any(row)]
    return rows if rows and max(map(len, rows)) > 1 else []


def _flat(node: "LexborNode") -> str:
    return " ".join((node.text(deep=True) or "").split())


def _code_language(pre: "LexborNode") -> str:
    """The language that a code block names in its class, or in that of an element just around or in it."""
    above = pre.parent
    near = (pre, pre.css_first("code"), above, above.parent if above is not None else None)
    for node in near:
        found = _CODE_LANGUAGE.search((node.attributes.get("class") or "") if node is not None else "")
        if found:
            return "" if found[1] in ("default", "none", "text", "plaintext") else found[1]
    return ""
