"""``ocl-edge run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
    "--method",
    metavar="NAME",
    help="What adapts in paper mode: norm, ocl-head (default), ocl-norm, ocl-full, tent, tent-head.",
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
    method: str | None,
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
    from ocl_edge.errors import UsageError
    from ocl_edge.timings import mask_latency_ms
    from ocl_edge_runtime.engine import Engine, EngineOptions
    from ocl_edge_runtime.loop import run_stream
    from ocl_edge_runtime.sinks import open_sinks
    from ocl_edge_runtime.sources import ImageSource

    use_threads(threads)
    frames = ImageSource(source, limit, lambda name, reason: note(f"skipped {name}: {reason}"))
    opened = Bundle.open(bundle)
    if mode == "frozen" and method not in (None, "frozen"):
        raise UsageError(f"--mode frozen does not adapt; leave out --method {method}")
    name = "frozen" if mode == "frozen" else method or "ocl-head"
    engine = Engine(opened, EngineOptions(name, views, backend, prior, lr, restoration, seed, threads))
    for name, reason in engine.passed_over.items():
        note(f"backend {name} passed over: {reason}")
    outlets = open_sinks(sinks, opened.manifest, frames.files)
    with frame_progress(len(frames)) as progress:
        report = run_stream(
            engine, frames, outlets, lambda result: progress(f"{mask_latency_ms(result.timings_ms):.0f} ms")
        )
    if json_path:
        emit_json(json_path, {**engine.facts(), **report.as_dict()})
    if json_path != "-":
        _show(engine, report)
    engine.close()


def _show(engine: Engine, report: RunReport) -> None:
    from ocl_edge.cli.output import print_rows
    from ocl_edge_runtime.statistics import Distribution

    latency = Distribution.of(report.latency_ms) if report.latency_ms else None
    rows: dict[str, object] = {
        "frames": f"{report.frames} ({report.skipped} skipped)"
        + (", stopped by a signal" if report.stopped else ""),
        "method": f"{engine.method.name}, {'view pair' if engine.views == 'pair' else 'single view'}",
        "backend": engine.backend_name,
    }
    if report.seconds:
        rows["speed"] = f"{report.frames / report.seconds:.2f} frames/s, from file to update"
    if latency:
        rows["mask latency"] = f"p50 {latency.p50:.1f} ms, p90 {latency.p90:.1f} ms, p99 {latency.p99:.1f} ms"
    if report.update_ms:
        update = Distribution.of(report.update_ms)
        rows["update"] = f"p50 {update.p50:.1f} ms, p90 {update.p90:.1f} ms, after the mask"
    if report.losses:
        rows["updates"] = ", ".join(f"{count} {reason}" for reason, count in report.reasons.items())
        rows["loss"] = (
            f"mean {report.mean_loss:.4f}, first {report.losses[0]:.4f}, last {report.losses[-1]:.4f}"
        )
        rows["weights"] = f"{100 * engine.weights.distance_from_source():.1f} % away from the source"
    print_rows("run", rows)
