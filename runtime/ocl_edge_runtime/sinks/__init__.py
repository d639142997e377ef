"""Where masks go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.errors import UsageError
from ocl_edge.images import Colour
from ocl_edge.plain_text import without_secrets_of
from ocl_edge_runtime.sinks.base import Sink
from ocl_edge_runtime.sinks.files import MaskSink, OverlaySink
from ocl_edge_runtime.sinks.queued import QueuedSink

__all__ = ["SINKS", "Sink", "open_sink", "open_sinks", "parse_sink"]

MOST_LINKS = 40
"""From one to the next, as many as Linux follows."""

Opener = Callable[[str, Manifest, float | None], Sink]
"""Opens a sink at a place, for masks of a bundle that come so many seconds after one another."""

SINKS: dict[str, tuple[str, Opener]] = {
    "masks": ("DIR", lambda place, _manifest, _frame_s: MaskSink(Path(place))),
    "overlay": ("DIR", lambda place, manifest, _frame_s: OverlaySink(Path(place), _palette(manifest))),
    "video": ("FILE", lambda *given: _video(False, *given)),
    "compare": ("FILE", lambda *given: _video(True, *given)),
    "rerun": ("FILE", lambda *given: _rerun(*given)),
    "mcap": ("FILE", lambda *given: _mcap(*given)),
    "ros2": ("TOPIC", lambda *given: _topic(*given)),
    "udp": ("//HOST:PORT", lambda place, *given: _stream(f"udp:{place}", *given)),
    "rtsp": ("//HOST/PATH", lambda place, *given: _stream(f"rtsp:{place}", *given)),
}
"""Kind -> what its place is, and what opens it there."""


def open_sink(text: str, manifest: Manifest, frame_s: float | None = None) -> Sink:
    """A sink from ``KIND:PLACE``.

    Args:
        text: of ``--sink``.
        manifest: of the bundle whose masks it gets.
        frame_s: seconds from a frame to the next; None: ``Frame.captured_at`` tells, and nothing waits for
            the sink.

    Raises:
        UsageError: unknown kind, or no place named.
        MissingExtraError: its library is not installed.
        OutputError: the place cannot be made.
    """
    kind, place = parse_sink(text)
    _, open_at = SINKS[kind]
    return open_at(place, manifest, frame_s)


def open_sinks(
    texts: Sequence[str], manifest: Manifest, files: Sequence[Path], frame_s: float | None = None
) -> list[Sink]:
    """Several sinks for the frames of these files; nothing is made where one of them is refused.

    Args:
        texts: of ``--sink``.
        manifest: as for `open_sink`.
        files: that the frames come from.
        frame_s: as for `open_sink`.

    Raises:
        UsageError: as `open_sink`; or something would be overwritten: two sinks share a
            directory, a sink writes among the frames, or two frames have the same name.
        OutputError: a directory cannot be made.
    """
    places = [_written_to(*parse_sink(text)) for text in texts]
    sources: set[Path | str] = {place for file in files if texts for place in _places_of(file)}
    for index, (text, place) in enumerate(zip(texts, places, strict=True)):
        if place in sources:
            raise UsageError(f"--sink {text}: the frames lie there and would be overwritten; name another")
        if place in places[:index]:
            raise UsageError(f"--sink {text}: another sink writes there already; name another place")
    named: dict[str, Path] = {}
    for file in files if any(SINKS[parse_sink(text)[0]][0] == "DIR" for text in texts) else ():
        other = named.setdefault(file.stem, file)
        if other is not file:
            raise UsageError(
                f"{other} and {file} would both be written as {file.stem}.png; run them one after the other"
            )
    return [open_sink(text, manifest, frame_s) for text in texts]


def _palette(manifest: Manifest) -> list[Colour]:
    return [c.colour for c in manifest.classes]


def _video(beside: bool, place: str, manifest: Manifest, frame_s: float | None) -> Sink:
    """On a thread of its own: encoding takes longer than many a mask. Only files wait for it."""
    from ocl_edge_runtime.sinks.video import VideoSink

    return QueuedSink(VideoSink(Path(place), _palette(manifest), frame_s, beside), waits=frame_s is not None)


def _rerun(place: str, manifest: Manifest, frame_s: float | None) -> Sink:
    from ocl_edge_runtime.sinks.rerun_log import RerunSink, into_file

    return QueuedSink(RerunSink("camera", manifest, into_file(Path(place))), waits=frame_s is not None)


def _mcap(place: str, manifest: Manifest, frame_s: float | None) -> Sink:
    from ocl_edge_runtime.sinks.mcap import McapSink

    return QueuedSink(McapSink(Path(place), manifest, frame_s), waits=frame_s is not None)


def _topic(name: str, manifest: Manifest, frame_s: float | None) -> Sink:
    from ocl_edge_runtime.ros.topics import topic_of
    from ocl_edge_runtime.sinks.ros2 import TopicSink

    sink = TopicSink(topic_of(name, "--sink ros2"), _palette(manifest), frame_s)
    return QueuedSink(sink, waits=frame_s is not None)


def _stream(url: str, manifest: Manifest, frame_s: float | None) -> Sink:
    """Who looks on never holds up anything: not even frames that come when they are asked for."""
    from ocl_edge_runtime.sinks.stream import StreamSink

    return QueuedSink(StreamSink(url, _palette(manifest), frame_s), waits=False)


def _written_to(kind: str, place: str) -> Path | str:
    return Path(place).resolve() if SINKS[kind][0] in ("DIR", "FILE") else f"{kind}:{place}"


def _places_of(file: Path) -> Iterator[Path]:
    """The directories of a file, and of everything that it leads through where it is a link."""
    for _ in range(MOST_LINKS):
        yield file.parent.resolve()
        if not file.is_symlink():
            return
        file = file.parent / os.readlink(file)


def parse_sink(text: str) -> tuple[str, str]:
    """``KIND:PLACE`` -> kind and place.

    Raises:
        UsageError: unknown kind, or no place named.
    """
    kind, colon, place = text.partition(":")
    if kind not in SINKS or not colon or not place:
        known = [f"{name}:{what}" for name, (what, _) in SINKS.items()]
        raise UsageError(f"--sink {without_secrets_of(text)!r}: expected {' or '.join(known)}")
    return kind, place
