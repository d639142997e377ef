"""``ocl-edge run``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ocl_edge_app.cli.bundles import bundle_argument, open_outputs
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
from ocl_edge_app.cli.run_views import view_options

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
  ocl-edge run bundle --source drive.mp4 --view web --metrics :9464
  ocl-edge run two-tasks --source frames/ --sink 'masks:masks/{output}' --sink 'overlay:out/{output}'
  ocl-edge run 'two-tasks#lanes' --source frames/ --sink masks:masks
  ocl-edge run bundle --source front=frames/ --source rear=images/ --sink 'masks:masks/{camera}'
"""


@click.command(cls=ConfiguredCommand, epilog=EXAMPLES, short_help="Segment a stream and adapt to it.")
@bundle_argument
@click.option(
    "--source",
    "sources",
    required=True,
    multiple=True,
    metavar="[NAME=]DIR|IMAGE|GLOB|VIDEO|BAG|CAMERA|URL|ros2:TOPIC|gst:PIPELINE",
    help="Image files (read in order of name), a video, a recording of ROS 2 (drive.mcap, "
    "drive.mcap#/topic), a camera (/dev/video0, or 0), a stream (rtsp://...), a topic of ROS 2 or a pipeline "
    "of GStreamer. A camera or stream never waits: the newest frame wins. Repeatable: "
    "several cameras run on one engine.",
)
@click.option(
    "--share",
    type=click.Choice(["nothing", "head"]),
    default="nothing",
    show_default=True,
    help="Of several cameras: each learns for itself, or all of them teach one head.",
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
    "compare:FILE.mp4 beside the frames, rerun:FILE.rrd and mcap:FILE.mcap all of it as a recording; "
    "ros2:TOPIC publishes it, udp://HOST:PORT and rtsp://HOST/PATH send it. Repeatable; with several cameras "
    "{camera} in PLACE is their name, with several outputs {output}.",
)
@view_options
@realtime_options
@stream_options
@record_options
@threads_option
@json_option
@html_option
@quiet_option
def run(
    bundle: Path,
    sources: tuple[str, ...],
    share: Literal["nothing", "head"],
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
    viewers: tuple[str, ...],
    metrics: str | None,
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
    from ocl_edge_app.cli import run_several as several
    from ocl_edge_app.cli import run_summary as summary
    from ocl_edge_app.cli.engines import ensure_engines, graphs_of
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import emit_json, frame_progress
    from ocl_edge_app.cli.run_kept import Kept
    from ocl_edge_app.cli.run_several import Chosen
    from ocl_edge_app.cli.run_views import Watched, open_views
    from ocl_edge_runtime.loop import run_stream
    from ocl_edge_runtime.records.tape import Tape
    from ocl_edge_runtime.service import Service
    from ocl_edge_runtime.session.opening import open_session
    from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
    from ocl_edge_runtime.sinks import open_sinks
    from ocl_edge_runtime.sources import Source, SourceOptions

    _check(mode, method, state, resume, update, record_schedule, replay_schedule, fps)
    named = several.name_cameras(sources)
    tape = Tape.read(replay_schedule) if replay_schedule else None
    bundles = open_outputs(bundle)
    opened = next(iter(bundles.values()))
    name = "frozen" if mode == "frozen" else method or "ocl-head"
    channels = opened.manifest.input.frame_channels
    how = SourceOptions(limit, fps, source_timeout, reconnect, source_options, channels)

    def choose(frames: Source) -> Chosen:
        wide, frame_s = hooks.opening_and_pace(opening, frames, tape)
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
            wide,
            frame_s,
            mask_size,
        )
        deadline_s = deadline_ms / 1000 if deadline_ms else (1 / frames.rate if frames.rate else None)
        realtime = RealtimeOptions(
            norm_every, adapt_every, deadline_s, statistics_limit=statistics_limit, update=update
        )
        return Chosen(options, realtime if mode == "realtime" else None, deadline_s)

    with ExitStack() as everything:
        if len(bundles) > 1 or len(named) > 1 or share != "nothing":
            alone = {"--record-schedule": record_schedule, "--replay-schedule": replay_schedule}
            kept = Kept(sinks, journal, state, save_every, resume, viewers, metrics, json_path, html_path)
            several.refuse_with_several(bundles, named, name, kept, alone)
            for output in bundles.values():
                ensure_engines(output, backend, graphs_of(mode, name, head), precision, no_build)
            several.run_several(bundles, named, how, choose, share, kept, everything)
            return
        ((camera, source),) = named.items()
        recorder = hooks.recorder(html_path)
        frames = everything.enter_context(hooks.open_frames(source, how, tape, recorder))
        chosen = choose(frames)
        ensure_engines(opened, backend, graphs_of(mode, name, head), precision, no_build)
        session = everything.enter_context(open_session(opened, chosen.options, chosen.realtime))
        use_threads(threads)  # of PyTorch, which comes with the session, while graphs load
        session.warm_up()
        hooks.tell([opened], chosen.options, session)
        wanted = open_sinks(sinks, opened.manifest, frames.files, frames.frame_s)
        with ExitStack() as running:
            outlets = [running.enter_context(sink) for sink in wanted]
            watched = Watched(session, frames, dict(zip(sinks, outlets, strict=True)), camera, recorder)
            open_views(viewers, metrics, {camera: watched}, running)
            records = running.enter_context(hooks.records(session, journal, state, save_every, resume))
            watched.keep_in(records)
            taped = running.enter_context(hooks.taped(session, record_schedule, tape))
            progress = running.enter_context(frame_progress(frames.total))
            service = running.enter_context(Service())
            each = hooks.each_frame(records, taped, progress, service, watched.after_frame)
            service.ready()
            to = list(watched.sinks.values())
            report = run_stream(session, frames, to, each, chosen.deadline_s, records.settled)
            watched.at_the_end()
        report.left_out = sum(sink.left_out for sink in wanted)  # one that hung has missed what was queued
        if json_path:
            emit_json(json_path, {**session.facts(), **report.as_dict()})
        if html_path and recorder:
            from ocl_edge_app.report.run_report import Ran

            of_each_frame = chosen.deadline_s and 1000 * chosen.deadline_s
            summary.write_html(html_path, {"": {"": Ran(session, report, recorder, of_each_frame)}})
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
