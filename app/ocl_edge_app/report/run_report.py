"""The report of ``ocl-edge run``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ocl_edge.images import Colour, ColourOverlay
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


@dataclass(frozen=True)
class Ran:
    """What one output gave of the frames of one camera.

    Attributes:
        session: that ran.
        report: of the loop.
        recorder: that saw every frame; of several outputs the first one's knows the frames left out.
        deadline_ms: time to the next frame, None where nobody waited.
    """

    session: Session
    report: RunReport
    recorder: RunRecorder
    deadline_ms: float | None = None


Outputs = Mapping[str, Ran]
"""Of one camera, by name, which is empty where there is one."""


def run_page(cameras: Mapping[str, Outputs], ran: Section) -> Page:
    """Latency, updates, the guard's decisions and a few frames of a run.

    Args:
        cameras: by name, which is empty where there is one.
        ran: see `what_ran`.
    """
    first = next(iter(cameras.values()))
    bundle = next(iter(first.values())).session.bundle
    several = len(cameras) > 1 or len(first) > 1
    sections = [section for name, outputs in cameras.items() for section in _of_camera(name, outputs)]
    return Page(
        f"Run of {network_name(bundle.whole if len(first) > 1 else bundle)}",
        lead=_lead(cameras),
        tiles=_tiles(cameras),
        sections=[*([Section("Together", [_together(cameras)])] if several else []), *sections, ran],
    )


def _of_camera(name: str, outputs: Outputs) -> list[Section]:
    of = f"{name}: " if name else ""
    lead = next(iter(outputs.values()))
    report, recorder = lead.report, lead.recorder
    alone = len(outputs) == 1
    sections = [
        Section(f"{of}Time", [_how_long(recorder), *([_timeline(lead)] if alone else []), *_stages(recorder)])
    ]
    if lead.session.setup.method.modulates_norms:
        sections.append(Section(f"{of}Home", [home_figure(report.distances, report.openings)]))
    if alone:
        sections.append(Section(f"{of}Updates", _updates(report, recorder)))
    else:
        sections += [
            Section(f"{of}Output {output}", [_timeline(each), *_updates(each.report, each.recorder)])
            for output, each in outputs.items()
        ]
    frames = Section(f"{of}Frames", _frames(outputs))
    return [*sections, frames, Section(f"{of}Frames that were left out", _skips(recorder))]


def _lead(cameras: Mapping[str, Outputs]) -> str:
    leads = {name: next(iter(outputs.values())) for name, outputs in cameras.items()}
    setup = next(iter(leads.values())).session.setup
    words = f"{sum(each.report.frames for each in leads.values())} frames"
    words += f" of {len(cameras)} cameras" if len(cameras) > 1 else ""
    words += f", method {setup.method.name}, {setup.backend_name}"
    stopped = any(each.report.stopped for each in leads.values())
    words += ", stopped by a signal before the end." if stopped else "."
    for name, each in leads.items():
        if each.report.source_failure:
            words += f" The source{f' {name}' if name else ''} failed: {each.report.source_failure}"
    return words


def _tiles(cameras: Mapping[str, Outputs]) -> list[Tile]:
    every = [each for outputs in cameras.values() for each in outputs.values()]
    leads = [next(iter(outputs.values())) for outputs in cameras.values()]
    masks = "masks" if len(every) == len(leads) else "frames, a mask of each output"
    tiles = []
    if latencies := [ms for lead in leads for ms in lead.recorder.latency_ms.values]:
        latency = Distribution.of(latencies)
        tiles.append(Tile(said_ms(latency.p50), "to the mask, median", f"p99 {said_ms(latency.p99)}"))
    frames, skipped, dropped, late = (
        sum(getattr(lead.report, name) for lead in leads) for name in ("frames", "skipped", "dropped", "late")
    )
    tiles.append(Tile(f"{frames:,}", masks, f"{skipped} skipped, {dropped} dropped, {late} late"))
    kept = sum(each.report.updates for each in every)
    undone = sum(each.recorder.guard.counts.total() for each in every)
    tiles.append(Tile(f"{kept:,}", "updates kept", f"{undone} undone by the guard"))
    if seconds := max(lead.report.seconds for lead in leads):
        tiles.append(Tile(f"{frames / seconds:.1f}", "frames per second", "decoding to update"))
    return tiles


def _together(cameras: Mapping[str, Outputs]) -> Table:
    """A row for each output of each camera."""
    asked = {"camera": len(cameras) > 1, "output": any(len(outputs) > 1 for outputs in cameras.values())}
    names = [name for name, wanted in asked.items() if wanted]
    rows: list[list[str | Cell | None]] = []
    for camera, outputs in cameras.items():
        for output, each in outputs.items():
            report = each.report
            latency = Distribution.of(report.latency_ms) if report.latency_ms else None
            rows.append(
                [
                    *([camera] if asked["camera"] else []),
                    *([output] if asked["output"] else []),
                    f"{report.frames:,}",
                    *([f"{latency.p50:.1f}", f"{latency.p99:.1f}"] if latency else [None, None]),
                    f"{report.updates:,}",
                    f"{each.recorder.guard.counts.total():,}",
                    f"{100 * each.session.weights.distance_from_trained():.1f} %",
                ]
            )
    return Table(
        f"Each {' and '.join(names)}",
        [*names, "masks", "median ms", "p99 ms", "updates kept", "undone", "weights moved"],
        rows,
        text_columns=len(names),
        note="Milliseconds to the mask are those of all outputs together." if "output" in names else "",
    )


def _how_long(recorder: RunRecorder) -> Figure:
    series = [Series("to the mask", recorder.latency_ms.values, 1)]
    if recorder.update_ms.values:
        series.append(Series("update, after the mask", recorder.update_ms.values, 2))
    return Figure(Histogram("How long a frame takes", "ms", series), _sampled(recorder.latency_ms))


def _timeline(of: Ran) -> Figure:
    timeline = Timeline("Every frame in order", list(of.recorder.moments), of.deadline_ms)
    return Figure(timeline, timeline.caption())


def _stages(recorder: RunRecorder) -> list[Block]:
    return stage_blocks(
        {
            f"{name}, mean of {stages.frames:,} frames": stages.means()
            for name, stages in (("no update", recorder.plain), ("update", recorder.updating))
            if stages.frames
        }
    )


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


def _frames(outputs: Outputs) -> list[Block]:
    """Frames with the overlay of each output; all of them kept the same frames."""
    classes = {name: each.session.bundle.manifest.classes for name, each in outputs.items()}
    examples, seen = [], dict[str, Colour]()
    for shots in zip(*(each.recorder.shots.chosen() for each in outputs.values()), strict=True):
        image = shots[0].image
        pictures = [Picture("image", photo_uri(image))]
        for (name, own), shot in zip(classes.items(), shots, strict=True):
            overlay = ColourOverlay([c.colour for c in own]).over(image, shot.mask)
            pictures.append(Picture(name or "overlay", photo_uri(overlay)))
            of = f"{name}: " if name else ""
            seen |= {of + own[value].name: own[value].colour for value in np.unique(shot.mask)}
        examples.append(Example(f"Frame {shots[0].index}, {shots[0].name}", pictures))
    return [Examples(examples, seen, "Chosen by their place in the stream.")] if examples else []


def _skips(recorder: RunRecorder) -> list[Block]:
    return [_event_table("Skipped frames", recorder.skips)] if recorder.skips.counts else []
