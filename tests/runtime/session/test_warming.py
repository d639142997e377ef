"""Before the first frame everything that it needs is loaded, in every mode."""

from __future__ import annotations

import pytest

from ocl_edge.bundle.reading import Bundle
from ocl_edge_runtime.backends.host_backend import HostBackend
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from tests.doubles.images import random_image

MODES: dict[str, tuple[SessionOptions, RealtimeOptions | None]] = {
    "frozen": (SessionOptions("frozen", backend="openvino"), None),
    "frozen pair": (SessionOptions("frozen", "pair", "openvino"), None),
    "paper": (SessionOptions(backend="openvino", opening=1), None),
    "realtime": (SessionOptions(backend="openvino", opening=1), RealtimeOptions(norm_every=2)),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_first_frames_run_nothing_for_the_first_time(small_bundle: Bundle, mode: str) -> None:
    with open_session(small_bundle, *MODES[mode]) as session:
        session.warm_up()
        backend = session.segmenter.backbone
        assert isinstance(backend, HostBackend)
        warm = backend.warm
        for index in range(2):
            session.step(random_image(index))
        assert backend.warm == warm
