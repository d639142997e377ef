"""Options of ``ocl-edge run`` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ocl_edge_app.cli.options import FiniteRange, together, whole_number


def parse_interval(_ctx: click.Context, _param: click.Parameter, value: str) -> int | None:
    if value == "auto":
        return None
    every = whole_number(value)
    if every is None or every < 1:
        raise click.BadParameter(f"expected 'auto' or a whole number from 1, got {value!r}")
    return every


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


stream_options = together(
    click.option("--limit", type=click.IntRange(min=1), help="Stop after this many frames."),
    click.option(
        "--fps",
        metavar="FPS|own",
        callback=parse_rate,
        help="Play files at this rate, as a camera would: the newest frame wins. own plays a video or "
        "recording at its own rate. A camera is asked for this rate.",
    ),
    click.option(
        "--deadline-ms",
        type=click.FloatRange(min=0, min_open=True),
        help="Milliseconds between frames. Default: from --fps, else from the camera or stream, else no "
        "deadline.",
    ),
    click.option(
        "--source-timeout",
        type=FiniteRange(min=0, min_open=True),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="A camera or stream that stays silent for longer has failed: the run saves and exits with 1.",
    ),
    click.option(
        "--reconnect",
        type=FiniteRange(min=0),
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Keep reopening a lost camera or stream for this long, with growing pauses.",
    ),
    click.option(
        "--source-option",
        "source_options",
        multiple=True,
        callback=parse_settings,
        metavar="NAME=VALUE",
        help="FFmpeg input option, e.g. video_size=1280x720. Repeatable.",
    ),
)
"""How the source is played: --limit, --fps and what a camera needs."""

norm_every_option = click.option(
    "--norm-every",
    default="1",
    show_default=True,
    callback=parse_interval,
    metavar="N|auto",
    help="Realtime mode: measure norm statistics on every N-th frame; auto, if the deadline allows it.",
)
adapt_every_option = click.option(
    "--adapt-every",
    default="auto",
    show_default=True,
    callback=parse_interval,
    metavar="N|auto",
    help="Realtime mode: update on every N-th frame; auto updates as often as there is time.",
)
realtime_options = together(
    norm_every_option,
    adapt_every_option,
    click.option(
        "--update",
        type=click.Choice(["inline", "background"]),
        default="inline",
        show_default=True,
        help="Realtime mode: inline updates after the mask and before the next frame; background updates in "
        "a worker thread, which needs a free core and skips frames while busy.",
    ),
    click.option(
        "--statistics-limit",
        type=FiniteRange(min=0, min_open=True),
        default=0.55,
        show_default=True,
        metavar="DISTANCE",
        help="Realtime mode: do not learn from frames whose norm statistics are farther than this from the "
        "trained ones. The journal holds the distance of each refused frame.",
    ),
)
"""When realtime mode measures and learns."""

record_options = together(
    click.option(
        "--journal", type=click.Path(path_type=Path), help="Append every decision to this JSON-lines file."
    ),
    click.option(
        "--state",
        type=click.Path(path_type=Path),
        help="Realtime mode: keep the learned state in this directory.",
    ),
    click.option(
        "--save-every",
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        help="Seconds between saves of the state; the end of the run saves, too.",
    ),
    click.option(
        "--resume",
        type=click.Choice(["no", "yes", "auto"]),
        default="no",
        show_default=True,
        help="yes resumes the saved state and fails if there is none; auto starts from the trained weights "
        "if the state is missing or damaged.",
    ),
    click.option(
        "--record-schedule",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Realtime mode: record every decision that depended on time, for a replay.",
    ),
    click.option(
        "--replay-schedule",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Realtime mode: replay a recorded run from the same files and state; fails unless the weights "
        "end the same bit for bit.",
    ),
)
"""What a run keeps: journal, state, schedule."""
