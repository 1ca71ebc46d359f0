"""The files of a repository in the order in which they make sense: a file after those that it imports.

What a file imports is read from its text by a light rule for each language and looked up among the paths of its
repository; nothing is resolved as a compiler would. A module that is not found orders nothing, a wrong guess orders
two files by chance, as all are in StarCoder2's own data (random order, Lozhkov et al. 2024, arXiv 2402.19173). That
the order helps across files is DeepSeek-Coder's finding (Guo et al. 2024, arXiv 2401.14196).
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

MOST_IMPORTS = 256  # of one file
MOST_FILES = 64  # of one name that are looked at for an import
_OF_FOLDER = ("__init__", "index", "mod")  # a file of this name is what the import of its folder means
_SHOWN = 2  # parts of a repository's address that name it: owner and name

_PYTHON = re.compile(r"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+import[ \t]+([^\n#;]+)|import[ \t]+([^\n#;]+))", re.M)
_JAVASCRIPT = re.compile(
    r"""(?:\bfrom[ \t]*|\bimport[ \t]*\(?[ \t]*|\brequire[ \t]*\([ \t]*)["'](\.{1,2}/[^"'\n]{1,200})["']"""
)
_GO = re.compile(r"""^[ \t]*(?:import[ \t]+)?(?:[\w.]+[ \t]+)?"([\w.~/-]{1,200})"[ \t]*(?://[^\n]*)?$""", re.M)
_JAVA = re.compile(r"^[ \t]*import[ \t]+(?:static[ \t]+)?([\w.]+)", re.M)
_C = re.compile(r'^[ \t]*#[ \t]*(?:include|import)[ \t]*["<]([^">\n]{1,200})[">]', re.M)
_RUST = re.compile(
    r"^[ \t]*(?:pub(?:\([^)\n]*\))?[ \t]+)?(?:mod[ \t]+(\w+)[ \t]*;|use[ \t]+(crate|super|self)::([\w:]+))", re.M
)


@dataclass(frozen=True)
class Listed:
    """A file among those of its repository."""

    path: str
    language: str  # Linguist's name
    imports: tuple[str, ...] = ()  # paths without what follows the last dot; ./ and ../ are from the file's folder


def name_of(repository: str) -> str:
    """What a repository is called in a document: owner and name of an address, or the name that it has."""
    path = repository.split("://", 1)[-1].removesuffix("/").removesuffix(".git")
    parts = [part for part in path.replace(":", "/").split("/") if part]
    if "://" in repository or "@" in parts[0:1]:
        parts = parts[1:]  # the host
    return "/".join(parts[-_SHOWN:])


def imports_of(text: str, language: str) -> tuple[str, ...]:
    """The modules that a text asks for, as paths without suffix; none for a language without a rule."""
    rule = _RULES.get(language)
    found: dict[str, None] = {}  # a set in the order of the text
    for path in rule(text) if rule else ():
        found[path] = None
        if len(found) == MOST_IMPORTS:
            break
    return tuple(found)


def import_ranks(files: Sequence[Listed]) -> list[int]:
    """The place of each file among the files of one repository, from 0, every file after those that it imports.

    Files are visited in the order of their paths, each after what it imports; an import that would close a circle is
    left out of account.
    """
    shelf = _Shelf(files)
    by_path = sorted(range(len(files)), key=lambda number: (files[number].path, number))
    ranks = [-1] * len(files)
    begun = [False] * len(files)
    placed = 0
    for root in by_path:
        stack = [] if begun[root] else [(root, iter(shelf.imported_by(root)))]
        begun[root] = True
        while stack:
            number, waiting = stack[-1]
            following = next((other for other in waiting if not begun[other]), None)
            if following is None:
                ranks[number] = placed
                placed += 1
                stack.pop()
            else:
                begun[following] = True
                stack.append((following, iter(shelf.imported_by(following))))
    return ranks


@dataclass
class _Shelf:
    """The files of a repository by the last parts of their stems: `a/b/__init__.py` has the stem `a/b`."""

    files: Sequence[Listed]
    stems: list[str] = field(default_factory=list)
    by_end: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # last part, and last two
    by_folder: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))  # last part of the folder

    def __post_init__(self) -> None:
        for number, file in enumerate(self.files):
            folder, name = posixpath.split(file.path)
            stem = posixpath.join(folder, name.split(".", 1)[0])
            self.stems.append(folder if posixpath.basename(stem) in _OF_FOLDER and folder else stem)
            for end in {_end(self.stems[-1], 1), _end(self.stems[-1], 2)}:
                self.by_end[end].append(number)
            self.by_folder[posixpath.basename(folder)].append(number)

    def imported_by(self, number: int) -> list[int]:
        """The files that a file imports, in the order of their paths."""
        found = {other for wanted in self.files[number].imports for other in self._files_of(number, wanted)}
        return sorted(found - {number}, key=lambda other: (self.files[other].path, other))

    def _files_of(self, number: int, wanted: str) -> list[int]:
        """What a path without suffix means in a file: one file, or the files of a Go package."""
        own = self.files[number]
        if own.language == "Go":
            return self._package(wanted)
        if exact := wanted.startswith("."):
            wanted = posixpath.normpath(posixpath.join(posixpath.dirname(own.path), wanted))
        options = [
            other
            for other in self.by_end.get(_end(wanted, 2), [])[:MOST_FILES]
            if (self.stems[other] == wanted if exact else f"/{self.stems[other]}".endswith(f"/{wanted}"))
            and _family(self.files[other].language) == _family(own.language)
        ]
        nearest = sorted(
            options, key=lambda other: (-_common(self.files[other].path, own.path), self.files[other].path)
        )
        return nearest[:1]

    def _package(self, wanted: str) -> list[int]:
        """The Go files in the folder that an import path ends with."""
        files = self.by_folder.get(posixpath.basename(wanted), [])[:MOST_FILES]
        folders = {posixpath.dirname(self.files[other].path) for other in files if self.files[other].language == "Go"}
        fitting = [folder for folder in folders if folder and f"/{wanted}".endswith(f"/{folder}")]
        if not fitting:
            return []
        folder = max(fitting, key=lambda name: (len(name), name))
        return [other for other in files if posixpath.dirname(self.files[other].path) == folder]


def _end(path: str, parts: int) -> str:
    return "/".join(path.split("/")[-parts:])


def _common(path: str, other: str) -> int:
    """Folders that two paths share from the start."""
    pairs = zip(path.split("/")[:-1], other.split("/")[:-1], strict=False)
    return next((place for place, (one, two) in enumerate(pairs) if one != two), min(path.count("/"), other.count("/")))


def _family(language: str) -> str:
    """Languages whose files import each other have one name."""
    return {"C++": "C", "Objective-C": "C", "TypeScript": "JavaScript", "TSX": "JavaScript", "JSX": "JavaScript"}.get(
        language, language
    )


def _python(text: str) -> Iterator[str]:
    for dots, module, names, modules in _PYTHON.findall(text):
        if modules:
            for name in modules.split(","):
                yield name.split(" as ")[0].strip().replace(".", "/")
            continue
        folder = ("./" + "../" * (len(dots) - 1) if dots else "") + module.replace(".", "/")
        # What is imported may be a module of the package, or a name in it.
        for name in names.replace("(", " ").split(","):
            if (part := name.split(" as ")[0].strip()).isidentifier():
                yield posixpath.join(folder, part)
        if module:
            yield folder


def _javascript(text: str) -> Iterator[str]:
    for path in _JAVASCRIPT.findall(text):
        folder, name = posixpath.split(path)
        yield posixpath.join(folder, name.split(".", 1)[0]) if name.strip(".") else path


def _go(text: str) -> Iterator[str]:
    yield from _GO.findall(text)


def _java(text: str) -> Iterator[str]:
    for name in _JAVA.findall(text):
        yield name.strip(".").replace(".", "/")
        yield name.rpartition(".")[0].replace(".", "/")  # of a static member, the class


def _c(text: str) -> Iterator[str]:
    for path in _C.findall(text):
        folder, name = posixpath.split(path)
        yield posixpath.join(folder, name.split(".", 1)[0])


def _rust(text: str) -> Iterator[str]:
    for module, root, path in _RUST.findall(text):
        parts = [part for part in path.split("::") if part]
        if module:
            yield f"./{module}"
            continue
        for count in range(len(parts), 0, -1):  # the last parts may be names in the module
            yield ("../" if root == "super" else "./" if root == "self" else "src/") + "/".join(parts[:count])


_RULES: dict[str, Callable[[str], Iterator[str]]] = {
    "C": _c,
    "C++": _c,
    "Go": _go,
    "Java": _java,
    "JavaScript": _javascript,
    "JSX": _javascript,
    "Objective-C": _c,
    "Python": _python,
    "Rust": _rust,
    "TSX": _javascript,
    "TypeScript": _javascript,
}
