"""A corpus built on a Ray cluster of two workers: one CPU each, and none at the head. A script of test_ray.py.

    cluster_build.py FOLDER OUT LOG UNIT_BYTES KILL_AFTER

Every task leaves a line in LOG. One worker is killed, without grace, once KILL_AFTER lines are there.
"""

import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from starsmith.corpus import build, sources, trees, work
from starsmith.corpus.config import CorpusConfig
from starsmith.corpus.engine import Engine


def main(folder: Path, out: Path, log: Path, unit_bytes: int, kill_after: int) -> None:
    cut = trees.plan_units
    sources.plan_units = lambda *args, **more: cut(*args, **more, unit_bytes=unit_bytes)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    engine = LoggingEngine(cluster.address, log)
    killer = threading.Thread(target=kill, args=(cluster, nodes[1], log, kill_after), daemon=True)
    killer.start()
    build.run(CorpusConfig(), sources=sources.open_sources([folder]), out=out, engine=engine)
    killer.join(timeout=1)
    sys.stdout.write("the build ended first" if killer.is_alive() else "worker killed")
    ray.shutdown()
    cluster.shutdown()


class LoggingEngine(Engine):
    """The engine, with a line for each task that is begun: its worker and what it writes."""

    def __init__(self, address: str, log: Path) -> None:
        super().__init__(address)
        object.__setattr__(self, "log", log)

    def run(self, function, tasks, **more):
        log = self.log

        def logged(task):
            import ray as worker

            node = worker.get_runtime_context().get_node_id()
            with log.open("a") as lines:
                lines.write(f"{node} {function.__name__}\n")
            if function is work.read_unit:
                time.sleep(0.3)  # so that there is a middle
            return function(task)

        return super().run(logged, tasks, **more)


def kill(cluster, node, log: Path, after: int) -> None:
    while not log.exists() or len(log.read_text().splitlines()) < after:
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), *map(int, sys.argv[4:6]))
