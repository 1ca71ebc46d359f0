"""Where untrusted programs run: what keeps them from the machine, from each other and from their tests.

    choice.py        which protection this machine offers; refuses where there is none
    surroundings.py  what a program sees: the interpreter, the packages it was given, a toolchain; nothing of the user's
    bubblewrap.py    the command line that makes the namespaces
    keeper.py        our end of one long-lived process inside, which forks a child a program
    inside/          what runs there: standard library only, because the program could import whatever it sees

Layers, each of which would do for most attacks: namespaces of its own (user, pid, net, mount, ipc, uts) on a read-only
system with a small tmpfs; no capability; Landlock (files, TCP, signals); seccomp (no exec, fork, socket, ptrace, mount,
io_uring ...); rlimits. The candidate and its tests are in two such sandboxes and exchange plain data.

What this does NOT cover:

- holes in the kernel that can be reached through the system calls left, and side channels (timing, caches). For
  programs of somebody who is after you, put a virtual machine around it.
- mode "same": the program shares a process with its tests and can make them pass (`__eq__`, frames, patched modules).
  So can programs of other languages that end with status 0 before their tests run.
- a right answer for the wrong reason: a program may recognise the arguments that tests give and look the answer up.
- fallback without namespaces: the machine's memory is bounded per process only; disk space only per file; a program
  sees the names of files in the folders of packages (not their contents), and the network namespace is the machine's
  (sockets cannot be made at all). As root there, the number of threads is bounded by memory alone.
- the numbers of an `unsafe` run: it has limits of time and memory, no more.
- how long the machine is slow: CPU time is bounded, memory bandwidth and caches are shared with the other programs.
"""
