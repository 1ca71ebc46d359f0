"""llama-server as xllamacpp ships it, until it is ended: FILE.gguf THREADS USERS. The address goes to stderr."""

import signal
import sys

import xllamacpp

SLOT_TOKENS = 4096


def main(file: str, threads: int, users: int) -> None:
    """Its defaults, but for a slot of its own for each user."""
    params = xllamacpp.CommonParams()
    params.model.path = file
    params.n_parallel, params.n_ctx = users, users * SLOT_TOKENS
    params.offline, params.port = True, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    sys.stderr.write(f"\nlistening at {server.listening_address}/\n")
    sys.stderr.flush()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # its threads inherit it
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
