"""A fleet of real processes on this machine, carried by Flower; run with `make test-fleet`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.records.journal import Journal
from ocl_edge_runtime.records.state import StateStore
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.sources.base import Frame
from tests.doubles.fleets import Keys, keys_in
from tests.doubles.images import random_image

pytest.importorskip("flwr")
pytestmark = pytest.mark.fleet

LONGEST_S = 90


@dataclass
class World:
    """Directory of a fleet: its bundle and keys, and the address of its server."""

    directory: Path
    bundle: Bundle
    keys: Keys
    port: int

    def drive(self, name: str, bundle: Bundle, seed: int) -> None:
        """State and journal of a vehicle that has learned."""
        options = SessionOptions(lr=1e-4, restoration=0.0, seed=seed, threads=1, opening=1.0)
        with open_session(bundle, options, RealtimeOptions(statistics_limit=1e9)) as session:
            with Journal(self.directory / f"{name}.jsonl") as journal:
                for index in range(3):
                    image = random_image(100 * seed + index)
                    journal.frame(Frame(image, index, f"{index}.png", 0.0, 0.0), session.step(image))
            StateStore(self.directory / f"{name}.state", session).save()

    def server(self, *more: str) -> subprocess.Popen[str]:
        return self._start(
            "server", str(self.bundle.path), "--directory", "server", "--key", str(self.keys.private),
            "--listen", f"127.0.0.1:{self.port}", "--every", "0", "--timeout", "20",
            "--report", "rounds.jsonl", *more,
        )  # fmt: skip

    def client(self, name: str, bundle: Bundle, *more: str) -> subprocess.Popen[str]:
        return self._start(
            "client", str(bundle.path), "--directory", name, "--signed-by", str(self.keys.public),
            "--server", f"127.0.0.1:{self.port}", "--state", f"{name}.state", "--journal", f"{name}.jsonl",
            "--give-up", "30", *more,
        )  # fmt: skip

    def _start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ocl_edge", "fleet", *words],
            cwd=self.directory,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def rounds(self) -> list[dict[str, object]]:
        lines = (self.directory / "rounds.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def wait_for_port(self) -> None:
        until = time.monotonic() + LONGEST_S
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise AssertionError("the server does not listen")


@pytest.fixture
def world(tmp_path: Path, small_bundle: Bundle) -> World:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return World(tmp_path, small_bundle, keys_in(tmp_path), port)


@contextmanager
def ended(*processes: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait(LONGEST_S)


def said_by(process: subprocess.Popen[str], code: int = 0) -> str:
    said, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def test_three_vehicles_one_of_another_network(world: World, sampled_bundle: Bundle) -> None:
    for seed, name in enumerate(("one", "two", "three")):
        world.drive(name, world.bundle, seed)
    world.drive("stranger", sampled_bundle, 9)
    server = world.server("--rounds", "1", "--least", "3")
    clients = [world.client(name, world.bundle, "--answers", "2") for name in ("one", "two", "three")]
    stranger = world.client("stranger", sampled_bundle, "--answers", "1")
    with ended(server, stranger, *clients):
        served = said_by(server)
        for client in clients:
            assert "took version 1 of the fleet" in said_by(client)
        assert f"runs the bundle {sampled_bundle.identity[:16]}" in stranger.communicate(timeout=LONGEST_S)[0]
    assert "version 1 published" in served
    (came_to,) = world.rounds()
    assert came_to["published"] is True
    assert came_to["heads"] == [3]
    for name in ("server", "one", "two", "three"):
        Bundle.open(world.directory / name / "current", signed_by=world.keys.public)
        assert os.readlink(world.directory / name / "current") == "versions/0000000001"


def test_only_what_vehicles_speak_is_served(world: World) -> None:
    server = world.server()
    with ended(server):
        world.wait_for_port()
        for path, body, status in (
            ("/docs", b"", 404),
            ("/v1/control/start-run", b"x", 404),
            ("/v1/runtime/push-messages", b"x", 404),
            ("/v1/fleet/../control/start-run", b"x", 404),
            ("/v1/fleet/register-node", b"\xff" * 100, None),
        ):
            connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)
            connection.request("POST", path, body, {"content-type": "application/x-protobuf"})
            answered = connection.getresponse().status
            assert answered == status if status else 400 <= answered < 600
        connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)
        connection.putrequest("POST", "/v1/fleet/push-object")
        connection.putheader("content-length", str(1 << 40))
        connection.endheaders()
        assert connection.getresponse().status == 413
        server.send_signal(signal.SIGTERM)
        assert "interrupted" in said_by(server, 130)


def test_a_client_that_dies_in_the_middle_holds_nobody_up(world: World) -> None:
    for seed, name in enumerate(("one", "two")):
        world.drive(name, world.bundle, seed)
    world.drive("dying", world.bundle, 5)
    server = world.server("--rounds", "1", "--least", "3", "--timeout", "8")
    world.wait_for_port()
    dying = world.client("dying", world.bundle)
    assert dying.stdout is not None
    with ended(server, dying):
        assert "connected" in dying.stdout.readline()
        dying.send_signal(signal.SIGSTOP)  # it hangs, connected
        clients = [world.client(name, world.bundle, "--answers", "1") for name in ("one", "two")]
        with ended(*clients):
            served = said_by(server)
            dying.send_signal(signal.SIGCONT)
    assert "no answer within 8 s" in served
    assert "no new version" in served


def test_a_server_that_is_not_there_is_said(world: World) -> None:
    world.drive("one", world.bundle, 1)
    client = world.client("one", world.bundle, "--give-up", "2")
    with ended(client):
        assert f"the server 127.0.0.1:{world.port} cannot be reached" in said_by(client, 1)


def test_vehicles_without_a_known_key_stay_outside_and_tls_carries_the_others(world: World) -> None:
    known = world.directory / "vehicles"
    known.mkdir()
    for command in (
        "openssl ecparam -name secp384r1 -genkey -noout -out one.pem",
        "openssl ec -in one.pem -pubout -out vehicles/one.pub",
        "openssl ecparam -name secp384r1 -genkey -noout -out foreign.pem",
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.pem -days 2 -subj /CN=localhost "
        "-addext subjectAltName=IP:127.0.0.1",
    ):
        subprocess.run(command.split(), cwd=world.directory, check=True, capture_output=True)
    world.drive("one", world.bundle, 1)
    world.drive("foreign", world.bundle, 2)
    server = world.server(
        "--rounds", "1", "--least", "1", "--certificate", "tls.pem", "--certificate-key", "tls.key",
        "--vehicles", "vehicles",
    )  # fmt: skip
    world.wait_for_port()
    foreign = world.client(
        "foreign", world.bundle, "--authority", "tls.pem", "--identity", "foreign.pem", "--give-up", "5"
    )
    with ended(server, foreign):
        assert "does not let this vehicle in" in said_by(foreign, 1)
        one = world.client(
            "one", world.bundle, "--authority", "tls.pem", "--identity", "one.pem", "--answers", "2"
        )
        with ended(one):
            assert "version 1 published" in said_by(server)
            assert "took version 1" in said_by(one)
