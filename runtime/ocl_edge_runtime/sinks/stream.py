"""Pictures of the masks as a stream on the network."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocl_edge.errors import UsageError
from ocl_edge.images import Colour
from ocl_edge.masks import Mask
from ocl_edge.plain_text import without_secrets_of
from ocl_edge_runtime.clock import Clock, RealClock
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.h264 import Encoder, Pictures, import_encoder

FORMATS = {"udp": "mpegts", "rtsp": "rtsp"}
OPTIONS = {"udp": {"pkt_size": "1316"}, "rtsp": {"rtsp_transport": "tcp"}}
"""Seven packets of MPEG-TS in one of the network; nothing lost between here and a server."""

KEY_FRAMES = {"g": "30"}
"""Who tunes in waits for one: a second at 30 frames a second."""

TIMEOUT_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 8.0
"""Between two attempts to reach who listens; doubles each time."""

_ADDRESS = {
    "udp": re.compile(r"udp://[^/?#@]+:\d{1,5}"),
    "rtsp": re.compile(r"rtsp://[^/?#]+(/[^?#]*)?"),
}


class StreamSink(Sink):
    """H.264 to an address: MPEG-TS over UDP, or published to an RTSP server (ANNOUNCE and RECORD).

    Where nobody answers, masks are counted in `left_out` and the address is tried again, with growing
    pauses: a run does not end because a monitor is off.

    Args:
        url: ``udp://HOST:PORT`` or ``rtsp://HOST[:PORT]/PATH``.
        palette: RGB of each class, 0 to 255.
        frame_s: seconds from a frame to the next; None: ``captured_at`` tells.
        clock: of the attempts.

    Raises:
        UsageError: another address.
        MissingExtraError: PyAV is not installed, or lacks the codec.
    """

    def __init__(
        self, url: str, palette: list[Colour], frame_s: float | None, clock: Clock | None = None
    ) -> None:
        self._kind = url.partition(":")[0]
        pattern = _ADDRESS.get(self._kind)
        if pattern is None or not pattern.fullmatch(url):
            shown = without_secrets_of(url)
            raise UsageError(f"--sink {shown}: expected udp://HOST:PORT or rtsp://HOST[:PORT]/PATH")
        self._url = url
        self._av = import_encoder("a stream")
        self._clock = clock or RealClock()
        self._pictures, self._frames = Pictures(palette, frame_s), 0
        self._container: Any = None
        self._encoder: Encoder | None = None
        self._try_at, self._pause_s = -float("inf"), FIRST_PAUSE_S

    def emit(self, frame: Frame, mask: Mask) -> None:
        picture, seconds = self._pictures.of(frame, mask), self._pictures.seconds(frame, self._frames)
        self._frames += 1
        if self._encoder is None and self._clock.now() < self._try_at:
            self.left_out += 1
        elif not self._tried(lambda: self._send(picture, seconds)):
            self.left_out += 1
            self._drop()

    def close(self) -> None:
        if self._encoder is not None and self._tried(self._encoder.finish):
            self._drop()

    def _send(self, picture: NDArray[np.uint8], seconds: float) -> None:
        if self._encoder is None:
            form, options = FORMATS[self._kind], OPTIONS[self._kind]
            self._container = self._av.open(self._url, "w", form, options=options, timeout=TIMEOUT_S)
            self._encoder = Encoder(self._av, self._container, KEY_FRAMES)
        self._encoder.add(picture, seconds)
        self._pause_s = FIRST_PAUSE_S

    def _tried(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except (OSError, self._av.FFmpegError) as error:
            self.trouble = f"{without_secrets_of(self._url)}: {error.strerror or type(error).__name__}"
            return False
        return True

    def _drop(self) -> None:
        """Let the connection go, and wait before the next."""
        container, self._container, self._encoder = self._container, None, None
        if container is not None:
            with suppress(OSError, self._av.FFmpegError):
                container.close()
        self._try_at = self._clock.now() + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
