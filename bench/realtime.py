"""Realtime mode on real footage: accuracy, latency against frozen, faults, state writes.

    python bench/realtime.py accuracy [--data DIR] [--limit N]
    python bench/realtime.py latency  [--data DIR] [--rounds N] [--threads N] [--backend NAME]
    python bench/realtime.py faults   [--data DIR] [--limit N]
    python bench/realtime.py state    [--data DIR]

Labelled frames are one second apart, on a clock that is set by hand. Latencies are
interleaved frame by frame in one process; medians, and ratios of medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ocl_edge.bundle import Bundle
from ocl_edge.timings import mask_latency_ms
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.engine import Engine, EngineOptions
from ocl_edge_runtime.evaluation.corruption import parse_corruption
from ocl_edge_runtime.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space
from ocl_edge_runtime.realtime import RealtimeEngine, RealtimeOptions
from ocl_edge_runtime.state import StateStore

Image = NDArray[np.uint8]
BACKEND = "onnxruntime"
"""Of everything but `latency`, where it can be chosen."""
STREAMS = (("0001TP", "clean"), ("Seq05VD", "fog:3"), ("Seq05VD", "snow:2"), ("Seq05VD", "gaussian_noise:2"))
MODES: dict[str, tuple[EngineOptions, RealtimeOptions | None]] = {
    "frozen, single view": (EngineOptions("frozen"), None),
    "paper (view pair)": (EngineOptions("ocl-head"), None),
    "realtime, norm-every 1": (EngineOptions(), RealtimeOptions(1, 1)),
    "realtime, norm-every 4": (EngineOptions(), RealtimeOptions(4, 4)),
    "realtime, norm-every 8": (EngineOptions(), RealtimeOptions(8, 8)),
}


class HandClock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


def open_engine(
    bundle: Bundle, mode: str, clock: HandClock, threads: int | None, backend: str = BACKEND
) -> Engine:
    options, realtime = MODES[mode]
    options = EngineOptions(options.method, backend=backend, threads=threads)
    return Engine(bundle, options) if realtime is None else RealtimeEngine(bundle, options, realtime, clock)


def accuracy(bundle: Bundle, data: Path, space: LabelSpace, limit: int | None, threads: int | None) -> None:
    print(f"{'stream':24}" + "".join(f"{mode:>26}" for mode in MODES))
    for sequence, weather in STREAMS:
        frames = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels", limit)
        corruption, scores = parse_corruption(weather), []
        for mode in MODES:
            clock, matrix = HandClock(), space.matrix()
            engine = open_engine(bundle, mode, clock, threads)
            for index in range(len(frames)):
                clock.time = float(index)
                image, labels = frames.read(index)
                matrix.add(engine.step(corruption.apply(image, index)).mask, labels)
            scores.append(100 * matrix.miou())
        print(f"{sequence + ' ' + weather:24}" + "".join(f"{score:26.2f}" for score in scores), flush=True)


def latency(bundle: Bundle, data: Path, rounds: int, threads: int | None, backend: str) -> None:
    frames = LabelledFrames.find(str(data / "0001TP" / "images"), data / "0001TP" / "labels")
    engines = {
        mode: open_engine(bundle, mode, HandClock(), threads, backend)
        for mode in MODES
        if "paper" not in mode
    }
    masks: dict[str, list[float]] = {mode: [] for mode in engines}
    totals: dict[str, list[float]] = {mode: [] for mode in engines}
    for index in range(rounds + 4):
        image, _ = frames.read(index % len(frames))
        for mode in list(engines) if index % 2 else list(engines)[::-1]:
            started = time.perf_counter()
            result = engines[mode].step(image)
            if index >= 4:
                totals[mode].append(1000 * (time.perf_counter() - started))
                masks[mode].append(mask_latency_ms(result.timings_ms))
    reference = next(iter(engines))
    print(
        f"{'mode':26}{'mask p50 ms':>12}{'p99':>8}{'p99/p50':>9}{'/ frozen':>10}{'frame mean / frozen':>21}"
    )
    for mode in engines:
        p50, p99 = np.percentile(masks[mode], (50, 99))
        ratio = p50 / np.median(masks[reference])
        whole = np.mean(totals[mode]) / np.mean(totals[reference])
        print(f"{mode:26}{p50:12.1f}{p99:8.1f}{p99 / p50:9.2f}{ratio:10.2f}{whole:21.2f}")


def half_covered(image: Image) -> Image:
    covered: Image = image.copy()
    covered[: image.shape[0] // 2] = 0
    return covered


def noise(image: Image) -> Image:
    pixels: Image = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    return pixels


FAULTS: dict[str, Callable[[Image], Image]] = {
    "black": np.zeros_like,
    "white": lambda image: np.full_like(image, 255),
    "noise": noise,
    "half covered": half_covered,
    "snow 5": lambda image: parse_corruption("snow:5").apply(image, 0),
}


def faults(bundle: Bundle, data: Path, space: LabelSpace, limit: int, threads: int | None) -> None:
    """Ten faulty frames after ten good ones; the score is of the frames after the fault."""
    frames = LabelledFrames.find(str(data / "0001TP" / "images"), data / "0001TP" / "labels", limit)
    runs: dict[str, tuple[EngineOptions, RealtimeOptions | None]] = {
        "frozen": (EngineOptions("frozen", backend=BACKEND, threads=threads), None),
        "guarded": (EngineOptions(backend=BACKEND, threads=threads), RealtimeOptions(1, 1)),
        "unguarded": (
            EngineOptions(backend=BACKEND, threads=threads),
            RealtimeOptions(1, 1, guarded=False, statistics_limit=float("inf")),
        ),
    }
    plans = {name: (fault, None) for name, fault in FAULTS.items()}
    plans["lr x 100"] = (lambda image: image, 20.0)  # type: ignore[assignment]
    print(f"{'fault':16}" + "".join(f"{name:>12}" for name in runs) + f"{'rollbacks':>11}{'freezes':>9}")
    for fault, (change, lr) in plans.items():
        scores, guard = [], (0, 0)
        for name, (options, realtime) in runs.items():
            clock, matrix = HandClock(), space.matrix()
            rate = lr if name != "frozen" else None
            chosen = EngineOptions(options.method, backend=BACKEND, lr=rate, threads=threads)
            engine = (
                Engine(bundle, chosen)
                if realtime is None
                else RealtimeEngine(bundle, chosen, realtime, clock)
            )
            for index in range(len(frames)):
                clock.time = float(index)
                image, labels = frames.read(index)
                broken = 10 <= index < 20
                mask = engine.step(change(image) if broken else image).mask
                if index >= 20:
                    matrix.add(mask, labels)
            scores.append(100 * matrix.miou())
            if name == "guarded" and isinstance(engine, RealtimeEngine):
                guard = (engine.guard.rollbacks, engine.guard.resets)
        print(
            f"{fault:16}" + "".join(f"{s:12.2f}" for s in scores) + f"{guard[0]:11}{guard[1]:9}", flush=True
        )


def state(bundle: Bundle, data: Path) -> None:
    engine = RealtimeEngine(bundle, EngineOptions(backend=BACKEND), RealtimeOptions(1, 1))
    frames = LabelledFrames.find(str(data / "0001TP" / "images"), data / "0001TP" / "labels", 3)
    for index in range(3):
        engine.step(frames.read(index)[0])
    with tempfile.TemporaryDirectory() as directory:
        store, times = StateStore(Path(directory), engine), []
        for _ in range(100):
            started = time.perf_counter()
            store.save()
            times.append(1000 * (time.perf_counter() - started))
        size = store.path.stat().st_size
    p50, p99 = np.percentile(times, (50, 99))
    print(f"state of {size / 1e3:.0f} kB, written and flushed: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "latency", "faults", "state"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bundle", type=Path, help="an exported bundle; otherwise one is made")
    parser.add_argument("--limit", type=int, help="frames a stream; default: all, faults: 60")
    parser.add_argument("--rounds", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--backend", default=BACKEND, help="of latency; for example openvino")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    camvid = arguments.data / "camvid"
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = arguments.data / "models" / "espnetv2_s_2.0_city_1024x512.pth"
        bundle = (
            Bundle.open(arguments.bundle)
            if arguments.bundle
            else export_bundle(ExportRequest(checkpoint, Path(directory) / "bundle", input_size=(384, 512)))
        )
        space = read_label_space(bundle.manifest, camvid / "from_cityscapes.json", camvid / "classes.json")
        if arguments.what == "accuracy":
            accuracy(bundle, camvid, space, arguments.limit, arguments.threads)
        elif arguments.what == "latency":
            latency(bundle, camvid, arguments.rounds, arguments.threads, arguments.backend)
        elif arguments.what == "faults":
            faults(bundle, camvid, space, arguments.limit or 60, arguments.threads)
        else:
            state(bundle, camvid)


if __name__ == "__main__":
    main()
