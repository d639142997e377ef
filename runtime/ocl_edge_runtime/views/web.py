"""A page that shows a run and can pause, reset and save it: ``--view web``.

Each request is answered on a thread of its own and of low priority, from what the frame loop has left there;
the loop waits for nobody. What a button asks for, the loop does between two frames.

Whoever reaches the page may use its buttons. So it listens on this machine alone, or else wants a token.
Other pages in the same browser cannot press them: a request must name the page's own host (which a name that
was pointed here does not), come from its own origin, and carry a secret that only the page holds.
"""

from __future__ import annotations

import hmac
import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ocl_edge.finite import finite
from ocl_edge_runtime.lifetime import ClosedAtExit
from ocl_edge_runtime.session.updates import give_way
from ocl_edge_runtime.views.address import Address, listening
from ocl_edge_runtime.views.controls import ACTIONS, Controls
from ocl_edge_runtime.views.picture import NewestPicture
from ocl_edge_runtime.views.stream_state import StreamState

PATIENCE_S = 10.0
"""A browser that neither asks nor reads for so long is let go."""

MOST_AT_ONCE = 32
COOKIE = "ocl_edge_token"
SECRET_HEADER = "X-OCL-Edge"


@dataclass(frozen=True)
class ShownCamera:
    """What the page shows of a camera, and what it may ask of it."""

    state: StreamState
    picture: NewestPicture
    controls: Controls


class WebView(ClosedAtExit):
    """Serves the page.

    Args:
        address: where; anything but loopback gets a token.
        cameras: by name.
        title: of the page.
        classes: names and RGB colours.

    Attributes:
        url: to open, with the token where there is one.

    Raises:
        OutputError: the port is in use, or cannot be listened on.
    """

    def __init__(
        self,
        address: Address,
        cameras: Mapping[str, ShownCamera],
        title: str,
        classes: list[tuple[str, tuple[int, int, int]]],
    ) -> None:
        self.cameras = cameras
        self.title, self.classes = title, classes
        self.token = None if address.is_loopback else secrets.token_urlsafe(24)
        self.secret = secrets.token_urlsafe(24)
        self.page = resources.files("ocl_edge_runtime.views").joinpath("page.html").read_text("utf-8")
        answer = partial(_Answer, self)
        self._server = listening(address, "--view web", lambda: _Server((address.host, address.port), answer))
        self.address = Address(address.host, self._server.server_port)
        self.url = f"http://{self.address}/" + (f"?token={self.token}" if self.token else "")
        self._thread = threading.Thread(target=self._server.serve_forever, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def state(self) -> dict[str, Any]:
        """What the page shows, as JSON has it."""
        return {
            "title": self.title,
            "classes": [{"name": name, "colour": colour} for name, colour in self.classes],
            "cameras": [_state_of(name, camera) for name, camera in self.cameras.items()],
        }


def _state_of(name: str, camera: ShownCamera) -> dict[str, Any]:
    state = camera.state
    return {
        "name": name,
        "frames": state.frames,
        "late": state.late,
        "dropped": state.dropped,
        "latency_ms": 1000 * state.last_latency_s,
        "updates": state.updates,
        "rollbacks": state.rollbacks,
        "opening": state.opening,
        "distance": state.distance,
        "drift": state.drift,
        "loss": state.loss,
        "reason": state.last_reason,
        "paused": camera.controls.paused,
        "can_save": camera.controls.save is not None,
        "last": camera.controls.last,
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MOST_AT_ONCE

    def __init__(self, place: tuple[str, int], answer: Any) -> None:
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        if ":" in place[0]:
            import socket

            self.address_family = socket.AF_INET6
        super().__init__(place, answer)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        give_way()
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no news."""


class _Answer(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S
    server_version, sys_version = "ocl-edge", ""

    def __init__(self, view: WebView, *connection: Any) -> None:
        self._view = view
        super().__init__(*connection)

    def do_GET(self) -> None:
        """The page, its state, and pictures."""
        if not self._is_allowed():
            return
        path = urlsplit(self.path).path
        number = path.removeprefix("/picture/")
        if path == "/":
            self._send_page()
        elif path == "/state.json":
            self._send(json.dumps(finite(self._view.state()), allow_nan=False).encode(), "application/json")
        elif path.startswith("/picture/") and number.isdecimal() and int(number) < len(self._view.cameras):
            picture = list(self._view.cameras.values())[int(number)].picture.jpeg()
            if picture is None:
                self._refuse(HTTPStatus.NOT_FOUND, "no frame yet")
            else:
                self._send(picture, "image/jpeg")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        """``/do/ACTION/NUMBER``: what a button asks for."""
        self.close_connection = True  # a body, if there is one, is not read
        if not self._is_allowed():
            return
        origin = self.headers.get("Origin")
        ours = hmac.compare_digest(self.headers.get(SECRET_HEADER, "").encode(), self._view.secret.encode())
        if not ours or (origin is not None and origin != f"http://{self.headers['Host']}"):
            self._refuse(HTTPStatus.FORBIDDEN, "this request is not from the page")
            return
        asked = self.path.split("/")[1:]
        cameras = list(self._view.cameras.values())
        known = len(asked) == 3 and asked[0] == "do" and asked[1] in ACTIONS and asked[2].isdecimal()
        if not known or int(asked[2]) >= len(cameras):
            self._refuse(HTTPStatus.NOT_FOUND, "no such button")
        elif cameras[int(asked[2])].controls.ask(asked[1]):  # type: ignore[arg-type]
            self._send(b"{}", "application/json", HTTPStatus.ACCEPTED)
        else:
            self._refuse(HTTPStatus.CONFLICT, "the run keeps no state (--state), or too much was asked")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Requests are not logged."""

    def _is_allowed(self) -> bool:
        """Whether the request is for this host and holds the token where there is one; else refuse it."""
        if not _names_this_host(self.headers.get("Host", ""), self._view):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "open the page by the address that ocl-edge prints")
            return False
        token = self._view.token
        if token is not None and not any(
            hmac.compare_digest(t.encode(), token.encode()) for t in self._tokens()
        ):
            self._refuse(HTTPStatus.UNAUTHORIZED, "open the address with its token, as ocl-edge prints it")
            return False
        return True

    def _tokens(self) -> list[str]:
        given = parse_qs(urlsplit(self.path).query).get("token", [])
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        return [*given, *([cookie.value] if cookie else [])]

    def _send_page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        page = self._view.page.replace("{{nonce}}", nonce).replace("{{secret}}", self._view.secret)
        policy = f"default-src 'none'; img-src 'self' blob:; connect-src 'self'; script-src 'nonce-{nonce}'; "
        policy += f"style-src 'nonce-{nonce}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        more = {"Content-Security-Policy": policy}
        if self._view.token:
            more["Set-Cookie"] = f"{COOKIE}={self._view.token}; HttpOnly; SameSite=Strict; Path=/"
        self._send(page.encode(), "text/html; charset=utf-8", more=more)

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        self._send(words.encode(), "text/plain; charset=utf-8", status)

    def _send(
        self,
        content: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in {**headers, **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _names_this_host(host: str, view: WebView) -> bool:
    """Whether a Host header is an address of ours: a name that a stranger pointed here is not.

    Where a token is wanted, any address will do, since a machine has several; a stranger lacks the token.
    """
    if view.token is not None:
        return True
    port = view.address.port
    return host in (str(view.address), f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}")
