"""Faults in a real stream: mIoU of the frames after each, against the frozen network on the same frames.

    python bench/faults.py [--bundle DIR] [--data DIR] [--results DIR] [--rounds N] [--only WORDS]
        [--prior P] [--lr R] [--restoration S] [--backend NAME]

CamVid, labelled frames one second apart. A stream is twenty good frames, ten faulty ones, and
fifty good ones that are scored; the mixed stream has all faults one after the other; another
one is the same 124 frames ten times. A run that was killed goes on where it stopped: every
finished stream is kept in --results. Prints a table and writes it with the settings to
faults.json there: mIoU; the worst window of ten frames against frozen; after how many frames
no window is more than 1 mIoU below frozen; how often the guard went back, froze the head, and
statistics were refused, from the fault on.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from ocl_edge import durable
from ocl_edge.bundle.reading import Bundle
from ocl_edge.masks import Mask
from ocl_edge.method.head import TrainableHead
from ocl_edge.network.form_names import FormName
from ocl_edge.scoring.metrics import ConfusionMatrix
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, LabelSpace, read_label_space
from ocl_edge_export.pipeline import ExportRequest, export_bundle
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.segmenter import Backbone, Segmenter

Image = NDArray[np.uint8]
Counts = NDArray[np.int64]

BEFORE, FAULTY, AFTER = 20, 10, 50
WINDOW = 10
TOLERANCE = 1.0
"""mIoU points below frozen that still count as recovered."""

UNGUARDED = {"guarded": False, "statistics_limit": float("inf")}
MODES: dict[str, RealtimeOptions] = {
    "guarded": RealtimeOptions(1, 1),
    "guarded, every 4th": RealtimeOptions(4, 4),
    "unguarded": RealtimeOptions(1, 1, **UNGUARDED),  # type: ignore[arg-type]
}


def noise(image: Image, step: int) -> Image:
    pixels: Image = np.random.default_rng(step).integers(0, 256, image.shape, dtype=np.uint8)
    return pixels


def sensor_noise(image: Image, step: int) -> Image:
    grain = np.random.default_rng(step).integers(-2, 3, image.shape)
    return (image + grain).clip(0, 255).astype(np.uint8)


def half_covered(image: Image, _step: int) -> Image:
    covered: Image = image.copy()
    covered[:, : image.shape[1] // 2] = 0
    return covered


def resized(image: Image, step: int) -> Image:
    height, width = ((120, 160), (720, 960), (360, 200), (64, 480))[step % 4]
    return np.array(Pillow.fromarray(image).resize((width, height)))


IMAGE_FAULTS: dict[str, Callable[[Image, int], Image]] = {
    "black": lambda image, _step: np.zeros_like(image),
    "white": lambda image, _step: np.full_like(image, 255),
    "noise": noise,
    "half covered": half_covered,
    "changing size": resized,
    "snow 5": lambda image, step: parse_corruption("snow:5").apply(image, step),
}
SAME_FRAME: dict[str, Callable[[Image, int], Image]] = {
    "frozen": lambda image, _step: image,
    "frozen, with sensor noise": sensor_noise,
}
NAN_OUTPUTS = {"NaN features": "features", "NaN statistics": "statistics"}
LR_TIMES_100 = "learning rate x 100"
SWITCHES = "domain switches"
ALL_FAULTS = (*IMAGE_FAULTS, *SAME_FRAME, *NAN_OUTPUTS, LR_TIMES_100, SWITCHES)
GUARD_MATTERS = ("noise", "half covered", "snow 5", LR_TIMES_100, SWITCHES)
"""Played unguarded, too. The rest is skipped, refused or harmless whatever the guard says."""


@dataclass(frozen=True)
class Shot:
    """One frame of a stream: which labelled frame, in what weather, with what fault; scored or not."""

    sequence: str
    index: int
    stretch: str = ""
    scored: bool = False
    weather: str = "clean"
    fault: str = ""


def faulty_shots(fault: str, sequence: str, start: int) -> list[Shot]:
    if fault == SWITCHES:
        domains = (("Seq05VD", "snow:2"), ("0001TP", "clean"), ("Seq05VD", "fog:3"), ("Seq05VD", "clean"))
        return [
            Shot(name, start + i, fault, weather=weather) for name, weather in domains for i in range(FAULTY)
        ]
    still = fault in SAME_FRAME
    return [Shot(sequence, start if still else start + i, fault, fault=fault) for i in range(FAULTY)]


def with_fault(fault: str, sequence: str, start: int = 0) -> list[Shot]:
    before = [Shot(sequence, start + i) for i in range(BEFORE)]
    broken = faulty_shots(fault, sequence, start + BEFORE)
    after = [Shot(sequence, start + BEFORE + FAULTY + i, fault, scored=True) for i in range(AFTER)]
    return before + broken + after


@dataclass(frozen=True)
class Stream:
    """Frames in order, and the modes that play them."""

    shots: list[Shot]
    modes: tuple[str, ...]


def streams(rounds: int) -> dict[str, Stream]:
    """All streams by name; indices run on past the end of a sequence and start again there."""
    guarded = ("guarded",)
    named = {}
    for fault in ALL_FAULTS:
        modes = ("guarded", "guarded, every 4th", *(["unguarded"] if fault in GUARD_MATTERS else []))
        named[f"{fault}, 0001TP"] = Stream(with_fault(fault, "0001TP"), modes)
    always = [replace(shot, fault=LR_TIMES_100) for shot in with_fault(LR_TIMES_100, "0001TP")]
    named[f"{LR_TIMES_100} throughout, 0001TP"] = Stream(always, ("guarded", "unguarded"))
    mixed: list[Shot] = []
    for fault in ALL_FAULTS:
        mixed += with_fault(fault, "0001TP", len(mixed))[BEFORE if mixed else 0 :]
    named["mixed, 0001TP"] = Stream(mixed, guarded)
    again = [Shot("0001TP", i, f"round {n + 1}", scored=True) for n in range(rounds) for i in range(124)]
    named[f"{rounds} rounds, 0001TP"] = Stream(again, ("guarded, every 4th",))
    named |= {f"{f}, Seq05VD": Stream(with_fault(f, "Seq05VD"), guarded) for f in GUARD_MATTERS}
    return named


class BreakableBackbone:
    """A backbone that gives NaN where it is told to.

    Args:
        backbone: that works.
    """

    def __init__(self, backbone: Backbone) -> None:
        self.broken_output = ""
        self._backbone = backbone

    def infer(self, form: FormName, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        outputs = self._backbone.infer(form, inputs)
        broken = self.broken_output
        return {
            name: torch.full_like(tensor, torch.nan) if broken and name.startswith(broken) else tensor
            for name, tensor in outputs.items()
        }


@dataclass(frozen=True)
class Played:
    """What one session made of a stream: confusion of each scored shot, what became of updates."""

    counts: Counts
    reasons: list[str]


class Footage:
    """Frames, labels, and the frozen network's confusion on each, computed once.

    Args:
        bundle: that plays.
        camvid: the directory of both sequences.
        options: of the sessions that adapt.
    """

    def __init__(self, bundle: Bundle, camvid: Path, options: SessionOptions) -> None:
        self.bundle = bundle
        self.options = options
        self.space: LabelSpace = read_label_space(
            bundle.manifest, camvid / "from_cityscapes.json", camvid / "classes.json"
        )
        self._frames = {
            name: LabelledFrames.find(str(camvid / name / "images"), camvid / name / "labels")
            for name in ("0001TP", "Seq05VD")
        }
        self._frozen = open_session(bundle, SessionOptions("frozen", backend=options.backend, threads=1))
        self._frozen_counts: dict[tuple[str, int, str], Counts] = {}

    def read(self, shot: Shot) -> tuple[Image, Mask]:
        frames = self._frames[shot.sequence]
        image, labels = frames.read(shot.index % len(frames))
        return parse_corruption(shot.weather).apply(image, shot.index), labels

    def counts(self, mask: Mask, labels: Mask) -> Counts:
        matrix = self.space.matrix()
        matrix.add(mask, labels)
        return matrix.counts

    def frozen(self, stream: list[Shot]) -> Counts:
        found = []
        for shot in stream:
            key = (shot.sequence, shot.index % len(self._frames[shot.sequence]), shot.weather)
            if key not in self._frozen_counts:
                image, labels = self.read(shot)
                self._frozen_counts[key] = self.counts(self._frozen.predict(image), labels)
            found.append(self._frozen_counts[key])
        return np.stack(found)

    def play(self, stream: list[Shot], realtime: RealtimeOptions) -> Played:
        session = open_session(self.bundle, self.options, realtime)
        assert isinstance(session.segmenter, Segmenter)
        session.segmenter.backbone = backend = BreakableBackbone(session.segmenter.backbone)
        assert isinstance(session.weights, TrainableHead)
        pace, settings = session.updates.learner.pace, session.setup.settings
        counts, reasons = [], []
        for step, shot in enumerate(stream):
            image, labels = self.read(shot)
            change = (IMAGE_FAULTS | SAME_FRAME).get(shot.fault)
            rate = 100 * settings.lr if shot.fault == LR_TIMES_100 else settings.lr
            pace.settings = settings.model_copy(update={"lr": rate})
            backend.broken_output = NAN_OUTPUTS.get(shot.fault, "")
            mask = session.predict(change(image, step) if change else image, float(step))
            reasons.append(session.adapt().reason.value)
            if shot.scored:
                counts.append(self.counts(mask, labels))
        return Played(np.stack(counts), reasons)


def miou(counts: Counts) -> float:
    matrix = ConfusionMatrix(counts.shape[-1])
    matrix.counts = counts.sum(0)
    return 100 * matrix.miou()


def against(counts: Counts, frozen: Counts) -> dict[str, Any]:
    """mIoU, the worst window of ten frames against frozen, and after how many frames no window is worse."""
    gaps = [
        miou(counts[i : i + WINDOW]) - miou(frozen[i : i + WINDOW]) for i in range(len(counts) - WINDOW + 1)
    ]
    behind = [i + 1 for i, gap in enumerate(gaps) if gap < -TOLERANCE]
    return {
        "miou": miou(counts),
        "worst_window": min(gaps),
        "recovered_after": behind[-1] if behind else 0,
    }


def rows_of(name: str, stream: list[Shot], frozen: Counts, played: dict[str, Played]) -> list[dict[str, Any]]:
    """One row for every stretch of a stream."""
    scored = [shot.stretch for shot in stream if shot.scored]
    rows = []
    for stretch in dict.fromkeys(scored):
        here = np.array([each == stretch for each in scored])
        row: dict[str, Any] = {"stream": name, "stretch": stretch, "frozen": miou(frozen[here])}
        for mode, run in played.items():
            kinds = Counter(
                reason for reason, shot in zip(run.reasons, stream, strict=True) if shot.stretch == stretch
            )
            row[mode] = {**against(run.counts[here], frozen[here]), "reasons": dict(kinds)}
        rows.append(row)
    return rows


def kept(path: Path, play: Callable[[], Played]) -> Played:
    """A finished run from the disk, or one that is played now and kept."""
    if path.exists():
        with np.load(path) as file:
            return Played(file["counts"], json.loads(str(file["reasons"])))
    run = play()
    with durable.writing(path) as file:
        np.savez_compressed(file, counts=run.counts, reasons=np.array(json.dumps(run.reasons)))
    return run


def print_row(row: dict[str, Any]) -> None:
    def undone(mode: str) -> str:
        kinds = row[mode]["reasons"]
        back = sum(kinds.get(kind, 0) for kind in ("roll back", "reset"))
        return f"{back} / {kinds.get('freeze', 0)} / {kinds.get('statistics refused', 0)}"

    name = row["stream"] if row["stretch"] in row["stream"] else f"{row['stream']}: {row['stretch']}"
    cells = [name, f"{row['frozen']:.1f}"]
    for mode in ("guarded", "guarded, every 4th"):
        one = row.get(mode)
        cells += (
            [f"{one['miou']:.1f}", f"{one['worst_window']:+.1f}", str(one["recovered_after"]), undone(mode)]
            if one
            else [""] * 4
        )
    cells.append(f"{row['unguarded']['miou']:.1f}" if "unguarded" in row else "")
    print("| " + " | ".join(cells) + " |", flush=True)


def play_all(footage: Footage, results: Path, rounds: int, only: str) -> list[dict[str, Any]]:
    """Play what is not kept yet; print and return the rows of all that is."""
    per_mode = "mIoU | worst 10 | recovered after | back / frozen / refused"
    print(f"| fault | frozen | {per_mode} | every 4th: {per_mode} | unguarded |")
    print("|---" * 11 + "|")
    rows = []
    for name, stream in streams(rounds).items():
        paths = {m: results / f"{name}, {m}.npz".replace(" ", "_") for m in stream.modes}
        if only not in name and not all(path.exists() for path in paths.values()):
            continue
        played = {}
        for mode, path in paths.items():
            played[mode] = kept(path, lambda s=stream, m=mode: footage.play(s.shots, MODES[m]))  # type: ignore[misc]
        frozen = footage.frozen([shot for shot in stream.shots if shot.scored])
        for row in rows_of(name, stream.shots, frozen, played):
            print_row(row)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="an exported bundle; otherwise one is made in --results")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--results", type=Path, default=Path("out/faults"))
    parser.add_argument("--rounds", type=int, default=10, help="of the same 124 frames")
    parser.add_argument(
        "--backend", default="auto", help="for example onnxruntime; then take other --results"
    )
    parser.add_argument("--only", default="", help="play only streams whose name holds this")
    for name in ("prior", "lr", "restoration"):
        parser.add_argument(f"--{name}", type=float, help="default: the bundle's; then take other --results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.bundle or arguments.results / "bundle"
    if not path.exists():
        checkpoint = arguments.data / "models" / "espnetv2_s_2.0_city_1024x512.pth"
        export_bundle(ExportRequest(checkpoint, path, input_size=(384, 512)))
    options = SessionOptions(
        backend=arguments.backend,
        prior=arguments.prior,
        lr=arguments.lr,
        restoration=arguments.restoration,
        threads=1,
        opening=1.0,
    )
    footage = Footage(Bundle.open(path), arguments.data / "camvid", options)
    report = {
        "bundle": footage.bundle.identity,
        "settings": options.settings_over(footage.bundle.manifest.adaptation).model_dump(),
        "rows": play_all(footage, arguments.results, arguments.rounds, arguments.only),
    }
    durable.write_json(arguments.results / "faults.json", report)


if __name__ == "__main__":
    main()
