"""Tests written in Python: what they need of the candidate decides whether they can run in another process.

Across processes they reach the candidate's function, and plain data. Tests that use a class, a second function or an
import of the candidate's have to run in the same program, where a candidate could deceive them, which the result says.
"""

import ast
import warnings
from collections.abc import Iterable

from starsmith.core.errors import InputError
from starsmith.evaluation import modes
from starsmith.evaluation.problem import Tests


def checked_by(
    source: str, entry_point: str, *, around: str = "", driver: str = "", name: str = "base", cpu_s: float | None = None
) -> Tests:
    """Tests in the mode that they can run in.

    around  trusted code that the candidate also has, such as the prompt: what the tests use of it is copied to them,
            or a candidate could define another `poly` than the one that its roots are checked with
    """
    if parse(source) is None:
        raise InputError(f"the tests of {entry_point} are no Python", hint="fetch the benchmark's file again")
    missing = set(modes.called_names(source, None)) - {entry_point}
    source = definitions(around, missing) + source
    mode, _ = modes.mode_for(source, entry_point)
    return Tests(name=name, source=source, entry_point=entry_point, driver=driver, mode=mode, cpu_s=cpu_s)


def _binds(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
    elif isinstance(node, ast.ExceptHandler) and node.name:
        yield node.name


def definitions(source: str, wanted: set[str]) -> str:
    """Imports and the wanted functions and classes of a source, to stand before tests; "" if one is missing."""
    source += "    ...\n" if parse(source) is None else ""  # a prompt whose function is to get its body yet
    tree = parse(source)
    if tree is None or not wanted:
        return ""
    found: set[str] = set()
    parts = []
    for node in tree.body:
        names = set(_binds(node))
        if isinstance(node, ast.Import | ast.ImportFrom) or names & wanted:
            parts.append(ast.get_source_segment(source, node) or "")
            found |= names & wanted
    return "\n".join(parts) + "\n\n" if wanted <= found else ""


def called_names(source: str) -> list[str]:
    """Names that are called, innermost last, each once."""
    tree = parse(source)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree else []
    return list(dict.fromkeys(call.id for call in calls if isinstance(call, ast.Name)))


def defined_functions(source: str) -> list[str]:
    """Names of the functions at the top of a source, in order."""
    tree = parse(source)
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] if tree else []


def parse(source: str) -> ast.Module | None:
    """The tree; None for what is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd escapes in other people's strings
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
