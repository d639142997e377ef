"""The report of ``ocl-edge evaluate``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from ocl_edge_app.evaluation.summary import Group, Row
from ocl_edge_app.report.cells import count, gain, number
from ocl_edge_app.report.evaluate_examples import example_block
from ocl_edge_app.report.evaluated import Evaluated
from ocl_edge_app.report.home import home_figure
from ocl_edge_app.report.page import (
    Block,
    Cell,
    Figure,
    Page,
    Section,
    Table,
    Text,
    Tile,
)
from ocl_edge_app.report.plots import Band, DotRow, Dots, Histogram, Lines, Series

MOST_CLASSES = 40
"""Rows of a dot plot; a table has all classes."""


def evaluate_page(evaluated: Evaluated, ran: Section) -> Page:
    """Accuracy of every method on every stream: table, curves, classes, examples, time."""
    streams = list(evaluated.streams)
    shown = evaluated.space.names
    skipped = evaluated.rows[0].skipped
    lead = (
        f"{len(evaluated.frames)} labelled frames{f' ({skipped} of them left out)' if skipped else ''}, "
        f"{len(shown)} classes, {count(len(streams), 'stream')}. "
    )
    return Page(
        f"Evaluation of {evaluated.network}",
        lead=lead + "Every mask was made before its own update, and no method sees a label.",
        tiles=_tiles(evaluated),
        sections=[
            Section("Methods and streams", _overview(evaluated)),
            *(Section(f"Stream: {stream}", _stream(evaluated, stream)) for stream in streams),
            Section("Time", _time(evaluated)),
            ran,
        ],
    )


def _tiles(evaluated: Evaluated) -> list[Tile]:
    best = evaluated.best
    rows = [row for row in evaluated.rows if row.method == best]
    frozen = [row for row in evaluated.rows if row.method == "frozen"]
    tiles = []
    gains = {row.stream: row.gain for row in rows if row.gain is not None and math.isfinite(row.gain)}
    if gains:
        least = min(gains, key=lambda stream: gains[stream])
        mean = float(np.mean(list(gains.values())))
        detail = f", mean of {len(gains)} streams" if len(gains) > 1 else ""
        tiles.append(Tile(f"{mean:+.1f}", f"{best} gains", f"mIoU points over frozen{detail}"))
        if len(gains) > 1:
            tiles.append(Tile(f"{gains[least]:+.1f}", "its least gain", f"on {least}"))
    for some in (frozen, rows):
        if some:
            miou = number(float(np.mean([row.miou for row in some])))
            ms = float(np.median([row.ms_per_frame for row in some]))
            tiles.append(
                Tile(f"{miou or '–'} %", f"mIoU, {evaluated.label(some[0])}", f"{ms:.0f} ms per frame")
            )
    return tiles


def _overview(evaluated: Evaluated) -> list[Block]:
    rows = evaluated.rows
    labels = list(dict.fromkeys(evaluated.label(group) for group in _ordered(evaluated.groups)))
    scores = {(row.stream, evaluated.label(row)): row.miou for row in rows}
    gains = {row.stream: row.gain for row in rows if row.method == evaluated.best}
    dots = Dots(
        "mIoU of every method on every stream",
        "mIoU %",
        labels,
        [
            DotRow(stream, [scores.get((stream, label)) for label in labels], _signed(gains.get(stream)))
            for stream in evaluated.streams
        ],
        colours=_colours(labels),
    )
    caption = f"Right: gain of {evaluated.best} over frozen, in points." if any(gains.values()) else ""
    return [Figure(dots, caption), _score_table(rows)]


def _score_table(rows: Sequence[Row]) -> Table:
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        compared = row.stream, row.views
        best[compared] = max(row.miou, best.get(compared, row.miou))
    late = any(row.answered_late for row in rows)
    rounds = any(len(row.rounds) > 1 for row in rows)
    several = any(row.seeds > 1 for row in rows)
    header = ["stream", "method", "views", "mIoU %", *(["spread"] if several else []), "gain"]
    header += [
        "worst class",
        "IoU %",
        "ms/frame",
        "MiB",
        *(["late"] if late else []),
        *(["each round"] if rounds else []),
    ]
    body: list[list[str | Cell | None]] = []
    for row in rows:
        miou = number(row.miou, 2)
        body.append(
            [
                row.stream,
                row.method,
                row.views,
                Cell(miou, "strong") if miou and row.miou == best[row.stream, row.views] else miou,
                *([f"{row.spread:.2f}" if row.seeds > 1 else None] if several else []),
                None if row.method == "frozen" else gain(row.gain),
                row.worst_class,
                number(row.worst_iou),
                f"{row.ms_per_frame:.0f}",
                f"{row.memory_mib:.0f}",
                *([f"{row.answered_late:.0f}"] if late else []),
                *([" ".join(number(value) or "–" for value in row.rounds)] if rounds else []),
            ]
        )
    notes = [
        "Gain: points of mIoU over the frozen network with the same views; a pair is the image and its flip, "
        "averaged, and is never compared with a single view.",
        "Time: median of mask and update together. Memory: peak of the process, with what passes before did "
        "not give back.",
    ]
    if several:
        notes.append("mIoU: mean over the seeds; spread: largest minus smallest.")
    if rounds:
        notes.append("mIoU and all else are of the last round.")
    if late:
        notes.append("Late: frames that arrived while the method was busy and got its latest mask.")
    return Table("All results", header, body, text_columns=3, note=" ".join(notes))


def _stream(evaluated: Evaluated, stream: str) -> list[Block]:
    groups = evaluated.of_stream(stream)
    labels = [evaluated.label(group) for group in groups]
    colours = _colours(labels)
    rounds = max(len(seed) for group in groups for seed in group.seeds)
    series = [
        Series(label, _curve(group), colour)
        for label, group, colour in zip(labels, groups, colours, strict=True)
    ]
    per_round = max((len(s.values) for s in series), default=0) // rounds
    bands = [Band(f"round {i + 1}", i * per_round, (i + 1) * per_round) for i in range(rounds)]
    lines = Lines("mIoU of every frame", "mIoU %", series, bands=bands if rounds > 1 else ())
    blocks: list[Block] = [Figure(lines, lines.caption()), *_home(evaluated, groups)]
    blocks += _classes(evaluated, groups, labels)
    if skipped := max(result.skipped for group in groups for result in group.last_rounds):
        blocks.append(Text(f"{count(skipped, 'frame')} left out: not readable."))
    examples = example_block(evaluated, stream, groups)
    if examples:
        blocks.append(examples)
    return blocks


def _home(evaluated: Evaluated, groups: Sequence[Group]) -> list[Block]:
    """How far the best method that follows home was open, in the last round of its first seed."""
    following = [group for group in groups if group.last_rounds[0].openings]
    if not following:
        return []
    shown = next((group for group in following if group.method == evaluated.best), following[-1])
    result = shown.last_rounds[0]
    return [home_figure(result.distances, result.openings, of=evaluated.label(shown))]


def _curve(group: Group) -> list[float | None]:
    """mIoU of every frame, all rounds in a row, mean over the seeds."""
    seeds = [[value for result in rounds for value in result.frame_miou] for rounds in group.seeds]
    return [_mean(values) for values in zip_longest(*seeds)]


def _classes(evaluated: Evaluated, groups: Sequence[Group], labels: Sequence[str]) -> list[Block]:
    names = evaluated.space.names
    values = [group.iou for group in groups]
    pair = evaluated.compared(groups)
    by_class: list[list[float | None]] = [[column[index] for column in values] for index in range(len(names))]
    gains = [None if pair is None else _difference(row[pair[0]], row[pair[1]]) for row in by_class]
    shown = sorted(range(len(names)), key=lambda index: -_range(by_class[index]))[:MOST_CLASSES]
    rows = [DotRow(names[index], by_class[index], _signed(gains[index])) for index in sorted(shown)]
    dots = Dots(
        "IoU of every class",
        "IoU %",
        labels,
        rows,
        low=0,
        absent="not in the labels",
        colours=_colours(labels),
    )
    words = [] if pair is None else [f"Right: gain of {labels[pair[1]]} over {labels[pair[0]]}, in points."]
    if len(shown) < len(names):
        words.append(f"The {MOST_CLASSES} classes on which the methods differ most; the table has all.")
    header = ["class", *labels, *([] if pair is None else ["gain"])]
    body = [
        [name, *(number(value) for value in row), *([] if pair is None else [gain(gained)])]
        for name, row, gained in zip(names, by_class, gains, strict=True)
    ]
    note = "" if all(row[0] is not None for row in by_class) else "–: the class is in no label."
    return [Figure(dots, " ".join(words)), Table("IoU of every class, %", header, body, note=note)]


def _time(evaluated: Evaluated) -> list[Block]:
    pooled: dict[str, list[float]] = {}
    for group in _ordered(evaluated.groups):
        for result in group.last_rounds:
            pooled.setdefault(evaluated.label(group), []).extend(result.frame_ms)
    series = [
        Series(label, values, colour)
        for (label, values), colour in zip(pooled.items(), _colours(list(pooled)), strict=True)
    ]
    caption = "Mask and update together, decoding left out; all streams and seeds."
    return [Figure(Histogram("How long a frame takes", "ms", series), caption)]


def _ordered(groups: Sequence[Group]) -> list[Group]:
    """The frozen network first."""
    return sorted(groups, key=lambda group: group.method != "frozen")


def _colours(labels: Sequence[str]) -> list[int]:
    """Grey for the frozen network, else the palette in order: the same for a method in every plot."""
    start = 0 if labels and labels[0].startswith("frozen") else 1
    return [start + index for index in range(len(labels))]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _range(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else -1.0


def _signed(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:+.1f}"
