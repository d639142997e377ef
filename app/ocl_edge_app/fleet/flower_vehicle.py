"""A Flower SuperNode in this process that answers with `Vehicle`.

It speaks Flower's fleet interface and never asks for an app: what the server sends is a message of plain
fields, and the code that reads it is ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ocl_edge.bundle.signature import MOST_KEY_BYTES
from ocl_edge.errors import FleetError, UsageError
from ocl_edge.given_files import read_given, reason_of
from ocl_edge_app.fleet.flower_envelopes import flower, put_together, record_of, taken_apart
from ocl_edge_app.fleet.listening import Reaching
from ocl_edge_app.fleet.messages import Fields

LOOK_AGAIN_S = 1.0


def serve(
    reaching: Reaching,
    answer: Callable[[Fields], Fields],
    answers: int | None,
    note: Callable[[str], None],
) -> None:
    """Answer the server.

    Args:
        reaching: see `Reaching`.
        answer: to a message.
        answers: that are given; None: it goes on.
        note: told in words what happens.

    Raises:
        MissingExtraError: Flower is not installed.
        UsageError: the key cannot be read.
        FleetError: the server cannot be reached, or does not let this vehicle in.
    """
    flower()
    given = 0
    with _connected(reaching) as (receive, send, pull, push, confirm):
        note(f"connected to {reaching.server}")
        while answers is None or given < answers:
            received = receive()
            if received is None:
                time.sleep(LOOK_AGAIN_S)
                continue
            message, tree = received
            run, message_id = message.metadata.run_id, message.metadata.message_id
            try:
                whole, fields = put_together(message_id, tree, partial(pull, run))
            except FleetError as error:
                note(str(error))
                continue
            confirm(run, message_id)
            _reply(whole, answer(fields), send, push)
            given += 1
        time.sleep(LOOK_AGAIN_S)  # Flower gives the server no answers of a vehicle that has left
    if answers is None or given < answers:  # Flower has only logged what went wrong
        raise FleetError(f"the connection to {reaching.server} is lost")


def _reply(message: Any, fields: Fields, send: Any, push: Any) -> None:
    from flwr.app import Message

    reply = Message(record_of(fields), reply_to=message)
    with taken_apart(reply) as (objects, tree):
        wanted, session = send(reply, tree, 0.0)
        for name in wanted:
            push(message.metadata.run_id, session, name, objects[name])


@contextmanager
def _connected(reaching: Reaching) -> Iterator[tuple[Any, Any, Any, Any, Any]]:
    """Flower's connection; what goes wrong in it becomes a `FleetError`."""
    import httpx
    from flwr.supernode.fleet_http_connection import http_request_response

    keys = _identity(reaching.identity)
    authority = None if reaching.authority is None else str(reaching.authority)
    try:
        with http_request_response(
            reaching.server, reaching.plain, authority, keys, None, reaching.give_up_s
        ) as (_, receive, send, _run, _app, pull, push, confirm):
            yield receive, send, pull, push, confirm
    except (httpx.HTTPError, OSError, RuntimeError, SystemExit) as error:  # it ends the process otherwise
        said = f": {error}" if str(error) and not isinstance(error, SystemExit) else ""
        raise FleetError(
            f"the server {reaching.server} cannot be reached, or does not let this vehicle in{said}"
        ) from error


def _identity(file: Path | None) -> Any:
    """The vehicle's pair of keys; None lets Flower make one."""
    if file is None:
        return None
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(read_given(file, MOST_KEY_BYTES), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("it is of another kind")
    except (OSError, ValueError, TypeError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else error
        raise UsageError(
            f"{file} holds no private key of a vehicle ({reason}); make one: openssl ecparam -name secp384r1 "
            f"-genkey -noout -out {file}"
        ) from error
    return key, key.public_key()
