"""``ocl-edge run``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ocl_edge_app.cli.bundles import bundle_argument, open_bundle
from ocl_edge_app.cli.config import ConfiguredCommand
from ocl_edge_app.cli.options import (
    adaptation_options,
    backend_option,
    head_option,
    html_option,
    json_option,
    mask_size_option,
    opening_option,
    quiet_option,
    threads_option,
)
from ocl_edge_app.cli.run_options import realtime_options, record_options, stream_options

if TYPE_CHECKING:
    from ocl_edge.method.norms import Prior
    from ocl_edge.tensorrt.key import Precision
    from ocl_edge_runtime.session.options import MaskSize, OpeningKind

EXAMPLES = """
\b
Examples:
  ocl-edge run bundle --source frames/ --sink masks:out/masks --sink overlay:out/overlay
  ocl-edge run bundle --source frames/ --fps 10 --state state/ --resume auto --journal run.jsonl
  ocl-edge run bundle --source 0 --fps 15 --source-option video_size=1280x720
  ocl-edge run bundle --source drive.mp4 --sink video:out.mp4 --sink masks:masks/
  ocl-edge run bundle --source rtsp://camera/stream --reconnect 60 --state state/ --resume auto
  ocl-edge run bundle --source drive.mp4 --fps own --update background
  ocl-edge run bundle --source 'drive.mcap#/camera/image_raw' --sink mcap:out.mcap
  ocl-edge run bundle --source ros2:/camera/image_raw --sink ros2:/ocl_edge/mask
  ocl-edge run bundle --source drive.mp4 --update background --record-schedule run.jsonl
  ocl-edge run bundle --source drive.mp4 --update background --replay-schedule run.jsonl
  ocl-edge run bundle --source 'drive/*.png' --mode frozen --views pair
  ocl-edge run bundle --source frames/ --mode paper --prior 0.7 --lr 0.05 --json -
  ocl-edge run bundle --source frames/ --fps 10 --html report.html --quiet
  ocl-edge run --config drive.toml --limit 100
"""


@click.command(cls=ConfiguredCommand, epilog=EXAMPLES, short_help="Segment a stream and adapt to it.")
@bundle_argument
@click.option(
    "--source",
    required=True,
    metavar="DIR|IMAGE|GLOB|VIDEO|BAG|CAMERA|URL|ros2:TOPIC|gst:PIPELINE",
    help="Image files (read in order of name), a video, a recording of ROS 2 (drive.mcap, "
    "drive.mcap#/topic), a camera (/dev/video0, or 0), a stream (rtsp://...), a topic of ROS 2 or a pipeline "
    "of GStreamer. A camera or stream never waits: the newest frame wins.",
)
@click.option(
    "--mode",
    type=click.Choice(["realtime", "paper", "frozen"]),
    default="realtime",
    show_default=True,
    help="realtime shows one view and makes guarded updates when there is time; paper shows two views and "
    "updates on every frame, as published; frozen never adapts.",
)
@click.option(
    "--method",
    metavar="NAME",
    help="Adaptation method: ocl-head (default), norm or tent-head; paper mode also takes ocl-norm, "
    "ocl-full and tent.",
)
@click.option(
    "--views",
    type=click.Choice(["single", "pair"]),
    help="pair averages the logits of the image and its flip. Paper mode always does, realtime mode never; "
    "frozen mode takes single unless asked.",
)
@backend_option
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16", "int8"]),
    help="Precision of the compiled engine to use (default: the newest valid one), or of the arithmetic of a "
    "backend that offers several.",
)
@click.option(
    "--no-build", is_flag=True, help="Fail if no valid TensorRT engine exists, instead of building one."
)
@head_option
@adaptation_options
@opening_option
@mask_size_option
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="KIND:PLACE",
    help="masks:DIR writes class indices as PNGs, overlay:DIR pictures, video:FILE.mp4 these as a video, "
    "compare:FILE.mp4 beside the frames, mcap:FILE.mcap all of it as a recording; ros2:TOPIC publishes it, "
    "udp://HOST:PORT and rtsp://HOST/PATH send it. Repeatable.",
)
@realtime_options
@stream_options
@record_options
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
    opening: OpeningKind | None,
    mask_size: MaskSize,
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
    """Segment every frame of a source, and adapt after each mask is out.

    Unreadable frames are reported, counted and skipped. If a camera or stream fails, the run saves what
    it learned, prints its summary and exits with 1.
    """
    from ocl_edge.errors import SourceError
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli import run_summary as summary
    from ocl_edge_app.cli.engines import ensure_engines, graphs_of
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import emit_json, frame_progress, note
    from ocl_edge_runtime.loop import run_stream
    from ocl_edge_runtime.records.tape import Tape
    from ocl_edge_runtime.service import Service
    from ocl_edge_runtime.session.opening import open_session
    from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
    from ocl_edge_runtime.session.setup import notes_on
    from ocl_edge_runtime.sinks import open_sinks
    from ocl_edge_runtime.sources import SourceOptions

    _check(mode, method, state, resume, update, record_schedule, replay_schedule, fps)
    recorder = hooks.recorder(html_path)
    tape = Tape.read(replay_schedule) if replay_schedule else None
    opened = open_bundle(bundle)
    name = "frozen" if mode == "frozen" else method or "ocl-head"
    channels = opened.manifest.input.frame_channels
    chosen = SourceOptions(limit, fps, source_timeout, reconnect, source_options, channels)
    with ExitStack() as everything:
        frames = everything.enter_context(hooks.open_frames(source, chosen, tape, recorder))
        opening, frame_s = hooks.opening_and_pace(opening, frames, tape)
        options = SessionOptions(
            name,
            views,
            backend,
            prior,
            lr,
            restoration,
            seed,
            threads,
            precision,
            head,
            opening,
            frame_s,
            mask_size,
        )
        ensure_engines(opened, backend, graphs_of(mode, name, head), precision, no_build)
        deadline_s = deadline_ms / 1000 if deadline_ms else (1 / frames.rate if frames.rate else None)
        realtime = RealtimeOptions(
            norm_every, adapt_every, deadline_s, statistics_limit=statistics_limit, update=update
        )
        session = everything.enter_context(
            open_session(opened, options, realtime if mode == "realtime" else None)
        )
        use_threads(threads)  # of PyTorch, which comes with the session, while graphs load
        session.warm_up()
        for words in notes_on(opened, options):
            note(words)
        for backend_name, reason in session.setup.passed_over.items():
            note(f"backend {backend_name} passed over: {reason}")
        wanted = open_sinks(sinks, opened.manifest, frames.files, frames.frame_s)
        outlets = [everything.enter_context(sink) for sink in wanted]
        with ExitStack() as running:
            records = running.enter_context(hooks.records(session, journal, state, save_every, resume))
            taped = running.enter_context(hooks.taped(session, record_schedule, tape))
            progress = running.enter_context(frame_progress(frames.total))
            service = running.enter_context(Service())
            each = hooks.each_frame(records, taped, progress, recorder, service)
            service.ready()
            report = run_stream(session, frames, outlets, each, deadline_s, records.settled)
        if json_path:
            emit_json(json_path, {**session.facts(), **report.as_dict()})
        if html_path and recorder:
            summary.write_html(html_path, session, report, recorder, deadline_s)
        if json_path != "-":
            summary.show(session, report)
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
