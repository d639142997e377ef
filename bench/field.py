"""The methods of other papers beside ours, on CGNet, which is at home on CamVid: a line for each.

    python bench/home.py  run BUNDLE --rows field --every 12 --results bench/results/field.jsonl
    python bench/home.py  run BUNDLE --rows field --every 57 --rounds 10 --streams Seq05VD/clean --results ...
    python bench/field.py memory BUNDLE
    python bench/field.py table

With a calibrated bundle the first two give the calibrated rows, with one that is not the others; the methods
of papers know no home and are the same with both. ``memory`` shows each method some frames in a process
of its own. Finished lines of --results are not run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from home import (  # type: ignore[import-not-found]
    FIELD,
    STREAMS,
    append,
    key_of,
    open_row,
    read,
    rows_of,
)

from ocl_edge.bundle.reading import Bundle
from ocl_edge.images import read_image
from ocl_edge_runtime.memory import peak_mib

RESULTS = Path(__file__).parent / "results" / "field.jsonl"
NETWORK = "cgnet"
OURS = "ocl-head, auto, calibrated"
EVERY = 12
"""Of the frames: some of the methods take seconds for one."""

MEMORY_FRAMES = 10
HEADER = ("method", "home, day", "home, dusk", "away", "at worst", "ten rounds at home", "ms", "MiB")


def measure_memory(bundle: Bundle, data: Path, results: Path) -> None:
    """Peak of a process that shows a method some frames."""
    done = {key_of(line) for line in read(results)}
    for row in rows_of(["field"], bundle.manifest.home is not None):
        line: dict[str, Any] = {"network": NETWORK, "stream": "memory", "row": row}
        if key_of(line) in done:
            continue
        command = [sys.executable, __file__, "peak", str(bundle.path), "--row", row, "--data", str(data)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        append(results, {**line, "mib": float(told)})


def show_peak(bundle: Bundle, row: str, data: Path) -> None:
    files = sorted((data / "Seq05VD" / "images").glob("*.png"))[:MEMORY_FRAMES]
    with open_row(bundle, row) as session:
        for index, file in enumerate(files):
            session.step(read_image(file), float(index))
    print(round(peak_mib()))


def table(results: Path) -> None:
    """Every `EVERY`-th frame of the streams that there are; gains are over frozen on the same, one view."""
    lines = [line for line in read(results) if line["network"] == NETWORK]
    print("| " + " | ".join(HEADER) + " |")
    print("|---" * len(HEADER) + "|")
    once = {(e["row"], e["stream"]): e for e in lines if "rounds" not in e and e.get("every") == EVERY}
    streams = [stream for stream in STREAMS[NETWORK] if (OURS, stream) in once]
    for row in FIELD:
        if all((row, stream) in once for stream in streams):
            print("| " + " | ".join([row, *_cells(row, streams, once, lines)]) + " |")


def _cells(
    row: str, streams: list[str], once: dict[tuple[str, str], dict[str, Any]], lines: list[dict[str, Any]]
) -> list[str]:
    miou = {stream: once[row, stream]["miou"] for stream in streams}
    gains = {stream: value - once["frozen", stream]["miou"] for stream, value in miou.items()}
    worst = min(gains, key=lambda stream: gains[stream])
    day, dusk, *away = miou.values()
    again = [e["rounds"] for e in lines if e["row"] == row and "rounds" in e]
    mib = [e["mib"] for e in lines if e["row"] == row and "mib" in e]
    return [
        f"{day:.1f}",
        f"{dusk:.1f}",
        f"{np.mean(away):.1f}",
        f"{gains[worst]:+.1f} {worst}",
        f"{again[-1][0]:.1f} to {again[-1][-1]:.1f}" if again else "",
        f"{np.median([once[row, stream]['ms'] for stream in streams]):.0f}",
        f"{mib[-1]:.0f}" if mib else "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["memory", "peak", "table"])
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--row", choices=FIELD, help="for peak")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.what == "table":
        table(arguments.results)
        return
    if arguments.bundle is None:
        parser.error(f"{arguments.what} needs a bundle")
    torch.set_num_threads(1)
    bundle = Bundle.open(arguments.bundle)
    if arguments.what == "peak":
        show_peak(bundle, arguments.row, arguments.data)
    else:
        measure_memory(bundle, arguments.data, arguments.results)


if __name__ == "__main__":
    main()
