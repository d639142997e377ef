"""What server and vehicles say to each other: a few fields of plain types, whatever carries them.

    contribute   protocol, network, version            -> protocol, version, facts, tensors
    take         protocol, network, version,
                 manifest, tensors, signature          -> protocol, version

Every answer may hold a ``refusal`` in words instead. Nothing else is read of a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from ocl_edge.errors import FleetError
from ocl_edge.plain_text import plain
from ocl_edge_app.fleet.contribution import PROTOCOL

Field = str | int | bytes
Fields = Mapping[str, Field]
T = TypeVar("T", str, int, bytes)

CONTRIBUTE, TAKE = "contribute", "take"
LONGEST_REFUSAL = 500


def message(network: str, version: int, **fields: Field) -> dict[str, Field]:
    """From the server."""
    return {"protocol": PROTOCOL, "network": network, "version": version, **fields}


def answer(version: int, **fields: Field) -> dict[str, Field]:
    """From a vehicle that runs this version of the fleet."""
    return {"protocol": PROTOCOL, "version": version, **fields}


def refusal(version: int, error: Exception) -> dict[str, Field]:
    """A vehicle's answer that says why there is none."""
    return answer(version, refusal=plain(str(error), LONGEST_REFUSAL))


def field(fields: Fields, name: str, kind: type[T]) -> T:
    """A field of a message.

    Raises:
        FleetError: it is missing, or of another type.
    """
    value = fields.get(name)
    if type(value) is not kind:
        found = "nothing" if value is None else type(value).__name__
        raise FleetError(f"a message should hold {name} as {kind.__name__}, it holds {found}")
    return value


def check_protocol(fields: Fields, theirs: str, ours: str) -> None:
    """Refuse who speaks otherwise.

    Args:
        fields: that came.
        theirs: who sent them.
        ours: who reads them.

    Raises:
        FleetError: it says who is older.
    """
    spoken = field(fields, "protocol", int)
    if spoken != PROTOCOL:
        older = theirs if spoken < PROTOCOL else ours
        raise FleetError(
            f"{theirs} speaks version {spoken} of the fleet's protocol, {ours} speaks {PROTOCOL}: "
            f"{older} has the older ocl-edge, update that"
        )
