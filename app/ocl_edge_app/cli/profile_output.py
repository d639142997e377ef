"""What ``ocl-edge profile`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocl_edge_app.profile.recording import Profile, Recording
    from ocl_edge_app.profile.waiting import Pace
    from ocl_edge_runtime.session.session import Session

HEADER = ["ms", "mean", "p50", "p90", "p95", "p99", "max"]


def show(result: Profile, on: Session, pace: Pace | None, energy: str) -> None:
    """Two tables of stages, one of ratios, and what to try.

    Args:
        result: what was measured.
        on: the session that adapted.
        pace: of the camera's frames, where it was told.
        energy: what measures it, or why nothing does.
    """
    from ocl_edge_app.cli.output import print_rows, print_table, print_words
    from ocl_edge_app.profile.advice import advice

    for name, recording in result.recordings().items():
        content = recording.as_dict()
        rows = [*content["stages_ms"].items()]
        rows += [("to the mask", content["latency_ms"]), ("whole frame", content["frame_ms"])]
        print_table(
            f"{name} ({len(recording.frames)} frames, {on.setup.backend_name})",
            HEADER,
            [[stage, *(f"{values[key]:.2f}" for key in HEADER[1:])] for stage, values in rows],
        )
    latency, whole = result.latency_ratio(), result.frame_ratio()
    rows_of_ratios = {
        "to the mask": f"{latency.p50:.2f}x (p90 {latency.p90:.2f}x)",
        "whole frame": f"{whole.p50:.2f}x (p90 {whole.p90:.2f}x)",
        "jitter": f"{result.off.jitter:.2f} off, {result.on.jitter:.2f} on (to the mask, p99 over p50)",
        "updates": _told_reasons(result.on),
        "opening": _told_opening(result.on),
        "peak memory": f"{result.peak_off_mib:.0f} MiB frozen, {result.peak_on_mib:.0f} MiB with both",
        "energy": _told_energy(result, energy),
    }
    if pace is not None:
        rows_of_ratios[f"at {pace.rate:g} fps"] = "; ".join(
            _told_punctuality(which, recording, pace)
            for which, recording in (("off", result.off), ("on", result.on))
        )
    print_rows("on / off, the same frames", rows_of_ratios)
    realtime = on.setup.realtime
    print_words(advice(result, realtime.norm_every if realtime else None))


def _told_reasons(recording: Recording) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in recording.reasons.most_common())


def _told_opening(recording: Recording) -> str:
    words = f"{sum(recording.openings) / len(recording.openings):.2f} on average"
    distance = recording.distance
    return words if distance is None else f"{words}, at a distance of {distance:.2f} from home"


def _told_energy(result: Profile, energy: str) -> str:
    off, on = result.off.joules_a_frame, result.on.joules_a_frame
    if off is None or on is None:
        return f"not measured: {energy}"
    return f"{off:.2f} J a frame off, {on:.2f} J on; {energy}"


def _told_punctuality(which: str, recording: Recording, pace: Pace) -> str:
    found = recording.punctuality(pace)
    late = f"{100 * found.late:.0f} % of the masks after {pace.deadline_ms:.0f} ms"
    return f"{which}: {late}, {100 * found.passed_over:.0f} % of the frames passed over"
