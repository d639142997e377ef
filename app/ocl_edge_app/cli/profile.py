"""``ocl-edge profile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ocl_edge_app.cli.options import (
    adaptation_options,
    backend_option,
    bundle_argument,
    head_option,
    html_option,
    json_option,
    quiet_option,
    threads_option,
)

if TYPE_CHECKING:
    from ocl_edge.method.norms import Prior
    from ocl_edge_app.profile import Profile
    from ocl_edge_runtime.session.session import Session

EXAMPLES = """
\b
Examples:
  ocl-edge profile bundle --source frames/
  ocl-edge profile bundle --frames 200 --trace trace.json --html profile.html
  ocl-edge profile bundle --source frames/ --head engine
"""


@click.command(epilog=EXAMPLES, short_help="Show where each millisecond of a frame goes.")
@bundle_argument
@click.option(
    "--source", metavar="DIR|IMAGE|GLOB", help="Frames to measure on; a short source repeats. Default: noise."
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
@threads_option
@click.option("--trace", metavar="FILE", help="Write a Chrome trace for Perfetto.")
@json_option
@html_option
@quiet_option
def profile(
    bundle: Path,
    source: str | None,
    frames: int,
    warmup: int,
    backend: str,
    head: Literal["torch", "engine"],
    prior: Prior | None,
    lr: float | None,
    restoration: float | None,
    seed: int,
    threads: int | None,
    trace: str | None,
    json_path: str | None,
    html_path: Path | None,
) -> None:
    """Measure every stage of a frame with adaptation on and off, frame by frame in turn.

    Off is the frozen network on a single view; on is paper mode.
    """
    from itertools import islice

    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import emit_json, frame_progress, note
    from ocl_edge_app.profile import run_profile
    from ocl_edge_runtime.session.opening import open_session
    from ocl_edge_runtime.session.options import SessionOptions
    from ocl_edge_runtime.sources import ImageSource, NoiseSource, repeated

    use_threads(threads)
    opened = Bundle.open(bundle)
    size = opened.manifest.input
    stream = (
        ImageSource(source, on_skip=lambda name, reason: note(f"skipped {name}: {reason}"))
        if source
        else NoiseSource(size.height, size.width, min(frames + warmup, 32))
    )
    frozen = SessionOptions("frozen", None, backend, threads=threads, head=head)
    adapting = SessionOptions(
        "ocl-head", None, backend, prior, lr, restoration, seed, threads, head=head, opening=1.0
    )
    wanted = islice(repeated(stream), frames + warmup)
    with (
        open_session(opened, frozen) as off,
        open_session(opened, adapting) as on,
        frame_progress(frames + warmup) as progress,
    ):
        result = run_profile(off, on, wanted, (), warmup, lambda: progress(""))
    if trace:
        emit_json(trace, result.trace())
    if json_path:
        ran = {"bundle": opened.identity, "backend": on.setup.backend_name, "head": head}
        emit_json(json_path, {**ran, "source": source or "noise", **result.as_dict()})
    if html_path:
        _write_html(html_path, on, result, source or "noise")
    if json_path != "-":
        _show(result, on.setup.backend_name)


def _write_html(path: Path, on: Session, result: Profile, source: str) -> None:
    from ocl_edge_app.cli.options import command_line
    from ocl_edge_app.report import write_page
    from ocl_edge_app.report.profile_report import profile_page
    from ocl_edge_app.report.what_ran import settings_of, what_ran

    ran = what_ran(command_line(), on.bundle, {"frames": source, **settings_of(on)})
    write_page(profile_page(result, on, ran), path)


def _show(result: Profile, backend: str) -> None:
    from ocl_edge_app.cli.output import print_rows, print_table

    header = ["ms", "mean", "p50", "p90", "p95", "p99", "max"]
    for name, recording in (("adaptation off", result.off), ("adaptation on", result.on)):
        rows = [*recording.as_dict()["stages_ms"].items()]
        rows += [
            ("to the mask", recording.as_dict()["latency_ms"]),
            ("whole frame", recording.as_dict()["frame_ms"]),
        ]
        print_table(
            f"{name} ({len(recording.frames)} frames, {backend})",
            header,
            [[stage, *(f"{values[key]:.2f}" for key in header[1:])] for stage, values in rows],
        )
    latency, whole = result.latency_ratio(), result.frame_ratio()
    print_rows(
        "on / off, the same frames",
        {
            "to the mask": f"{latency.p50:.2f}x (p90 {latency.p90:.2f}x)",
            "whole frame": f"{whole.p50:.2f}x (p90 {whole.p90:.2f}x)",
            "home": _words_of_home(result.distance_from_home()),
            "peak memory": f"{result.peak_off_mib:.0f} MiB frozen, {result.peak_on_mib:.0f} MiB with both",
        },
    )


def _words_of_home(distance: float | None) -> str:
    from ocl_edge.method.home import opening_at

    if distance is None:
        return "no norm tells how far away these frames are; held wide open here"
    return f"these frames are {distance:.2f} away: auto opens to {opening_at(distance):.2f}, held at 1 here"
