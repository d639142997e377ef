"""What each part of the method gains: {norms, restoration, OCL} x {head, norms' affine, all weights}.

    python bench/ablation.py tune  BUNDLE     learning rates, on streams that are not reported on
    python bench/ablation.py prior BUNDLE     priors, on every fifth frame: norms alone remember nothing
    python bench/ablation.py run   BUNDLE     the ablation, a pass at a time
    python bench/ablation.py time  BUNDLE     ms a frame, methods interleaved in one process
    python bench/ablation.py table            docs/ablation.md's tables from the results

Every finished pass is a line of --results (default bench/results/WHAT.jsonl) and is not run
again, so a killed run goes on and several processes may share the work (--cells, --streams).
Norms off is prior 1, which makes the measured form the frozen network. Head-only cells of a stream
share its features, which do not depend on the head.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ocl_edge.bundle.reading import Bundle
from ocl_edge.method.methods import METHODS
from ocl_edge.method.norms import DEFAULT_PRIOR, Prior
from ocl_edge.network.form_names import FormName
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, read_label_space
from ocl_edge_app.evaluation.protocol import evaluate_stream
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.segmenter import Backbone, Segmenter
from ocl_edge_runtime.sources import ImageSource

STREAMS = (
    "0001TP/clean",
    "Seq05VD/clean",
    "Seq05VD/fog:3",
    "Seq05VD/contrast:3",
    "Seq05VD/brightness:4",
    "Seq05VD/snow:2",
    "Seq05VD/gaussian_noise:2",
    "Seq05VD/motion_blur:3",
)
TUNING_STREAMS = ("Seq05VD/frost:3", "Seq05VD/shot_noise:2", "Seq05VD/defocus_blur:3")
SEEDS = (0, 1, 2)
NO_NORMS: Prior = (1.0, 1.0)
PRIORS = (
    (0.95, 0.95),
    (0.85, 0.85),
    (0.7, 0.7),
    (0.5, 0.5),
    (0.7, 0.95),
    (0.7, 1),
    (0.5, 1),
    (0.8, 0.95),
    (1, 0.7),
)
HEAD_GRID = ((0.05, 0.02), (0.1, 0.05), (0.2, 0.05), (0.05, 0.01), (0.02, 0.01), (0.1, 0.02), (0.2, 0.1))
PUBLISHED = "norm + OCL all + restoration"
TRAINED = {"head": "ocl-head", "affine": "ocl-norm", "all": "ocl-full"}

Scores = dict[tuple[str, str], dict[int, float]]
"""(cell, stream) -> seed -> mIoU in percent."""


@dataclass(frozen=True)
class Pass:
    """One method over one stream; what is None is the method's default."""

    cell: str
    stream: str
    method: str
    prior: Prior
    lr: float | None = None
    restoration: float | None = None
    seed: int = 0
    limit: int | None = None
    every: int = 1

    @property
    def trains_backbone(self) -> bool:
        return METHODS[self.method].needs_pytorch_backbone

    def options(self) -> SessionOptions:
        return SessionOptions(
            self.method,
            "pair",
            "torch" if self.trains_backbone else "onnxruntime",
            self.prior,
            self.lr,
            self.restoration,
            self.seed,
            threads=1,
            opening=1.0,
        )


def ablation() -> Iterator[Pass]:
    """All passes of the ablation, the ones without a gradient and the published method first.

    Without restoration nothing is random, so one seed is all of them.
    """
    for stream in STREAMS:
        yield Pass("frozen", stream, "norm", NO_NORMS)
        yield Pass("norm", stream, "norm", DEFAULT_PRIOR)
    for norms, prior in (("norm + ", DEFAULT_PRIOR), ("", NO_NORMS)):
        for trained, method in TRAINED.items():
            for seed in SEEDS:
                for stream in STREAMS:
                    yield Pass(f"{norms}OCL {trained} + restoration", stream, method, prior, seed=seed)
            for stream in STREAMS:
                yield Pass(f"{norms}OCL {trained}", stream, method, prior, restoration=0.0)


def tuning() -> Iterator[Pass]:
    """Learning rates and restoration of every method that trains."""
    for stream in TUNING_STREAMS:
        yield Pass("tune norm", stream, "norm", DEFAULT_PRIOR)
        for lr, restoration in HEAD_GRID:
            yield Pass("tune ocl-head", stream, "ocl-head", DEFAULT_PRIOR, lr, restoration)
        for lr in (0.005, 0.02, 0.05, 0.1):
            for restoration in (0.01, 0.05):
                yield Pass("tune tent-head", stream, "tent-head", DEFAULT_PRIOR, lr, restoration)
    short = 60
    for stream in TUNING_STREAMS:
        yield Pass("tune norm", stream, "norm", DEFAULT_PRIOR, limit=short)
    for method, rates in {
        "ocl-full": (2e-5, 5e-5, 1e-4),
        "ocl-norm": (1e-4, 2e-4, 1e-3, 3e-3),
        "tent": (2e-5, 2e-4, 1e-3),
    }.items():
        for lr in rates:
            for stream in TUNING_STREAMS:
                yield Pass(f"tune {method}", stream, method, DEFAULT_PRIOR, lr, limit=short)


def priors() -> Iterator[Pass]:
    """One prior for all norms, and priors that rise or fall with the depth."""
    for first, last in PRIORS:
        for stream in (*TUNING_STREAMS, "Seq05VD/clean"):
            yield Pass(f"prior {first:g}:{last:g}", stream, "norm", (first, last), every=5)


class Remembered:
    """A backbone that keeps the features of every input it has seen, for one stream."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.outputs: dict[str, dict[str, Tensor]] = {}

    def infer(self, form: FormName, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        digest = hashlib.blake2b(form.encode())
        for name in sorted(inputs):
            digest.update(inputs[name].numpy().tobytes())
        key = digest.hexdigest()
        if key not in self.outputs:
            self.outputs[key] = {
                name: value.clone() for name, value in self.backbone.infer(form, inputs).items()
            }
        return self.outputs[key]


def run_passes(passes: list[Pass], bundle: Bundle, data: Path, results: Path) -> None:
    """Run what is not finished, stream by stream so that head-only passes share features."""
    camvid = data / "camvid"
    space = read_label_space(bundle.manifest, camvid / "from_cityscapes.json", camvid / "classes.json")
    waiting = [p for p in passes if p not in finished(results, bundle)]
    cached = [p for s in dict.fromkeys(p.stream for p in waiting) for p in waiting if p.stream == s]
    order = [p for p in cached if not p.trains_backbone] + [p for p in waiting if p.trains_backbone]
    remembered: Remembered | None = None
    stream = ""
    for count, item in enumerate(order):
        if item in finished(results, bundle):  # another process was faster
            continue
        sequence, corruption = item.stream.split("/")
        frames = LabelledFrames.find(
            str(camvid / sequence / "images"), camvid / sequence / "labels", item.limit
        )
        frames = replace(frames, pairs=frames.pairs[item.every // 2 :: item.every])
        session = open_session(bundle, item.options())
        if not item.trains_backbone:
            assert isinstance(session.segmenter, Segmenter)
            if remembered is None or stream != item.stream:
                remembered = Remembered(session.segmenter.backbone)
            session.segmenter.backbone, stream = remembered, item.stream
        start = time.perf_counter()
        result = evaluate_stream(session, frames, space, parse_corruption(corruption))
        line = {
            **asdict(item),
            "bundle": network_of(bundle),
            "settings": settings_of(item, bundle),
            "miou": result.miou,
            "iou": result.iou,
            "frame_miou": [None if v is None else round(v, 3) for v in result.frame_miou],
            "weights_distance": session.weights.distance_from_trained(),
        }
        append(results, line)
        print(
            f"[{count + 1}/{len(order)}] {item.cell} {item.stream} lr {item.lr} restoration "
            f"{item.restoration} seed {item.seed}: {result.miou:.2f} in {time.perf_counter() - start:.0f} s",
            flush=True,
        )


def append(results: Path, line: dict[str, Any]) -> None:
    """One write of one whole line, so that processes may share the file."""
    results.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(results, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, (json.dumps(line) + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text("utf-8").splitlines()] if results.exists() else []


def finished(results: Path, bundle: Bundle) -> set[Pass]:
    """Passes of this network with the settings that they would have now: defaults may have changed."""
    of_network = [line for line in read(results) if line["bundle"] == network_of(bundle)]
    passes = [(as_pass(line), line["settings"]) for line in of_network]
    return {item for item, settings in passes if settings == settings_of(item, bundle)}


def settings_of(item: Pass, bundle: Bundle) -> dict[str, Any]:
    settings: dict[str, Any] = (
        item.options().settings_over(bundle.manifest.adaptation).model_dump(mode="json")
    )
    return settings


def network_of(bundle: Bundle) -> str:
    """Hash of what the numbers depend on; versions and defaults in the manifest do not count."""
    names = ("backbone.measured.onnx", "weights.safetensors", "norms.safetensors", "head.json")
    hashes = "".join(bundle.manifest.files[name].sha256 for name in names)
    return hashlib.sha256(hashes.encode()).hexdigest()


def as_pass(line: dict[str, Any]) -> Pass:
    fields = {name: line[name] for name in Pass.__dataclass_fields__ if name in line}
    return Pass(**{**fields, "prior": tuple(fields["prior"])})


def tables(results: Path) -> str:
    """Markdown: mIoU by stream, then the mean gain of every cell and the share of the best one's."""
    scores: Scores = {}
    lines = read(results)
    if len({line["bundle"] for line in lines}) > 1:
        raise SystemExit(f"{results} has passes of several networks: a file for each, with --results")
    for line in lines:
        scores.setdefault((line["cell"], line["stream"]), {})[line["seed"]] = line["miou"]
    cells = [c for c in dict.fromkeys(p.cell for p in ablation()) if any(c == cell for cell, _ in scores)]
    rows = [
        "| cell | " + " | ".join(STREAMS) + " | mean of the corrupted |",
        "|---" * (len(STREAMS) + 2) + "|",
    ]
    for cell in cells:
        columns = [_score(scores.get((cell, stream), {})) for stream in STREAMS]
        columns.append(_mean_of_corrupted(cell, scores))
        rows.append(f"| {cell} | " + " | ".join(columns) + " |")
    rows += [
        "",
        "| cell | streams | seeds | mean gain | worst stream | share of the published method's gain |",
    ]
    rows.append("|---" * 6 + "|")
    for cell in cells[1:]:
        rows.append(_gain_row(cell, scores))
    return "\n".join(rows)


def _score(of_seeds: dict[int, float]) -> str:
    values = list(of_seeds.values())
    if not values:
        return ""
    spread = f" ({max(values) - min(values):.1f})" if len(values) > 1 else ""
    return f"{_mean(of_seeds):.1f}{spread}"


def _mean(of_seeds: dict[int, float]) -> float:
    return float(np.mean(list(of_seeds.values())))


def _mean_of_corrupted(cell: str, scores: Scores) -> str:
    wanted = [(cell, stream) for stream in STREAMS if not stream.endswith("/clean")]
    if not all(each in scores for each in wanted):
        return ""
    return f"{np.mean([_mean(scores[each]) for each in wanted]):.1f}"


def _gain_row(cell: str, scores: Scores) -> str:
    def gains_of(name: str, streams: list[str]) -> list[float]:
        return [_mean(scores[name, s]) - _mean(scores["frozen", s]) for s in streams]

    streams = [s for s in STREAMS if (cell, s) in scores and ("frozen", s) in scores]
    gains = gains_of(cell, streams)
    seeds = sorted({len(scores[cell, s]) for s in streams})
    shared = [s for s in streams if (PUBLISHED, s) in scores]
    share = f"{sum(gains_of(cell, shared)) / sum(gains_of(PUBLISHED, shared)):.0%}" if shared else ""
    worst = min(zip(gains, streams, strict=True))
    return (
        f"| {cell} | {len(streams)} | {', '.join(map(str, seeds))} | {np.mean(gains):+.2f} "
        f"| {worst[0]:+.1f} {worst[1]} | {share} |"
    )


def measure_times(bundle: Bundle, data: Path, rounds: int) -> None:
    """Mask and update together, methods interleaved frame by frame, one thread; means, for updates are few.

    Realtime mode sees one view, so frozen is there with one, too.
    """
    images = [
        frame.image for frame in ImageSource(str(data / "camvid" / STREAMS[0].split("/")[0] / "images"), 8)
    ]
    sessions = {
        "frozen, one view": open_session(bundle, SessionOptions("frozen", backend="onnxruntime", threads=1)),
        "frozen": open_session(bundle, SessionOptions("frozen", "pair", "onnxruntime", threads=1)),
        "norm": open_session(bundle, SessionOptions("norm", backend="onnxruntime", threads=1, opening=1.0)),
        "ocl-head": open_session(
            bundle, SessionOptions("ocl-head", backend="onnxruntime", threads=1, opening=1.0)
        ),
        "ocl-head, openvino": open_session(
            bundle, SessionOptions("ocl-head", backend="openvino", threads=1, opening=1.0)
        ),
        "ocl-norm": open_session(bundle, SessionOptions("ocl-norm", threads=1, opening=1.0)),
        "ocl-full": open_session(bundle, SessionOptions("ocl-full", threads=1, opening=1.0)),
    }
    for backend, every in (("onnxruntime", 1), ("onnxruntime", 8), ("openvino", 1), ("openvino", 8)):
        sessions[f"realtime, every {every}, {backend}"] = open_session(
            bundle, SessionOptions(backend=backend, threads=1, opening=1.0), RealtimeOptions(1, every)
        )
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for index in range(rounds + 1):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.step(images[index % len(images)])
            times[name].append(1e3 * (time.perf_counter() - start))
    full = np.mean(times["ocl-full"][1:])
    print(f"{'method':32}{'mean ms/frame':>14}{'10 % to 90 %':>16}{'of ocl-full':>13}")
    for name, values in times.items():
        low, high = np.percentile(values[1:], (10, 90))
        mean = np.mean(values[1:])
        print(f"{name:32}{mean:14.0f}{f'{low:.0f} to {high:.0f}':>16}{mean / full:13.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["tune", "prior", "run", "time", "table"])
    parser.add_argument("bundle", type=Path, nargs="?", help="of the published ESPNetv2; not for table")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--results", type=Path, help="default: bench/results/WHAT.jsonl")
    parser.add_argument("--cells", help="only cells of these names or patterns, separated by commas")
    parser.add_argument("--streams", help="likewise")
    parser.add_argument("--seeds", help="only passes with these seeds, separated by commas")
    parser.add_argument("--rounds", type=int, default=16, help="frames of every method, for time")
    arguments = parser.parse_args()
    results = arguments.results or Path(f"bench/results/{arguments.what}.jsonl")
    if arguments.what == "table":
        print(tables(arguments.results or Path("bench/results/run.jsonl")))
        return
    if arguments.bundle is None:
        parser.error(f"{arguments.what} needs a bundle")
    torch.set_num_threads(1)
    if arguments.what == "time":
        measure_times(Bundle.open(arguments.bundle), arguments.data, arguments.rounds)
        return
    passes = list({"tune": tuning, "prior": priors, "run": ablation}[arguments.what]())
    for field, wanted in (
        ("cell", arguments.cells),
        ("stream", arguments.streams),
        ("seed", arguments.seeds),
    ):
        if wanted:
            passes = [p for p in passes if any(fnmatch(str(getattr(p, field)), w) for w in wanted.split(","))]
    run_passes(passes, Bundle.open(arguments.bundle), arguments.data, results)


if __name__ == "__main__":
    main()
