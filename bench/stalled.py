"""What a sink, a viewer, a browser or a scraper that stalls on purpose costs a mask.

    python bench/stalled.py BUNDLE [--frames N] [--json]

Each row runs the same noise through a session, with one of them stalled from the first frame on. ``handing
on`` is the time from the mask to the end of all that is done with it before the update, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ocl_edge.bundle.reading import Bundle
from ocl_edge.masks import Mask
from ocl_edge_runtime.session.frames import Frame
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.queued import QueuedSink
from ocl_edge_runtime.sinks.rerun_log import RerunSink, into_viewer
from ocl_edge_runtime.sources import NoiseSource, Source
from ocl_edge_runtime.views.address import Address
from ocl_edge_runtime.views.controls import Controls
from ocl_edge_runtime.views.metrics import MetricsServer
from ocl_edge_runtime.views.picture import NewestPicture
from ocl_edge_runtime.views.stream_state import StreamState
from ocl_edge_runtime.views.web import ShownCamera, WebView

SIZE = (360, 480)
STALLED_CLIENTS = 8
HERE = Address("127.0.0.1", 0)
ROWS = ("nothing", "video", "rerun viewer", "browser", "scraper")


class Nothing(Source):
    """A source whose counters are asked for."""

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


class Hung(Sink):
    """Takes the first mask and never comes back, like a disk that does not answer."""

    def emit(self, frame: Frame, mask: Mask) -> None:  # noqa: ARG002
        threading.Event().wait()


@contextmanager
def stalled(row: str, bundle: Bundle, session: Session, state: StreamState) -> Iterator[list[Sink]]:
    """The sinks of a row, and clients that ask and never read."""
    request = "GET {} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n"
    with ExitStack() as stack:
        if row == "video":
            yield [QueuedSink(Hung(), waits=False)]
            return
        if row == "rerun viewer":
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            url = f"rerun+http://127.0.0.1:{server.getsockname()[1]}/proxy"
            viewer = RerunSink("front", bundle.manifest, into_viewer(url))
            yield [QueuedSink(viewer, waits=False, on_failure=print)]
            return
        sinks: list[Sink] = []
        port, path = 0, ""
        if row == "browser":
            picture = NewestPicture([each.colour for each in bundle.manifest.classes])
            camera = ShownCamera(state, picture, Controls(session))
            port = stack.enter_context(WebView(HERE, {"front": camera}, "", [])).address.port
            path, sinks = "/picture/0", [picture]
        if row == "scraper":
            port = stack.enter_context(MetricsServer(HERE, [state])).address.port
            path = "/metrics"
        for _ in range(STALLED_CLIENTS if port else 0):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(request.format(path, port).encode())
        yield sinks


def measure(bundle: Bundle, row: str, frames: int) -> dict[str, Any]:
    source = NoiseSource(*SIZE, frames)
    rules = RealtimeOptions(statistics_limit=1e9)
    with open_session(bundle, SessionOptions(threads=1, opening=1.0), rules) as session:
        session.warm_up()
        state = StreamState("front", Nothing())
        with stalled(row, bundle, session, state) as sinks:
            handing_on, masks = [], 0
            for frame in source:

                def emit(mask: Mask, frame: Frame = frame) -> None:
                    for sink in sinks:
                        sink.emit(frame, mask)

                result = session.step(frame.image, frame.captured_at, emit)
                for sink in sinks:
                    sink.told(frame, result)
                state.add(result)
                handing_on.append(result.timings_ms["emit"])
                masks += 1
            left_out = sum(sink.left_out for sink in sinks)
    return {
        "masks": masks,
        "p50_ms": float(np.median(handing_on)),
        "p99_ms": float(np.percentile(handing_on, 99)),
        "left_out": left_out,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    found = {row: measure(bundle, row, arguments.frames) for row in ROWS}
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    for row, each in found.items():
        print(
            f"{row:14} {each['masks']} masks, handing on p50 {each['p50_ms']:.2f} ms, "
            f"p99 {each['p99_ms']:.2f} ms, left out {each['left_out']}"
        )


if __name__ == "__main__":
    main()
