"""Our end of one long-lived process inside a sandbox."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Literal

from starsmith.core.errors import InputError, StarsmithError
from starsmith.evaluation.sandbox import bubblewrap, surroundings
from starsmith.evaluation.sandbox.choice import SandboxChoice
from starsmith.evaluation.sandbox.inside import confinement, landlock, wire

Role = Literal["python", "tools"]
_START = "import sys; sys.path.append({!r}); from starsmith.evaluation.sandbox.inside.zygote import main; main()"
_END_S = 10.0
# Users of the fallback for root, one a process: a range that distributions leave to such uses.
_FIRST_UID, _UIDS = 61184, 4096


class Keeper:
    """Starts the process; jobs may be sent before it is ready for them."""

    def __init__(self, choice: SandboxChoice, role: Role, preload: Sequence[str]) -> None:
        self.choice, self.role, self.preload = choice, role, tuple(preload)
        namespaces = choice.kind == "namespaces"
        if role == "tools" and not namespaces:
            raise InputError(
                "other languages than Python run in namespaces only: their tools start processes of their own",
                hint="apt-get install bubblewrap",
            )
        self._own_scratch = (
            None if namespaces else Path(tempfile.mkdtemp(prefix=f"starsmith-sandbox-{os.getpid()}-")).resolve()
        )
        self.scratch = self._own_scratch or Path("/tmp")  # noqa: S108  (a tmpfs of the sandbox's own)
        self._around = (
            surroundings.tools_surroundings(self.scratch)
            if role == "tools"
            else surroundings.python_surroundings(self.preload, self.scratch, namespaces=namespaces)
        )
        self._ready = False
        self._complaints: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = self._start(theirs.fileno())
        wire.send_message(self.connection, self._settings())

    def fileno(self) -> int:
        """For a selector."""
        return self.connection.fileno()

    @property
    def environment(self) -> dict[str, str]:
        """All of a program's environment."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        paths = {"HOME": str(self.scratch), "TMPDIR": str(self.scratch), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        return {**paths, **threads, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "MPLBACKEND": "Agg"}

    def receive(self) -> wire.Message | None:
        """The report on a job, `{}` once when it is ready for them, or None when the process is gone."""
        try:
            message = wire.receive_message(self.connection)[0]
        except ConnectionError:
            message = None
        if self._ready:
            return message
        if message is None or "failed" in message:
            said = (message or {}).get("failed") or self.complaint() or "no word"
            raise StarsmithError(f"the sandbox does not start: {said.strip()}", hint="see docs/evaluation.md, sandbox")
        self._ready = True
        return {}

    def send(self, job: wire.Message, descriptors: Sequence[int] = ()) -> None:
        """A job, or `{}`, which ends the one that runs; whether it arrives shows in the report."""
        with contextlib.suppress(ConnectionError):
            wire.send_message(self.connection, job, tuple(descriptors))

    def complaint(self) -> str:
        """The end of what it wrote to standard error."""
        size = os.fstat(self._complaints.fileno()).st_size
        return os.pread(self._complaints.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace").strip()

    def close(self) -> None:
        """End the process and all below it, and take away its folder."""
        self.connection.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._complaints.close()
        if self._own_scratch:
            shutil.rmtree(self._own_scratch, ignore_errors=True)

    def kill(self) -> None:
        """At once; what is below it dies with it."""
        self._process.kill()
        self._process.wait()

    def _start(self, descriptor: int) -> subprocess.Popen[bytes]:
        interpreter = os.path.realpath(sys.executable)
        options = ["-s", "-S", "-P", "-B", "-X", "utf8", "-c", _START.format(str(self._around.search[0]))]
        command = [interpreter, *options, str(descriptor)]
        if self.choice.kind == "namespaces":
            as_root = self.choice.as_root
            command = bubblewrap.wrap(command, self._around, self.scratch, self.environment, as_root=as_root)
        return subprocess.Popen(  # noqa: S603  (our own line)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            env=self.environment,
            pass_fds=(descriptor,),
            start_new_session=True,
        )

    def _settings(self) -> wire.Message:
        return {
            "scratch": str(self.scratch),
            "scratch_bytes": self.choice.scratch_bytes,
            "mounts": self.choice.kind == "namespaces",
            "uid": self._uid(),
            "confined": self.choice.kind != "unsafe",
            "search": [str(path) for path in self._around.search[1:]],
            "preload": list(self.preload),
            "rules": [(kind, str(path)) for kind, path in self._around.rules],
            "tools": self.role == "tools",
        }

    def _uid(self) -> int | None:
        """Whom root becomes."""
        if self.choice.kind == "namespaces":
            return confinement.OUTSIDER if self.choice.as_root else None
        read = [path for kind, path in self._around.rules if kind == landlock.READ and path.exists()]
        if self.choice.kind == "unsafe" or os.geteuid() != 0 or not surroundings.readable_by_all(read):
            return None
        return _FIRST_UID + self._process.pid % _UIDS
