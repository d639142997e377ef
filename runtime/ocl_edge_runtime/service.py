"""Tells systemd how a run is doing (sd_notify): that it is ready, alive, and stopping.

Nothing happens where ``NOTIFY_SOCKET`` is not set. The protocol is that of sd_notify(3): datagrams of
``NAME=VALUE`` lines.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType


class Service:
    """The run as a service of systemd. A message that cannot be sent is no reason to stop.

    Args:
        environment: where systemd says what it wants.
        clock: seconds.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._every_s = _watchdog_s(environment) / 2
        self._clock, self._told_at = clock, -float("inf")

    def ready(self) -> None:
        """The first frame can come."""
        self._tell("READY=1\nSTATUS=waiting for the first frame")

    def alive(self, frames: int) -> None:
        """A frame is done; told twice in the time that the watchdog waits, or once a second without one."""
        now = self._clock()
        if now - self._told_at >= self._every_s:
            self._told_at = now
            self._tell(f"WATCHDOG=1\nSTATUS={frames} frames")

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell("STOPPING=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_systemd:
            to_systemd.setblocking(False)
            to_systemd.sendto(message.encode(), self._address)


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """How long systemd waits for a sign of life; 2 s where it does not, or waits for another process."""
    text, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
    return int(text) / 1e6 if text.isdecimal() and int(text) > 0 and process == str(os.getpid()) else 2.0
