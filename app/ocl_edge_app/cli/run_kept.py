"""What stays of a run of several cameras, or of several outputs, and who looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ocl_edge_app.cli.run_views import Watched
    from ocl_edge_app.report.recorder import RunRecorder
    from ocl_edge_runtime.loop import RunReport
    from ocl_edge_runtime.records.run_records import RunRecords
    from ocl_edge_runtime.service import Service
    from ocl_edge_runtime.session.frames import Frame, FrameResult
    from ocl_edge_runtime.session.session import Session
    from ocl_edge_runtime.several import Stream
    from ocl_edge_runtime.sources import Source

CAMERA, OUTPUT = "{camera}", "{output}"
"""Stand for the names in the places of what is kept."""

Of = tuple[str, str]
"""Names of a camera and of an output, each empty where there is one."""


@dataclass(frozen=True)
class Kept:
    """As on the command line."""

    sinks: tuple[str, ...]
    journal: Path | None
    state: Path | None
    save_every: float
    resume: str
    views: tuple[str, ...]
    metrics: str | None
    json_path: str | None
    html_path: Path | None
    only: str = "camera0"
    """What the camera is called where there is one."""

    def check_places(self, several: Mapping[str, str]) -> None:
        """Refuse places that several cameras, or outputs, would share.

        Args:
            several: what there are several of -> its placeholder.

        Raises:
            UsageError: one lacks a placeholder.
        """
        from ocl_edge.errors import UsageError

        places = [("--sink", text) for text in self.sinks]
        places += [("--journal", str(self.journal))] if self.journal else []
        places += [("--state", str(self.state))] if self.state else []
        for option, place in places:
            for things, placeholder in several.items():
                if placeholder not in place:
                    raise UsageError(
                        f"{option} {place}: several {things} would share it; put {placeholder} into it"
                    )


def in_words(of: Of) -> str:
    """``front``, ``area`` or ``front/area``."""
    return "/".join(filter(None, of))


def place_of(place: str, of: Of) -> str:
    """With the names in it."""
    for placeholder, name in zip((CAMERA, OUTPUT), of, strict=True):
        place = place.replace(placeholder, name) if name else place
    return place


def watch(
    sessions: Mapping[Of, Session],
    sources: Mapping[str, Source],
    recorders: Mapping[str, RunRecorder | None],
    kept: Kept,
    running: ExitStack,
) -> dict[Of, Watched]:
    """Open sinks and views for each session.

    Args:
        sessions: that run.
        sources: by camera.
        recorders: by camera, for its first output; each other output gets one of its own.
        kept: what is asked for.
        running: closes what is opened here.
    """
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli.run_views import Watched, open_views
    from ocl_edge_runtime.sinks import open_sinks

    watched: dict[Of, Watched] = {}
    left = dict(recorders)
    for of, session in sessions.items():
        source = sources[of[0]]
        places = [place_of(text, of) for text in kept.sinks]
        sinks = open_sinks(places, session.bundle.manifest, source.files, source.frame_s)
        outlets = [running.enter_context(sink) for sink in sinks]
        recorder = left.pop(of[0]) if of[0] in left else hooks.recorder(kept.html_path)
        kinds = dict(zip(kept.sinks, outlets, strict=True))
        watched[of] = Watched(session, source, kinds, of[0] or kept.only, recorder)
    open_views(kept.views, kept.metrics, {in_words(of): each for of, each in watched.items()}, running)
    return watched


def streams(
    watched: Mapping[Of, Watched],
    deadlines: Mapping[str, float | None],
    kept: Kept,
    service: Service,
    running: ExitStack,
) -> dict[Of, Stream]:
    """Sinks, records and what is done after each frame, for the loop.

    Args:
        watched: who looks at each.
        deadlines: seconds to the next frame, by camera.
        kept: what is asked for.
        service: told that the run lives.
        running: saves at its end what was learned.
    """
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.several import Stream

    frames = 0
    found = {}
    for of, each in watched.items():
        journal, state = (
            None if place is None else Path(place_of(str(place), of)) for place in (kept.journal, kept.state)
        )
        records = running.enter_context(
            hooks.records(each.session, journal, state, kept.save_every, kept.resume)
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

        def failed(words: str, name: str = of[0]) -> None:
            note(f"{name}: {words}; the other cameras go on")

        deadline_s = deadlines[of[0]]
        found[of] = Stream(
            each.source, list(each.sinks.values()), deadline_s, after_frame, records.settled, failed
        )
    return found


def show(
    watched: Mapping[Of, Watched],
    reports: Mapping[Of, RunReport],
    deadlines: Mapping[str, float | None],
    kept: Kept,
) -> None:
    """JSON, page and summary of what each has done."""
    from ocl_edge_app.cli import run_summary as summary
    from ocl_edge_app.cli.output import emit_json
    from ocl_edge_app.report.run_report import Ran

    told: dict[Of, dict[str, Any]] = {}
    for of, report in reports.items():
        sinks = watched[of].sinks
        report.left_out = sum(sink.left_out for text, sink in sinks.items() if text in kept.sinks)
        told[of] = {**watched[of].session.facts(), **report.as_dict()}
    if kept.json_path:
        emit_json(kept.json_path, _nested(told))
    if kept.html_path:
        cameras: dict[str, dict[str, Ran]] = {}
        for of, report in reports.items():
            each, deadline_s = watched[of], deadlines[of[0]]
            assert each.recorder is not None
            ran = Ran(each.session, report, each.recorder, deadline_s and 1000 * deadline_s)
            cameras.setdefault(of[0], {})[of[1]] = ran
        summary.write_html(kept.html_path, cameras)
    if kept.json_path != "-":
        for of, report in reports.items():
            summary.show(watched[of].session, report, title=f"run of {in_words(of)}")


def _nested(told: Mapping[Of, dict[str, Any]]) -> dict[str, Any]:
    """``{"cameras": {NAME: {"outputs": {NAME: ...}}}}``, without what there is one of."""
    by_camera: dict[str, Any] = {}
    for (camera, output), each in told.items():
        if output:
            by_camera.setdefault(camera, {"outputs": {}})["outputs"][output] = each
        else:
            by_camera[camera] = each
    alone: dict[str, Any] | None = by_camera.get("")
    return {"cameras": by_camera} if alone is None else alone
