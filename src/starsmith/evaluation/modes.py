"""Whether tests can run in a process of their own: by the names they use and do not define.

Across processes go calls of functions with plain data. Tests need the candidate's own process (mode "same") when they
use one of its classes or variables, or hand it a function.
"""

import ast
import builtins
import symtable
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

_GIVEN = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def mode_for(tests: str, entry_point: str | None) -> tuple[Literal["split", "same"], str]:
    """The mode that these tests can have, and why it is not the split one."""
    reason = _why_same(tests, entry_point)
    return ("same", reason) if reason else ("split", "")


@lru_cache(maxsize=64)  # a problem's many samples come with the same tests
def called_names(tests: str, entry_point: str | None) -> tuple[str, ...]:
    """The functions of the candidate that tests call: the entry point and what else they do not define."""
    try:
        free = _free_names(tests)
    except (SyntaxError, ValueError, RecursionError):  # told when the tests are compiled
        free = set()
    return tuple(sorted(free | ({entry_point} if entry_point else set())))


def _why_same(tests: str, entry_point: str | None) -> str:
    tree = ast.parse(tests)
    free = _free_names(tests) - {entry_point}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    for name in sorted(free):
        if name not in called or name[:1].isupper():
            return f"the tests use {name!r} of the candidate"
    local = {node.name for node in ast.walk(tree) if isinstance(node, _DEFINITIONS)}
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    callables = (local | _GIVEN) - assigned
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    asked = [call for call in calls if getattr(call.func, "id", "") in {entry_point, *free}]
    if any(_is_callable(part, callables) for call in asked for part in _handed_over(call)):
        return "the tests hand over a function or a class"
    return ""


def _handed_over(call: ast.Call) -> Iterator[ast.AST]:
    """Every part of the arguments that is a value and not what is called to get one."""
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        called = {id(part.func) for part in ast.walk(argument) if isinstance(part, ast.Call)}
        yield from (part for part in ast.walk(argument) if id(part) not in called)


def _is_callable(part: ast.AST, callables: set[str]) -> bool:
    return isinstance(part, ast.Lambda) or (isinstance(part, ast.Name) and part.id in callables)


def _free_names(tests: str) -> set[str]:
    """Names that are read somewhere and bound nowhere on the module's level."""
    table = symtable.symtable(tests, "<tests>", "exec")
    bound = {symbol.get_name() for symbol in table.get_symbols() if _is_bound(symbol)}
    wanted: set[str] = set()
    tables = [table]
    while tables:
        each = tables.pop()
        tables += each.get_children()
        for symbol in each.get_symbols():
            at_module = each is table or symbol.is_global()
            if at_module and symbol.is_referenced() and symbol.get_name() not in bound:
                wanted.add(symbol.get_name())
    return wanted - _GIVEN


def _is_bound(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
