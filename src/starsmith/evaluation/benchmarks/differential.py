"""Whether a candidate's outputs are those of the reference solution, for the same inputs, as EvalPlus compares them.

This file is not imported where it is used: its text becomes part of the tests that run inside the sandbox, so it knows
nothing but the standard library. The rules are EvalPlus 0.3's, with its exceptions for single tasks of MBPP+.
"""

import copy
import hashlib
import marshal
import math
from typing import Any

RELATIVE = 1e-07  # numpy.allclose as EvalPlus calls it
LEAST_ATOL = 1e-06  # for floats, where a task names none
NOT_NONE = ("check_str", "text_match_three", "text_starta_endb")  # whether something was found is all that counts
AS_SETS = (
    "similar_elements",
    "find_char_long",
    "common_in_nested_lists",
    "extract_singly",
    "larg_nnum",
    "intersection_array",
    "find_dissimilar",
    "Diff",
)


def agrees(name: str, arguments: list[Any], seen: Any, wanted: Any, atol: float, mbpp: bool) -> bool:
    """Whether one output is right."""
    if not mbpp and name == "find_zero":
        return _is_root(arguments[0], seen, atol)
    if mbpp:
        special = _special(name, arguments, seen, wanted, atol)
        if special is not None:
            return special
    if seen == wanted:
        return True
    if atol == 0 and _are_floats(wanted):
        atol = LEAST_ATOL
    if atol == 0 or type(seen) is not type(wanted):
        return False
    return _close(seen, wanted, atol)


def _special(name: str, arguments: list[Any], seen: Any, wanted: Any, atol: float) -> bool | None:
    """The verdict of an exception; None where the general rule applies."""
    if name == "are_equivalent":
        return True
    if name == "sum_div" and seen == 0:
        return True
    if name == "surface_Area" and abs(seen - _pyramid(*arguments)) <= atol:
        return True
    if name == "digit_distance_nums" and seen == _digit_distance(*arguments):
        return True
    if name in AS_SETS:
        return set(seen) == set(wanted)
    if name in NOT_NONE:
        return bool(seen == (wanted is not None) if isinstance(seen, bool) else (wanted is None) == (seen is None))
    return None


def _is_root(factors: list[int], x: float, atol: float) -> bool:
    """Whether the polynomial is 0 at x, summed as a loop does, or exactly: Python 3.12 changed what `sum` does."""
    terms = [factor * math.pow(x, power) for power, factor in enumerate(factors)]
    total = 0.0
    for term in terms:
        total += term
    return min(abs(total), abs(math.fsum(terms))) <= atol


def _pyramid(base: float, height: float) -> float:
    return round(base**2 + 2 * base * math.sqrt((base / 2) ** 2 + height**2))


def _digit_distance(first: int, second: int) -> int:
    width = max(len(str(first)), len(str(second)))
    digits = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return sum(abs(int(one) - int(other)) for one, other in digits)


def _are_floats(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _close(seen: Any, wanted: Any, atol: float) -> bool:
    if isinstance(wanted, list | tuple):
        sized = isinstance(seen, list | tuple) and len(seen) == len(wanted)
        return sized and all(_close(one, other, atol) for one, other in zip(seen, wanted, strict=True))
    if not isinstance(seen, int | float | complex) or not isinstance(wanted, int | float | complex):
        return False
    return bool(seen == wanted or abs(seen - wanted) <= atol + RELATIVE * abs(wanted))


def digest(outputs: Any) -> str | None:
    """Equal for equal outputs of equal types; None for what is no plain data. Sets of strings have no fixed order."""
    try:
        content = marshal.dumps(outputs, 2)  # this version writes no references, which depend on identity
    except ValueError:
        return None
    return hashlib.sha256(content).hexdigest()[:32]


def check_outputs(
    run_all: Any, reference: Any, inputs: list[Any], task: tuple[str, float, bool], known: str | None
) -> None:
    """Call the candidate with all inputs at once; an assertion fails at the first output that is wrong.

    task   name of the function, tolerance, whether it is one of MBPP+
    known  digest of the reference's outputs: equal outputs need no run of the reference
    """
    outputs = run_all(copy.deepcopy(inputs))
    assert isinstance(outputs, list), "no list of outputs"
    assert len(outputs) == len(inputs), f"{len(outputs)} outputs for {len(inputs)} inputs"
    if known is not None and digest(outputs) == known:
        return
    name, atol, mbpp = task
    for number, (arguments, seen) in enumerate(zip(inputs, outputs, strict=True)):
        wanted = reference(*copy.deepcopy(arguments))
        right = agrees(name, arguments, seen, wanted, atol, mbpp)
        assert right, f"input {number} of {len(inputs)}"
