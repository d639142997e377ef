"""What ``ocl-edge evaluate`` shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocl_edge.errors import FrameError
    from ocl_edge_app.evaluation.passes import OnFrame, OnPass, Pass
    from ocl_edge_app.evaluation.plan import Planned
    from ocl_edge_app.evaluation.summary import Row
    from ocl_edge_app.report.evaluated import Evaluated


def once_a_file() -> Callable[[Path, FrameError], None]:
    """Says which frames cannot be read, in the first pass that meets them."""
    from ocl_edge_app.cli.output import note

    seen = set()

    def on_skip(file: Path, error: FrameError) -> None:
        if file not in seen:
            note(f"{file.name} {error}: left out")
        seen.add(file)

    return on_skip


@contextmanager
def announce(passes: int, frames: int) -> Iterator[OnPass]:
    """A line for each pass, and on a terminal a bar over all frames of all passes."""
    from ocl_edge_app.cli.output import frame_progress, note

    started = 0
    with frame_progress(frames) as progress:

        def on_pass(each: Pass, done: bool) -> OnFrame:
            nonlocal started
            started += 1
            note(f"[{started}/{passes}] {each}{': finished before' if done else ''}")
            return lambda miou: progress(f"{each}: {miou:.1f} %")

        yield on_pass


def write_html(path: Path, planned: Planned, evaluated: Evaluated) -> None:
    from ocl_edge_app.cli.options import command_line
    from ocl_edge_app.report import write_page
    from ocl_edge_app.report.evaluate_report import evaluate_page
    from ocl_edge_app.report.what_ran import what_ran

    frames, trials = planned.scored.frames.pairs, planned.points[""]
    fps = trials[0].stream_fps
    settings = {
        "frames": f"{len(frames)}, {frames[0][0].name} to {frames[-1][0].name}",
        "seeds": ", ".join(str(seed) for seed in dict.fromkeys(trial.options.seed for trial in trials)),
        "rounds": str(trials[0].rounds),
        "stream": f"{fps:g} frames a second" if fps else "waits for the method",
        "repeat": str(trials[0].repeat),
        "opening": str(trials[-1].options.opening),
    }
    for each in planned.passes:
        content = each.cell
        numbers = ", ".join(f"{name} {value}" for name, value in content["settings"].items())
        settings[content["method"]] = f"{content['backend']}, {numbers}"
    ran = what_ran(command_line(), planned.scored.bundle, settings)
    write_page(evaluate_page(evaluated, ran), path)


def show(rows: list[Row], output: str = "") -> None:
    from ocl_edge_app.cli.output import print_table

    of = f"{output}, " if output else ""
    late = any(row.answered_late for row in rows)
    several = any(len(row.rounds) > 1 for row in rows)
    header = ["method", "views", "mIoU %", "spread", "gain", "worst class", "ms/frame", "MiB"]
    opens = any(row.opening is not None for row in rows)
    header += [
        *(["open"] if opens else []),
        *(["late"] if late else []),
        *(["mIoU % of each round"] if several else []),
    ]
    for stream in dict.fromkeys(row.stream for row in rows):
        of_stream = [row for row in rows if row.stream == stream]
        skipped = of_stream[0].skipped
        print_table(
            f"{of}{stream}, {of_stream[0].frames} frames" + (f", {skipped} left out" if skipped else ""),
            header,
            [
                [
                    row.method,
                    row.views,
                    f"{row.miou:.2f}",
                    f"{row.spread:.2f}" if row.seeds > 1 else "",
                    "" if row.gain is None else f"{row.gain:+.2f}",
                    f"{row.worst_class} {row.worst_iou:.1f}",
                    f"{row.ms_per_frame:.0f}",
                    f"{row.memory_mib:.0f}",
                    *(["" if row.opening is None else f"{row.opening:.2f}"] if opens else []),
                    *([f"{row.answered_late:.0f}"] if late else []),
                    *([" ".join(f"{miou:.1f}" for miou in row.rounds)] if several else []),
                ]
                for row in of_stream
            ],
            text_columns=(0, 1, 5, len(header) - 1) if several else (0, 1, 5),
        )
