"""How time and memory grow with the network's pixels, the classes, the frame, and the stream.

    python bench/growth.py [--only pixels,classes,frame,stream] [--longest 20000] [--json FILE]

The demo's network, with random weights where the classes differ, one thread, realtime mode with an update
every frame, noise as frames. Each point runs in a process of its own. The fit is the exponent of a power law
(times double with the quantity: 1), or of a stream the bytes that each frame leaves behind.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.network.zoo.demo import build
from ocl_edge.timings import mask_latency_ms
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.memory import peak_mib
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.sources import NoiseSource, repeated

SIZES = ((96, 128), (192, 256), (288, 384), (384, 512), (576, 768), (768, 1024))
"""A sixteenth to four times 384x512 pixels."""
CLASSES = (2, 10, 19, 50, 150)
FRAMES = ((360, 480), (720, 1280), (1080, 1920), (2160, 3840))
FEW = 12
"""Frames of a point."""
DIFFERENT = 8
MARKS = 20
KINDS = ("pixels", "classes", "frame", "stream")


@dataclass(frozen=True)
class Point:
    """What one process measured.

    Attributes:
        mask_ms: median time from a frame to its mask.
        frame_ms: its update included.
        peak_mib: largest resident set.
        resident_mib: at the marks of a stream: [frame, MiB] each.
    """

    mask_ms: float
    frame_ms: float
    peak_mib: float
    resident_mib: list[tuple[int, float]]


def resident_mib() -> float:
    """Now, in contrast to `peak_mib`."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(bundle: Path, height: int, width: int, frames: int, backend: str) -> Point:
    """In this process."""
    torch.set_num_threads(1)
    options = SessionOptions(backend=backend, threads=1, opening=1)
    taking_all = RealtimeOptions(adapt_every=1, guarded=False, statistics_limit=math.inf)
    source = repeated(NoiseSource(height, width, DIFFERENT))
    masks, whole, marks = [], [], []
    with open_session(Bundle.open(bundle), options, taking_all) as session:
        session.warm_up()
        for index, frame in zip(range(frames), source, strict=False):
            timings = session.step(frame.image).timings_ms
            masks.append(mask_latency_ms(timings))
            whole.append(sum(timings.values()))
            if index % max(1, frames // MARKS) == 0:
                marks.append((index, resident_mib()))
    return Point(float(np.median(masks)), float(np.median(whole)), peak_mib(), marks)


def in_new_process(*arguments: object) -> Point:
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return Point(**told)


def exported(directory: Path, classes: int, size: tuple[int, int]) -> Path:
    """A bundle of the demo's network, made once."""
    name = f"{classes}_{size[0]}x{size[1]}"
    if not (directory / name).exists():
        torch.manual_seed(0)
        checkpoint = directory / f"{classes}.pth"
        torch.save(build(classes).state_dict(), checkpoint)
        export_bundle(ExportRequest(checkpoint, directory / name, input_size=size))
    return directory / name


def power(quantities: Sequence[float], values: Sequence[float]) -> float:
    """Exponent of the power law through them: the slope of a line on two logarithmic scales."""
    return float(np.polyfit(np.log(quantities), np.log(values), 1)[0])


def show(title: str, quantities: Sequence[float], points: Sequence[Point]) -> None:
    """A table of points, and the fit."""
    print(f"\n| {title} | mask | with update | peak memory |\n|---|---|---|---|")
    for quantity, point in zip(quantities, points, strict=True):
        cells = f"{point.mask_ms:.1f} ms | {point.frame_ms:.1f} ms | {point.peak_mib:.0f} MiB"
        print(f"| {quantity:,.0f} | {cells} |")
    fits = [
        power(quantities, [getattr(p, name) for p in points]) for name in ("mask_ms", "frame_ms", "peak_mib")
    ]
    print(f"| exponent | {' | '.join(f'{fit:.2f}' for fit in fits)} |")


def grow(kind: str, directory: Path, backend: str, longest: int) -> dict[str, Point]:
    """All points of one kind, by quantity, shown."""
    points: dict[float, Point] = {}
    middle = exported(directory, 10, (384, 512))
    if kind == "pixels":
        for size in SIZES:
            points[size[0] * size[1]] = in_new_process(exported(directory, 10, size), *size, FEW, backend)
    elif kind == "classes":
        for classes in CLASSES:
            bundle = exported(directory, classes, (384, 512))
            points[classes] = in_new_process(bundle, 384, 512, FEW, backend)
    elif kind == "frame":
        for size in FRAMES:
            points[size[0] * size[1]] = in_new_process(middle, *size, FEW, backend)
    else:
        small = exported(directory, 10, (96, 128))
        for length in (100, 1000, longest):
            points[length] = in_new_process(small, 96, 128, length, backend)
    title = {"pixels": "pixels of the network", "classes": "classes", "frame": "pixels of the frame"}
    show(title.get(kind, "frames of the stream"), list(points), list(points.values()))
    if kind == "stream":
        at, mib = zip(*points[longest].resident_mib[MARKS // 4 :], strict=True)
        left = 2**20 * float(np.polyfit(at, mib, 1)[0])
        print(f"a frame leaves {left:.0f} bytes behind, by a line through the last three quarters")
    return {str(quantity): point for quantity, point in points.items()}


@click.command()
@click.option("--only", default=",".join(KINDS), show_default=True, help="Kinds, by commas.")
@click.option("--backend", default="openvino", show_default=True)
@click.option("--longest", type=click.IntRange(min=1001), default=20_000, show_default=True)
@click.option("--json", "json_path", type=click.Path(path_type=Path))
@click.option("--measure", "point", nargs=5, hidden=True, help="BUNDLE HEIGHT WIDTH FRAMES BACKEND")
def main(
    only: str,
    backend: str,
    longest: int,
    json_path: Path | None,
    point: tuple[str, str, str, str, str] | None,
) -> None:
    """Measure how time and memory grow."""
    if point:
        bundle, height, width, frames, name = point
        print(json.dumps(asdict(measure(Path(bundle), int(height), int(width), int(frames), name))))
        return
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        for kind in only.split(","):
            grown = grow(kind, Path(directory), backend, longest)
            results[kind] = {quantity: asdict(found) for quantity, found in grown.items()}
    if json_path:
        json_path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
