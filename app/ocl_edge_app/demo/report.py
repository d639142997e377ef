"""The demo's report.html."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import numpy as np

from ocl_edge.method.verdict import words_of_guard
from ocl_edge_app.demo.comparison import Comparison, Score, gains_in_words, speed_in_words
from ocl_edge_app.demo.world.classes import CLASSES, PALETTE
from ocl_edge_app.demo.world.drive import FRAMES_PER_S, TURNING
from ocl_edge_app.report import (
    Band,
    Block,
    Cell,
    DotRow,
    Dots,
    Example,
    Examples,
    Facts,
    Figure,
    Histogram,
    Lines,
    Page,
    Picture,
    Section,
    Series,
    Table,
    Text,
    Tile,
    Timeline,
    mask_uri,
    photo_uri,
    stage_blocks,
)
from ocl_edge_app.report.home import home_figure
from ocl_edge_app.report.recorder import RunRecorder
from ocl_edge_runtime.session.frames import Frame

COLOURS = {"frozen": 0, "adapted": 1}
UPDATE_COLOUR = 2


def demo_page(comparison: Comparison, ran: Section, beside: Mapping[str, str]) -> Page:
    """Accuracy on the drive, what adaptation costs, what the guard did, and frames.

    Args:
        comparison: of the drive.
        ran: see `ocl_edge_app.report.what_ran`.
        beside: files that lie beside the report -> what they hold.
    """
    return Page(
        "A drawn drive, frozen and adapting",
        lead=f"{len(comparison.frames)} frames from a clear day into fog, rain, dusk and night. The network "
        "was trained by day; every number is computed from its masks and the exact labels. "
        + " ".join(gains_in_words(comparison.gains())),
        tiles=_tiles(comparison),
        sections=[
            Section("Accuracy", _accuracy(comparison)),
            Section("Frames", _frames(comparison)),
            Section("Time", _time(comparison)),
            Section("Updates", _updates(comparison)),
            Section("Beside this report", [Facts(beside)]),
            ran,
        ],
    )


def _tiles(comparison: Comparison) -> list[Tile]:
    numbers = comparison.as_dict()
    whole, latency = numbers["whole"], numbers["latency_ms"]
    kept = sum(result.verdict.applied for result in comparison.adapted.results)
    undone = len(_undone(comparison))
    tiles = [
        Tile(
            f"{whole['gain']:+.1f}",
            "points of mIoU gained",
            f"{whole['frozen']:.1f} to {whole['adapted']:.1f} %",
        ),
        Tile(
            f"{comparison.latency_ratio():.2f}×",
            "time to the mask, over frozen",
            f"{latency['frozen']['p50']:.1f} to {latency['adapted']['p50']:.1f} ms",
        ),
        Tile(f"{kept}", "updates kept", f"{undone} undone by the guard"),
    ]
    if numbers["update_ms"]:
        tiles.append(Tile(f"{numbers['update_ms']['p50']:.1f} ms", "update, after the mask", "median"))
    return tiles


def _accuracy(comparison: Comparison) -> list[Block]:
    series = [
        Series(name, [100 * miou for miou in score.frame_miou], COLOURS[name])
        for name, score in comparison.scores.items()
    ]
    numbers = comparison.as_dict()
    scores = {**numbers["stretches"], "whole drive": numbers["whole"]}
    rows: list[list[str | Cell | None]] = [
        [
            Cell(name, "strong") if name == "whole drive" else name,
            f"{score['frozen']:.1f}",
            f"{score['adapted']:.1f}",
            _gain(score["gain"]),
        ]
        for name, score in scores.items()
    ]
    return [
        Figure(Lines("mIoU of every frame", "mIoU %", series, bands=_bands(comparison))),
        home_figure(
            [result.distance for result in comparison.adapted.results],
            [result.opening for result in comparison.adapted.results],
            _bands(comparison),
        ),
        Table(
            "mIoU % of every stretch",
            ["stretch", "frozen", "adapted", "gain"],
            rows,
            note="Of all pixels of the stretch together; the weather turns in its first third.",
        ),
        Figure(_class_dots(comparison), "Over the whole drive."),
        _class_table(comparison),
    ]


def _gain(points: float) -> Cell:
    shown = round(points, 1) + 0.0  # no minus before a zero
    return Cell(f"{shown:+.1f}", "good" if shown > 0 else "bad" if shown < 0 else "")


def _bands(comparison: Comparison) -> list[Band]:
    bands = []
    for stretch, frames in groupby(comparison.frames, lambda frame: frame.stretch):
        indices = [frame.index for frame in frames]
        bands.append(Band(stretch, indices[0], indices[-1] + 1))
    return bands


def _class_dots(comparison: Comparison) -> Dots:
    iou = [100 * score.whole.iou() for score in comparison.scores.values()]
    rows = [
        DotRow(name, [float(value) for value in values]) for name, *values in zip(CLASSES, *iou, strict=True)
    ]
    return Dots("IoU of every class", "IoU %", list(comparison.scores), rows)


def _class_table(comparison: Comparison) -> Table:
    """Frozen → adapted for every class and stretch; None where no label has the class."""
    columns = [
        zip(matrix.iou(), comparison.adapted.by_stretch[stretch].iou(), strict=True)
        for stretch, matrix in comparison.frozen.by_stretch.items()
    ]
    rows: list[list[str | Cell | None]] = [
        [name, *(_change(100 * before, 100 * after) for before, after in cells)]
        for name, *cells in zip(CLASSES, *columns, strict=True)
    ]
    return Table(
        "IoU % of every class in every stretch, frozen → adapted",
        ["class", *comparison.frozen.by_stretch],
        rows,
        note="A dash: the class does not occur there.",
    )


def _change(before: float, after: float) -> Cell | None:
    if np.isnan(before):
        return None
    before, after = round(before), round(after)
    return Cell(f"{before} → {after}", "good" if after > before else "bad" if after < before else "")


def _frames(comparison: Comparison) -> list[Block]:
    gains = np.subtract(comparison.adapted.frame_miou, comparison.frozen.frame_miou)
    examples = []
    for band in _bands(comparison):
        turned = band.start + int(TURNING * (band.end - band.start))
        here = gains[turned : band.end]
        examples.append(_example(comparison, turned + int(np.abs(here - np.median(here)).argmin())))
    note = "Of every stretch, once the weather has turned, the frame of median gain: neither best nor worst."
    return [Examples(examples, dict(zip(CLASSES, PALETTE, strict=True)), note)]


def _example(comparison: Comparison, index: int) -> Example:
    frame = comparison.frames[index]
    masks = [
        Picture(
            name, mask_uri(score.results[index].mask, PALETTE), f"mIoU {100 * score.frame_miou[index]:.0f} %"
        )
        for name, score in comparison.scores.items()
    ]
    return Example(
        f"{frame.stretch}, frame {index}",
        [Picture("image", photo_uri(frame.image)), *masks, Picture("truth", mask_uri(frame.labels, PALETTE))],
    )


def _time(comparison: Comparison) -> list[Block]:
    frozen, adapted = (_recorded(comparison, score) for score in comparison.scores.values())
    timeline = Timeline("Every frame of the adapting network", list(adapted.moments), 1000 / FRAMES_PER_S)
    times = [
        Series(f"{name}, to the mask", score.latency_ms, COLOURS[name])
        for name, score in comparison.scores.items()
    ]
    if adapted.update_ms.values:
        times.append(Series("update, after the mask", adapted.update_ms.values, UPDATE_COLOUR))
    stacks = {
        "frozen": frozen.plain,
        "adapted, with an update": adapted.updating,
        "adapted, without": adapted.plain,
    }
    return [
        Text(" ".join(speed_in_words(comparison))),
        Figure(Histogram("How long a mask takes", "ms", times)),
        Figure(timeline, timeline.caption()),
        *stage_blocks({name: stages.means() for name, stages in stacks.items() if stages.frames}),
    ]


def _recorded(comparison: Comparison, score: Score) -> RunRecorder:
    recorder = RunRecorder()
    for frame, result in zip(comparison.frames, score.results, strict=True):
        recorder.frame(Frame(frame.image, frame.index, frame.stretch, frame.index / FRAMES_PER_S), result)
    return recorder


def _updates(comparison: Comparison) -> list[Block]:
    total = len(comparison.frames)
    outcomes: list[list[str | Cell | None]] = [
        [reason, f"{count}", f"{100 * count / total:.1f} %"] for reason, count in comparison.outcomes.items()
    ]
    blocks: list[Block] = [
        Table("What came of each frame's update", ["outcome", "frames", "share"], outcomes)
    ]
    if undone := _undone(comparison):
        blocks.append(Table("What the guard undid", ["frame", "action", "reason"], undone, text_columns=3))
    else:
        blocks.append(Text("The guard undid no update."))
    return blocks


def _undone(comparison: Comparison) -> list[list[str | Cell | None]]:
    """Frame, action and reason of every update that the guard did not keep."""
    return [
        [f"{frame.index}, {frame.stretch}", result.verdict.reason.value, words_of_guard(result.verdict)]
        for frame, result in zip(comparison.frames, comparison.adapted.results, strict=True)
        if result.verdict.undone
    ]
