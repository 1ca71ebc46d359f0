"""What one program may use before it is stopped; CPU time decides, so that a busy machine changes no verdict."""

from dataclasses import dataclass

from starsmith.core.errors import ConfigError

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one program: of the candidate, and once more of its tests."""

    cpu_s: float = 3.0  # processor time of all threads; what BigCode's harness gives on the wall clock
    wall_s: float = 30.0  # a backstop for what sleeps: generous, or the load of the machine would decide
    memory_bytes: int = 4096 * MIB  # address space (RLIMIT_AS); of other languages: data of one process
    file_bytes: int = 64 * MIB  # one file
    open_files: int = 128  # descriptors
    threads: int = 64  # or, of other languages, processes and threads together

    def __post_init__(self) -> None:
        if self.cpu_s <= 0 or self.wall_s < self.cpu_s:
            raise ConfigError(
                f"cpu_s={self.cpu_s}, wall_s={self.wall_s}: the wall clock is the backstop of the processor time",
                hint="give wall_s at least as much as cpu_s",
            )
        if min(self.memory_bytes, self.file_bytes, self.open_files, self.threads) < 1:
            raise ConfigError("a limit below 1 lets nothing run", hint="leave it at its default")
