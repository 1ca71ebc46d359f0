"""Jupyter notebooks become documents: a script with its prose as comments, or text, code and output in turn.

Both forms are StarCoder2's (Lozhkov et al. 2024, arXiv 2402.19173). Notebooks are read as JSON with checks
of our own, because the official reader refuses a whole notebook for one cell that breaks its schema.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from starsmith.corpus.files import Drop
from starsmith.corpus.rendering import (
    CUT,
    EMPTY_OUTPUT,
    JUPYTER_CODE,
    JUPYTER_OUTPUT,
    JUPYTER_SCRIPT,
    JUPYTER_START,
    JUPYTER_TEXT,
    Rendered,
    Writer,
)

# Ours; the paper gives no bounds.
MOST_CELLS = 10_000
MOST_OUTPUT_CHARS = 2_000  # of one run of code; a longer output is cut after its last whole line

CODE, TEXT = "code", "text"

# Linguist's name and the mark of a comment line, by the lower-cased name that a kernel gives its language.
_LANGUAGES = {
    **dict.fromkeys(("python", "python2", "python3", "ipython", "pyspark", "sparkpython"), ("Python", "#")),
    **dict.fromkeys(("r", "ir", "sparkr"), ("R", "#")),
    **dict.fromkeys(("bash", "sh", "shell", "zsh"), ("Shell", "#")),
    **dict.fromkeys(("c++", "c++11", "c++14", "c++17", "c++20", "xcpp", "cpp"), ("C++", "//")),
    **dict.fromkeys(("c#", "csharp", ".net-csharp"), ("C#", "//")),
    **dict.fromkeys(("f#", "fsharp", ".net-fsharp", "ifsharp"), ("F#", "//")),
    **dict.fromkeys(("powershell", "pwsh", ".net-powershell"), ("PowerShell", "#")),
    **dict.fromkeys(("javascript", "node", "nodejs", "ijavascript"), ("JavaScript", "//")),
    **dict.fromkeys(("typescript", "deno", "tslab"), ("TypeScript", "//")),
    **dict.fromkeys(("sage", "sagemath"), ("Sage", "#")),
    **dict.fromkeys(("raku", "perl6"), ("Raku", "#")),
    **dict.fromkeys(("wolfram", "wolfram language", "mathematica"), ("Wolfram Language", "(*")),
    **dict.fromkeys(("sql", "postgresql", "sqlite", "tsql", "kql"), ("SQL", "--")),
    "ada": ("Ada", "--"),
    "apl": ("APL", "⍝"),
    "c": ("C", "//"),
    "clojure": ("Clojure", ";;"),
    "coconut": ("Coconut", "#"),
    "coffeescript": ("CoffeeScript", "#"),
    "common lisp": ("Common Lisp", ";;"),
    "crystal": ("Crystal", "#"),
    "cython": ("Cython", "#"),
    "dart": ("Dart", "//"),
    "elixir": ("Elixir", "#"),
    "erlang": ("Erlang", "%"),
    "fortran": ("Fortran Free Form", "!"),
    "gap": ("GAP", "#"),
    "gnuplot": ("Gnuplot", "#"),
    "go": ("Go", "//"),
    "groovy": ("Groovy", "//"),
    "haskell": ("Haskell", "--"),
    "haxe": ("Haxe", "//"),
    "idl": ("IDL", ";"),
    "java": ("Java", "//"),
    "julia": ("Julia", "#"),
    "kotlin": ("Kotlin", "//"),
    "lua": ("Lua", "--"),
    "matlab": ("MATLAB", "%"),
    "nim": ("Nim", "#"),
    "ocaml": ("OCaml", "(*"),
    "octave": ("MATLAB", "%"),  # Linguist counts Octave as MATLAB
    "perl": ("Perl", "#"),
    "php": ("PHP", "//"),
    "prolog": ("Prolog", "%"),
    "q": ("q", "/"),
    "racket": ("Racket", ";;"),
    "robotframework": ("RobotFramework", "#"),
    "ruby": ("Ruby", "#"),
    "rust": ("Rust", "//"),
    "scala": ("Scala", "//"),
    "scheme": ("Scheme", ";;"),
    "stata": ("Stata", "//"),
    "swift": ("Swift", "//"),
    "tcl": ("Tcl", "#"),
    "xonsh": ("Python", "#"),
    "zig": ("Zig", "//"),
}
_CLOSING = {"(*": " *)"}

_VERSION = re.compile(r"[-_ ]?v?\d[\d.]*$")
_EMBEDDED_IMAGE = re.compile(r"!\[[^\]\n]{0,500}\]\((?:attachment:|data:)[^)\n!]*\)")
_EMBEDDED_DATA = re.compile(r"data:[\w.+-]{1,40}/[\w.+-]{1,80};base64,[A-Za-z0-9+/=%]*")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_MAGIC = re.compile(
    r"\s*(?:[\w., ]{1,80}=\s*)?(?:%{1,2}[A-Za-z]\w*(?:\s|$)|!\s*[\w./~$\"'-])|\s*\?{1,2}\w|[\w.]{1,80}\?{1,2}\s*$"
)
_CELL_MAGIC = re.compile(r"\s*%%(\w+)")
_MAGICS_OF_PYTHON = frozenset({"time", "timeit", "capture", "prun", "memit", "python", "python3", "pypy"})
_OBJECT = re.compile(r"[\[(]?<[^<>\n]{1,300} at 0x[0-9a-fA-F]+>")


@dataclass(frozen=True)
class Cell:
    """A piece of a notebook."""

    kind: str  # CODE or TEXT
    source: str
    output: str = ""  # what the code printed or gave, as text


@dataclass(frozen=True)
class Notebook:
    """A notebook, of whichever version of the format."""

    language: str  # Linguist's name
    comment: str  # what begins a comment line in it
    cells: tuple[Cell, ...]  # none of them empty


def read_notebook(content: bytes) -> Notebook | Drop:
    """The cells and the language of a notebook of format 3 or 4."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return Drop("unreadable_notebook", f"{str(error)[:200]}; JSON is wanted")
    if not isinstance(data, dict):
        return Drop("unreadable_notebook", f"a JSON {type(data).__name__}, an object is wanted")
    found = _raw_cells(data)
    if isinstance(found, Drop):
        return found
    if len(found) > MOST_CELLS:
        return Drop("too_many_cells", f"{len(found):,} cells, at most {MOST_CELLS:,}")
    named = _named_language(data, found)
    if named is None:
        return Drop("unknown_language", "neither kernelspec nor language_info names a language that is known")
    cells = tuple(cell for cell in map(_cell, found) if cell is not None)
    if not any(cell.kind == CODE for cell in cells):
        return Drop("no_code", f"{len(cells):,} cells, none with code")
    return Notebook(*named, cells)


def language_of_notebook(content: bytes) -> str | None:
    """Linguist's name of the language that a notebook is in, None for what `read_notebook` drops."""
    notebook = read_notebook(content)
    return None if isinstance(notebook, Drop) else notebook.language


def render_script(content: bytes | Notebook) -> Rendered | Drop:
    """The notebook as one script: cells a blank line apart, prose and magic commands as comments."""
    notebook = read_notebook(content) if isinstance(content, bytes) else content
    if isinstance(notebook, Drop):
        return notebook
    blocks = [
        _script_code(cell.source, notebook) if cell.kind == CODE else _commented(cell.source, notebook.comment)
        for cell in notebook.cells
    ]
    writer = Writer()
    writer.control(JUPYTER_SCRIPT)
    writer.text("\n\n".join(blocks), "\n")
    return writer.rendered()


def render_structured(content: bytes | Notebook) -> Rendered | Drop:
    """A Python notebook as runs of text and of code, each run of code followed by its output.

    A run of code ends where an output stands, so that an output follows the code that gave it.
    """
    notebook = read_notebook(content) if isinstance(content, bytes) else content
    if isinstance(notebook, Drop):
        return notebook
    if notebook.language != "Python":
        return Drop("not_python", f"a notebook in {notebook.language}; the structured form is for Python only")
    writer = Writer()
    writer.control(JUPYTER_START)
    for kind, source, output in _runs(notebook.cells):
        writer.control(JUPYTER_TEXT if kind == TEXT else JUPYTER_CODE)
        writer.text(source)
        if kind == CODE:
            writer.control(JUPYTER_OUTPUT)
            if output:
                writer.text(output)
            else:
                writer.control(EMPTY_OUTPUT)
    return writer.rendered()


def _runs(cells: Iterable[Cell]) -> Iterator[tuple[str, str, str]]:
    """(kind, source, output) of neighbouring cells of a kind, joined."""
    for kind, group in groupby(cells, key=lambda cell: cell.kind):
        joined: list[str] = []
        output = ""
        for cell in group:
            joined.append(cell.source)
            output = _bounded(cell.output)
            if output:
                yield kind, "\n\n".join(joined), output
                joined = []
        if joined:
            yield kind, "\n\n".join(joined), ""


def _raw_cells(data: Mapping[str, Any]) -> list[Any] | Drop:
    version, cells = data.get("nbformat"), data.get("cells")
    if version == 3 and not isinstance(cells, list):  # cells lie in worksheets, of which there was only ever one
        sheets = data.get("worksheets")
        lists = [sheet.get("cells") for sheet in sheets if isinstance(sheet, dict)] if isinstance(sheets, list) else []
        cells = [cell for found in lists if isinstance(found, list) for cell in found]
    if version not in (3, 4):
        return Drop("unreadable_notebook", f"nbformat {str(version)[:20]}, 3 or 4 is wanted")
    return cells if isinstance(cells, list) else Drop("unreadable_notebook", "no list of cells")


def _named_language(data: Mapping[str, Any], cells: list[Any]) -> tuple[str, str] | None:
    metadata = _table(data.get("metadata"))
    info, kernel = _table(metadata.get("language_info")), _table(metadata.get("kernelspec"))
    first = next((cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == CODE), {})
    for name in (info.get("name"), kernel.get("language"), kernel.get("name"), first.get("language")):
        if isinstance(name, str):
            low = name.strip().lower()
            if found := _LANGUAGES.get(low) or _LANGUAGES.get(_VERSION.sub("", low)):
                return found
    return None


def _cell(raw: Any) -> Cell | None:
    if not isinstance(raw, dict):
        return None
    kind = raw.get("cell_type")
    source = _joined(raw["source"] if "source" in raw else raw.get("input")).strip("\n")
    if not source.strip():
        return None
    if kind == CODE:
        return Cell(CODE, source, _output(raw.get("outputs")))
    if kind == "heading":  # format 3
        level = raw.get("level")
        source = "#" * (level if isinstance(level, int) and 1 <= level <= 6 else 1) + " " + source
    elif kind != "markdown":  # raw cells are for converters
        return None
    source = _without_embedded(source)
    return Cell(TEXT, source) if source.strip() else None


def _output(outputs: Any) -> str:
    """What was printed, and the results that are text; not errors printed aside, HTML or images."""
    found = []
    for output in outputs if isinstance(outputs, list) else ():
        text = _text_of(output) if isinstance(output, dict) else ""
        if text.strip():
            found.append(_ESCAPES.sub("", text) if "\x1b" in text else text)
        if sum(map(len, found)) > MOST_OUTPUT_CHARS:
            break
    return "\n".join(text.strip("\n") for text in found)


def _text_of(output: Mapping[str, Any]) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        return _joined(output.get("text")) if output.get("name", output.get("stream")) != "stderr" else ""
    if kind in ("error", "pyerr"):
        return f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"
    if kind not in ("execute_result", "display_data", "pyout"):
        return ""
    data = _table(output.get("data")) or output  # format 3 has no table of its own for it
    if any(name.startswith("image/") or name in ("png", "jpeg", "svg") for name in data):
        return ""  # its text only says that there is a figure
    text = _joined(data.get("text/plain", data.get("text")))
    return "" if _OBJECT.match(text) else text


def _bounded(text: str) -> str:
    if len(text) <= MOST_OUTPUT_CHARS:
        return text
    head = text[:MOST_OUTPUT_CHARS]
    whole, _, _ = head.rpartition("\n")
    return f"{whole or head}\n{CUT}"


def _without_embedded(source: str) -> str:
    if "](attachment:" in source or "](data:" in source:
        source = _EMBEDDED_IMAGE.sub("", source)
    return _EMBEDDED_DATA.sub("", source) if ";base64," in source else source


def _script_code(source: str, notebook: Notebook) -> str:
    """Code as a file would have it: lines that only the notebook understands become comments."""
    if notebook.language != "Python" or not ("%" in source or "!" in source or "?" in source):
        return source
    cell_magic = _CELL_MAGIC.match(source)
    if cell_magic and cell_magic[1] not in _MAGICS_OF_PYTHON:
        return _commented(source, notebook.comment)
    lines, quote = [], ""
    for line in source.split("\n"):
        magic = not quote and _MAGIC.match(line)
        lines.append(_comment_out(line) if magic else line)
        quote = quote if magic else _open_string(line, quote)
    return "\n".join(lines)


def _comment_out(line: str) -> str:
    code = line.lstrip()
    return f"{line[: len(line) - len(code)]}# {code}"


def _open_string(line: str, quote: str) -> str:
    """The triple quote that is open after the line, given the one open before it."""
    at = 0
    while True:
        if quote:
            end = line.find(quote, at)
            if end < 0:
                return quote
            at, quote = end + 3, ""
        starts = [(line.find(mark, at), mark) for mark in ('"""', "'''")]
        found = min((start for start in starts if start[0] >= 0), default=None)
        if found is None:
            return ""
        at, quote = found[0] + 3, found[1]


def _commented(source: str, comment: str) -> str:
    closing = _CLOSING.get(comment, "")
    if closing:  # a mark within the text must not end the comment
        source = source.replace("*)", "* )").replace("(*", "( *")
    lines = source.split("\n")
    return "\n".join(f"{comment} {line}{closing}" if line.strip() else f"{comment}{closing}" for line in lines)


def _joined(value: Any) -> str:
    """Text that the format keeps as one string or as a list of lines."""
    if isinstance(value, str):
        return value.replace("\r\n", "\n")
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str)).replace("\r\n", "\n")
    return ""


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
