"""Whether a file with a completion in it still parses."""

import ast
import warnings


def parses(language: str, text: str) -> bool | None:
    """True or False for Python; None for a language that is not checked here."""
    if language != "Python":
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code that is looked at, such as an odd escape in a string
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
