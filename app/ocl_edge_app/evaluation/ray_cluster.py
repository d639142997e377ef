"""Finds a Ray cluster, or starts one."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ocl_edge.errors import ClusterError, MissingExtraError, UsageError

PORT = 6379
PROBE_S = 5.0
OBJECT_STORE_BYTES = 256 << 20
"""It holds bundles; what does not fit is kept on the disk."""
QUIETLY: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
SETTINGS = b"\x04"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + SETTINGS + bytes(5)
"""With an empty SETTINGS frame; a gRPC server, as a Ray head is, answers with its own."""


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster or started on this machine; what was started ends with the block.

    Args:
        address: ``auto`` is the cluster that runs here, else the head of one that this machine is a node of;
            None starts one, which nobody else can use.

    Raises:
        UsageError: the address is none.
        MissingExtraError: Ray is not installed.
        ClusterError: there is no such cluster.
    """
    place = address if address in (None, "auto") else _listening(address or "")
    with _silent(of_its_own=place is None), contextlib.ExitStack() as opened:
        ray = ray_library()
        try:
            ray.init(**(_own(opened) if place is None else {"address": place}), **QUIETLY)
        except Exception as error:
            raise ClusterError(_not_there(address, error)) from error
        opened.callback(ray.shutdown)
        yield ray


def _own(opened: contextlib.ExitStack) -> dict[str, Any]:
    """How Ray starts on this machine: what it writes goes with it, and nothing is served to a browser."""
    logs = tempfile.TemporaryDirectory(prefix="ocl-edge-ray-", dir="/tmp", ignore_cleanup_errors=True)
    return {
        "address": "local",
        "num_cpus": len(os.sched_getaffinity(0)),
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_temp_dir": opened.enter_context(logs),
    }


def _listening(address: str) -> str:
    """``HOST:PORT`` of an address at which a Ray head listens.

    Raises:
        UsageError: it is none.
        ClusterError: nothing listens there, or no Ray head.
    """
    host, _, digits = address.rpartition(":") if ":" in address else (address, "", str(PORT))
    if not host or "/" in address or not digits.isdecimal() or int(digits) not in range(1, 1 << 16):
        raise UsageError(f"--address {address}: expected auto or HOST[:PORT]")
    try:
        with socket.create_connection((host, int(digits)), PROBE_S) as probe:
            if os.environ.get("RAY_USE_TLS") == "1":
                return f"{host}:{digits}"
            probe.settimeout(PROBE_S)
            probe.sendall(HTTP2_PREFACE)
            answer = probe.recv(9)
    except OSError as error:
        raise ClusterError(_not_there(address, error)) from error
    if answer[3:4] != SETTINGS:
        raise ClusterError(f"--address {address}: what listens there is no Ray head")
    return f"{host}:{digits}"


@contextmanager
def _silent(of_its_own: bool) -> Iterator[None]:
    """Ray tells nobody of its use; of a cluster of one's own a secret keeps others out."""
    wanted = {"RAY_USAGE_STATS_ENABLED": "0"}
    if of_its_own:
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def ray_library() -> Any:
    """Ray.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "--engine ray") from error
    return ray


def _not_there(address: str | None, error: Exception) -> str:
    if address is None:
        return f"Ray cannot be started here: {first_line(error)}"
    start = "ray start --head" if address == "auto" else f"ray start --address={address}"
    return (
        f"--address {address}: no Ray cluster that this machine is a node of ({first_line(error)}); start "
        f"one, or join it: {start}"
    )


def first_line(error: BaseException) -> str:
    """Of an error's text, or its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
