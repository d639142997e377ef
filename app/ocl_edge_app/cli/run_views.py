"""Who may look at ``ocl-edge run`` while it goes on: --view and --metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ocl_edge_app.cli.options import together

if TYPE_CHECKING:
    from ocl_edge.bundle.manifest import Manifest
    from ocl_edge.images import Colour
    from ocl_edge_app.report.recorder import RunRecorder
    from ocl_edge_runtime.records.run_records import RunRecords
    from ocl_edge_runtime.session.frames import Frame, FrameResult
    from ocl_edge_runtime.session.session import Session
    from ocl_edge_runtime.sinks import Sink
    from ocl_edge_runtime.sources import Source
    from ocl_edge_runtime.views.controls import Controls
    from ocl_edge_runtime.views.picture import NewestPicture
    from ocl_edge_runtime.views.stream_state import StreamState

WEB_PORT = 8470
TELL_EVERY_S = 1.0
"""So often the journal hears at most that a sink is too slow."""

view_options = together(
    click.option(
        "--view",
        "viewers",
        multiple=True,
        metavar="web[:[HOST:]PORT]|rerun[:URL]",
        help="Look at the run: web is a page on this machine (port 8470), for other machines with a token; "
        "rerun opens the Rerun viewer, or sends to one. Repeatable.",
    ),
    click.option(
        "--metrics",
        metavar="[HOST]:PORT",
        help="Serve numbers for Prometheus at this port, e.g. :9464; without HOST on this machine alone.",
    ),
)


@dataclass
class Watched:
    """One output of a camera of a run, and who looks at it.

    Attributes:
        session: that gives its masks.
        source: of the camera.
        sinks: by what the user calls them; viewers among them.
        camera: its name.
        recorder: for the report; None where nobody wants one.
    """

    session: Session
    source: Source
    sinks: dict[str, Sink]
    camera: str
    recorder: RunRecorder | None = None
    state: StreamState = field(init=False)
    controls: Controls | None = None
    records: RunRecords | None = None
    _told: dict[str, tuple[int, float]] = field(default_factory=dict)

    def after_frame(self, frame: Frame, result: FrameResult) -> None:
        """Count the frame, do what the page asks for, journal what a sink has missed."""
        self.state.add(result)
        if self.recorder is not None:
            self.recorder.frame(frame, result)
        if self.controls is not None:
            self.controls.carry_out()
        for name, sink in self.sinks.items():
            before, told_at = self._told.get(name, (0, -TELL_EVERY_S))
            if sink.left_out > before and time.monotonic() - told_at >= TELL_EVERY_S:
                self._told[name] = sink.left_out, time.monotonic()
                self._journal_left_out(name, sink)

    def at_the_end(self) -> None:
        """Journal what was missed since the last time."""
        for name, sink in self.sinks.items():
            if sink.left_out > self._told.get(name, (0, 0.0))[0]:
                self._journal_left_out(name, sink)

    def keep_in(self, records: RunRecords) -> None:
        """From now on the journal is told, and the page can save."""
        self.records = records
        if self.controls is not None and records.keeps_state:
            self.controls.save = records.save

    def on_done(self, action: str, words: str) -> None:
        """The page's button did this."""
        if self.records is not None:
            self.records.event("by hand", action=action, result=words)

    def _journal_left_out(self, name: str, sink: Sink) -> None:
        if self.records is not None:
            self.records.event(
                "sink", sink=name, left_out=sink.left_out, reason=sink.trouble or "it is too slow"
            )


def open_views(
    views: Sequence[str],
    metrics: str | None,
    cameras: Mapping[str, Watched],
    everything: ExitStack,
) -> None:
    """Open what was asked for; viewers that want masks are added to the cameras' sinks.

    Args:
        views: as on the command line.
        metrics: likewise.
        cameras: by the name that viewers show; each output of a camera by itself.
        everything: closes what is opened.

    Raises:
        UsageError: no such view, or one of them twice.
        MissingExtraError: a library is not installed.
        OutputError: a port is in use, or there is no viewer.
    """
    from ocl_edge_runtime.views.stream_state import StreamState

    pages = [_address_of(view) for view in views if _kind_of(view, views) == "web"]
    rerun = [view.partition(":")[2] or None for view in views if _kind_of(view, views) == "rerun"]
    pictures: dict[str, NewestPicture] = {}
    for name, camera in cameras.items():
        manifest = camera.session.bundle.manifest
        if pages:
            pictures[name] = _picture(manifest)
            camera.sinks["view web"] = pictures[name]
        if rerun:
            camera.sinks["view rerun"] = everything.enter_context(_rerun_view(name, manifest, rerun[0]))
        output = camera.session.bundle.output
        camera.state = StreamState(camera.camera, camera.source, list(camera.sinks.values()), output)
    if metrics is not None:
        _open_metrics(metrics, cameras, everything)
    if pages:
        _open_page(pages[0], cameras, pictures, everything)


def _kind_of(view: str, views: Sequence[str]) -> str:
    from ocl_edge.errors import UsageError

    kind = view.partition(":")[0]
    if kind not in ("web", "rerun"):
        raise UsageError(f"--view {view!r}: expected web, web:PORT, web:HOST:PORT, rerun or rerun:URL")
    if sum(each.partition(":")[0] == kind for each in views) > 1:
        raise UsageError(f"--view {kind} is given twice; once is enough, several may look")
    return kind


def _address_of(view: str) -> Any:
    from ocl_edge_runtime.views.address import Address

    return Address.parse(view.partition(":")[2] or str(WEB_PORT), "--view web:")


def _picture(manifest: Manifest) -> NewestPicture:
    from ocl_edge_runtime.views.picture import NewestPicture

    return NewestPicture([each.colour for each in manifest.classes])


def _rerun_view(name: str, manifest: Manifest, url: str | None) -> Sink:
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.sinks.queued import QueuedSink
    from ocl_edge_runtime.sinks.rerun_log import RerunSink, into_viewer

    viewer = RerunSink(name, manifest, into_viewer(url))
    return QueuedSink(viewer, waits=False, on_failure=_told(note, "--view rerun"))


def _told(note: Callable[[str], None], what: str) -> Callable[[str], None]:
    return lambda words: note(f"{what}: {words}")


def _open_metrics(metrics: str, cameras: Mapping[str, Watched], everything: ExitStack) -> None:
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.views.address import Address
    from ocl_edge_runtime.views.metrics import MetricsServer

    states = [camera.state for camera in cameras.values()]
    server = everything.enter_context(MetricsServer(Address.parse(metrics, "--metrics"), states))
    note(f"metrics at http://{server.address}/metrics")


def _open_page(
    address: Any,
    cameras: Mapping[str, Watched],
    pictures: Mapping[str, NewestPicture],
    everything: ExitStack,
) -> None:
    from ocl_edge.plain_text import plain
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.views.controls import Controls
    from ocl_edge_runtime.views.web import ShownCamera, WebView

    shown = {}
    for name, camera in cameras.items():
        camera.controls = Controls(camera.session, camera.on_done)
        shown[name] = ShownCamera(camera.state, pictures[name], camera.controls)
    classes: dict[str, Colour] = {}
    for bundle in (camera.session.bundle for camera in cameras.values()):
        of = f"{bundle.output}: " if bundle.output else ""
        classes |= {of + each.name: each.colour for each in bundle.manifest.classes}
    title = f"ocl-edge: {plain(bundle.manifest.checkpoint)}"
    view = everything.enter_context(WebView(address, shown, title, list(classes.items())))
    (note if view.token is None else told_anyway)(f"page at {view.url}")


def told_anyway(words: str) -> None:
    """With --quiet, too: nobody else knows the token."""
    click.echo(words, err=True)
