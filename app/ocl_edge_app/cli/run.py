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
    opening_option,
    quiet_option,
    threads_option,
)

if TYPE_CHECKING:
    from ocl_edge.method.norms import Prior
    from ocl_edge.tensorrt.key import Precision
    from ocl_edge_runtime.session.options import OpeningKind

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
    for name, equals, _ in pairs:
        if not (name and equals):
            # not the value, which may be a secret
            raise click.BadParameter("expected NAME=VALUE, for example video_size=1280x720")
    return {name: value for name, _, value in pairs}


@click.command(epilog=EXAMPLES, short_help="Segment a stream and adapt to it.")
@bundle_argument
@click.option(
    "--source",
    required=True,
    metavar="DIR|IMAGE|GLOB|VIDEO|CAMERA|URL",
    help="Image files (read in order of name), a video file, a camera (/dev/video0) or a stream "
    "(rtsp://...). A camera or stream never waits: the newest frame wins.",
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
    help="Precision of the TensorRT engine to use (default: the newest valid one), or of openvino's "
    "arithmetic (fp32, bf16).",
)
@click.option(
    "--no-build", is_flag=True, help="Fail if no valid TensorRT engine exists, instead of building one."
)
@head_option
@adaptation_options
@opening_option
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="KIND:DIR",
    help="masks:DIR writes class indices as PNGs, overlay:DIR writes pictures. Repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many frames.")
@click.option(
    "--norm-every",
    default="1",
    show_default=True,
    callback=parse_interval,
    metavar="N|auto",
    help="Realtime mode: measure norm statistics on every N-th frame; auto, if the deadline allows it.",
)
@click.option(
    "--adapt-every",
    default="auto",
    show_default=True,
    callback=parse_interval,
    metavar="N|auto",
    help="Realtime mode: update on every N-th frame; auto updates as often as there is time.",
)
@click.option(
    "--update",
    type=click.Choice(["inline", "background"]),
    default="inline",
    show_default=True,
    help="Realtime mode: inline updates after the mask and before the next frame; background updates in a "
    "worker thread, which needs a free core and skips frames while busy.",
)
@click.option(
    "--statistics-limit",
    type=FiniteRange(min=0, min_open=True),
    default=0.55,
    show_default=True,
    metavar="DISTANCE",
    help="Realtime mode: do not learn from frames whose norm statistics are farther than this from the "
    "trained ones. The journal holds the distance of each refused frame.",
)
@click.option(
    "--fps",
    metavar="FPS|own",
    callback=parse_rate,
    help="Play files at this rate, as a camera would: the newest frame wins. own plays a video at its own "
    "rate. A camera is asked for this rate.",
)
@click.option(
    "--deadline-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="Milliseconds between frames. Default: from --fps, else from the camera or stream, else no "
    "deadline.",
)
@click.option(
    "--source-timeout",
    type=FiniteRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="A camera or stream that stays silent for longer has failed: the run saves and exits with 1.",
)
@click.option(
    "--reconnect",
    type=FiniteRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Keep reopening a lost camera or stream for this long, with growing pauses.",
)
@click.option(
    "--source-option",
    "source_options",
    multiple=True,
    callback=parse_settings,
    metavar="NAME=VALUE",
    help="FFmpeg input option, e.g. video_size=1280x720. Repeatable.",
)
@click.option(
    "--journal", type=click.Path(path_type=Path), help="Append every decision to this JSON-lines file."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Realtime mode: keep the learned state in this directory.",
)
@click.option(
    "--save-every",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Seconds between saves of the state; the end of the run saves, too.",
)
@click.option(
    "--resume",
    type=click.Choice(["no", "yes", "auto"]),
    default="no",
    show_default=True,
    help="yes resumes the saved state and fails if there is none; auto starts from the trained weights if "
    "the state is missing or damaged.",
)
@click.option(
    "--record-schedule",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Realtime mode: record every decision that depended on time, for a replay.",
)
@click.option(
    "--replay-schedule",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Realtime mode: replay a recorded run from the same files and state; fails unless the weights end "
    "the same bit for bit.",
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
    opening: OpeningKind | None,
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
    from ocl_edge.bundle.reading import Bundle
    from ocl_edge.errors import SourceError
    from ocl_edge_app.cli import run_hooks as hooks
    from ocl_edge_app.cli import run_summary as summary
    from ocl_edge_app.cli.engines import ensure_engines, graphs_of
    from ocl_edge_app.cli.options import use_threads
    from ocl_edge_app.cli.output import emit_json, frame_progress, note
    from ocl_edge_runtime.loop import run_stream
    from ocl_edge_runtime.records.tape import Tape
    from ocl_edge_runtime.session.opening import open_session
    from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
    from ocl_edge_runtime.session.setup import notes_on
    from ocl_edge_runtime.sinks import open_sinks
    from ocl_edge_runtime.sources import SourceOptions

    _check(mode, method, state, resume, update, record_schedule, replay_schedule, fps)
    use_threads(threads)
    recorder = hooks.recorder(html_path)
    tape = Tape.read(replay_schedule) if replay_schedule else None
    opened = Bundle.open(bundle)
    name = "frozen" if mode == "frozen" else method or "ocl-head"
    chosen = SourceOptions(limit, fps, source_timeout, reconnect, source_options)
    with ExitStack() as everything:
        frames = everything.enter_context(hooks.open_frames(source, chosen, tape, recorder))
        opening, frame_s = hooks.opening_and_pace(opening, frames, tape)
        options = SessionOptions(
            name, views, backend, prior, lr, restoration, seed, threads, precision, head, opening, frame_s
        )
        ensure_engines(opened, backend, graphs_of(mode, name, head), precision, no_build)
        deadline_s = deadline_ms / 1000 if deadline_ms else (1 / frames.rate if frames.rate else None)
        realtime = RealtimeOptions(
            norm_every, adapt_every, deadline_s, statistics_limit=statistics_limit, update=update
        )
        session = everything.enter_context(
            open_session(opened, options, realtime if mode == "realtime" else None)
        )
        if mode == "realtime":
            session.warm_up()
        for words in notes_on(opened, options):
            note(words)
        for backend_name, reason in session.setup.passed_over.items():
            note(f"backend {backend_name} passed over: {reason}")
        outlets = [
            everything.enter_context(sink) for sink in open_sinks(sinks, opened.manifest, frames.files)
        ]
        with ExitStack() as running:
            records = running.enter_context(hooks.records(session, journal, state, save_every, resume))
            taped = running.enter_context(hooks.taped(session, record_schedule, tape))
            progress = running.enter_context(frame_progress(frames.total))
            each = hooks.each_frame(records, taped, progress, recorder)
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
