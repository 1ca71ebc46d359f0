import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starsmith.corpus.files import Drop
from starsmith.corpus.notebooks import language_of_notebook, render_script, render_structured
from starsmith.corpus.rendering import CONTROL_TOKENS, Rendered

PYTHON = {"language_info": {"name": "python"}}


def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def prose(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "source": source.splitlines(keepends=True)}


def printed(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def notebook(*cells: dict[str, Any], metadata: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"nbformat": 4, "metadata": PYTHON if metadata is None else metadata, "cells": cells}).encode()


def text_of(rendered: Rendered | Drop) -> str:
    assert isinstance(rendered, Rendered), rendered
    return rendered.text


def tokens_of(rendered: Rendered | Drop) -> list[str]:
    assert isinstance(rendered, Rendered), rendered
    return [rendered.text[at : rendered.text.index(">", at) + 1] for at in rendered.controls]


def test_a_script_has_prose_as_comments_and_magic_commented_out() -> None:
    content = notebook(prose("# Title\n\ntext"), code("%matplotlib inline\nx = 1 % 2\n!ls"), code("%%bash\nls"))

    script = text_of(render_script(content))

    assert script == (
        "<jupyter_script># # Title\n#\n# text\n\n# %matplotlib inline\nx = 1 % 2\n# !ls\n\n# %%bash\n# ls\n"
    )


def test_magic_within_a_string_is_left_alone() -> None:
    source = 'x = """\n%matplotlib inline\n"""\ny = x != 3'

    assert source in text_of(render_script(notebook(code(source))))


def test_runs_of_a_kind_are_joined_and_code_is_followed_by_its_output() -> None:
    content = notebook(prose("a"), prose("b"), code("x"), code("y", printed("1\n")), code("z"))

    assert text_of(render_structured(content)) == (
        "<jupyter_start><jupyter_text>a\n\nb<jupyter_code>x\n\ny<jupyter_output>1"
        "<jupyter_code>z<jupyter_output><empty_output>"
    )


def test_html_images_and_objects_are_no_output() -> None:
    figure = {"output_type": "display_data", "data": {"image/png": "QUJD", "text/plain": "<Figure>"}}
    thing = {"output_type": "execute_result", "data": {"text/plain": "<a.B at 0x7f00>", "text/html": "<b>"}}

    assert "<empty_output>" in tokens_of(render_structured(notebook(code("x", figure, thing))))


def test_long_output_is_cut_after_a_whole_line() -> None:
    text = text_of(render_structured(notebook(code("x", printed("line of output\n" * 1000)))))

    assert text.endswith("line of output\n[...]")
    assert len(text) < 2_200


def test_embedded_images_leave_the_text() -> None:
    text = text_of(render_script(notebook(prose("see ![a](data:image/png;base64,QUJD) here"), code("x"))))

    assert "QUJD" not in text


def test_format_3_is_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": "T"},
        {"cell_type": "code", "language": "python", "input": "x", "outputs": [{"output_type": "pyout", "text": "1"}]},
    ]
    content = json.dumps({"nbformat": 3, "metadata": {}, "worksheets": [{"cells": cells}]}).encode()

    assert text_of(render_structured(content)).endswith("<jupyter_text>## T<jupyter_code>x<jupyter_output>1")


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({"kernelspec": {"name": "julia-1.6"}}, "Julia"),
        ({"kernelspec": {"language": "R"}}, "R"),
        ({"language_info": {"name": "C++17"}}, "C++"),
        ({"kernelspec": {"name": "mystery"}}, None),
        ({}, None),
    ],
)
def test_the_language_is_the_kernels(metadata: dict[str, Any], language: str | None) -> None:
    content = notebook(code("x"), metadata=metadata)

    assert language_of_notebook(content) == language


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "unreadable_notebook"),
        (b"\xff", "unreadable_notebook"),
        (b"[" * 100_000, "unreadable_notebook"),
        (b"[]", "unreadable_notebook"),
        (b'{"nbformat": 2}', "unreadable_notebook"),
        (notebook(prose("a")), "no_code"),
        (notebook(code("x"), metadata={}), "unknown_language"),
    ],
)
def test_what_is_no_notebook_is_dropped_for_a_reason(content: bytes, reason: str) -> None:
    found = render_script(content)

    assert isinstance(found, Drop)
    assert found.reason == reason


def test_other_languages_have_no_structured_form() -> None:
    assert render_structured(notebook(code("x"), metadata={"kernelspec": {"language": "R"}})) == Drop(
        "not_python", "a notebook in R; the structured form is for Python only"
    )


def test_a_token_in_the_text_is_no_control_token() -> None:
    rendered = render_structured(notebook(code("'<jupyter_code>'", printed("<empty_output>\ud800"))))

    assert tokens_of(rendered) == ["<jupyter_start>", "<jupyter_code>", "<jupyter_output>"]
    assert text_of(rendered).encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["code", "markdown", "python"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["cell_type", "source", "outputs", "data", "text", "output_type"]), inner)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(cells=st.lists(VALUES, max_size=4), metadata=VALUES)
def test_arbitrary_cells_never_raise_and_offsets_point_at_tokens(cells: list[Any], metadata: Any) -> None:
    content = json.dumps({"nbformat": 4, "metadata": metadata, "cells": [*cells, code("x")]}).encode()
    render_script(content)
    content = json.dumps({"nbformat": 4, "metadata": PYTHON, "cells": [*cells, code("x")]}).encode()

    for rendered in (render_script(content), render_structured(content)):
        assert set(tokens_of(rendered)) <= CONTROL_TOKENS
