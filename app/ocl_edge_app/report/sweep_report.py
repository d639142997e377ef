"""The report of ``ocl-edge sweep``: bundles beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.evaluation.compared import Compared, Total, totals
from ocl_edge_app.report.cells import count, gain, number
from ocl_edge_app.report.page import Block, Cell, Facts, Figure, Page, Section, Table, Text, Tile
from ocl_edge_app.report.plots import DotRow, Dots
from ocl_edge_app.report.what_ran import machine_facts, network_name

MOST_SERIES = 8


def sweep_page(
    title: str,
    command: str,
    bundles: Mapping[str, Bundle],
    classes: Mapping[str, Sequence[str]],
    rows: Sequence[Compared],
) -> Page:
    """Every bundle on every stream: over all streams first, then one by one.

    Args:
        title: of the sweep.
        command: as it was typed.
        bundles: by their names.
        classes: of the labels, by stream.
        rows: of all of them.
    """
    found = totals(rows)
    footage = list(dict.fromkeys(row.footage for row in rows))
    lead = (
        f"{count(len(bundles), 'bundle')} on {count(len(footage), 'stream')}. Every mask was made before "
        "its own update, and no method sees a label."
    )
    return Page(
        f"Sweep of {title}",
        lead=lead,
        tiles=_tiles(found, len(bundles)),
        sections=[
            Section("Bundles over all streams", [_totals_table(found)]),
            Section("Stream by stream", [_dots(found, rows, footage), _rows_table(rows)]),
            _ran(command, bundles, classes),
        ],
    )


def _tiles(found: Sequence[Total], bundles: int) -> list[Tile]:
    best = found[0]
    said = f"{best.bundle}, {_method(best)}"
    tiles = [Tile(f"{best.miou:.1f} %", "the highest mIoU", f"{said}, mean of all streams")]
    second = next((each for each in found if each.bundle != best.bundle), None)
    if second is not None:
        behind = "the best of the other bundles" if bundles > 2 else "the best of the other bundle"
        words = f"points over {second.bundle}, {_method(second)}, {behind}"
        tiles.append(Tile(f"{best.miou - second.miou:+.1f}", f"{best.bundle} leads", words))
    tiles.append(Tile(f"{best.least:.1f} %", "its least mIoU", f"on {best.least_on}"))
    if best.least_gain is not None and best.method != "frozen":
        words = "points of mIoU over its frozen network, on the worst stream"
        tiles.append(Tile(f"{best.least_gain:+.1f}", "its least gain", words))
    return tiles


def _totals_table(found: Sequence[Total]) -> Table:
    header = ["bundle", "method", "options", "mIoU %", "gain", "least gain", "least mIoU %", "ms/frame"]
    body = [
        [
            each.bundle,
            f"{each.method} ({each.views})",
            each.options or None,
            Cell(number(each.miou, 2) or "–", "strong") if each is found[0] else number(each.miou, 2),
            None if each.method == "frozen" else gain(each.gain),
            None if each.method == "frozen" else gain(each.least_gain),
            number(each.least),
            f"{each.ms_per_frame:.0f}",
        ]
        for each in found
    ]
    note = (
        "Mean over all streams, each counting the same; the best first. Gain: points of mIoU over the frozen "
        "network of the same bundle with the same views. Time: median of mask and update together, beside "
        "whatever else ran on that machine."
    )
    return Table("Mean of all streams", header, body, text_columns=3, note=note)


def _dots(found: Sequence[Total], rows: Sequence[Compared], footage: Sequence[str]) -> Figure:
    """Of each bundle the frozen network and the method that is best over all streams."""
    shown: list[Total] = []
    for bundle in dict.fromkeys(each.bundle for each in found):
        of_bundle = [each for each in found if each.bundle == bundle]
        frozen = [each for each in of_bundle if each.method == "frozen"][:1]
        shown += [*frozen, *[each for each in of_bundle if each.method != "frozen"][:1]]
    shown = shown[:MOST_SERIES]
    scores = {(row.footage, *row.what): row.row.miou for row in rows}
    dots = Dots(
        "mIoU of every bundle on every stream",
        "mIoU %",
        [f"{each.bundle}, {_method(each)}" for each in shown],
        [DotRow(name, [scores.get((name, *each.what)) for each in shown]) for name in footage],
        colours=[1 + index for index in range(len(shown))],
    )
    return Figure(dots, "Of each bundle the frozen network, and the method that is best over all streams.")


def _rows_table(rows: Sequence[Compared]) -> Table:
    best: dict[str, float] = {}
    for each in rows:
        best[each.footage] = max(each.row.miou, best.get(each.footage, each.row.miou))
    header = ["stream", "bundle", "method", "options", "mIoU %", "spread", "gain", "ms/frame", "MiB"]
    ordered = sorted(rows, key=lambda each: list(best).index(each.footage))
    body: list[list[str | Cell | None]] = []
    for each in ordered:
        row, miou = each.row, number(each.row.miou, 2) or "–"
        body.append(
            [
                each.footage,
                each.bundle,
                f"{row.method} ({row.views})",
                each.options or None,
                Cell(miou, "strong") if row.miou == best[each.footage] else miou,
                f"{row.spread:.2f}" if row.seeds > 1 else None,
                None if row.method == "frozen" else gain(row.gain),
                f"{row.ms_per_frame:.0f}",
                f"{row.memory_mib:.0f}",
            ]
        )
    return Table("All results", header, body, text_columns=4, note="Bold: the best of its stream.")


def _ran(command: str, bundles: Mapping[str, Bundle], classes: Mapping[str, Sequence[str]]) -> Section:
    facts: dict[str, object] = {"command": command}
    for name, bundle in bundles.items():
        size = f"{bundle.manifest.input.height}x{bundle.manifest.input.width}"
        facts[f"bundle {name}"] = f"{network_name(bundle)}, input {size}, {bundle.identity}"
    for name, names in classes.items():
        facts[f"stream {name}"] = f"{len(names)} classes: {', '.join(names)}"
    facts |= machine_facts()
    facts["written"] = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
    words = "The machine that wrote this report; on a cluster, passes ran on its nodes."
    blocks: list[Block] = [Facts(facts), Text(words)]
    return Section("What ran", blocks)


def _method(total: Total) -> str:
    return f"{total.method}, {total.options}" if total.options else total.method
