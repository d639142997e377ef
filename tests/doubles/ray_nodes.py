"""A Ray cluster here: a head with one CPU, to which nodes are added. Nothing of it is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LEAST_STORE_BYTES = 80 << 20
WAITS_S = 90.0


class Nodes:
    """A cluster; `address` is its head's."""

    def __init__(self, temporary: str) -> None:
        from ray.cluster_utils import Cluster

        self.temporary = temporary
        self._cluster = Cluster()
        self.add(temp_dir=temporary, include_dashboard=False)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self, **more: Any) -> int:
        """The process of a new node with one CPU."""
        node = self._cluster.add_node(num_cpus=1, object_store_memory=LEAST_STORE_BYTES, **more)
        return int(node.all_processes["raylet"][0].process.pid)

    def close(self) -> None:
        """End every process, those included that a killed node left."""
        with contextlib.suppress(Exception):
            self._cluster.shutdown()
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        assert not left

    def processes(self) -> list[int]:
        """All that write into this cluster's directory, or were started by one that does."""
        found = [
            pid for pid in pids() if self.temporary in command_of(pid) or self.temporary in files_of(pid)
        ]
        return [pid for pid in found if pid != os.getpid()]


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def files_of(pid: int) -> str:
    """Names of what a process has open."""
    with contextlib.suppress(OSError):
        return " ".join(os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir())
    return ""


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    return 0


def worker_at_work(node: int) -> int:
    """The worker of a node that runs a pass, as soon as there is one."""
    deadline = time.monotonic() + WAITS_S
    while time.monotonic() < deadline:
        for pid in pids():
            if parent_of(pid) == node and command_of(pid).startswith("ray::run_job"):
                return pid
        time.sleep(0.02)
    raise AssertionError(f"no pass began on node {node}")


@contextlib.contextmanager
def nodes() -> Iterator[Nodes]:
    pytest.importorskip("ray")
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as temporary,
    ):
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Nodes(temporary)
        try:
            yield cluster
        finally:
            cluster.close()
