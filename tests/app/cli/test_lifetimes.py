"""What ``ocl-edge run`` has opened is closed, whatever fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BuildError
from ocl_edge_app.cli import run
from ocl_edge_runtime.clock import RealClock
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sources.live import LiveSource
from tests.doubles.cameras import EndlessCamera
from tests.doubles.closing import note_closed


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> EndlessCamera:
    """What ``--source`` opens."""
    camera = EndlessCamera()

    def opened(*_arguments: object) -> LiveSource:
        source = LiveSource("camera", camera, RealClock(), limit=5)
        source.start()
        return source

    monkeypatch.setattr("ocl_edge_runtime.sources.open_source", opened)
    return camera


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Sessions that were closed."""
    return note_closed(monkeypatch, Session)


def command(bundle: Bundle, *more: str) -> list[str]:
    return ["run", str(bundle.path), "--source", "/dev/video0", "--backend", "onnxruntime", "-q", *more]


def test_a_run_closes_camera_and_session(
    small_bundle: Bundle, camera: EndlessCamera, closed: list[Session]
) -> None:
    assert run(command(small_bundle)) == 0
    assert not camera.opened
    assert len(closed) == 1


def test_an_engine_that_cannot_be_built_closes_the_camera(
    small_bundle: Bundle, camera: EndlessCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        assert camera.opened
        raise BuildError("TensorRT gave up")

    monkeypatch.setattr("ocl_edge_app.cli.engines.ensure_engines", fail)
    assert run(command(small_bundle)) == 1
    assert not camera.opened


def test_a_session_that_cannot_be_opened_closes_the_camera(
    small_bundle: Bundle, camera: EndlessCamera
) -> None:
    assert run(command(small_bundle, "--method", "ocl-full")) == 2
    assert not camera.opened


def test_a_sink_that_cannot_be_opened_closes_camera_and_session(
    small_bundle: Bundle, camera: EndlessCamera, closed: list[Session], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert run(command(small_bundle, "--sink", f"masks:{tmp_path / 'file' / 'out'}")) == 1
    assert not camera.opened
    assert len(closed) == 1


def test_a_journal_that_cannot_be_opened_closes_camera_and_session(
    small_bundle: Bundle, camera: EndlessCamera, closed: list[Session], tmp_path: Path
) -> None:
    assert run(command(small_bundle, "--journal", str(tmp_path / "nowhere" / "run.jsonl"))) == 1
    assert not camera.opened
    assert len(closed) == 1
