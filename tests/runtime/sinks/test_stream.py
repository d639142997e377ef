from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ocl_edge.errors import UsageError
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks import open_sink, parse_sink
from ocl_edge_runtime.sinks.stream import StreamSink
from tests.doubles import gstreamer
from tests.doubles.bundles import Bundle
from tests.doubles.clock import SimulatedClock
from tests.doubles.gstreamer import free_port, rtsp_server  # noqa: F401

PALETTE = [(0, 0, 0), (255, 0, 0)]
HEIGHT, WIDTH = 48, 65
Serve = Callable[..., "subprocess.Popen[bytes]"]
WHY_NOT = gstreamer.problem()


def send(sink: StreamSink, count: int, pause_s: float = 0.02) -> None:
    """Grey frames with a red right half."""
    for index in range(count):
        image = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[:, WIDTH // 2 :] = 1
        sink.emit(Frame(image, index, f"{index:06d}", time.monotonic()), mask)
        time.sleep(pause_s)


def check(picture: np.ndarray) -> None:
    """Half of it is red; 4:2:0 blurs the border between the two."""
    assert picture.shape == (HEIGHT, WIDTH - 1, 3)
    left, right = picture[:, 4 : WIDTH // 2 - 4].astype(int), picture[:, WIDTH // 2 + 4 : -4].astype(int)
    assert np.abs(left - 45).max() <= 6
    assert np.abs(right - [185, 45, 45]).max() <= 12


def test_masks_go_out_over_udp() -> None:
    port = free_port()
    seen: list[np.ndarray] = []

    def listen() -> None:
        with av.open(f"udp://127.0.0.1:{port}", format="mpegts", timeout=20) as container:
            seen.extend(f.to_ndarray(format="rgb24") for f in islice(container.decode(video=0), 3))

    listener = threading.Thread(target=listen)
    listener.start()
    with StreamSink(f"udp://127.0.0.1:{port}", PALETTE, None) as sink:
        give_up_at = time.monotonic() + 30
        while listener.is_alive() and time.monotonic() < give_up_at:
            send(sink, 10)
        assert sink.left_out == 0
    listener.join()
    check(seen[-1])


def test_nobody_listens_to_udp_and_the_run_goes_on() -> None:
    with StreamSink(f"udp://127.0.0.1:{free_port()}", PALETTE, None) as sink:
        send(sink, 20, pause_s=0)


@pytest.mark.skipif(WHY_NOT is not None, reason=f"GStreamer: {WHY_NOT}")
def test_masks_are_published_to_an_rtsp_server_that_comes_and_goes(
    tmp_path: Path,
    rtsp_server: Serve,  # noqa: F811
) -> None:
    lacks = gstreamer.element_problem("rtph264depay", "h264parse", "avdec_h264", "pngenc")
    if lacks:
        pytest.skip(lacks)
    port = free_port()
    with StreamSink(f"rtsp://127.0.0.1:{port}/live", PALETTE, None) as sink:
        send(sink, 3)
        assert sink.left_out == 3
        assert sink.trouble == f"rtsp://127.0.0.1:{port}/live: Connection refused"
        for name in ("first", "second"):  # it is started, killed, and started again
            (tmp_path / name).mkdir()
            server = rtsp_server(port, 64, 48, tmp_path / name)
            give_up_at = time.monotonic() + 40
            while len(list((tmp_path / name).iterdir())) < 5 and time.monotonic() < give_up_at:
                send(sink, 5)
            server.kill()
            server.wait()
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("first", "second"))
    check(np.array(Image.open(first[2]).convert("RGB")))
    check(np.array(Image.open(second[2]).convert("RGB")))


def test_an_address_that_does_not_answer_is_tried_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SimulatedClock()
    tried: list[float] = []
    library_open = av.open

    def counted(*arguments: object, **options: object) -> object:
        tried.append(clock.now())
        return library_open(*arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(av, "open", counted)
    with StreamSink(f"rtsp://127.0.0.1:{free_port()}/live", PALETTE, None, clock) as sink:
        for _ in range(200):
            send(sink, 1, pause_s=0)
            clock.sleep_until(clock.now() + 0.1)
        assert sink.left_out == 200
    pauses = np.diff(tried)
    assert pauses[:4] == pytest.approx([0.5, 1, 2, 4], abs=0.11)
    assert pauses.max() <= 8.11


@pytest.mark.parametrize(
    "url",
    [
        "udp://127.0.0.1",
        "udp://host:port",
        "udp://127.0.0.1:5000?pkt_size=9",
        "rtsp://",
        "rtsp:/host/path",
        "udp:127.0.0.1:5000",
    ],
)
def test_another_address_is_refused(url: str, small_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="expected udp://HOST:PORT or rtsp://"):
        open_sink(url, small_bundle.manifest)


def test_a_password_is_not_shown(small_bundle: Bundle) -> None:
    with pytest.raises(UsageError) as refused:
        open_sink("rtsp://me:secret@host?x", small_bundle.manifest)
    assert "secret" not in str(refused.value)
    with pytest.raises(UsageError) as refused:
        parse_sink("rtmp://me:secret@host/x")
    assert "secret" not in str(refused.value)
