"""A session closes what it has opened, once, and on every way out."""

from __future__ import annotations

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge.errors import BundleError, FrameError
from ocl_edge_runtime.backends.host_backend import HostBackend
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.closing import note_closed
from tests.doubles.images import random_image
from tests.doubles.sessions import background


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[HostBackend]:
    """Backends that were closed."""
    return note_closed(monkeypatch, HostBackend)


@pytest.mark.parametrize("realtime", [None, RealtimeOptions(), RealtimeOptions(update="background")])
def test_the_end_of_a_with_closes_every_backend_once(
    small_bundle: Bundle, closed: list[HostBackend], realtime: RealtimeOptions | None
) -> None:
    with open_session(small_bundle, SessionOptions(backend="onnxruntime", opening=1.0), realtime) as session:
        session.step(random_image(0))
        assert closed == []
    assert len(closed) == len(set(map(id, closed))) == (2 if session.setup.updates_in_background else 1)
    session.close()
    assert len(closed) == (2 if session.setup.updates_in_background else 1)


def test_a_head_that_cannot_be_opened_closes_the_backend(
    small_bundle: Bundle, closed: list[HostBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise BundleError("the head is damaged")

    monkeypatch.setattr("ocl_edge_runtime.session.opening.TrainableHead", broken)
    with pytest.raises(BundleError, match="the head is damaged"):
        open_session(small_bundle, SessionOptions(backend="onnxruntime", opening=1.0))
    assert len(closed) == 1


def test_an_error_inside_the_with_closes_too(small_bundle: Bundle, closed: list[HostBackend]) -> None:
    session = background(small_bundle)
    with pytest.raises(FrameError), session:
        session.step(random_image(0)[:, :, 0])
    assert not session.updates.busy
    assert len(closed) == 2
