"""``ocl-edge run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ocl_edge.cli.options import (
    adaptation_options,
    backend_option,
    bundle_argument,
    json_option,
    threads_option,
)

if TYPE_CHECKING:
    from ocl_edge_runtime.engine import Engine
    from ocl_edge_runtime.loop import RunReport

EXAMPLES = """
\b
Examples:
  ocl-edge run bundle --source frames/ --sink masks:out/masks --sink overlay:out/overlay
  ocl-edge run bundle --source 'drive/*.png' --mode frozen --views pair
  ocl-edge run bundle --source frames/ --prior 0.7 --lr 0.05 --json -
"""


@click.command(epilog=EXAMPLES, short_help="Segment a stream and adapt to it.")
@bundle_argument
@click.option("--source", required=True, metavar="DIR|IMAGE|GLOB", help="Frames, taken in order of name.")
@click.option(
    "--mode",
    type=click.Choice(["paper", "frozen"]),
    default="paper",
    show_default=True,
    help="paper: adapt on every frame; frozen: never.",
)
@click.option(
    "--views",
    type=click.Choice(["single", "pair"]),
    help="pair: average the logits of the image and its flip. Paper mode always does; frozen: single.",
)
@backend_option
@adaptation_options
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="KIND:DIR",
    help="masks:DIR writes PNGs of class indices, overlay:DIR pictures. May be repeated.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many frames.")
@threads_option
@json_option
def run(
    bundle: Path,
    source: str,
    mode: Literal["paper", "frozen"],
    views: Literal["single", "pair"] | None,
    backend: str,
    prior: float | None,
    lr: float | None,
    restoration: float | None,
    seed: int,
    sinks: tuple[str, ...],
    limit: int | None,
    threads: int | None,
    json_path: str | None,
) -> None:
    """Segment every frame of a source; adapt to it after each mask is out.

    A frame that cannot be read is reported, skipped and counted.
    """
    from ocl_edge.bundle import Bundle
    from ocl_edge.cli.options import use_threads
    from ocl_edge.cli.output import emit_json, frame_progress, note
    from ocl_edge.timings import mask_latency_ms
    from ocl_edge_runtime.engine import Engine, EngineOptions
    from ocl_edge_runtime.loop import run_stream
    from ocl_edge_runtime.sinks import open_sink
    from ocl_edge_runtime.sources import ImageSource

    use_threads(threads)
    frames = ImageSource(source, limit, lambda name, reason: note(f"skipped {name}: {reason}"))
    opened = Bundle.open(bundle)
    options = EngineOptions(mode, views, backend, prior, lr, restoration, seed, threads)
    engine = Engine(opened, options)
    for name, reason in engine.passed_over.items():
        note(f"backend {name} passed over: {reason}")
    outlets = [open_sink(text, opened.manifest) for text in sinks]
    with frame_progress(len(frames)) as progress:
        report = run_stream(
            engine, frames, outlets, lambda result: progress(f"{mask_latency_ms(result.timings_ms):.0f} ms")
        )
    if json_path:
        emit_json(json_path, {**_facts(engine), **report.as_dict()})
    if json_path != "-":
        _show(engine, report)
    engine.close()


def _facts(engine: Engine) -> dict[str, Any]:
    return {
        "bundle": engine.bundle.identity,
        "mode": engine.mode,
        "views": engine.views,
        "backend": engine.backend.name,
        "settings": engine.settings.model_dump(),
        "head_sha256": engine.head.weights_sha256(),
        "head_distance": engine.head.distance_from_source(),
    }


def _show(engine: Engine, report: RunReport) -> None:
    from ocl_edge.cli.output import print_rows
    from ocl_edge_runtime.statistics import Distribution

    latency = Distribution.of(report.latency_ms) if report.latency_ms else None
    rows: dict[str, object] = {
        "frames": f"{report.frames} ({report.skipped} skipped)"
        + (", stopped by a signal" if report.stopped else ""),
        "mode": f"{engine.mode}, {engine.views} view{'s' if engine.views == 'pair' else ''}",
        "backend": engine.backend.name,
    }
    if latency:
        rows["mask latency"] = f"p50 {latency.p50:.1f} ms, p90 {latency.p90:.1f} ms, p99 {latency.p99:.1f} ms"
    if report.update_ms:
        update = Distribution.of(report.update_ms)
        rows["update"] = f"p50 {update.p50:.1f} ms, p90 {update.p90:.1f} ms, after the mask"
    if report.losses:
        rows["updates"] = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        rows["loss"] = f"first {report.losses[0]:.4f}, last {report.losses[-1]:.4f}"
        rows["head"] = f"{100 * engine.head.distance_from_source():.1f} % away from its source weights"
    print_rows("run", rows)
