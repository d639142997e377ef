"""GStreamer for tests: Debian's binding for the system's Python, where this one has none of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEBIAN = "/usr/lib/python3/dist-packages"


def problem() -> str | None:
    """Why there is no GStreamer here; None where there is."""
    script = "import gi; gi.require_version('GstApp', '1.0'); from gi.repository import GstApp, GstVideo"
    for added in ("", f"import sys; sys.path.append({DEBIAN!r}); "):
        tried = subprocess.run([sys.executable, "-c", added + script], capture_output=True, text=True)
        if tried.returncode == 0:
            if added and DEBIAN not in sys.path:
                sys.path.append(DEBIAN)
            return None
    return tried.stderr.strip().splitlines()[-1]


def element_problem(*elements: str) -> str | None:
    """The first of these elements that is missing, in words."""
    import gi

    gi.require_version("Gst", "1.0")
    from gi.repository import Gst

    Gst.init(None)
    missing = [name for name in elements if Gst.ElementFactory.find(name) is None]
    return f"GStreamer lacks {missing[0]}" if missing else None


Serve = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def rtsp_server() -> Iterator[Serve]:
    """Starts the server of `rtsp_server.py`; killed at the end of the test."""
    started = []

    def serve(port: int, *others: object) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("rtsp_server.py")
        process = subprocess.Popen([sys.executable, script, str(port), *map(str, others or (64, 48))])
        started.append(process)
        wait_for_port(port)
        return process

    yield serve
    for process in started:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wait_for_port(port: int) -> None:
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")
