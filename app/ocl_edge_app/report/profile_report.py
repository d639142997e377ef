"""The report of ``ocl-edge profile``."""

from __future__ import annotations

from ocl_edge_app.profile.advice import advice
from ocl_edge_app.profile.recording import Profile, Recording
from ocl_edge_app.report.home import home_figure
from ocl_edge_app.report.page import Block, Figure, Page, Section, Table, Tile
from ocl_edge_app.report.plots import Histogram, Lines, Series
from ocl_edge_app.report.stages import said_ms, stage_blocks
from ocl_edge_app.report.what_ran import network_name
from ocl_edge_runtime.session.session import Session

COLUMNS = ("mean", "p50", "p90", "p95", "p99", "max")


def profile_page(profile: Profile, on: Session, ran: Section) -> Page:
    """Latency and stages, adaptation on against off.

    Args:
        profile: what was measured.
        on: the session that adapted.
        ran: see `what_ran`.
    """
    realtime = on.setup.realtime
    sentence = advice(profile, realtime.norm_every if realtime else None)
    return Page(
        f"Profile of {network_name(on.bundle)}",
        lead=f"{len(profile.on.frames)} frames, each through the frozen network (off) and through "
        f"{'paper' if realtime is None else 'realtime'} mode (on), taking turns; {on.setup.backend_name}. "
        f"{sentence[0].upper()}{sentence[1:]}.",
        tiles=_tiles(profile),
        sections=[
            Section("Latency", _latency(profile)),
            Section("Stages", _stages(profile)),
            *([Section("Home", _home(profile.on))] if on.setup.method.modulates_norms else []),
            ran,
        ],
    )


def _tiles(profile: Profile) -> list[Tile]:
    latency, whole = profile.latency_ratio(), profile.frame_ratio()
    off = profile.off.as_dict()["latency_ms"]["p50"]
    on = profile.on.as_dict()["latency_ms"]["p50"]
    return [
        Tile(said_ms(off), "to the mask, off", "median"),
        Tile(said_ms(on), "to the mask, on", f"{latency.p50:.2f} times off, frame by frame"),
        Tile(f"{whole.p50:.2f}x", "whole frame, on over off", f"p90 {whole.p90:.2f}x"),
        Tile(
            f"{profile.peak_off_mib:.0f} MiB",
            "peak memory, frozen",
            f"{profile.peak_on_mib:.0f} MiB with both",
        ),
    ]


def _latency(profile: Profile) -> list[Block]:
    off, on = profile.off, profile.on
    series = [
        Series("to the mask, off", off.latencies_ms(), 0),
        Series("to the mask, on", on.latencies_ms(), 1),
        Series("whole frame, on", on.totals_ms(), 2),
    ]
    lines = Lines("Every measured frame in order", "ms", series, window=1)
    rows = [
        [name, *(f"{values[column]:.1f}" for column in COLUMNS)]
        for name, values in (
            ("to the mask, off", off.as_dict()["latency_ms"]),
            ("to the mask, on", on.as_dict()["latency_ms"]),
            ("whole frame, off", off.as_dict()["frame_ms"]),
            ("whole frame, on", on.as_dict()["frame_ms"]),
        )
    ]
    note = "" if len(on.frames) >= 100 else "Of fewer than 100 frames, p99 says little more than the maximum."
    return [
        Figure(Histogram("How long a frame takes", "ms", series)),
        Figure(lines),
        Table("Distribution, ms", ["", *COLUMNS], rows, note=note),
    ]


def _stages(profile: Profile) -> list[Block]:
    recordings = {"off": profile.off, "on": profile.on}
    return stage_blocks({name: recording.means() for name, recording in profile.recordings().items()}) + [
        _distributions(name, recording) for name, recording in recordings.items()
    ]


def _home(on: Recording) -> list[Block]:
    return [home_figure(on.distances, on.openings)]


def _distributions(name: str, recording: Recording) -> Table:
    rows = [
        [stage, *(f"{values.as_dict()[column]:.2f}" for column in COLUMNS)]
        for stage, values in recording.stages().items()
    ]
    return Table(f"Stages with adaptation {name}, ms", ["stage", *COLUMNS], rows)
