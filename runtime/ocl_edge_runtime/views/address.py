"""Where a page or the metrics are served."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ocl_edge.errors import OutputError, UsageError

LOOPBACK = "127.0.0.1"
PORTS = range(65536)
Server = TypeVar("Server")


@dataclass(frozen=True)
class Address:
    """Host and port; port 0 takes a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, option: str) -> Address:
        """``:PORT`` or ``PORT`` is on this machine alone, ``HOST:PORT`` where HOST says.

        Raises:
            UsageError: neither.
        """
        host, colon, port = text.rpartition(":")
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) in PORTS) or (
            colon and host.endswith(":")
        ):
            raise UsageError(f"{option} {text!r}: expected :PORT, or HOST:PORT for other machines")
        return cls(host.strip("[]") or LOOPBACK, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def listening(address: Address, option: str, serve: Callable[[], Server]) -> Server:
    """What ``serve`` opens at an address.

    Raises:
        OutputError: the port is taken, or the host is not this machine's.
    """
    try:
        return serve()
    except socket.gaierror as error:
        raise OutputError(f"{option}: there is no host {address.host!r}: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OutputError(
                f"{option}: port {address.port} is in use, perhaps by another run; name another, or :0 for "
                "any that is free"
            ) from error
        raise OutputError(f"{option}: cannot listen on {address}: {error.strerror}") from error
