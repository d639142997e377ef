"""One long stream: home, weather that comes and goes, another sequence, home again, round after round.

    python bench/mixed.py BUNDLE [--rounds 3] [--every N] [--results FILE]

CGNet, which is at home on CamVid. Each segment is scored by itself: the frozen network, one session that goes
on through all segments, and one that starts afresh in each. Realtime mode, labelled frames one second apart.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from ocl_edge.bundle.reading import Bundle
from ocl_edge_app.evaluation.corruption import parse_corruption
from ocl_edge_app.evaluation.labelled import LabelledFrames, read_label_space
from ocl_edge_runtime.session.opening import open_session
from ocl_edge_runtime.session.options import RealtimeOptions, SessionOptions
from ocl_edge_runtime.session.session import Session

SEGMENTS = (
    "Seq05VD/clean",
    "Seq05VD/fog:3",
    "Seq05VD/clean",
    "Seq05VD/snow:2",
    "0001TP/clean",
    "Seq05VD/gaussian_noise:2",
    "Seq05VD/clean",
)
NOT_TRAINED_ON = "0001TP_008550"
"""From this frame of 0001TP on the network has not seen it."""
OPTIONS = SessionOptions(backend="onnxruntime", threads=1)
FROZEN = SessionOptions("frozen", backend="onnxruntime", threads=1)


def run(bundle: Bundle, rounds: int, every: int, data: Path, results: Path | None) -> None:
    space = read_label_space(bundle.manifest, None, data / "classes.json")
    frozen, going_on = open_session(bundle, FROZEN), adapting(bundle)
    now_s = 0.0
    print("| round | segment | frames | frozen | going on | fresh start |")
    print("|---|---|---|---|---|---|")
    for number in range(1, rounds + 1):
        for segment in SEGMENTS:
            sequence, _, weather = segment.partition("/")
            frames = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels")
            first = NOT_TRAINED_ON if sequence == "0001TP" else ""
            wanted = [i for i, (file, _) in enumerate(frames.pairs) if file.stem >= first][
                number - 1 :: every
            ]
            sessions = {"frozen": frozen, "going on": going_on, "fresh start": adapting(bundle)}
            matrices = {name: space.matrix() for name in sessions}
            for index in wanted:
                image, labels = frames.read(index)
                image = parse_corruption(weather).apply(image, index)
                for name, session in sessions.items():
                    matrices[name].add(session.step(image, now_s).mask, labels)
                now_s += 1.0
            sessions["fresh start"].close()
            miou = {name: round(100 * matrix.miou(), 2) for name, matrix in matrices.items()}
            cells = " | ".join(f"{value:.1f}" for value in miou.values())
            print(f"| {number} | {segment} | {len(wanted)} | {cells} |", flush=True)
            if results is not None:
                line = {"round": number, "segment": segment, "frames": len(wanted), **miou}
                with results.open("a") as file:
                    file.write(json.dumps(line) + "\n")


def adapting(bundle: Bundle) -> Session:
    return open_session(bundle, OPTIONS, RealtimeOptions(adapt_every=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--results", type=Path, help="append a line for each segment")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = Bundle.open(arguments.bundle)
    run(bundle, arguments.rounds, arguments.every, arguments.data, arguments.results)


if __name__ == "__main__":
    main()
