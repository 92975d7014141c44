"""A real Ray cluster on this machine: raylets of their own, each on a loopback address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

HEAD, OTHER = "127.0.0.2", "127.0.0.3"
PATIENCE = 300.0
"""Seconds for what takes two on an idle machine."""

PORTS = (
    *("node-manager", "object-manager", "dashboard-agent-listen", "dashboard-agent-grpc"),
    *("runtime-env-agent", "metrics-export"),
)

ENVIRONMENT = {
    **os.environ,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # `ray start --block` would want a token in the user's home
    "RAY_enable_metrics_collection": "0",
    "RAY_agent_register_timeout_ms": str(round(PATIENCE * 1000)),
    "RAY_health_check_period_ms": "1000",  # a node that was killed is known to be dead after a few seconds
    "RAY_worker_niceness": "0",  # 15 otherwise: on a busy machine nothing would be done
    "OMP_NUM_THREADS": "1",
}


class Cluster:
    """Two raylets with a CPU each; `address` is what drivers join."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        # All at once, so that none is given out twice: Ray's servers would share it without a word.
        port, *ports = free_ports(HEAD, 1 + len(PORTS))
        self.address = f"{HEAD}:{port}"
        self.ports = {HEAD: ports, OTHER: free_ports(OTHER, len(PORTS))}

    def start(self, node: str) -> None:
        """Start the raylet of an address, and wait until drivers can use it."""
        ray = str(Path(sys.executable).with_name("ray"))
        if node == HEAD:
            role = ["--head", "--port", self.address.rpartition(":")[2], "--include-dashboard=false"]
            role += ["--temp-dir", str(self.folder)]
        else:
            role = ["--address", self.address]
        given = zip(PORTS, self.ports[node], strict=True)
        ports = [word for kind, port in given for word in (f"--{kind}-port", str(port))]
        limits = ["--num-cpus", "1", "--object-store-memory", "100000000"]
        with (self.folder.parent / f"{node}.log").open("wb") as log:
            self.nodes[node] = subprocess.Popen(
                [ray, "start", "--block", "--node-ip-address", node, *role, *ports, *limits],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        self._wait_for(node)

    def _wait_for(self, node: str) -> None:
        deadline = time.monotonic() + PATIENCE
        log = self.folder.parent / f"{node}.log"
        while b"Ray runtime started" not in log.read_bytes():
            assert self.nodes[node].poll() is None, log.read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)

    def kill(self, node: str) -> None:
        """End a raylet and its workers, without notice."""
        process = self.nodes.pop(node)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster of two nodes that is gone afterwards. `folder` is a short path: sockets lie in it."""
    cluster = Cluster(folder)
    try:
        cluster.start(HEAD)
        cluster.start(OTHER)
        yield cluster
    finally:
        for node in list(cluster.nodes):
            cluster.kill(node)


def free_ports(host: str, count: int) -> list[int]:
    """Different ports that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
