"""The report of ``ocl-edge run``."""

from __future__ import annotations

from collections import Counter

from ocl_edge.bundle.manifest import Manifest
from ocl_edge.images import ColourOverlay
from ocl_edge_app.pictures import photo_uri
from ocl_edge_app.report.home import home_figure
from ocl_edge_app.report.page import (
    Block,
    Cell,
    Example,
    Examples,
    Figure,
    Page,
    Picture,
    Section,
    Table,
    Text,
    Tile,
)
from ocl_edge_app.report.plots import Histogram, Series, Timeline
from ocl_edge_app.report.recorder import Events, Reservoir, RunRecorder
from ocl_edge_app.report.stages import said_ms, stage_blocks
from ocl_edge_app.report.what_ran import network_name
from ocl_edge_runtime.loop import RunReport
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.statistics import Distribution

MOST_OUTCOMES = 12


def run_page(
    session: Session, report: RunReport, recorder: RunRecorder, ran: Section, deadline_ms: float | None = None
) -> Page:
    """Latency, updates, the guard's decisions and a few frames of a run.

    Args:
        session: that ran.
        report: of the loop.
        recorder: that saw every frame.
        ran: see `what_ran`.
        deadline_ms: time to the next frame, None where nobody waited.
    """
    manifest = session.bundle.manifest
    return Page(
        f"Run of {network_name(session.bundle)}",
        lead=_lead(session, report),
        tiles=_tiles(report, recorder),
        sections=[
            Section("Time", _time(recorder, deadline_ms)),
            *(
                [Section("Home", [home_figure(report.distances, report.openings)])]
                if session.setup.method.modulates_norms
                else []
            ),
            Section("Updates", _updates(report, recorder)),
            Section("Frames", _frames(recorder, manifest)),
            Section("Frames that were left out", _skips(recorder)),
            ran,
        ],
    )


def _lead(session: Session, report: RunReport) -> str:
    words = f"{report.frames} frames, method {session.setup.method.name}, {session.setup.backend_name}"
    words += ", stopped by a signal before the end." if report.stopped else "."
    return f"{words} The source failed: {report.source_failure}" if report.source_failure else words


def _tiles(report: RunReport, recorder: RunRecorder) -> list[Tile]:
    tiles = []
    if recorder.latency_ms.values:
        latency = Distribution.of(recorder.latency_ms.values)
        tiles.append(Tile(said_ms(latency.p50), "to the mask, median", f"p99 {said_ms(latency.p99)}"))
    left_out = f"{report.skipped} skipped, {report.dropped} dropped"
    tiles.append(Tile(f"{report.frames:,}", "masks", f"{left_out}, {report.late} late"))
    undone = recorder.guard.counts.total()
    tiles.append(Tile(f"{report.updates:,}", "updates kept", f"{undone} undone by the guard"))
    if report.seconds:
        tiles.append(Tile(f"{report.frames / report.seconds:.1f}", "frames per second", "decoding to update"))
    return tiles


def _time(recorder: RunRecorder, deadline_ms: float | None) -> list[Block]:
    series = [Series("to the mask", recorder.latency_ms.values, 1)]
    if recorder.update_ms.values:
        series.append(Series("update, after the mask", recorder.update_ms.values, 2))
    timeline = Timeline("Every frame in order", list(recorder.moments), deadline_ms)
    stacks = {
        f"{name}, mean of {stages.frames:,} frames": stages.means()
        for name, stages in (("no update", recorder.plain), ("update", recorder.updating))
        if stages.frames
    }
    return [
        Figure(Histogram("How long a frame takes", "ms", series), _sampled(recorder.latency_ms)),
        Figure(timeline, timeline.caption()),
        *stage_blocks(stacks),
    ]


def _sampled(values: Reservoir) -> str:
    if values.seen == len(values.values):
        return ""
    return f"Of {values.seen:,} frames a uniform sample of {len(values.values):,}."


def _updates(report: RunReport, recorder: RunRecorder) -> list[Block]:
    outcomes = Counter(report.told_reasons()).most_common()
    rows = [
        [outcome, f"{count:,}", f"{100 * count / report.frames:.1f} %"]
        for outcome, count in outcomes[:MOST_OUTCOMES]
    ]
    if rarer := outcomes[MOST_OUTCOMES:]:
        count = sum(count for _, count in rarer)
        rows.append([f"{len(rarer)} rarer outcomes", f"{count:,}", f"{100 * count / report.frames:.1f} %"])
    blocks: list[Block] = [Table("What came of each frame's update", ["outcome", "frames", "share"], rows)]
    if recorder.guard.counts:
        blocks.append(_event_table("What the guard undid", recorder.guard))
    else:
        blocks.append(Text("The guard undid no update."))
    return blocks


def _event_table(title: str, events: Events) -> Table:
    rows: list[list[str | Cell | None]] = [[e.frame, e.action, e.reason] for e in events.first]
    if events.left_out:
        rows.append([Cell("…", "quiet"), Cell(f"{events.left_out:,} more", "quiet"), None])
    rows += [[e.frame, e.action, e.reason] for e in events.last]
    counts = ", ".join(f"{count:,} {action}" for action, count in events.counts.items())
    return Table(title, ["frame", "action", "reason"], rows, text_columns=3, note=f"In all: {counts}.")


def _frames(recorder: RunRecorder, manifest: Manifest) -> list[Block]:
    shots = recorder.shots.chosen()
    palette = [c.colour for c in manifest.classes]
    examples = [
        Example(
            f"Frame {shot.index}, {shot.name}",
            [
                Picture("image", photo_uri(shot.image)),
                Picture("overlay", photo_uri(ColourOverlay(palette).over(shot.image, shot.mask))),
            ],
        )
        for shot in shots
    ]
    seen = sorted({int(value) for shot in shots for value in set(shot.mask.flat)})
    classes = {manifest.classes[value].name: palette[value] for value in seen}
    return [Examples(examples, classes, "Chosen by their place in the stream.")] if shots else []


def _skips(recorder: RunRecorder) -> list[Block]:
    return [_event_table("Skipped frames", recorder.skips)] if recorder.skips.counts else []
