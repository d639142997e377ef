"""``ocl-edge run`` with several cameras on one engine, or several outputs of one network."""

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
    from ocl_edge_runtime.session.frames import Frame, FrameResult
    from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
    from ocl_edge_runtime.session.session import Session
    from ocl_edge_runtime.several import Stream
    from ocl_edge_runtime.sources import Source, SourceOptions

CAMERA, OUTPUT = "{camera}", "{output}"
"""Stand for the name in the places of what is kept."""

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

    def check_places(self, several: str, placeholder: str) -> None:
        """Refuse places that several cameras, or outputs, would share.

        Raises:
            UsageError: one lacks the placeholder.
        """
        from ocl_edge.errors import UsageError

        places = [("--sink", text) for text in self.sinks]
        places += [("--journal", str(self.journal))] if self.journal else []
        places += [("--state", str(self.state))] if self.state else []
        for option, place in places:
            if placeholder not in place:
                raise UsageError(
                    f"{option} {place}: several {several} would share it; put {placeholder} into it"
                )


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
    bundles: Mapping[str, Bundle],
    named: Mapping[str, str],
    share: Literal["nothing", "head"],
    alone: Mapping[str, Path | None],
) -> None:
    """Refuse what is for a single camera, or for one output.

    Args:
        bundles: outputs by name.
        named: cameras by name.
        share: of the cameras.
        alone: options that go with one of each.
    """
    from ocl_edge.errors import UsageError

    if len(bundles) > 1:
        path = next(iter(bundles.values())).path
        choice = f"this run has {', '.join(bundles)}; {' or '.join(f'{path}#{name}' for name in bundles)}"
        if len(named) > 1 or share != "nothing":
            raise UsageError(f"several cameras go with one output; {choice}")
    else:
        choice = f"this run has {', '.join(named)}"
    for option, given in alone.items():
        if given is not None:
            raise UsageError(f"{option} is for one {'output' if len(bundles) > 1 else 'camera'}; {choice}")


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

    kept.check_places("cameras", CAMERA)
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
    hooks.tell([bundle], options[first], cameras[first])
    deadlines = {name: each.deadline_s for name, each in chosen.items()}
    with ExitStack() as running:
        watched = _watched(cameras, sources, kept, CAMERA, running)
        service = running.enter_context(Service())
        streams = _streams(watched, deadlines, kept, CAMERA, service, running)
        service.ready()
        reports = run_cameras(cameras, streams)
        for each in watched.values():
            each.at_the_end()
    _show("cameras", watched, reports, kept)
    failed = [f"{name}: {r.source_failure}" for name, r in reports.items() if r.source_failure]
    if failed:
        raise SourceError("; ".join(failed))


def run_several_outputs(
    bundles: Mapping[str, Bundle], source: Source, chosen: Chosen, kept: Kept, everything: ExitStack
) -> None:
    """Run all outputs of a bundle on one source, and show what each has done.

    Raises:
        UsageError: a place without ``{output}``; what only one output can have.
        SourceError: the source failed; what was learned is kept.
    """
    from ocl_edge.errors import SourceError
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import frame_progress
    from ocl_edge_runtime.service import Service
    from ocl_edge_runtime.session.outputs import open_outputs
    from ocl_edge_runtime.several_outputs import run_outputs

    kept.check_places("outputs", OUTPUT)
    outputs = everything.enter_context(open_outputs(bundles, chosen.options, chosen.realtime))
    use_threads(chosen.options.threads)
    outputs.warm_up()
    hooks.tell(bundles.values(), chosen.options, outputs.lead)
    with ExitStack() as running:
        watched = _watched(outputs, dict.fromkeys(outputs, source), kept, OUTPUT, running)
        service = running.enter_context(Service())
        deadlines = dict.fromkeys(outputs, chosen.deadline_s)
        streams = _streams(watched, deadlines, kept, OUTPUT, service, running)
        service.ready()
        with frame_progress(source.total) as progress:
            reports = run_outputs(outputs, source, streams, progress)
        for each in watched.values():
            each.at_the_end()
    _show("outputs", watched, reports, kept)
    failure = next(iter(reports.values())).source_failure
    if failure:
        raise SourceError(failure)


def _watched(
    sessions: Mapping[str, Session],
    sources: Mapping[str, Source],
    kept: Kept,
    placeholder: str,
    running: ExitStack,
) -> dict[str, Watched]:
    from ocl_edge_app.cli.run_views import Watched, open_views
    from ocl_edge_runtime.sinks import open_sinks

    watched = {}
    for name, source in sources.items():
        manifest = sessions[name].bundle.manifest
        places = [text.replace(placeholder, name) for text in kept.sinks]
        sinks = open_sinks(places, manifest, source.files, source.frame_s)
        outlets = [running.enter_context(sink) for sink in sinks]
        watched[name] = Watched(sessions[name], source, dict(zip(kept.sinks, outlets, strict=True)))
    open_views(kept.views, kept.metrics, watched, running)
    return watched


def _streams(
    watched: Mapping[str, Watched],
    deadlines: Mapping[str, float | None],
    kept: Kept,
    placeholder: str,
    service: Service,
    running: ExitStack,
) -> dict[str, Stream]:
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli.output import note
    from ocl_edge_runtime.several import Stream

    frames = 0
    streams = {}
    for name, each in watched.items():
        journal, state = (_of(place, placeholder, name) for place in (kept.journal, kept.state))
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

        def failed(words: str, name: str = name) -> None:
            note(f"{name}: {words}; the other cameras go on")

        streams[name] = Stream(
            each.source, list(each.sinks.values()), deadlines[name], after_frame, records.settled, failed
        )
    return streams


def _of(place: Path | None, placeholder: str, name: str) -> Path | None:
    return None if place is None else Path(str(place).replace(placeholder, name))


def _show(several: str, watched: Mapping[str, Watched], reports: Mapping[str, RunReport], kept: Kept) -> None:
    from ocl_edge_app.cli import run_summary as summary
    from ocl_edge_app.cli.output import emit_json

    told: dict[str, Any] = {}
    for name, report in reports.items():
        report.left_out = sum(s.left_out for text, s in watched[name].sinks.items() if text in kept.sinks)
        told[name] = {**watched[name].session.facts(), **report.as_dict()}
    if kept.json_path:
        emit_json(kept.json_path, {several: told})
    if kept.json_path != "-":
        for name, report in reports.items():
            summary.show(watched[name].session, report, title=f"run of {name}")
