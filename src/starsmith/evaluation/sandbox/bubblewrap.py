"""The command line that puts a process into namespaces of its own."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import which

from starsmith.evaluation.sandbox.surroundings import Surroundings

NAMESPACES = ("user", "pid", "net", "mount", "ipc", "uts", "cgroup")
# Between its start and the first program the process mounts its scratch folder; root becomes nobody as well.
_NEEDED = ("CAP_SYS_ADMIN",)
_NEEDED_OF_ROOT = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_SETPCAP")


def isolation(*, as_root: bool) -> list[str]:
    """All namespaces; with `as_root` the user namespace is made by the process inside, once it is no longer root."""
    command = [which("bwrap") or "bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--new-session", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL"]
    command += [] if as_root else ["--unshare-user"]
    for capability in _NEEDED_OF_ROOT if as_root else _NEEDED:
        command += ["--cap-add", capability]
    return command


def wrap(
    command: Sequence[str], surroundings: Surroundings, scratch: Path, environment: Mapping[str, str], *, as_root: bool
) -> list[str]:
    """`command` on a read-only system of only what the surroundings show."""
    line = [*isolation(as_root=as_root), "--hostname", "sandbox", "--clearenv"]
    for name, value in environment.items():
        line += ["--setenv", name, value]
    for path in _folders_above(surroundings):
        line += ["--perms", "0755", "--dir", str(path)]
    for here, inside in surroundings.shown:
        line += ["--ro-bind", str(here), str(inside)]
    for path in surroundings.hidden:
        line += ["--tmpfs", str(path)]
    line += _usual_links(surroundings)
    line += ["--proc", "/proc", "--dev", "/dev", "--perms", "0700", "--tmpfs", str(scratch), "--chdir", "/"]
    return [*line, "--remount-ro", "/", "--", *command]


def _folders_above(surroundings: Surroundings) -> list[Path]:
    """Of what is shown: bubblewrap would make them for their owner alone, and inside nobody owns anything."""
    shown = {inside for _, inside in surroundings.shown}
    above = {parent for path in shown for parent in path.parents if parent != Path("/")}
    return sorted(path for path in above if not {path, *path.parents} & shown)


def _usual_links(surroundings: Surroundings) -> Iterator[str]:
    """/lib and the like, which are links into /usr on most systems."""
    shown = {inside for _, inside in surroundings.shown}
    for path in map(Path, ("/bin", "/sbin", "/lib", "/lib64")):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.exists() and path not in shown:
            yield from ("--ro-bind", str(path), str(path))
