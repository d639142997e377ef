"""A Flower SuperLink in this process that serves vehicles alone, and the grid that asks them.

Of Flower's HTTP interface only ``/v1/fleet`` is reachable, which vehicles (SuperNodes) speak. What starts
runs, uploads apps or acts for a ServerApp is answered with 404: nobody can hand this server code, and it has
none to hand on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ocl_edge.bundle.signature import MOST_KEY_BYTES
from ocl_edge.errors import FleetError, OutputError, UsageError
from ocl_edge.given_files import read_given, reason_of
from ocl_edge_app.fleet.flower_envelopes import (
    MESSAGE_TYPE,
    MOST_BODY_BYTES,
    flower,
    put_together,
    record_of,
    taken_apart,
)
from ocl_edge_app.fleet.listening import Listening
from ocl_edge_app.fleet.messages import Fields

VEHICLES_ONLY = "/v1/fleet/"
START_S = 30.0
LOOK_AGAIN_S = 0.1

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class VehiclesOnly:
    """Passes what vehicles send, up to a size; everything else gets 404 or 413.

    Args:
        app: what passes goes to.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http" or not scope["path"].startswith(VEHICLES_ONLY):
            await _refuse(send, 404)
            return
        lengths = [value for name, value in scope["headers"] if name.lower() == b"content-length"]
        if len(lengths) != 1 or not lengths[0].isdigit() or int(lengths[0][:20]) > MOST_BODY_BYTES:
            await _refuse(send, 413)  # without a length it has no end
            return
        await self._app(scope, receive, send)


class SuperLink:
    """Vehicles that are connected, and messages to and from them. A context manager.

    Args:
        listening: see `Listening`.

    Raises:
        MissingExtraError: Flower is not installed.
        UsageError: a key of a vehicle cannot be read.
        OutputError: the address cannot be listened on.
    """

    def __init__(self, listening: Listening) -> None:
        flower()
        import uvicorn
        from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID
        from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
        from flwr.supercore.task_identity import TaskIdentity
        from flwr.superlink.main import create_app

        app = create_app()
        app.state.enable_supernode_auth = listening.vehicles is not None
        self._state = app.state.linkstate_factory.state()
        self._names = self._register(listening.vehicles) if listening.vehicles else {}
        self._run: int = self._state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        (run,) = self._state.get_run_info(run_ids=[self._run])
        self._state.claim_task(run.primary_task_id)
        self._state.activate_task(run.primary_task_id)
        TaskIdentity.run_id, TaskIdentity.node_id = self._run, SUPERLINK_NODE_ID
        TaskIdentity.task_id = run.primary_task_id
        self._server = uvicorn.Server(
            uvicorn.Config(
                VehiclesOnly(app),
                host=listening.host,
                port=listening.port,
                log_level="error",
                ws="none",
                ssl_certfile=listening.certificate,
                ssl_keyfile=str(listening.certificate_key) if listening.certificate_key else None,
                timeout_keep_alive=30,
                limit_concurrency=1000,
            )
        )
        self._listening = listening
        self._thread = threading.Thread(target=self._serve, name="superlink", daemon=True)

    def __enter__(self) -> SuperLink:
        self._thread.start()
        until = time.monotonic() + START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise OutputError(
                    f"cannot listen on {self._listening.host}:{self._listening.port}: is the port taken, "
                    "the certificate readable?"
                )
            time.sleep(LOOK_AGAIN_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(START_S)

    def vehicles(self) -> list[str]:
        """Names of those that are connected: of their keys' files, or Flower's numbers."""
        return sorted(self._names.get(node, str(node)) for node in self._state.get_nodes(self._run))

    def ask(self, asked: Mapping[str, Fields], timeout_s: float) -> Mapping[str, Fields | FleetError]:
        """See `ocl_edge_app.fleet.rounds.Grid`."""
        nodes = {name: node for node, name in self._names.items()}
        waiting = {
            self._send(nodes.get(name) or int(name), what, timeout_s): name for name, what in asked.items()
        }
        until = time.monotonic() + timeout_s
        answers: dict[str, Fields | FleetError] = {}
        while waiting and time.monotonic() < until:
            for reply in self._state.get_message_res(message_ids=set(waiting), run_id=self._run):
                name = waiting.pop(reply.metadata.reply_to_message_id)
                answers[name] = self._read(reply, until)
            time.sleep(LOOK_AGAIN_S)
        for name in waiting.values():
            answers[name] = FleetError(f"no answer within {timeout_s:g} s")
        return answers

    def _send(self, node: int, fields: Fields, timeout_s: float) -> str:
        from flwr.app import Message
        from flwr.app.message.message import remove_content_from_message

        message = Message(record_of(fields), dst_node_id=node, message_type=MESSAGE_TYPE, ttl=timeout_s)
        with taken_apart(message) as (objects, tree):
            session = self._state.start_session(self._run)
            self._state.store_message_and_object_tree(remove_content_from_message(message), tree, session)
            for name, content in objects.items():
                self._state.store_object(self._run, session, name, content)
            return str(message.metadata.message_id)

    def _read(self, reply: Any, until: float) -> Fields | FleetError:
        """The answer; its parts may still be on their way."""
        message_id = reply.metadata.message_id

        def pull(name: str) -> bytes:
            while not (content := self._state.object_store.get(name)) and time.monotonic() < until:
                time.sleep(LOOK_AGAIN_S)
            return content or b""

        try:
            if reply.has_error():
                raise FleetError(f"Flower says: {reply.error.reason}")
            tree = self._state.object_store.get_object_tree(message_id)
            return put_together(message_id, tree, pull)[1]
        except FleetError as error:
            return error
        except Exception as error:  # of Flower's store
            return FleetError(f"the answer cannot be read: {type(error).__name__}: {error}")
        finally:
            self._state.object_store.delete(message_id)
            self._state.delete_messages(message_ins_ids={reply.metadata.reply_to_message_id})

    def _register(self, directory: Path) -> dict[int, str]:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
        from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
        from flwr.supercore.primitives.asymmetric import public_key_to_bytes

        names = {}
        for file in sorted(directory.glob("*.pub")):
            try:
                key = load_pem_public_key(read_given(file, MOST_KEY_BYTES))
                if not isinstance(key, ec.EllipticCurvePublicKey):
                    raise ValueError("it is of another kind")
                node = self._state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key_to_bytes(key), 0)
            except (OSError, ValueError) as error:
                reason = reason_of(error) if isinstance(error, OSError) else error
                raise UsageError(
                    f"{file} holds no public key of a vehicle ({reason}); make a pair: openssl ecparam -name "
                    "secp384r1 -genkey -noout -out NAME.pem; openssl ec -in NAME.pem -pubout -out NAME.pub"
                ) from error
            names[node] = file.stem
        if not names:
            raise UsageError(f"{directory} holds no NAME.pub: no vehicle may join")
        return names

    def _serve(self) -> None:
        try:
            self._server.run()
        except (SystemExit, OSError):  # the address, the certificate: `__enter__` says so
            return


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
