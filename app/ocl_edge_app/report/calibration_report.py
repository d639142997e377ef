"""The report of ``ocl-edge calibrate``."""

from __future__ import annotations

from collections.abc import Mapping

from ocl_edge.bundle.manifest_parts import Quantiles
from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.home import AWAY_FROM, HOME_UNTIL
from ocl_edge_app.report.page import Block, Figure, Page, Section, Table, Text, Tile
from ocl_edge_app.report.plots import DotRow, Dots
from ocl_edge_app.report.what_ran import network_name
from ocl_edge_runtime.calibration.findings import Calibration


def calibration_page(bundle: Bundle, of_outputs: Mapping[str, Calibration], ran: Section) -> Page:
    """Home, its corrupted copies, and where adaptation opens.

    Args:
        bundle: that was calibrated.
        of_outputs: what was found, by output, whose name is empty where there is one; home is all outputs'.
        ran: see `ocl_edge_app.report.what_ran`.
    """
    found = next(iter(of_outputs.values()))
    home = found.home
    tiles = [
        Tile(
            "yes" if home.at_home else "no",
            "are these frames home",
            f"distance {home.distance.median:.2f}",
        ),
        Tile(f"{_share(found.openings):.0f} %", "of the frames open adaptation"),
    ]
    for output, each in of_outputs.items():
        of = f" of {output}" if output else ""
        tiles.append(Tile(f"{each.gain:+.1f}", f"mIoU{of}, {each.tried[each.taken]}", "on corrupted copies"))
        tiles.append(Tile(head_in_words(each), f"the head{of}"))
    return Page(
        f"Home of {network_name(bundle if len(of_outputs) == 1 else bundle.whole)}",
        lead=f"{home.frames} unlabelled frames, and copies of some of them under {len(found.copies)} "
        f"corruptions; {found.passes} passes of the network.",
        tiles=tiles,
        sections=[
            Section("What to know", [Text(note) for note in _notes(of_outputs)]),
            Section("Home and away", [*_distances(found), _at_home(of_outputs)]),
            Section("What adaptation gains", [_gains(*each) for each in of_outputs.items()]),
            ran,
        ],
    )


def _notes(of_outputs: Mapping[str, Calibration]) -> list[str]:
    """Those of all outputs, once; of others it is said whose they are."""
    whose: dict[str, list[str]] = {}
    for output, found in of_outputs.items():
        for note in found.notes:
            whose.setdefault(note, []).append(output)
    every = len(of_outputs)
    return [note if len(of) == every else f"{', '.join(of)}: {note}" for note, of in whose.items()]


def head_in_words(found: Calibration) -> str:
    """Whether the head learns, in a word or two."""
    head = found.home.head
    if head is None:
        return "not judged"
    return f"rate {head.lr:g}" if head.lr else "stays as trained"


def _share(openings: list[float]) -> float:
    return 100 * sum(opening > 0 for opening in openings) / len(openings)


def _distances(found: Calibration) -> list[Block]:
    rows = [_row("home frames", list(zip(found.distances, found.openings, strict=True)))]
    rows += [_row(name, copies) for name, copies in found.copies.items()]
    dots = Dots(
        "Distance from home, nearest, middle and farthest frame",
        "distance",
        ["middle", "nearest", "farthest"],
        rows,
    )
    caption = (
        f"Up to {HOME_UNTIL} a frame is at home, from {AWAY_FROM} on adaptation opens fully, as far as the "
        "statistics of all norms agree. At the right edge: how far a session that is shut opens, on average."
    )
    return [Figure(dots, caption)]


def _row(name: str, seen: list[tuple[float, float]]) -> DotRow:
    distances = sorted(distance for distance, _ in seen)
    opening = sum(opening for _, opening in seen) / len(seen)
    middle = distances[len(distances) // 2]
    return DotRow(name, [middle, distances[0], distances[-1]], f"opens {opening:.2f}")


def _at_home(of_outputs: Mapping[str, Calibration]) -> Table:
    rows = [_measured("distance from home", next(iter(of_outputs.values())).home.distance)]
    for output, found in of_outputs.items():
        of, home = f"{output}: " if output else "", found.home
        rows.append(_measured(f"{of}confidence, mean probability of the strongest class", home.confidence))
        rows.append(_measured(f"{of}loss (OCL) of the view pair", home.loss))
        if home.features_distance is not None:
            moved = "distance of the head's input from its mean, in deviations"
            rows.append(_measured(of + moved, home.features_distance))
    return Table("The home frames, one by one", ["", "10 %", "median", "90 %"], rows)


def _measured(name: str, quantiles: Quantiles) -> list[str]:
    return [name, *(f"{value:.3f}" for value in (quantiles.low, quantiles.median, quantiles.high))]


def _gains(output: str, found: Calibration) -> Table:
    of = f" of {output}" if output else ""
    gains = found.home.head.gains if found.home.head else {}
    rows = [
        [name, *(f"{value:.1f}" for value in values), f"{gains[name]:+.1f}" if name in gains else None]
        for name, values in found.agreement.items()
    ]
    return Table(
        f"mIoU{of} wide open, against what the frozen network is sure of in the clean frame, %",
        ["corruption", *found.tried, "head on top"],
        rows,
        note="The weights were fitted and the head learned on other frames under the same corruptions.",
    )
