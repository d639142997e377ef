"""Realtime mode on real footage: accuracy, latency against frozen, state writes.

    python bench/realtime.py accuracy [--data DIR] [--limit N] [--results DIR]
    python bench/realtime.py latency  [--data DIR] [--rounds N] [--threads N] [--backend NAME]
    python bench/realtime.py state    [--data DIR]
    python bench/realtime.py guard    [--data DIR] [--limit N]

Accuracy: labelled frames are one second apart; every finished stream is kept in --results, so
that a run that was killed goes on. Latencies are interleaved frame by frame in one process;
medians, and ratios of medians. Guard: the largest signals that the guard sees where nothing is wrong,
with an update on every frame. Faults have a script of their own, faults.py.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ocl_edge import durable
from ocl_edge.bundle.reading import Bundle
from ocl_edge.masks import Mask
from ocl_edge.method.verdict import Signals
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge.timings import mask_latency_ms
from ocl_edge_app.evaluation.corruption import Corruption, parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.records.state import StateStore
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.segmenter import Segmenter
from ocl_edge_runtime.session.session import Session

Image = NDArray[np.uint8]
BACKEND = "onnxruntime"
STREAMS = (
    ("0001TP", "clean"),
    ("Seq05VD", "clean"),
    ("Seq05VD", "fog:3"),
    ("Seq05VD", "contrast:3"),
    ("Seq05VD", "brightness:4"),
    ("Seq05VD", "snow:2"),
    ("Seq05VD", "gaussian_noise:2"),
    ("Seq05VD", "motion_blur:3"),
)
FROZEN, PAPER = "frozen", "paper"
REALTIME = {
    "every frame": RealtimeOptions(1, 1),
    "update every 8th": RealtimeOptions(1, 8),
    "every 4th": RealtimeOptions(4, 4),
    "every 8th": RealtimeOptions(8, 8),
}
"""Statistics and updates; updates as often as statistics where one number stands."""


def open_mode(bundle: Bundle, mode: str, threads: int | None, backend: str) -> Session:
    options = SessionOptions(
        "frozen" if mode == FROZEN else "ocl-head", backend=backend, threads=threads, opening=1.0
    )
    return open_session(bundle, options, REALTIME.get(mode))


def masks_of(session: Session, image: Image, index: int) -> dict[str, Mask]:
    """The mask of a frame; of paper mode also that of the unflipped view alone. Then the update."""
    mask = session.predict(image, float(index))
    found = {"": mask}
    if session.setup.views == "pair":
        assert session.seen is not None
        assert isinstance(session.segmenter, Segmenter)
        view = session.seen.logits[:1].detach()
        found[", one view"] = session.segmenter.tail.mask(view, *image.shape[:2])
    session.adapt()
    return found


def score(
    session: Session, frames: LabelledFrames, corruption: Corruption, space: LabelSpace
) -> dict[str, float]:
    """mIoU in percent over a stream, by view."""
    matrices: dict[str, ConfusionMatrix] = {}
    for index in range(len(frames)):
        image, labels = frames.read(index)
        for view, mask in masks_of(session, corruption.apply(image, index), index).items():
            matrices.setdefault(view, space.matrix()).add(mask, labels)
    return {view: 100 * matrix.miou() for view, matrix in matrices.items()}


def accuracy(
    bundle: Bundle,
    data: Path,
    space: LabelSpace,
    limit: int | None,
    threads: int | None,
    results: Path,
    backend: str,
) -> None:
    """A row a stream; the last columns are shares of the gain of paper mode seen through one view."""
    results.mkdir(parents=True, exist_ok=True)
    names = [FROZEN, PAPER, f"{PAPER}, one view", *REALTIME]
    print("| stream | frames | " + " | ".join(names) + " | share of the gain |")
    print("|---" * (len(names) + 3) + "|")
    for sequence, weather in STREAMS:
        frames = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels", limit)
        scores: dict[str, float] = {}
        for mode in (FROZEN, PAPER, *REALTIME):
            name = f"{sequence} {weather} {len(frames)} {mode}".replace(" ", "_").replace(",", "")
            path = results / f"{name}.json"
            if not path.exists():
                found = score(
                    open_mode(bundle, mode, threads, backend), frames, parse_corruption(weather), space
                )
                durable.write_json(path, found, indent=None)
            scores |= {f"{mode}{view}": value for view, value in json.loads(path.read_text("utf-8")).items()}
        gain = scores[f"{PAPER}, one view"] - scores[FROZEN]
        shares = [f"{100 * (scores[mode] - scores[FROZEN]) / gain:.0f} %" for mode in REALTIME]
        cells = [f"{sequence} {weather}", str(len(frames)), *(f"{scores[name]:.2f}" for name in names)]
        print("| " + " | ".join([*cells, ", ".join(shares)]) + " |", flush=True)


def latency(bundle: Bundle, data: Path, rounds: int, threads: int | None, backend: str) -> None:
    frames = LabelledFrames.find(str(data / "0001TP" / "images"), data / "0001TP" / "labels")
    sessions = {mode: open_mode(bundle, mode, threads, backend) for mode in (FROZEN, *REALTIME)}
    masks: dict[str, list[float]] = {mode: [] for mode in sessions}
    totals: dict[str, list[float]] = {mode: [] for mode in sessions}
    for index in range(rounds + 4):
        image, _ = frames.read(index % len(frames))
        for mode in list(sessions) if index % 2 else list(sessions)[::-1]:
            started = time.perf_counter()
            result = sessions[mode].step(image)
            if index >= 4:
                totals[mode].append(1000 * (time.perf_counter() - started))
                masks[mode].append(mask_latency_ms(result.timings_ms))
    reference = next(iter(sessions))
    print(
        f"{'mode':26}{'mask p50 ms':>12}{'p99':>8}{'p99/p50':>9}{'/ frozen':>10}{'frame mean / frozen':>21}"
    )
    for mode in sessions:
        p50, p99 = np.percentile(masks[mode], (50, 99))
        ratio = p50 / np.median(masks[reference])
        whole = np.mean(totals[mode]) / np.mean(totals[reference])
        print(f"{mode:26}{p50:12.1f}{p99:8.1f}{p99 / p50:9.2f}{ratio:10.2f}{whole:21.2f}")


def state(bundle: Bundle, data: Path) -> None:
    session = open_session(bundle, SessionOptions(backend=BACKEND, opening=1.0), RealtimeOptions(1, 1))
    frames = LabelledFrames.find(str(data / "0001TP" / "images"), data / "0001TP" / "labels", 3)
    for index in range(3):
        session.step(frames.read(index)[0])
    with tempfile.TemporaryDirectory() as directory:
        store, times = StateStore(Path(directory), session), []
        for _ in range(100):
            started = time.perf_counter()
            store.save()
            times.append(1000 * (time.perf_counter() - started))
        size = store.path.stat().st_size
    p50, p99 = np.percentile(times, (50, 99))
    print(f"state of {size / 1e3:.0f} kB, written and flushed: p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def guard_signals(bundle: Bundle, data: Path, limit: int | None, threads: int | None, backend: str) -> None:
    """A row a stream: the largest of every signal, the smallest entropy too, and what the guard undid."""
    names = [f.name for f in fields(Signals)]
    print("| stream | frames | " + " | ".join(names) + " | smallest entropy_ratio | undone |")
    print("|---" * (len(names) + 4) + "|")
    for sequence, weather in STREAMS:
        frames = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels", limit)
        session, corruption = open_mode(bundle, "every frame", threads, backend), parse_corruption(weather)
        signals, undone = [], 0
        for index in range(len(frames)):
            session.predict(corruption.apply(frames.read(index)[0], index), float(index))
            verdict = session.adapt()
            undone += verdict.undone
            if verdict.signals is not None:
                signals.append(verdict.signals)
        largest = [f"{max(getattr(each, name) for each in signals):.3f}" for name in names]
        least = f"{min(each.entropy_ratio for each in signals):.3f}"
        cells = [f"{sequence} {weather}", str(len(frames)), *largest, least, str(undone)]
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "latency", "state", "guard"])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--bundle", type=Path, help="an exported bundle; otherwise one is made")
    parser.add_argument("--limit", type=int, help="frames a stream; default: all")
    parser.add_argument("--results", type=Path, default=Path("out/realtime"))
    parser.add_argument("--rounds", type=int, default=64)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--backend", default=BACKEND, help="for example openvino; not of state")
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
            accuracy(
                bundle,
                camvid,
                space,
                arguments.limit,
                arguments.threads,
                arguments.results,
                arguments.backend,
            )
        elif arguments.what == "latency":
            latency(bundle, camvid, arguments.rounds, arguments.threads, arguments.backend)
        elif arguments.what == "guard":
            guard_signals(bundle, camvid, arguments.limit, arguments.threads, arguments.backend)
        else:
            state(bundle, camvid)


if __name__ == "__main__":
    main()
