"""What ``ocl-edge run`` shows at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocl_edge_app.report.run_report import Outputs
    from ocl_edge_runtime.loop import RunReport
    from ocl_edge_runtime.session.session import Session
    from ocl_edge_runtime.session.setup import Setup


def write_html(path: Path, cameras: Mapping[str, Outputs]) -> None:
    from ocl_edge_app.cli.options import command_line
    from ocl_edge_app.report import write_page
    from ocl_edge_app.report.run_report import run_page
    from ocl_edge_app.report.what_ran import settings_of_several, what_ran

    outputs = next(iter(cameras.values()))
    bundle = next(iter(outputs.values())).session.bundle
    settings = settings_of_several({name: each.session for name, each in outputs.items()})
    ran = what_ran(command_line(), bundle if len(outputs) == 1 else bundle.whole, settings)
    write_page(run_page(cameras, ran), path)


def show(session: Session, report: RunReport, title: str = "run") -> None:
    from ocl_edge_app.cli.output import print_rows
    from ocl_edge_runtime.statistics import Distribution

    setup = session.setup
    latency = Distribution.of(report.latency_ms) if report.latency_ms else None
    rows: dict[str, object] = {
        "frames": f"{report.frames} ({report.skipped} skipped, {report.dropped} dropped, "
        f"{report.late} late = {100 * report.late_share:.0f} %)"
        + (", stopped by a signal" if report.stopped else ""),
        "method": f"{setup.method.name}, {'view pair' if setup.views == 'pair' else 'single view'}",
        "backend": setup.backend_name + (f": {setup.chosen_because}" if setup.chosen_because else ""),
        "head": "PyTorch" if setup.options.head == "torch" else "in the backend",
    }
    if report.seconds:
        rows["speed"] = f"{report.frames / report.seconds:.2f} frames/s, from file to update"
    if report.left_out:
        rows["sinks"] = f"too slow for {report.left_out} masks, which they do not have"
    if latency:
        rows["mask latency"] = f"p50 {latency.p50:.1f} ms, p90 {latency.p90:.1f} ms, p99 {latency.p99:.1f} ms"
    if report.update_ms:
        update = Distribution.of(report.update_ms)
        when = "in the background" if setup.updates_in_background else "after the mask"
        rows["update"] = f"p50 {update.p50:.1f} ms, p90 {update.p90:.1f} ms, {when}"
    if setup.method.modulates_norms and report.openings:
        rows["opening"] = opening_in_words(setup, report)
    if setup.trains and report.reasons:
        rows["updates"] = ", ".join(f"{count} {reason}" for reason, count in report.told_reasons().items())
    if report.losses:
        rows["loss"] = (
            f"mean {report.mean_loss:.4f}, first {report.losses[0]:.4f}, last {report.losses[-1]:.4f}"
        )
        rows["weights"] = f"{100 * session.weights.distance_from_trained():.1f} % away from the trained ones"
    print_rows(title, rows)


def opening_in_words(setup: Setup, report: RunReport) -> str:
    """How far from home the frames were, and how far adaptation has opened."""
    from ocl_edge_runtime.statistics import Distribution

    opened = Distribution.of(report.openings)
    how = "" if setup.follows_home else ", held there"
    words = f"mean {opened.mean:.2f}, p90 {opened.p90:.2f}{how}"
    if report.known_distances:
        distance = Distribution.of(report.known_distances)
        words += f"; distance from home p50 {distance.p50:.2f}, p90 {distance.p90:.2f}"
    return words
