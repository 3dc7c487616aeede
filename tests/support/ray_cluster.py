"""A real Ray cluster of two nodes on this machine.

Test modules import the fixture: ``from tests.support.ray_cluster import ray_cluster``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.memory import list_process_tree
from tests.conftest import REPOSITORY

# The start of the command line of an actor's process.
ACTOR = b"ray::MapWorker"
_PROGRAM = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass(frozen=True)
class RayCluster:
    """A running cluster.

    Attributes:
        address: the address to connect to.
        process: the ID of the process that started it.
    """

    address: str
    process: int

    def actors(self) -> list[int]:
        """List the process IDs of the actors that have started."""
        found = []
        for process in list_process_tree(self.process):
            with suppress(OSError):
                if Path(f"/proc/{process}/cmdline").read_bytes().startswith(ACTOR):
                    found.append(process)
        return found

    def kill_an_actor(self) -> None:
        os.kill(self.actors()[0], signal.SIGKILL)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayCluster]:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "RAY_USAGE_STATS_ENABLED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = next((line for line in process.stdout if ":" in line), "")
        assert address, "the cluster did not start"
        yield RayCluster(address.strip(), process.pid)
        started = list_process_tree(process.pid)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(60)
    give_up = time.monotonic() + 30
    while any(Path(f"/proc/{number}").exists() for number in started[1:]):
        assert time.monotonic() < give_up, "processes of the cluster did not end"
        time.sleep(0.05)
