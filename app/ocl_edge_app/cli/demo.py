"""``ocl-edge demo``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ocl_edge_app.cli.options import json_option, quiet_option

if TYPE_CHECKING:
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge_app.demo.comparison import Comparison

EXAMPLES = """
\b
Examples:
  ocl-edge demo
  ocl-edge demo --out somewhere --frames 50
  ocl-edge demo --quiet --json -
"""

SEED = 0
"""Seed of the drive: the first street."""


@click.command(epilog=EXAMPLES, short_help="Show adaptation on a drawn drive; downloads nothing.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="ocl-edge-demo",
    show_default=True,
    help="Directory for the results; replaces an earlier demo there.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=5),
    default=150,
    show_default=True,
    help="Length of the drive, ten frames a second.",
)
@click.option("--force", is_flag=True, help="Write even if --out holds other files; they stay.")
@json_option
@quiet_option
def demo(out: Path, frames: int, force: bool, json_path: str | None) -> None:
    """Compare a frozen and an adapting network on a drawn drive from day into night.

    The network is small, ships with ocl-edge and was trained on drawn streets by day. The drive
    passes through fog, rain and dusk and has exact labels. The demo takes a minute or two on a CPU
    and writes a report, a video, masks, and a bundle, frames and labels for the other verbs.
    """
    from ocl_edge_app.cli.options import command_line, require_exporter, use_threads
    from ocl_edge_app.cli.output import emit_json
    from ocl_edge_app.demo import products
    from ocl_edge_app.demo.comparison import THREADS, compare
    from ocl_edge_app.demo.directory import MADE_BY, MARKER, demo_directory
    from ocl_edge_app.demo.pictures import video_pictures
    from ocl_edge_app.demo.video import write_video
    from ocl_edge_app.demo.world.drive import FRAMES_PER_S, drive

    require_exporter("the demo")
    started = time.monotonic()
    use_threads(THREADS)
    with demo_directory(out, force) as directory:
        with _bar("draw the drive", frames) as each:
            drawn = products.write_frames(drive(frames, SEED), directory, each)
        bundle = _export(directory)
        with _bar("run both networks", frames) as each:
            comparison = compare(bundle, drawn, each)
        with _bar("write the video", frames) as each:
            write_video(video_pictures(comparison, each), directory, FRAMES_PER_S)
        products.write_masks(comparison, directory)
        products.write_poster(comparison, directory)
        products.write_report(comparison, bundle, command_line(), directory, out)
        emit_json(str(directory / MARKER), {"made_by": MADE_BY, **comparison.as_dict()})
    if json_path:
        emit_json(json_path, comparison.as_dict())
    if json_path != "-":
        _show(comparison, out, time.monotonic() - started)


def _export(directory: Path) -> Bundle:
    """The shipped checkpoint, gated on frames of the drive."""
    from ocl_edge_app.cli.output import stage_progress
    from ocl_edge_app.demo.world.measure import SHIPPED
    from ocl_edge_export.pipeline import ExportRequest, export_bundle

    request = ExportRequest(SHIPPED, directory / "bundle", calibration=directory / "frames")
    with stage_progress("demo: export") as progress:
        return export_bundle(request, progress)


@contextmanager
def _bar(stage: str, frames: int) -> Iterator[Callable[[str], None]]:
    """What to call after each frame; a line in a log, a bar on a terminal too."""
    from ocl_edge_app.cli.output import frame_progress, note

    note(f"demo: {stage}")
    with frame_progress(frames) as progress:
        yield progress


def _show(comparison: Comparison, out: Path, seconds: float) -> None:
    from ocl_edge_app.cli.output import print_rows, print_table, print_words
    from ocl_edge_app.demo.comparison import gains_in_words, speed_in_words
    from ocl_edge_app.demo.products import contents

    numbers = comparison.as_dict()
    scores = {**numbers["stretches"], "whole drive": numbers["whole"]}
    print_table(
        f"mIoU %, {numbers['frames']} frames",
        ["stretch", "frozen", "adapted", "gain"],
        [
            [name, f"{s['frozen']:.1f}", f"{s['adapted']:.1f}", f"{s['gain']:+.1f}"]
            for name, s in scores.items()
        ],
    )
    print_words(*gains_in_words(comparison.gains()))
    print_words()
    times = {
        "frozen: image to mask": numbers["latency_ms"]["frozen"],
        "adapted: image to mask": numbers["latency_ms"]["adapted"],
    }
    if numbers["update_ms"]:
        times["adapted: update, after the mask"] = numbers["update_ms"]
    print_table(
        "milliseconds, one thread",
        ["", "p50", "p90", "max"],
        [[name, *(f"{t[key]:.1f}" for key in ("p50", "p90", "max"))] for name, t in times.items()],
    )
    print_words(*speed_in_words(comparison))
    print_words("Updates:", ", ".join(f"{n} {outcome}" for outcome, n in comparison.outcomes.items()) + ".")
    print_words()
    print_words(f"Done in {seconds:.0f} s. Look at {out}:")
    print_rows("", {"report.html": "everything", **contents(out)})
    print_words()
    print_rows(
        "next, with your own checkpoint",
        {
            "1": "ocl-edge export model.pth --input-size 384x512 --out bundle",
            "2": "ocl-edge run bundle --source frames/ --sink overlay:overlay",
        },
    )
