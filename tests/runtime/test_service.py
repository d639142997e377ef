"""What systemd is told, read from a socket as systemd would."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.cli import run
from ocl_edge_runtime.service import Service


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def told(listening: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(listening.recv(1000).decode())
        except BlockingIOError:
            return messages


def test_a_run_is_ready_alive_and_stopping(
    systemd: socket.socket, small_bundle: Bundle, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.getsockname()))
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    assert run(["run", str(small_bundle.path), "--source", str(frames), "--backend", "torch", "-q"]) == 0
    messages = told(systemd)
    assert messages[0].startswith("READY=1\n")
    assert [m for m in messages if m.startswith("WATCHDOG=1")][-1].endswith("STATUS=6 frames")
    assert messages[-1] == "STOPPING=1"


def test_it_speaks_twice_in_the_time_that_the_watchdog_waits(systemd: socket.socket) -> None:
    now = [100.0]
    environment = {
        "NOTIFY_SOCKET": str(systemd.getsockname()),
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    service = Service(environment, lambda: now[0])
    for tenth in range(61):
        now[0] = 100 + tenth / 10
        service.alive(tenth)
    assert len(told(systemd)) == 5  # at 0, 1.5, 3, 4.5 and 6 s


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all", "WATCHDOG_USEC": "many"}])
def test_nobody_to_tell_is_no_error(environment: dict[str, str]) -> None:
    with Service(environment) as service:
        service.ready()
        service.alive(1)


def test_abstract_sockets_are_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0ocl-edge-{os.getpid()}")
        Service({"NOTIFY_SOCKET": f"@ocl-edge-{os.getpid()}"}).ready()
        listening.setblocking(False)
        assert told(listening)[0].startswith("READY=1")
