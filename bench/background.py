"""Updates inline against updates in the background: mask latency, whole frames, updates.

    python bench/background.py [--data DIR] [--bundle DIR] [--rounds N] [--threads N]

Frames come as fast as they are taken, so the worker is busy nearly all the time: the worst case for
the mask. The modes take turns in blocks of eight frames; a block ends when its worker has landed, so
that no update runs beside another mode's frames. Medians over frames, ratios of medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge.timings import mask_latency_ms
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session
from ocl_edge_runtime.sources import ImageSource

BLOCK = 8
MODES: dict[str, RealtimeOptions | None] = {
    "frozen": None,
    "inline, every frame": RealtimeOptions(1, 1),
    "background, every frame": RealtimeOptions(1, 1, update="background"),
    "inline, every 8th": RealtimeOptions(8, 8),
    "background, every 8th": RealtimeOptions(8, 8, update="background"),
}


def open_mode(bundle: Bundle, realtime: RealtimeOptions | None, threads: int | None) -> Session:
    if realtime is None:
        return open_session(bundle, SessionOptions("frozen", threads=threads))
    session = open_session(bundle, SessionOptions(threads=threads, opening=1.0), realtime)
    session.warm_up()
    return session


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bundle", type=Path, help="an exported bundle; otherwise one is made")
    parser.add_argument("--rounds", type=int, default=8, help="blocks of eight frames a mode")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    source = ImageSource(
        str(arguments.data / "camvid" / "0001TP" / "images"), limit=BLOCK * (arguments.rounds + 1)
    )
    images = [frame.image for frame in source]
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = arguments.data / "models" / "espnetv2_s_2.0_city_1024x512.pth"
        bundle = (
            Bundle.open(arguments.bundle)
            if arguments.bundle
            else export_bundle(ExportRequest(checkpoint, Path(directory) / "bundle", input_size=(384, 512)))
        )
        measure(bundle, images, arguments.threads)


def measure(bundle: Bundle, images: list[np.ndarray], threads: int | None) -> None:
    sessions = {mode: open_mode(bundle, realtime, threads) for mode, realtime in MODES.items()}
    masks: dict[str, list[float]] = {mode: [] for mode in MODES}
    block_s: dict[str, list[float]] = {mode: [] for mode in MODES}
    updates = dict.fromkeys(MODES, 0)
    for first in range(0, len(images) - BLOCK + 1, BLOCK):
        for mode, session in sessions.items() if first % (2 * BLOCK) else reversed(sessions.items()):
            started, latencies, applied = time.perf_counter(), [], 0
            for image in images[first : first + BLOCK]:
                result = session.step(image)
                latencies.append(mask_latency_ms(result.timings_ms))
                applied += result.verdict.applied or (
                    result.background is not None and result.background.verdict.applied
                )
            seconds = time.perf_counter() - started
            landed = session.settle()
            if first:  # the first block warms up
                masks[mode] += latencies
                block_s[mode].append(seconds)
                updates[mode] += applied + (landed is not None and landed.verdict.applied)
    header = (
        ("mask p50 ms", 12),
        ("p90", 8),
        ("/ frozen", 10),
        ("frame ms", 10),
        ("/ frozen", 10),
        ("updates", 9),
    )
    print(f"{'mode':26}" + "".join(f"{name:>{width}}" for name, width in header))
    for mode in MODES:
        p50, p90 = np.percentile(masks[mode], (50, 90))
        frame = 1000 * np.median(block_s[mode]) / BLOCK
        ratio = p50 / np.median(masks["frozen"])
        whole = np.median(block_s[mode]) / np.median(block_s["frozen"])
        print(f"{mode:26}{p50:12.1f}{p90:8.1f}{ratio:10.2f}{frame:10.1f}{whole:10.2f}{updates[mode]:9}")
    for session in sessions.values():
        session.close()


if __name__ == "__main__":
    main()
