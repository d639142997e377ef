"""What a demo leaves in its directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.demo.comparison import Comparison, representative
from ocl_edge_app.demo.pictures import poster
from ocl_edge_app.demo.report import demo_page
from ocl_edge_app.demo.video import why_no_mp4
from ocl_edge_app.demo.world.drive import DriveFrame
from ocl_edge_app.report import write_page
from ocl_edge_app.report.what_ran import what_ran
from ocl_edge_runtime.sinks.files import write_png

OnFrame = Callable[[str], None]


def write_frames(frames: Iterable[DriveFrame], directory: Path, on_frame: OnFrame) -> list[DriveFrame]:
    """Write ``frames/NAME.png`` and ``labels/NAME.png`` as they are drawn; other verbs read them.

    Raises:
        OutputError: they cannot be written.
    """
    for name in ("frames", "labels"):
        (directory / name).mkdir()
    drawn = []
    for frame in frames:
        write_png(directory / "frames" / file_name(frame), frame.image)
        write_png(directory / "labels" / file_name(frame), frame.labels)
        drawn.append(frame)
        on_frame(frame.stretch)
    return drawn


def write_masks(comparison: Comparison, directory: Path) -> None:
    """Write ``masks/frozen/NAME.png`` and ``masks/adapted/NAME.png``: 8-bit class indices.

    Raises:
        OutputError: they cannot be written.
    """
    for name, score in comparison.scores.items():
        (directory / "masks" / name).mkdir(parents=True)
        for frame, result in zip(comparison.frames, score.results, strict=True):
            write_png(directory / "masks" / name / file_name(frame), result.mask)


def write_poster(comparison: Comparison, directory: Path) -> None:
    """Write ``poster.png``: one frame that is typical of the whole drive."""
    poster(comparison, representative(comparison)).save(directory / "poster.png", optimize=True)


def write_report(comparison: Comparison, bundle: Bundle, command: str, directory: Path, out: Path) -> None:
    """Write ``report.html``.

    Args:
        comparison: of the drive.
        bundle: that ran.
        command: as it was typed.
        directory: to write into, for now.
        out: where everything will lie in the end.

    Raises:
        OutputError: it cannot be written.
    """
    ran = what_ran(command, replace(bundle, path=out / "bundle"), comparison.settings)
    write_page(demo_page(comparison, ran, contents(directory)), directory / "report.html")


def contents(directory: Path) -> dict[str, str]:
    """What lies in a demo's directory beside the report, file -> what it holds."""
    reason = why_no_mp4()
    said = {
        "video.mp4": "image, frozen, adapted and truth, side by side",
        "video.webp": f"image, frozen, adapted and truth, side by side; no MP4, because {reason}",
        "poster.png": "a frame of it",
        "masks": "class of every pixel, frozen and adapted",
        "frames": "the drive, for other verbs",
        "labels": "its exact labels",
        "bundle": "the exported network",
    }
    return {name: what for name, what in said.items() if (directory / name).exists()}


def file_name(frame: DriveFrame) -> str:
    return f"{frame.index:06d}.png"
