"""The bytes of a manifest become the statement that they spell, or are refused: one statement has few spellings."""

import errno
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LARGEST_BYTES = 512 << 20  # five million files
_ROOMS = re.compile(r"\w+( \w+)*|", re.ASCII)  # names of packages; a path would be read like one


def canonical(value: Any) -> bytes:
    """RFC 8785 canonical JSON: one byte string for equal values."""
    import rfc8785

    return rfc8785.dumps(value)


def parse_json(content: bytes) -> Any:
    """JSON in UTF-8 in which no object has a key twice; a ValueError else."""
    return json.loads(content.decode("utf-8"), object_pairs_hook=_object)


def read_bytes(file: Path) -> bytes:
    """The content of a file of bounded size; a ValueError for what is no file: a pipe, a link to itself."""
    if file.exists() and not file.is_dir():
        if not file.is_file():  # it would be waited for
            raise ValueError("not a regular file")
        if file.stat().st_size > LARGEST_BYTES:
            raise ValueError(f"larger than {LARGEST_BYTES >> 20} MiB")
    try:
        return file.read_bytes()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise ValueError("a link to itself") from None


def read_statement(file: Path) -> Any:
    """The statement in a manifest; a ValueError, KeyError, TypeError or AttributeError where it is none."""
    content = read_bytes(file)
    statement = parse_json(content)
    _check_types(statement["subject"], statement["predicate"])
    # Else a byte could change and the value not: 1e21, 1E21.
    if canonical(statement) != content and content not in _reordered(statement):
        raise ValueError("not in canonical form")
    return statement


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"the key {names.most_common(1)[0][0]!r} stands twice")
    return found


def _reordered(statement: Any) -> Iterator[bytes]:
    """The spellings that a tool which only sorts or indents may have given to a manifest, each to the byte."""
    yield _spell(statement, canonical)
    plain = _plain(statement)
    for indent, separators in ((None, (",", ":")), (None, (", ", ": ")), (2, None), (4, None)):
        for ascii_only in (True, False):
            spelled = json.dumps(plain, indent=indent, separators=separators, ensure_ascii=ascii_only).encode()
            yield spelled
            if indent:  # as json.tool and jq end their output
                yield spelled + b"\n"


def _spell(value: Any, write: Callable[[Any], bytes]) -> bytes:
    if isinstance(value, dict):
        return b"{" + b",".join(write(key) + b":" + _spell(item, write) for key, item in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(_spell(item, write) for item in value) + b"]"
    return write(value)


def _plain(value: Any) -> Any:
    """Numbers of the type that the canonical form gives them: 2.0 is written 2 there."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return json.loads(canonical(value)) if isinstance(value, float) else value


def _check_types(subjects: list[dict[str, Any]], predicate: dict[str, Any]) -> None:
    """What the rest of the program relies on; a field that is absent is a KeyError."""
    _check_names("file", [subject["name"] for subject in subjects])
    _check_names("parent", [parent["role"] for parent in predicate["parents"]])
    texts = [predicate["kind"], predicate["id"], predicate["seal"], *predicate["filters"]]
    texts += [text for subject in subjects for text in (subject["name"], subject["digest"]["sha256"])]
    texts += [text for parent in predicate["parents"] for text in parent.values()]
    texts += predicate["code"].values()
    if wrong := [value for value in texts if not isinstance(value, str)]:
        raise ValueError(f"{wrong[0]!r} stands where a string belongs")
    if not all(isinstance(predicate[name], dict) for name in ("config", "code", "counts")):
        raise ValueError("config, code and counts must be objects")
    if not _ROOMS.fullmatch(predicate["code"].get("rooms", "")):
        raise ValueError(f"code.rooms is {predicate['code']['rooms']!r}, wanted: names of packages")
    if wrong := [value for value in predicate["counts"].values() if not isinstance(value, int | float)]:
        raise ValueError(f"{wrong[0]!r} stands where a count belongs")


def _check_names(what: str, names: list[str]) -> None:
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise ValueError(f"the {what} {twice[0]!r} is listed twice")
