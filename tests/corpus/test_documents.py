import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.corpus.documents import render_document
from starsmith.corpus.files import Drop
from starsmith.corpus.rendering import Rendered


def text_of(path: str, content: str) -> str:
    rendered = render_document(path, content)
    assert isinstance(rendered, Rendered), rendered
    assert rendered.controls == ()
    return rendered.text


@pytest.mark.parametrize("head", ["---\ntitle: x\n---\n", "+++\ntitle = 'x'\n+++\n", "---\r\n# c\r\na: b\r\n...\r\n"])
def test_front_matter_is_removed(head: str) -> None:
    assert text_of("a.md", head + "# Text\n") == "# Text\n"


@pytest.mark.parametrize("content", ["---\n\nA rule above.\n", "---\nopen: ended\n", "text\n---\na: b\n---\n"])
def test_other_markdown_is_kept_as_it_is(content: str) -> None:
    assert text_of("a.md", content) == content


@pytest.mark.parametrize("path", ["a.rst", "a.adoc", "docs/a.txt"])
def test_other_texts_pass(path: str) -> None:
    assert text_of(path, "Title\n=====\n") == "Title\n=====\n"


def test_a_page_is_its_main_text() -> None:
    page = """<html><head><title>T</title><style>p {}</style></head><body><nav>Home</nav><header>Logo</header>
      <main><h1>Name<a class="headerlink" href="#">¶</a></h1><p>Some <b>bold</b>\n and <code>x &lt; y</code>.</p>
      <script>alert(1)</script></main><footer>2020</footer></body></html>"""

    assert text_of("a.html", page) == "# Name\n\nSome **bold** and `x < y`.\n"


def test_lists_tables_quotations_and_code_are_written_as_markdown() -> None:
    page = (
        "<ul><li>a<ul><li>b</ul><li>c</ul><ol><li>x<li>y</ol><table><tr><th>h<th>i<tr><td>1|<td>2</table>"
        "<blockquote><p>q</blockquote><div class=highlight-python><pre>def f():\n    pass\n</pre></div>"
    )

    assert text_of("a.html", page) == (
        "- a\n  - b\n- c\n\n1. x\n2. y\n\n| h | i |\n| --- | --- |\n| 1\\| | 2 |\n\n> q\n\n"
        "```python\ndef f():\n    pass\n```\n"
    )


def test_a_list_of_links_is_navigation() -> None:
    page = "<ul>" + "<li><a href=x>Page of the manual</a>" * 9 + "</ul><p>Text"

    assert text_of("a.html", page) == "Text\n"


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("a.html", "<div>" * 100_000, "too_deep"),
        ("a.html", "x" * 2_000_001, "too_large"),
        ("a.html", "<script>x</script>", "empty"),
        ("a.md", " \n", "empty"),
        ("a.py", "x", "not_documentation"),
    ],
)
def test_what_gives_no_text_is_dropped_for_a_reason(path: str, content: str, reason: str) -> None:
    found = render_document(path, content)

    assert isinstance(found, Drop)
    assert found.reason == reason


TAGS = [
    "<li>",
    "<ul>",
    "</ul>",
    "<pre>",
    "</pre>",
    "<table>",
    "<td>",
    "<tr>",
    "<b>",
    "</b>",
    "<br>",
    "<dd>",
    "\0",
    "\ud800",
]


@pytest.mark.slow
@given(st.lists(st.sampled_from(TAGS)))
def test_arbitrary_pages_never_raise(parts: list[str]) -> None:
    rendered = render_document("a.html", " ".join(parts))

    assert isinstance(rendered, Drop) or rendered.text.encode()
