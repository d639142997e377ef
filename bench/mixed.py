"""One long stream: home, weather that comes and goes, another sequence, home again, round after round.

    python bench/mixed.py BUNDLE [--rounds 3] [--every N] [--repeat N] [--results FILE]

CGNet, which is at home on CamVid. Each segment is scored by itself: the frozen network, one session that goes
on through all segments, and one that starts afresh in each. Realtime mode, labelled frames one second apart;
``--repeat`` shows each of them several times within its second.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
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


@dataclass(frozen=True)
class Play:
    """What of the segments is played: every n-th frame, each so many times at so many times the rate."""

    rounds: int
    every: int
    repeat: int


def run(bundle: Bundle, play: Play, data: Path, results: Path | None) -> None:
    space = read_label_space(bundle.manifest, None, data / "classes.json")
    frozen, going_on = open_session(bundle, FROZEN), adapting(bundle)
    now_s, worst = 0.0, (0.0, "")
    print("| round | segment | frames | frozen | going on | fresh start | open |")
    print("|---|---|---|---|---|---|---|")
    for number in range(1, play.rounds + 1):
        for segment in SEGMENTS:
            sessions = {"frozen": frozen, "going on": going_on, "fresh start": adapting(bundle)}
            matrices = {name: space.matrix() for name in sessions}
            openings: list[float] = []
            frames, wanted = frames_of(segment, data, number - 1, play.every)
            corruption = parse_corruption(segment.partition("/")[2])
            for index in wanted:
                image, labels = frames.read(index)
                image = corruption.apply(image, index)
                for _ in range(play.repeat):
                    for name, session in sessions.items():
                        result = session.step(image, now_s)
                        matrices[name].add(result.mask, labels)
                        if name == "going on":
                            openings.append(result.opening)
                    now_s += 1 / play.repeat
            sessions["fresh start"].close()
            miou = {name: round(100 * matrix.miou(), 2) for name, matrix in matrices.items()}
            opening = round(float(np.mean(openings)), 2)
            worst = min(worst, (miou["going on"] - miou["frozen"], f"{segment}, round {number}"))
            scores = " | ".join(f"{value:.1f}" for value in miou.values())
            print(f"| {number} | {segment} | {len(wanted)} | {scores} | {opening:.2f} |", flush=True)
            if results is not None:
                told = {**asdict(play), "round": number, "segment": segment, "frames": len(wanted)}
                with results.open("a") as file:
                    file.write(json.dumps({**told, **miou, "opening": opening}) + "\n")
    print(f"at worst {worst[0]:+.1f} against frozen {worst[1]}")


def frames_of(segment: str, data: Path, first: int, every: int) -> tuple[LabelledFrames, list[int]]:
    """The frames of a segment's sequence, and the places of those that are played."""
    sequence = segment.partition("/")[0]
    frames = LabelledFrames.find(str(data / sequence / "images"), data / sequence / "labels")
    unseen = NOT_TRAINED_ON if sequence == "0001TP" else ""
    return frames, [i for i, (file, _) in enumerate(frames.pairs) if file.stem >= unseen][first::every]


def adapting(bundle: Bundle) -> Session:
    return open_session(bundle, OPTIONS, RealtimeOptions(adapt_every=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="take every n-th frame")
    parser.add_argument("--repeat", type=int, default=1, help="play each frame so often, as a faster camera")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/camvid"))
    parser.add_argument("--results", type=Path, help="append a line for each segment")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bundle = Bundle.open(arguments.bundle)
    play = Play(arguments.rounds, arguments.every, arguments.repeat)
    run(bundle, play, arguments.data, arguments.results)


if __name__ == "__main__":
    main()
