"""The page: what it shows, what its buttons do, and who may press them."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import OutputError
from ocl_edge.method.verdict import Reason
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.views.address import Address
from ocl_edge_runtime.views.controls import Controls
from ocl_edge_runtime.views.picture import NewestPicture
from ocl_edge_runtime.views.stream_state import StreamState
from ocl_edge_runtime.views.web import MOST_AT_ONCE, ShownCamera, WebView
from tests.doubles.images import random_image
from tests.doubles.streams import SilentSource, frame, result

CLASSES = [("road", (128, 64, 128)), ("<b>sky</b>", (0, 0, 250))]


@dataclass
class Served:
    view: WebView
    session: Session
    state: StreamState
    picture: NewestPicture
    controls: Controls

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.view.address.port, timeout=5)
        connection.putrequest(method, path, skip_host=bool(headers and "Host" in headers))
        for name, value in {"Content-Length": "0", **(headers or {})}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse()

    def press(self, action: str, headers: Mapping[str, str] | None = None) -> int:
        return self.ask(f"/do/{action}/0", "POST", {"X-OCL-Edge": self.view.secret, **(headers or {})}).status


def serve(session: Session, host: str = "127.0.0.1") -> Served:
    state, picture = StreamState("front", SilentSource()), NewestPicture([c for _, c in CLASSES])
    controls = Controls(session)
    cameras = {"front": ShownCamera(state, picture, controls)}
    return Served(WebView(Address(host, 0), cameras, "a run", CLASSES), session, state, picture, controls)


@pytest.fixture
def session(small_bundle: Bundle) -> Iterator[Session]:
    rules = RealtimeOptions(adapt_every=1, norm_every=2, statistics_limit=1e9)
    with open_session(small_bundle, SessionOptions(lr=0.1, threads=1, opening=1.0), rules) as opened:
        yield opened


@pytest.fixture
def served(session: Session) -> Iterator[Served]:
    served = serve(session)
    with served.view:
        yield served


def test_the_page_holds_its_secret_and_loads_nothing_from_elsewhere(served: Served) -> None:
    answer = served.ask("/")
    page = answer.read().decode()
    assert (answer.status, served.view.secret in page) == (200, True)
    assert "{{" not in page
    policy = answer.headers["Content-Security-Policy"]
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
    assert f"script-src 'nonce-{nonce}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert not re.findall(r"(?:src|href)=[\"']?http", page)


def test_the_state_is_that_of_the_last_frame(served: Served) -> None:
    said = json.loads(served.ask("/state.json").read())
    (camera,) = said["cameras"]
    assert (camera["frames"], camera["distance"], camera["paused"], camera["can_save"]) == (
        0,
        None,
        False,
        False,
    )
    served.state.add(result(latency_ms=30.0))
    (camera,) = json.loads(served.ask("/state.json").read())["cameras"]
    assert (camera["frames"], camera["latency_ms"], camera["reason"]) == (1, 30.0, "adapted")
    assert [each["name"] for each in said["classes"]] == [name for name, _ in CLASSES]


def test_the_picture_is_the_newest_with_its_classes_and_small(served: Served) -> None:
    assert served.ask("/picture/0").status == 404
    served.picture.emit(frame(0, 8, value=0), np.zeros((8, 8), np.uint8))
    mask = np.zeros((1000, 2000), np.uint8)
    mask[:, 1000:] = 1
    big = frame(1)
    object.__setattr__(big, "image", np.zeros((1000, 2000, 3), np.uint8))
    served.picture.emit(big, mask)
    answer = served.ask("/picture/0")
    picture = np.asarray(Image.open(io.BytesIO(answer.read()))).astype(int)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert picture.shape == (480, 960, 3)
    for column, colour in ((100, CLASSES[0][1]), (800, CLASSES[1][1])):
        assert np.abs(picture[240, column] - 0.55 * np.array(colour)).max() < 8
    assert served.picture.jpeg() is served.picture.jpeg(), "drawn once for all viewers"


def learn(session: Session, frames: int, controls: Controls, first: int = 0) -> list[Reason]:
    reasons = []
    for index in range(first, first + frames):
        reasons.append(session.step(random_image(index)).verdict.reason)
        controls.carry_out()
    return reasons


def test_the_buttons_pause_and_reset_between_two_frames(served: Served) -> None:
    session, controls = served.session, served.controls
    assert Reason.ADAPTED in learn(session, 4, controls)
    assert served.press("freeze") == 202
    assert not session.paused, "the loop does it, not the page's thread"
    controls.carry_out()
    weights = session.weights.weights_sha256()
    assert set(learn(session, 3, controls, 10)) == {Reason.PAUSED}
    assert session.weights.weights_sha256() == weights
    assert served.press("resume") == 202
    controls.carry_out()
    assert Reason.ADAPTED in learn(session, 3, controls, 20)
    index = session.index
    assert served.press("reset") == 202
    controls.carry_out()
    assert session.weights.distance_from_trained() == 0
    assert session.index == index
    assert np.array_equal(
        session.norms.export_state()[0]["mixed"],
        session.norms.trained.statistics,  # type: ignore[attr-defined]
    )
    assert controls.last == "reset: back to the trained network"


def test_a_reset_waits_for_no_update_in_flight(small_bundle: Bundle) -> None:
    rules = RealtimeOptions(adapt_every=1, statistics_limit=1e9, update="background")
    with open_session(small_bundle, SessionOptions(lr=0.1, threads=1, opening=1.0), rules) as session:
        controls = Controls(session)
        while session.weights.distance_from_trained() == 0:
            learn(session, 1, controls, session.index + 1)
            time.sleep(0.01)
        controls.ask("reset")
        for _ in range(500):
            learn(session, 1, controls, session.index + 1)
            if controls.last:
                break
            time.sleep(0.01)
        assert controls.last.startswith("reset")
        assert session.weights.distance_from_trained() == 0
        assert not session.paused


def test_save_is_offered_where_there_is_a_state_and_says_what_failed(served: Served) -> None:
    assert served.press("save") == 409

    def fail() -> None:
        raise OutputError("the disk is full")

    served.controls.save = fail
    assert served.press("save") == 202
    served.controls.carry_out()
    assert served.controls.last == "save: the disk is full"
    assert json.loads(served.ask("/state.json").read())["cameras"][0]["can_save"] is True


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-OCL-Edge": "wrong"}, 403),
        ({"X-OCL-Edge": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80"}, 421),
    ],
)
def test_other_pages_cannot_press_the_buttons(headers: dict[str, str], status: int, served: Served) -> None:
    assert served.press("freeze", headers) == status
    served.controls.carry_out()
    assert not served.session.paused


def test_the_page_itself_can(served: Served) -> None:
    origin = f"http://{served.view.address}"
    assert served.press("freeze", {"Origin": origin, "Host": str(served.view.address)}) == 202


@pytest.mark.parametrize(
    "path", ["/do/freeze", "/do/fly/0", "/do/freeze/1", "/do/freeze/0/1", "/", "/do/freeze/x"]
)
def test_there_are_no_other_buttons(path: str, served: Served) -> None:
    assert served.ask(path, "POST", {"X-OCL-Edge": served.view.secret}).status == 404


@pytest.mark.parametrize("path", ["/nothing", "/picture/1", "/picture/-1", "/../etc/passwd", "/picture/"])
def test_there_are_no_other_pages(path: str, served: Served) -> None:
    served.picture.emit(frame(), np.zeros((8, 8), np.uint8))
    assert served.ask(path).status == 404


def test_a_name_that_was_pointed_here_shows_nothing(served: Served) -> None:
    """DNS rebinding: the page would otherwise give its secret to a stranger's script."""
    for path in ("/", "/state.json", "/picture/0"):
        answer = served.ask(path, headers={"Host": "evil.example"})
        assert answer.status == 421
        assert served.view.secret not in answer.read().decode()


def test_other_machines_need_the_token(session: Session) -> None:
    served = serve(session, "0.0.0.0")
    with served.view:
        assert served.view.url.endswith(f"?token={served.view.token}")
        token = {"Cookie": f"ocl_edge_token={served.view.token}"}
        for path in ("/", "/state.json", "/?token=wrong", "/?token="):
            assert served.ask(path).status == 401
        assert served.press("freeze") == 401
        answer = served.ask(f"/?token={served.view.token}")
        assert answer.status == 200
        assert "HttpOnly; SameSite=Strict" in answer.headers["Set-Cookie"]
        assert served.ask("/state.json", headers=token).status == 200
        assert served.press("freeze", token) == 202
        assert served.ask("/state.json", headers={"Cookie": "ocl_edge_token=ü"}).status == 401


def test_a_port_in_use_is_said(session: Session, served: Served) -> None:
    with pytest.raises(OutputError, match=f"--view web: port {served.view.address.port} is in use"):
        WebView(served.view.address, {}, "", [])


def test_browsers_that_stall_or_leave_disturb_nobody(served: Served) -> None:
    served.picture.emit(frame(0, 800), np.zeros((800, 800), np.uint8))
    place = ("127.0.0.1", served.view.address.port)
    stalled = [socket.create_connection(place) for _ in range(MOST_AT_ONCE // 2)]
    for each in stalled:
        each.sendall(b"GET /picture/0 HTTP/1.1\r\n")
    for _ in range(20):  # leaves in the middle of an answer
        with socket.create_connection(place) as leaving:
            leaving.sendall(f"GET /picture/0 HTTP/1.1\r\nHost: {served.view.address}\r\n\r\n".encode())
    slowest_s = 0.0
    for index in range(300):
        started = time.perf_counter()
        served.picture.emit(frame(index, 800), np.zeros((800, 800), np.uint8))
        served.state.add(result())
        served.controls.carry_out()
        slowest_s = max(slowest_s, time.perf_counter() - started)
    assert slowest_s < 0.1
    answers_again(served)
    for each in stalled:
        each.close()


def test_no_more_are_answered_than_there_are_places(served: Served) -> None:
    place = ("127.0.0.1", served.view.address.port)
    stalled = [socket.create_connection(place) for _ in range(MOST_AT_ONCE)]
    for each in stalled:
        each.sendall(b"GET")
    time.sleep(0.3)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        served.ask("/state.json")
    for each in stalled:
        each.close()
    answers_again(served)


def answers_again(served: Served) -> None:
    """Places are freed a moment after their browsers have left."""
    for _ in range(50):
        try:
            assert served.ask("/state.json").status == 200
            return
        except (ConnectionError, http.client.HTTPException):
            time.sleep(0.1)
    pytest.fail("the places were not freed")
