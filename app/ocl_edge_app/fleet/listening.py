"""Addresses of a fleet: what is reachable from elsewhere is encrypted, and lets nobody in without a key."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from ocl_edge.errors import UsageError

LOCAL = "localhost"
PORTS = range(1, 1 << 16)


@dataclass(frozen=True)
class Listening:
    """Where a server listens, and to whom.

    Attributes:
        host: name or address of this machine.
        port: 1 to 65535.
        certificate: file of the TLS certificate (PEM); None: no TLS.
        certificate_key: of its private key.
        vehicles: directory of ``NAME.pub``, the public keys (PEM, elliptic curve) of the vehicles that may
            join; None: everybody.
    """

    host: str
    port: int
    certificate: Path | None
    certificate_key: Path | None
    vehicles: Path | None


@dataclass(frozen=True)
class Reaching:
    """Which server, and as whom.

    Attributes:
        server: HOST:PORT.
        authority: file of the certificate that signs the server's (PEM); None: the system's.
        identity: file of the vehicle's private key (PEM, elliptic curve); None: a new one each time.
        plain: without TLS.
        give_up_s: how long a server that is away is waited for.
    """

    server: str
    authority: Path | None
    identity: Path | None
    plain: bool
    give_up_s: float


def listening_at(
    address: str, certificate: Path | None, certificate_key: Path | None, vehicles: Path | None
) -> Listening:
    """Raises `UsageError` for no address, or one that others reach without TLS or without keys."""
    host, port = host_and_port("--listen", address)
    if (certificate is None) != (certificate_key is None):
        raise UsageError("--certificate and --certificate-key go together")
    if not is_this_machine(host) and (certificate is None or vehicles is None):
        raise UsageError(
            f"--listen {address} is reachable from elsewhere: it needs --certificate, --certificate-key and "
            "--vehicles"
        )
    return Listening(host, port, certificate, certificate_key, vehicles)


def reaching_of(address: str, authority: Path | None, identity: Path | None, give_up_s: float) -> Reaching:
    """Without TLS only where the server is on this machine and no authority is named.

    Raises:
        UsageError: no address.
    """
    host, _ = host_and_port("--server", address)
    plain = is_this_machine(host) and authority is None
    return Reaching(address, authority, identity, plain, give_up_s)


def host_and_port(option: str, address: str) -> tuple[str, int]:
    """Raises `UsageError` unless it is HOST:PORT, an IPv6 address in brackets."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and colon and port.isdecimal() and len(port) < 6 and int(port) in PORTS):
        raise UsageError(f"{option} {address}: expected HOST:PORT, as in 127.0.0.1:9470")
    return host, int(port)


def is_this_machine(host: str) -> bool:
    if host == LOCAL:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
