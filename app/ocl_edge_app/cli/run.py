"""``ocl-edge run``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ocl_edge_app.cli.options import (
    FiniteRange,
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
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.method.norms import Prior
    from ocl_edge.tensorrt.key import Precision
    from ocl_edge_runtime.session.engine import Engine, EngineOptions
    from ocl_edge_runtime.session.realtime import RealtimeOptions

EXAMPLES = """
\b
Examples:
  ocl-edge run bundle --source frames/ --sink masks:out/masks --sink overlay:out/overlay
  ocl-edge run bundle --source frames/ --fps 10 --state state/ --resume auto --journal run.jsonl
  ocl-edge run bundle --source /dev/video0 --fps 15 --source-option video_size=1280x720
  ocl-edge run bundle --source rtsp://camera/stream --reconnect 60 --state state/ --resume auto
  ocl-edge run bundle --source drive.mp4 --fps own --update background
  ocl-edge run bundle --source drive.mp4 --update background --record-schedule run.jsonl
  ocl-edge run bundle --source drive.mp4 --update background --replay-schedule run.jsonl
  ocl-edge run bundle --source 'drive/*.png' --mode frozen --views pair
  ocl-edge run bundle --source frames/ --mode paper --prior 0.7 --lr 0.05 --json -
  ocl-edge run bundle --source frames/ --fps 10 --html report.html --quiet
"""


def parse_interval(_ctx: click.Context, _param: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"expected 'auto' or a whole number from 1, got {value!r}")
    return int(value)


def parse_rate(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | Literal["own"] | None:
    if value is None or value == "own":
        return value  # type: ignore[return-value]
    return FiniteRange(min=0, min_open=True).convert(value, param, ctx)


def parse_settings(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for value, (name, equals, _) in zip(values, pairs, strict=True):
        if not (name and equals):
            raise click.BadParameter(f"expected NAME=VALUE, got {value!r}")
    return {name: value for name, _, value in pairs}


@click.command(epilog=EXAMPLES, short_help="Segment a stream and adapt to it.")
@bundle_argument
@click.option(
    "--source",
    required=True,
    metavar="DIR|IMAGE|GLOB|VIDEO|CAMERA|URL",
    help="Image files in order of name; a video file; a camera, /dev/video0; a stream, rtsp://... "
    "A camera or stream never waits: the newest frame wins.",
)
@click.option(
    "--mode",
    type=click.Choice(["realtime", "paper", "frozen"]),
    default="realtime",
    show_default=True,
    help="realtime: one view, updates where there is time, guarded; paper: two views and an update "
    "on every frame, as published; frozen: never adapt.",
)
@click.option(
    "--method",
    metavar="NAME",
    help="What adapts: ocl-head (default), norm, tent-head; in paper mode also ocl-norm, ocl-full, tent.",
)
@click.option(
    "--views",
    type=click.Choice(["single", "pair"]),
    help="pair: average the logits of the image and its flip. Paper mode always does, realtime never; "
    "frozen: single.",
)
@backend_option
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16", "int8"]),
    help="Which TensorRT engine to use (default: the newest that is valid here), or how openvino "
    "computes (fp32, bf16).",
)
@click.option(
    "--no-build", is_flag=True, help="Refuse, rather than build, where no TensorRT engine is valid here."
)
@head_option
@adaptation_options
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="KIND:DIR",
    help="masks:DIR writes PNGs of class indices, overlay:DIR pictures. May be repeated.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many frames.")
@click.option(
    "--norm-every",
    default="1",
    show_default=True,
    callback=parse_interval,
    metavar="N|auto",
    help="Realtime: measure norm statistics on every N-th frame; auto: where the deadline allows it.",
)
@click.option(
    "--adapt-every",
    default="auto",
    show_default=True,
    callback=parse_interval,
    metavar="N|auto",
    help="Realtime: update on every N-th frame; auto: as often as there is time.",
)
@click.option(
    "--update",
    type=click.Choice(["inline", "background"]),
    default="inline",
    show_default=True,
    help="Realtime: update after the mask, before the next frame; or on a worker's thread beside the "
    "frames, where a core is free. A busy worker skips.",
)
@click.option(
    "--statistics-limit",
    type=FiniteRange(min=0, min_open=True),
    default=0.55,
    show_default=True,
    metavar="DISTANCE",
    help="Realtime: do not learn from a frame whose norm statistics are farther from the source's; the "
    "journal has the distance of each that was refused.",
)
@click.option(
    "--fps",
    metavar="FPS|own",
    callback=parse_rate,
    help="Play files at this rate, as a camera would: the newest frame wins. own: a video at its own "
    "rate. A camera is asked for this rate.",
)
@click.option(
    "--deadline-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Time between frames. Default: from --fps, or from the camera or stream; else there is none.",
)
@click.option(
    "--source-timeout",
    type=FiniteRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="A camera or stream that is silent for longer has failed: the run ends, saves, and exits with 1.",
)
@click.option(
    "--reconnect",
    type=FiniteRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="For so long a lost camera or stream is opened again, with growing pauses.",
)
@click.option(
    "--source-option",
    "source_options",
    multiple=True,
    callback=parse_settings,
    metavar="NAME=VALUE",
    help="Of FFmpeg's input, for a camera or stream: video_size=1280x720, input_format=mjpeg. May be "
    "repeated.",
)
@click.option(
    "--journal", type=click.Path(path_type=Path), help="Append every decision to a JSON-lines file."
)
@click.option(
    "--state", type=click.Path(path_type=Path), help="Realtime: keep what was learned in this directory."
)
@click.option(
    "--save-every",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds between two saves of the state; it is saved at the end, too.",
)
@click.option(
    "--resume",
    type=click.Choice(["no", "yes", "auto"]),
    default="no",
    show_default=True,
    help="Go on from the saved state; auto: a missing or damaged one means the source weights.",
)
@click.option(
    "--record-schedule",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Realtime: write down every decision that time made, so that the run can be replayed.",
)
@click.option(
    "--replay-schedule",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Realtime: play a recorded run again, from the same files and state, to the same weights bit "
    "for bit; fails if they differ.",
)
@threads_option
@json_option
@html_option
@quiet_option
def run(
    bundle: Path,
    source: str,
    mode: Literal["realtime", "paper", "frozen"],
    method: str | None,
    views: Literal["single", "pair"] | None,
    backend: str,
    precision: Precision | None,
    no_build: bool,
    head: Literal["torch", "engine"],
    prior: Prior | None,
    lr: float | None,
    restoration: float | None,
    seed: int,
    sinks: tuple[str, ...],
    limit: int | None,
    norm_every: int | None,
    adapt_every: int | None,
    update: Literal["inline", "background"],
    statistics_limit: float,
    fps: float | Literal["own"] | None,
    deadline_ms: float | None,
    source_timeout: float,
    reconnect: float,
    source_options: dict[str, str],
    journal: Path | None,
    state: Path | None,
    save_every: float,
    resume: str,
    record_schedule: Path | None,
    replay_schedule: Path | None,
    threads: int | None,
    json_path: str | None,
    html_path: Path | None,
) -> None:
    """Segment every frame of a source; adapt to it after each mask is out.

    A frame that cannot be read is reported, skipped and counted. Where a camera or stream fails, what
    was learned is saved and the summary printed before the exit with 1.
    """
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.errors import SourceError
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli import run_summary as summary
    from ocl_edge_app.cli.engines import ensure_engines, graphs_of
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import emit_json, frame_progress, note
    from ocl_edge_runtime.loop import run_stream
    from ocl_edge_runtime.session.engine import EngineOptions
    from ocl_edge_runtime.session.realtime import RealtimeOptions
    from ocl_edge_runtime.session.schedule import RecordedSchedule, ScheduledSource
    from ocl_edge_runtime.session.scheduler import RealClock
    from ocl_edge_runtime.sinks import open_sinks
    from ocl_edge_runtime.sources import SourceOptions, open_source

    _check(mode, method, state, resume, update, record_schedule, replay_schedule, fps)
    use_threads(threads)
    recorder = hooks.recorder(html_path)
    chosen = SourceOptions(limit, fps, source_timeout, reconnect, source_options)
    frames = open_source(source, chosen, RealClock(), hooks.on_skip(recorder), note)
    played = RecordedSchedule.read(replay_schedule) if replay_schedule else None
    if played:
        frames = ScheduledSource(frames, played)
    opened = Bundle.open(bundle)
    name = "frozen" if mode == "frozen" else method or "ocl-head"
    options = EngineOptions(name, views, backend, prior, lr, restoration, seed, threads, precision, head)
    ensure_engines(opened, backend, graphs_of(mode, name, head), precision, no_build)
    deadline_s = deadline_ms / 1000 if deadline_ms else (1 / frames.rate if frames.rate else None)
    realtime = RealtimeOptions(
        norm_every, adapt_every, deadline_s, statistics_limit=statistics_limit, update=update
    )
    engine = _open_engine(opened, mode, options, realtime)
    for backend_name, reason in engine.passed_over.items():
        note(f"backend {backend_name} passed over: {reason}")
    outlets = open_sinks(sinks, opened.manifest, frames.files)
    with ExitStack() as stack:
        stack.callback(frames.close)
        keeper = stack.enter_context(hooks.keeping(engine, journal, state, save_every, resume))
        scheduled = stack.enter_context(hooks.scheduled(engine, record_schedule, played))
        progress = stack.enter_context(frame_progress(frames.total))
        each = hooks.each_frame(keeper, scheduled, progress, recorder)
        report = run_stream(engine, frames, outlets, each, deadline_s, keeper.settled)
    if json_path:
        emit_json(json_path, {**engine.facts(), **report.as_dict()})
    if html_path and recorder:
        summary.write_html(html_path, engine, report, recorder, deadline_s)
    if json_path != "-":
        summary.show(engine, report)
    engine.close()
    if report.source_failure:
        raise SourceError(report.source_failure)


def _check(
    mode: str,
    method: str | None,
    state: Path | None,
    resume: str,
    update: str,
    record: Path | None,
    replay: Path | None,
    fps: float | Literal["own"] | None,
) -> None:
    from ocl_edge.errors import UsageError

    if mode == "frozen" and method not in (None, "frozen"):
        raise UsageError(f"--mode frozen does not adapt; leave out --method {method}")
    if state and mode != "realtime":
        raise UsageError(f"--state keeps what realtime mode learns; it does not go with --mode {mode}")
    if resume != "no" and not state:
        raise UsageError("--resume needs --state DIR")
    if mode != "realtime" and (update == "background" or record or replay):
        raise UsageError(f"background updates and schedules are for realtime mode, not --mode {mode}")
    if replay and fps is not None:
        raise UsageError("a replay takes every frame's time from the schedule; leave out --fps")


def _open_engine(bundle: Bundle, mode: str, options: EngineOptions, realtime: RealtimeOptions) -> Engine:
    from ocl_edge_runtime.session.engine import Engine
    from ocl_edge_runtime.session.realtime import RealtimeEngine

    if mode != "realtime":
        return Engine(bundle, options)
    engine = RealtimeEngine(bundle, options, realtime)
    engine.warm_up()
    return engine
