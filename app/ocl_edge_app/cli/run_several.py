"""``ocl-edge run`` with several cameras on one engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.cli.run_views import Watched
    from ocl_edge_runtime.loop import RunReport
    from ocl_edge_runtime.records.run_records import RunRecords
    from ocl_edge_runtime.service import Service
    from ocl_edge_runtime.session.cameras import Cameras
    from ocl_edge_runtime.session.frames import Frame, FrameResult
    from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
    from ocl_edge_runtime.several import Stream
    from ocl_edge_runtime.sources import Source, SourceOptions

PLACEHOLDER = "{camera}"
NAMED = re.compile(r"([A-Za-z0-9_-]{1,40})=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Chosen:
    """How the frames of one source are run."""

    options: SessionOptions
    realtime: RealtimeOptions | None
    deadline_s: float | None


@dataclass(frozen=True)
class Kept:
    """What stays of a run, and who looks at it; as on the command line."""

    sinks: tuple[str, ...]
    journal: Path | None
    state: Path | None
    save_every: float
    resume: str
    views: tuple[str, ...]
    metrics: str | None
    json_path: str | None


def name_cameras(sources: Sequence[str]) -> dict[str, str]:
    """Name of each camera -> its source: ``NAME=SOURCE``, else ``camera0`` and so on.

    A file that is called so is no name.

    Raises:
        UsageError: a name is given twice.
    """
    from ocl_edge.errors import UsageError

    named: dict[str, str] = {}
    for index, text in enumerate(sources):
        found = None if Path(text).exists() else NAMED.fullmatch(text)
        name, source = (found[1], found[2]) if found else (f"camera{index}", text)
        if name in named:
            raise UsageError(f"two cameras are called {name}; --source NAME=... names them")
        named[name] = source
    return named


def refuse_with_several(
    named: Mapping[str, str], record: Path | None, replay: Path | None, html: Path | None
) -> None:
    """Refuse what is for a single camera."""
    from ocl_edge.errors import UsageError

    for option, given in (("--record-schedule", record), ("--replay-schedule", replay), ("--html", html)):
        if given is not None:
            raise UsageError(f"{option} is for one camera; this run has {', '.join(named)}")


def run_several(
    bundle: Bundle,
    named: Mapping[str, str],
    how: SourceOptions,
    choose: Callable[[Source], Chosen],
    share: Literal["nothing", "head"],
    kept: Kept,
    everything: ExitStack,
) -> None:
    """Run them, and show what each has done.

    Raises:
        UsageError: a place without ``{camera}``; options that contradict each other.
        SourceError: a source failed; the others went on, and what was learned is kept.
    """
    from ocl_edge.errors import SourceError
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_runtime.service import Service
    from ocl_edge_runtime.session.cameras import open_cameras
    from ocl_edge_runtime.several import run_cameras

    _check_places(kept)
    sources = {
        name: everything.enter_context(hooks.open_frames(text, how, None, None))
        for name, text in named.items()
    }
    chosen = {name: choose(source) for name, source in sources.items()}
    options = {name: each.options for name, each in chosen.items()}
    rules = {name: each.realtime for name, each in chosen.items() if each.realtime is not None}
    cameras = everything.enter_context(open_cameras(bundle, list(named), options, rules or None, share=share))
    first = next(iter(named))
    use_threads(options[first].threads)
    cameras.warm_up()
    hooks.tell(bundle, options[first], cameras[first])
    with ExitStack() as running:
        watched = _watched(bundle, cameras, sources, kept, running)
        service = running.enter_context(Service())
        streams = _streams(cameras, watched, chosen, kept, service, running)
        service.ready()
        reports = run_cameras(cameras, streams)
        for each in watched.values():
            each.at_the_end()
    for name, report in reports.items():
        report.left_out = sum(s.left_out for text, s in watched[name].sinks.items() if text in kept.sinks)
    _show(cameras, reports, kept.json_path)
    failed = [f"{name}: {r.source_failure}" for name, r in reports.items() if r.source_failure]
    if failed:
        raise SourceError("; ".join(failed))


def _check_places(kept: Kept) -> None:
    from ocl_edge.errors import UsageError

    places = [("--sink", text) for text in kept.sinks]
    places += [("--journal", str(kept.journal))] if kept.journal else []
    places += [("--state", str(kept.state))] if kept.state else []
    for option, place in places:
        if PLACEHOLDER not in place:
            raise UsageError(f"{option} {place}: several cameras would share it; put {PLACEHOLDER} into it")


def _watched(
    bundle: Bundle, cameras: Cameras, sources: Mapping[str, Source], kept: Kept, running: ExitStack
) -> dict[str, Watched]:
    from ocl_edge_app.cli.run_views import Watched, open_views
    from ocl_edge_runtime.sinks import open_sinks

    watched = {}
    for name, source in sources.items():
        places = [text.replace(PLACEHOLDER, name) for text in kept.sinks]
        sinks = open_sinks(places, bundle.manifest, source.files, source.frame_s)
        outlets = [running.enter_context(sink) for sink in sinks]
        watched[name] = Watched(cameras[name], source, dict(zip(kept.sinks, outlets, strict=True)))
    open_views(kept.views, kept.metrics, bundle.manifest, watched, running)
    return watched


def _streams(
    cameras: Cameras,
    watched: Mapping[str, Watched],
    chosen: Mapping[str, Chosen],
    kept: Kept,
    service: Service,
    running: ExitStack,
) -> dict[str, Stream]:
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.several import Stream

    frames = 0
    streams = {}
    for name, each in watched.items():
        records = running.enter_context(
            hooks.records(
                cameras[name], _of(kept.journal, name), _of(kept.state, name), kept.save_every, kept.resume
            )
        )
        each.keep_in(records)

        def after_frame(
            frame: Frame, result: FrameResult, records: RunRecords = records, own: Watched = each
        ) -> None:
            nonlocal frames
            records.after_frame(frame, result)
            own.after_frame(frame, result)
            frames += 1
            service.alive(frames)

        def failed(words: str, name: str = name) -> None:
            note(f"{name}: {words}; the other cameras go on")

        streams[name] = Stream(
            each.source,
            list(each.sinks.values()),
            chosen[name].deadline_s,
            after_frame,
            records.settled,
            failed,
        )
    return streams


def _of(place: Path | None, name: str) -> Path | None:
    return None if place is None else Path(str(place).replace(PLACEHOLDER, name))


def _show(cameras: Cameras, reports: Mapping[str, RunReport], json_path: str | None) -> None:
    from ocl_edge_app.cli import run_summary as summary
    from ocl_edge_app.cli.output import emit_json

    if json_path:
        told: dict[str, Any] = {n: {**cameras[n].facts(), **r.as_dict()} for n, r in reports.items()}
        emit_json(json_path, {"cameras": told})
    if json_path != "-":
        for name, report in reports.items():
            summary.show(cameras[name], report, title=f"run of {name}")
