"""No program passes that should not, reaches what is not its own, or leaves something behind; honest ones pass."""

import contextlib
import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from evaluation.attack_programs import ANSWER, FAKE_TESTS, FAKES, FORBIDDEN_CALLS, HONEST, HUNGRY
from starsmith.core.errors import InputError
from starsmith.evaluation.execution import Outcome, Program, execute
from starsmith.evaluation.limits import Limits
from starsmith.evaluation.sandbox.choice import SandboxChoice, choose, kernel_only

pytestmark = pytest.mark.slow

QUICK = Limits(cpu_s=0.5, wall_s=4.0, memory_bytes=512 << 20)
SECRET = "the-canary-sings-at-noon"
KINDS = ("namespaces", "kernel")


@pytest.fixture(scope="module", params=KINDS)
def sandbox(request: pytest.FixtureRequest) -> SandboxChoice:
    choice = _choice()
    if request.param == "kernel":
        return kernel_only()
    if choice.kind != "namespaces":
        pytest.skip(f"SKIPPED: {choice.warnings}")
    return choice


def _choice() -> SandboxChoice:
    try:
        return choose()
    except InputError as error:
        pytest.skip(f"SKIPPED: {error}")


def program(key: str, candidate: str, tests: str) -> Program:
    return Program(key=key, candidate=candidate, tests=tests, entry_point="f", limits=QUICK)


def run(sandbox: SandboxChoice, programs: Sequence[Program], workers: int = 2) -> dict[str, Outcome]:
    outcomes = {outcome.key: outcome for outcome in execute(programs, workers=workers, sandbox=sandbox)}
    assert outcomes.keys() == {each.key for each in programs}
    return outcomes


def test_no_fake_passes_and_none_confuses_the_harness(sandbox: SandboxChoice) -> None:
    fakes = [program(name, source, FAKE_TESTS) for name, source in FAKES.items()]
    control = program("control", f"def f(x): return {ANSWER}", FAKE_TESTS)

    outcomes = run(sandbox, [*fakes, control])

    assert outcomes.pop("control").verdict == "pass"
    assert {key: o.verdict for key, o in outcomes.items() if o.verdict in ("pass", "harness_error")} == {}


def test_the_hungry_are_stopped_by_the_right_limit_and_the_next_program_runs(sandbox: SandboxChoice) -> None:
    tests = f"assert f(2) == {ANSWER}"
    hungry = [program(name, source, tests) for name, (source, _) in HUNGRY.items() if _applies(name, sandbox)]

    outcomes = run(sandbox, hungry)

    assert {key: (o.verdict, o.detail) for key, o in outcomes.items() if o.verdict not in HUNGRY[key][1]} == {}
    after = [program(f"after {number}", "def f(x): return x", "assert f(2) == 2") for number in range(4)]
    assert {o.verdict for o in run(sandbox, after).values()} == {"pass"}


def _applies(name: str, sandbox: SandboxChoice) -> bool:
    """Without namespaces nothing bounds the disk as a whole, nor the inodes: the sandbox's page says so."""
    return sandbox.kind == "namespaces" or name not in ("disk bomb", "inode bomb", "deep folders", "thread bomb")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="SKIPPED: numbers of system calls are x86_64's")
def test_calls_that_nobody_needs_are_violations(sandbox: SandboxChoice) -> None:
    programs = [
        program(name, f"import ctypes\ndef f(x): return ctypes.CDLL(None).syscall({number}, {arguments or 0})", "f(1)")
        for name, (number, arguments) in FORBIDDEN_CALLS.items()
    ]

    outcomes = run(sandbox, programs)

    assert {key: o.verdict for key, o in outcomes.items() if o.verdict != "violation"} == {}


def test_honest_programs_pass(sandbox: SandboxChoice) -> None:
    outcomes = run(sandbox, [program(name, source, tests) for name, (source, tests) in HONEST.items()])

    assert {key: o for key, o in outcomes.items() if o.verdict != "pass"} == {}


@pytest.fixture
def treasure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of the user's, an environment variable, and a place in the home folder, all with the secret."""
    monkeypatch.setenv("API_TOKEN", SECRET)
    home = Path.home() / f".starsmith-canary-{os.getpid()}"
    home.write_text(SECRET)
    (tmp_path / "treasure.txt").write_text(SECRET)
    tmp_path.chmod(0o777)
    (tmp_path / "treasure.txt").chmod(0o666)
    yield tmp_path / "treasure.txt"
    home.unlink()


SPY = """
import os, glob
def f(path, home, pid):
    found = [repr(dict(os.environ))]
    places = [path, home, "/etc/passwd", "/etc/shadow", "/etc/hostname", f"/proc/{pid}/environ", f"/proc/{pid}/mem",
              "/proc/1/environ", "/proc/self/environ", *glob.glob("/proc/*/environ"), *glob.glob("/proc/*/cmdline"),
              *glob.glob(os.path.dirname(home) + "/.*"), *glob.glob("/home/*"), *glob.glob("/run/*")]
    for place in places:
        try: found.append(open(place).read())
        except (OSError, UnicodeDecodeError): continue
    for place in ("/proc", "/", "/home", "/root", os.path.dirname(path), "/etc", "/var"):
        try: found.append(place + repr(sorted(os.listdir(place))))
        except OSError: continue
    return "\\n".join(found)
"""


def test_secrets_of_environment_home_and_process_stay_outside(sandbox: SandboxChoice, treasure: Path) -> None:
    home = Path.home() / f".starsmith-canary-{os.getpid()}"
    tests = f"""
said = f({str(treasure)!r}, {str(home)!r}, {os.getpid()})
assert "canary" not in said, "secret"
assert "root:" not in said, "accounts"
assert "treasure" not in said, "names"
"""

    outcome = run(sandbox, [program("spy", SPY, tests)])["spy"]

    assert (outcome.verdict, outcome.detail) == ("pass", "")


VANDAL = """
import os, shutil, pathlib, ctypes
def f(path, home):
    libc = ctypes.CDLL(None)
    tries = [lambda: os.unlink(path), lambda: open(path, "w"), lambda: os.truncate(path, 0), lambda: os.chmod(path, 0),
             lambda: os.rename(path, path + "x"), lambda: shutil.rmtree(os.path.dirname(path)),
             lambda: pathlib.Path(path).write_text(""), lambda: os.symlink("/", os.path.dirname(path) + "/link"),
             lambda: os.link(path, "/tmp/hard"), lambda: libc.unlink(path.encode()), lambda: os.utime(path, (0, 0)),
             lambda: libc.rename(path.encode(), b"/tmp/mine"), lambda: open(home + "/.bashrc-new", "w"),
             lambda: open("/usr/lib/vandal", "w"), lambda: open(os.__file__, "a"), lambda: os.chdir(".."),
             lambda: os.system("rm -rf " + path), lambda: open("/proc/sysrq-trigger", "w").write("b"),
             lambda: open("/dev/vda", "wb"), lambda: open("/sys/power/state", "w")]
    for attempt in tries:
        try: attempt()
        except OSError: pass
"""


def test_nothing_outside_is_changed(sandbox: SandboxChoice, treasure: Path) -> None:
    before = treasure.stat()

    run(sandbox, [program("vandal", VANDAL, f"f({str(treasure)!r}, {str(Path.home())!r})")])

    after = treasure.stat()
    assert treasure.read_text() == SECRET
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, before.st_nlink)
    assert sorted(path.name for path in treasure.parent.iterdir()) == ["treasure.txt"]
    assert not Path("/usr/lib/vandal").exists()
    assert not (Path.home() / ".bashrc-new").exists()


KILLER = """
import os, signal, ctypes, threading
def f(pids):
    libc = ctypes.CDLL(None)
    for pid in [*pids, 0, -1, 1, os.getppid(), *(-p for p in pids)]:
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
            for attempt in (lambda: os.kill(pid, number), lambda: libc.kill(pid, number),
                            lambda: libc.syscall(200, pid, number), lambda: libc.syscall(234, pid, pid, number),
                            lambda: libc.syscall(129, pid, number, 0), lambda: os.pidfd_open(pid),
                            lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
                            lambda: os.sched_setaffinity(pid, {0})):
                try: attempt()
                except (OSError, OverflowError): pass
    return "alive"
"""


def test_other_processes_are_out_of_reach(sandbox: SandboxChoice) -> None:
    with subprocess.Popen(["sleep", "60"]) as victim:
        pids = [victim.pid, os.getpid()]

        outcome = run(sandbox, [program("killer", KILLER, f"assert f({pids}) == 'alive'")])["killer"]

        assert victim.poll() is None
        assert Path(f"/proc/{victim.pid}/stat").read_text().split()[2] == "S"
        victim.send_signal(signal.SIGKILL)
    assert outcome.verdict == "pass"


CALLER = """
import socket
def f(port, name):
    reached = []
    for family, address in ((socket.AF_INET, ("127.0.0.1", port)), (socket.AF_UNIX, name),
                            (socket.AF_UNIX, "\\0" + name),
                            (socket.AF_INET6, ("::1", port)), (socket.AF_INET, ("1.1.1.1", 53))):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind) as s:
                    s.settimeout(1); s.connect(address); s.send(b"hello"); reached.append(str(address))
            except OSError: pass
    return reached
"""


def test_no_socket_reaches_the_machine(sandbox: SandboxChoice) -> None:
    name = f"starsmith-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        port = listening.getsockname()[1]

        outcome = run(sandbox, [program("caller", CALLER, f"assert f({port}, {name!r}) == []")])["caller"]

        for each in (listening, abstract):
            each.setblocking(False)
            with pytest.raises(BlockingIOError):
                each.accept()
    assert outcome.verdict == "pass"


def test_nothing_of_one_program_is_there_for_the_next(sandbox: SandboxChoice) -> None:
    leave = "import os, math\ndef f(x):\n    open('note', 'w').write('x'); os.makedirs('a/b/c'); math.pi = 3"
    look = "import os, math\ndef f(x): return os.listdir(os.environ['TMPDIR']), math.pi == 3"
    programs = [program("leave", leave, "try:\n    f(1)\nexcept OSError:\n    pass")]
    programs += [program("look", look, "assert f(1) == ([], False)")]

    outcomes = run(sandbox, programs, workers=1)

    assert [o.verdict for o in outcomes.values()] == ["pass", "pass"]


def test_nothing_is_left_behind(sandbox: SandboxChoice) -> None:
    before = _traces()
    sources = [HUNGRY[name][0] for name in ("fork bomb", "busy threads", "inode bomb", "folders without rights")]
    if sandbox.kind == "kernel":
        sources = sources[:2] + sources[3:]

    run(sandbox, [program(str(number), source, "f(1)") for number, source in enumerate(sources)])

    deadline = time.monotonic() + 5
    while _traces() != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _traces() == before


def test_an_abandoned_run_leaves_nothing_behind(sandbox: SandboxChoice) -> None:
    before = _traces()
    loops = [program(str(number), "def f(x):\n    while True: pass", "f(1)") for number in range(4)]
    running = execute([program("first", "def f(x): pass", "f(1)"), *loops], workers=2, sandbox=sandbox)

    next(running)
    running.close()  # type: ignore[attr-defined]

    deadline = time.monotonic() + 5
    while _traces() != before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _traces() == before


def _traces() -> tuple[int, list[str], list[str]]:
    """Open descriptors, processes below this one, and folders of sandboxes."""
    children: list[str] = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(
                os.getpid()
            ):
                children.append(folder.name)
    folders = sorted(path.name for path in Path("/tmp").glob(f"starsmith-sandbox-{os.getpid()}-*"))
    return len(list(Path("/proc/self/fd").iterdir())), children, folders


def test_verdicts_are_the_same_at_one_two_and_eight_workers(sandbox: SandboxChoice) -> None:
    names = ("busy loop", "memory bomb", "crash")
    programs = [program(name, HUNGRY[name][0], "f(2)") for name in names]
    programs += [program(name, source, tests) for name, (source, tests) in HONEST.items()]

    verdicts = [{key: o.verdict for key, o in run(sandbox, programs, workers).items()} for workers in (1, 2, 8)]

    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert {verdicts[0][name] for name in HONEST} == {"pass"}
