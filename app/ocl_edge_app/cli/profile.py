"""``ocl-edge profile``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ocl_edge_app.cli.bundles import bundle_argument, open_bundle
from ocl_edge_app.cli.options import (
    FiniteRange,
    OpeningType,
    adaptation_options,
    backend_option,
    head_option,
    html_option,
    json_option,
    mask_size_option,
    quiet_option,
    threads_option,
    two_sides,
)
from ocl_edge_app.cli.run_options import adapt_every_option, norm_every_option

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.method.norms import Prior
    from ocl_edge_app.profile.recording import Profile
    from ocl_edge_app.profile.waiting import Pace
    from ocl_edge_runtime.session.frames import Frame
    from ocl_edge_runtime.session.options import MaskSize, OpeningKind, RealtimeOptions
    from ocl_edge_runtime.session.session import Session

EXAMPLES = """
\b
Examples:
  ocl-edge profile bundle --source frames/
  ocl-edge profile bundle --frame-size 1920x1080 --fps 15 --frames 20
  ocl-edge profile bundle --source frames/ --norm-every 4 --adapt-every 8 --opening auto
  ocl-edge profile bundle --frames 200 --trace trace.json --html profile.html
  ocl-edge profile bundle --source frames/ --mode paper --head engine
  ocl-edge profile bundle --estimate agx-orin
"""

DIFFERENT = 32
"""So many frames of noise, over and over."""


def parse_frame_size(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """``WIDTHxHEIGHT``, as cameras say it -> height and width."""
    from ocl_edge.images import MOST_PIXELS

    if value is None:
        return None
    sides = two_sides(value)
    if sides is None:
        raise click.BadParameter(f"expected WIDTHxHEIGHT, as in 1920x1080, got {value!r}")
    width, height = sides
    if not 1 <= width * height <= MOST_PIXELS:
        raise click.BadParameter(f"expected 1 to {MOST_PIXELS:,} pixels, got {value}")
    return height, width


@click.command(epilog=EXAMPLES, short_help="Show where each millisecond of a frame goes.")
@bundle_argument
@click.option(
    "--source", metavar="DIR|IMAGE|GLOB", help="Frames to measure on; a short source repeats. Default: noise."
)
@click.option(
    "--frame-size",
    callback=parse_frame_size,
    metavar="WIDTHxHEIGHT",
    help="Size of the camera's frames, e.g. 1920x1080; those of --source are resized to it beforehand. "
    "Default: the source's; of noise, the network's input.",
)
@click.option(
    "--mode",
    type=click.Choice(["realtime", "paper"]),
    default="realtime",
    show_default=True,
    help="How it adapts; the frozen network runs beside it.",
)
@norm_every_option
@adapt_every_option
@click.option(
    "--fps",
    type=FiniteRange(min=0, min_open=True),
    help="Frames a second of the camera: tells how many masks would be late, and frames passed over.",
)
@click.option(
    "--deadline-ms",
    type=FiniteRange(min=0, min_open=True),
    help="From a frame's arrival to its mask; needs --fps. Default: until the next frame arrives.",
)
@click.option(
    "--frames", type=click.IntRange(min=1), default=50, show_default=True, help="Frames to measure."
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Frames to run first, unmeasured.",
)
@backend_option
@head_option
@adaptation_options
@click.option(
    "--opening",
    type=OpeningType(),
    default="1",
    show_default=True,
    help="As in run: auto profiles the frames of --source as they would run, 1 what a frame costs where it "
    "adapts.",
)
@mask_size_option
@threads_option
@click.option("--trace", metavar="FILE", help="Write a Chrome trace for Perfetto.")
@click.option(
    "--estimate",
    metavar="DEVICE",
    help="Measure nothing; estimate the time of the bundle's engines on a device from its data sheet: "
    "agx-orin, orin-nx, orin-nano, t4, a10, l4, rtx-4090, h100, or its GB/s:TFLOPS, as in 204.8:5.3.",
)
@json_option
@html_option
@quiet_option
def profile(
    bundle: Path,
    source: str | None,
    frame_size: tuple[int, int] | None,
    mode: Literal["realtime", "paper"],
    norm_every: int | None,
    adapt_every: int | None,
    fps: float | None,
    deadline_ms: float | None,
    frames: int,
    warmup: int,
    backend: str,
    head: Literal["torch", "engine"],
    prior: Prior | None,
    lr: float | None,
    restoration: float | None,
    seed: int,
    opening: OpeningKind,
    mask_size: MaskSize,
    threads: int | None,
    trace: str | None,
    estimate: str | None,
    json_path: str | None,
    html_path: Path | None,
) -> None:
    """Measure every stage of a frame with adaptation on and off, frame by frame in turn.

    Off is the frozen network on a single view. On is realtime mode, wide open unless --opening says
    otherwise: what a frame costs where it adapts.
    """
    from contextlib import ExitStack
    from itertools import islice

    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import emit_json, frame_progress
    from ocl_edge_app.cli.plans import show_estimate
    from ocl_edge_app.cli.profile_output import show
    from ocl_edge_app.profile.energy import open_meter
    from ocl_edge_app.profile.measure import run_profile
    from ocl_edge_runtime.session.opening import open_session
    from ocl_edge_runtime.session.options import SessionOptions

    if estimate is not None:
        show_estimate(open_bundle(bundle), estimate, json_path)
        return
    pace = _pace(source, opening, fps, deadline_ms)
    use_threads(threads)
    opened = open_bundle(bundle)
    frozen = SessionOptions("frozen", None, backend, threads=threads, head=head, mask_size=mask_size)
    adapting = replace(
        frozen,
        method="ocl-head",
        prior=prior,
        lr=lr,
        restoration=restoration,
        seed=seed,
        opening=opening,
    )
    realtime = _realtime(source, norm_every, adapt_every, pace) if mode == "realtime" else None
    wanted = islice(_frames(opened, source, frame_size, frames + warmup), frames + warmup)
    meter, measured = open_meter()
    with ExitStack() as everything:
        off = everything.enter_context(open_session(opened, frozen))
        on = everything.enter_context(open_session(opened, adapting, realtime))
        progress = everything.enter_context(frame_progress(frames + warmup))
        result = run_profile(off, on, wanted, (), warmup, lambda: progress(""), meter)
    if trace:
        emit_json(trace, result.trace())
    if json_path:
        ran = {"bundle": opened.identity, "backend": on.setup.backend_name, "head": head, "mode": mode}
        punctual = _punctual(result, pace) if pace else None
        told = {"source": source or "noise", "energy": measured, "punctuality": punctual}
        emit_json(json_path, {**ran, **told, **result.as_dict()})
    if html_path:
        _write_html(html_path, on, result, source or "noise")
    if json_path != "-":
        show(result, on, pace, measured)


def _pace(
    source: str | None, opening: OpeningKind, fps: float | None, deadline_ms: float | None
) -> Pace | None:
    """How frames arrive, where that is told; refuses options that contradict each other."""
    from ocl_edge.errors import UsageError
    from ocl_edge_app.profile.waiting import Pace

    if opening == "auto" and source is None:
        raise UsageError("noise is no place that a network was trained for: --opening auto needs --source")
    if fps is not None:
        return Pace(fps, deadline_ms or 1000 / fps)
    if deadline_ms is not None:
        raise UsageError("--deadline-ms needs --fps: masks are late or not where frames arrive at a rate")
    return None


def _realtime(
    source: str | None, norm_every: int | None, adapt_every: int | None, pace: Pace | None
) -> RealtimeOptions:
    """As `run` has it; on noise nothing is refused or undone, as nothing of it can be right."""
    from math import inf

    from ocl_edge.method.guard import GuardLimits
    from ocl_edge_runtime.session.options import RealtimeOptions

    options = RealtimeOptions(norm_every, adapt_every, pace.deadline_ms / 1000 if pace else None)
    if source is not None:
        return options
    limits = GuardLimits(disagreement=inf, share_gain=inf, entropy_ratio=inf, drift=inf, step=inf)
    return replace(options, statistics_limit=inf, limits=limits)


def _frames(
    bundle: Bundle, source: str | None, frame_size: tuple[int, int] | None, count: int
) -> Iterator[Frame]:
    from ocl_edge_app.cli.output import note
    from ocl_edge_app.profile.measure import resized
    from ocl_edge_runtime.sources import ImageSource, NoiseSource, repeated

    network = bundle.manifest.input
    if source is None:
        height, width = frame_size or (network.height, network.width)
        return repeated(NoiseSource(height, width, min(count, DIFFERENT), channels=network.frame_channels))
    images = ImageSource(
        source,
        on_skip=lambda name, reason: note(f"skipped {name}: {reason}"),
        channels=network.frame_channels,
    )
    return resized(repeated(images), frame_size)


def _punctual(result: Profile, pace: Pace) -> dict[str, dict[str, float]]:
    from dataclasses import asdict

    return {name: asdict(recording.punctuality(pace)) for name, recording in result.recordings().items()}


def _write_html(path: Path, on: Session, result: Profile, source: str) -> None:
    from ocl_edge_app.cli.options import command_line
    from ocl_edge_app.report import write_page
    from ocl_edge_app.report.profile_report import profile_page
    from ocl_edge_app.report.what_ran import settings_of, what_ran

    ran = what_ran(command_line(), on.bundle, {"frames": source, **settings_of(on)})
    write_page(profile_page(result, on, ran), path)
